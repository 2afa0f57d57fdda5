"""`/v1/loops/samplers`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

from .. import _validate
from .._http.failures import Failure, classify, says_not_ready
from .._http.limiter import Priority
from .._http.requests import Request, encode_query, join_path, may_receive_key, sampler_request
from .._http.transport import Transport
from ..errors import LoopsError
from ..models import CheckpointPath, Sampler, SamplerSpec
from . import codec, sampler_list
from .sampler_service import SamplerService

ONE_TOKEN: Final[Mapping[str, object]] = MappingProxyType(
    {"prompt": [1], "n": 1, "max_tokens": 1, "temperature": 0.0, "logprobs": 0, "return_tokens_as_token_ids": True}
)
"""The smallest request that shows that a sampler answers."""


class Samplers:
    """Create, get, list, wake and deactivate samplers."""

    def __init__(self, transport: Transport, service: SamplerService) -> None:
        self._transport = transport
        self._service = service

    async def create(
        self,
        *,
        session_id: str,
        base_model: str,
        max_seq_length: int | None = None,
        model_path: str | CheckpointPath | None = None,
        reuse_from_session_id: str | None = None,
        run_id: str | None = None,
        num_replicas: int | None = None,
        availability_model: str | None = None,
    ) -> Sampler:
        """Create a sampler. It is returned at once, is billed from then on, and takes minutes to come up.

        Arguments that are None are left out of the request; `SamplerSpec` says what each one means. The request is
        sent again only if it was certainly not processed (no connection, or 429). A cancelled call waits for the
        response, deactivates what the create has made, and then raises `CancelledError`. If the deactivation fails, the
        id is in a `TeardownError` that is the `__cause__`, and in the log.

        Raises:
            TypeError, ValueError: An argument is not what `SamplerSpec` says; nothing was sent.
            CreateOutcomeUnknown: The response was lost, so that a sampler may or may not have been created.
            DecodeError: A sampler was created, and its description cannot be read; `sampler_id` names it.
            APIError, TransportError: No sampler was made.

        Source: `POST /v1/loops/samplers` or `POST /v1/teams/{team_id}/loops/samplers`.
        """
        spec = SamplerSpec(
            base_model,
            max_seq_length=max_seq_length,
            model_path=model_path,
            reuse_from_session_id=reuse_from_session_id,
            run_id=run_id,
            num_replicas=num_replicas,
            availability_model=availability_model,
        )
        return await self._service.creator.create(self._service.create_request(session_id, spec), spec)

    async def get(self, id: str) -> Sampler:
        """Get a sampler.

        Raises:
            NotFoundError: The service does not know it. For a sampler that this client created less than 30 s ago, the
                request is retried first.
            LoopsError: As every call.

        Source: `GET /v1/loops/samplers/{sampler_id}`.
        """
        request = sampler_request(id)

        async def attempt() -> bytes:
            return await self._transport.send(request, Priority.READ)

        def is_fresh(error: LoopsError) -> bool:
            return classify(error) is Failure.MISSING and self._service.known.is_fresh(id)

        body = await self._transport.retried(attempt, request, also_retry=is_fresh)
        sampler = codec.decode_sampler(body, str(request), id)
        self._service.known.mark_seen(id)
        return sampler

    async def list(self, *, scope: str | None = None) -> tuple[Sampler, ...]:
        """List all samplers, newest first, including those that are deactivated or failed. The API has no pages.

        Args:
            scope: `org` for the whole organisation's; None for the caller's own.

        Raises:
            DecodeError: One of the items cannot be read; `path` and `sampler_id` say which.
            LoopsError: As every call.

        Source: `GET /v1/loops/samplers` or `GET /v1/teams/{team_id}/loops/samplers`.
        """
        query = encode_query(scope=_validate.optional_str("scope", scope))
        request = Request("GET", self._service.collection, query)
        samplers = await sampler_list.decode_samplers(await self._transport.send_with_retries(request), str(request))
        self._service.known.mark_seen(*(sampler.id for sampler in samplers))
        return samplers

    async def deactivate(self, id: str) -> None:
        """Deactivate a sampler: it stops serving, and being billed. One that is deactivated already counts as done.

        It is done when the service's response names the sampler, or when a GET shows that the sampler is gone; a
        proxy's page with status 200 is neither. Transient failures are retried, and so is 404 for a sampler that this
        client created less than 30 s ago. A cancellation does not stop it, and is raised afterwards.

        Raises:
            ConflictError: It is paired to a run, and can be deactivated only with that run.
            NotFoundError: The service does not know it.
            LoopsError: As every call. The sampler is still billed, as far as is known.

        Source: `POST /v1/loops/samplers/{sampler_id}/deactivate`.
        """
        sampler_id = _validate.require_path_segment("sampler id", id)
        self._service.known.mark_seen(sampler_id)
        await self._service.deactivator.deactivate(sampler_id)

    async def wake(self, sampler: Sampler) -> None:
        """Wake a sampler that is SCALED_TO_ZERO; return when the service has accepted that, long before it serves.

        The request goes to the sampler's own address, so the key is sent only if that is an https host under
        `baseten.co` or the control plane's own origin.

        Raises:
            TypeError: *sampler* is no `Sampler`.
            ValueError: Its `base_url` is no address that the key may be sent to.
            LoopsError: As every call.

        Source: `POST https://model-{model_id}.api.baseten.co/deployment/{deployment_id}/wake`, which is the sampler's
        `base_url` with its last part, `/sync`, replaced.
        """
        url = wake_url(sampler, self._transport.base_url)
        self._service.known.mark_seen(sampler.id)
        request = Request("POST", urlsplit(url).path)

        async def attempt() -> bytes:
            return await self._transport.send(request, Priority.DATA_PLANE, url=url)

        await self._transport.retried(attempt, request)

    async def answers(self, sampler: Sampler) -> bool:
        """Ask a sampler for one token; return True if it answers, False if it does not yet.

        ACTIVE means that a replica is up, not that it answers; `probe=True` calls this after ACTIVE. It sends one
        request, without retries. For a serverless sampler it returns True without a request. The key is sent only
        where `wake()` would send it.

        Raises:
            TypeError: *sampler* is no `Sampler`.
            ValueError: Its `base_url` is no address that the key may be sent to.
            AuthenticationError, PermissionDeniedError: The data plane refuses the key.
            APIError: The inference server refuses the request itself, such as its model.

        Source: `POST {base_url}/sample`.
        """
        if isinstance(sampler, Sampler) and sampler.serverless:
            return True
        url = f"{_address(sampler, self._transport.base_url)}/sample"
        request = Request("POST", urlsplit(url).path, body=codec.encode(dict(ONE_TOKEN)))
        headers = {"X-Baseten-Accept-Error": "1", "X-Sampler-Id": sampler.id}
        try:
            body = await self._transport.send(request, Priority.DATA_PLANE, url=url, headers=headers)
        except LoopsError as exc:
            if says_not_ready(exc):
                return False
            raise
        # A proxy's page is no answer of the sampler.
        return codec.is_object(body)


def wake_url(sampler: Sampler, base_url: str) -> str:
    """Return the address that wakes *sampler*, if the key may be sent there."""
    return f"{_address(sampler, base_url).removesuffix('/sync')}/wake"


def _address(sampler: Sampler, base_url: str) -> str:
    """Return the address of *sampler*, without a trailing slash, if the key may be sent there."""
    if not isinstance(sampler, Sampler):
        raise TypeError(f"a Sampler is needed, which has the address, not {type(sampler).__name__}; get it by its id")
    url = sampler.base_url
    if not url and sampler.model_id and sampler.deployment_id:
        model, deployment = (
            _validate.require_path_segment("id", part) for part in (sampler.model_id, sampler.deployment_id)
        )
        url = f"https://model-{model}.api.baseten.co{join_path('deployment', deployment, 'sync')}"
    if not may_receive_key(url, base_url):
        raise ValueError(
            f"refusing to send the API key to {url!r}: sampler {sampler.id} is neither on an https host under "
            "baseten.co nor on the control plane's own origin"
        )
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
