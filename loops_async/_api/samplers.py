"""`/v1/loops/samplers`."""

from __future__ import annotations

from urllib.parse import urlsplit

from .. import _validate
from .._http.limiter import Priority
from .._http.requests import Request, deactivation, encode_query, join_path, may_receive_key, sampler_request
from .._http.retry import may_be_repeated, with_retries
from .._http.transport import Transport
from ..models import CheckpointPath, Sampler, SamplerSpec
from . import codec
from .creating import SamplerCreator
from .deactivating import Deactivator
from .sampler_list import decode_samplers
from .unknown_creates import Follower


class Samplers:
    """Make, look up, wake and release samplers."""

    def __init__(self, transport: Transport, home: tuple[str, ...]) -> None:
        self._transport = transport
        self._collection = join_path(*home, "samplers")
        self._list_request = Request("GET", self._collection)
        self._releases = Deactivator(transport)
        self._creates = SamplerCreator(transport, self._list_request, self._releases)

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
        """Make a sampler; it is returned at once, is billed from then on, and takes minutes to come up.

        The arguments that are None are left out of the request; `SamplerSpec` says what each one means. The request
        is sent a second time only when the first cannot have been processed (no connection, or 429). A cancelled
        call goes on until it knows what it made, releases it, and is then cancelled; should that not succeed, the
        `CancelledError` has what is left as its `__cause__`.

        Raises:
            TypeError, ValueError: An argument is not what `SamplerSpec` says; nothing was sent.
            CreateOutcomeUnknown: The answer was lost, and nobody knows whether a sampler was made.
            DecodeError: A sampler was made, and its description cannot be read; `sampler_id` names it.
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
        return await self._create(session_id, spec)

    async def _create(self, session_id: str, spec: SamplerSpec, follower: Follower | None = None) -> Sampler:
        body = {"session_id": _validate.require_str("session_id", session_id), **codec.spec_fields(spec)}
        request = Request("POST", self._collection, body=codec.encode(body))
        return await self._creates.create(request, spec, follower)

    async def get(self, id: str) -> Sampler:
        """Look a sampler up.

        Raises:
            NotFoundError: There is none of that id.
            LoopsError: As every call.

        Source: `GET /v1/loops/samplers/{sampler_id}`.
        """
        request = sampler_request(id)
        sampler = codec.decode_sampler(await self._transport.read(request), str(request), id)
        self._creates.know(id)
        return sampler

    async def list(self, *, scope: str | None = None) -> tuple[Sampler, ...]:
        """List samplers, newest first, dead ones included; all of them, as the API has no pages.

        Args:
            scope: `org` for the whole organisation's; None for the caller's own.

        Raises:
            DecodeError: One of the items cannot be read; `path` and `sampler_id` say which.
            LoopsError: As every call.

        Source: `GET /v1/loops/samplers` or `GET /v1/teams/{team_id}/loops/samplers`.
        """
        query = encode_query(scope=_validate.optional_str("scope", scope))
        request = Request("GET", self._collection, query)
        samplers = await decode_samplers(await self._transport.read(request), str(request))
        self._creates.know(*(sampler.id for sampler in samplers))
        return samplers

    async def deactivate(self, id: str) -> None:
        """Release a sampler: it stops serving, and being billed. One that is released already counts as done.

        Raises:
            ConflictError: It is paired to a run, and is deactivated with its run only.
            NotFoundError: There is none of that id.
            LoopsError: As every call.

        Source: `POST /v1/loops/samplers/{sampler_id}/deactivate`.
        """
        request = deactivation(id)
        self._creates.know(id)
        await self._transport.read(request, Priority.TEARDOWN)

    async def wake(self, sampler: Sampler) -> None:
        """Start a sampler that is SCALED_TO_ZERO; returns when that is accepted, long before it serves.

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
        self._creates.know(sampler.id)
        request = Request("POST", urlsplit(url).path)

        async def attempt() -> None:
            await self._transport.once(request, Priority.WAKE, url=url)

        await with_retries(attempt, self._transport.retry, may_be_repeated, self._transport.limiter.held)

    def _know(self, sampler_id: str) -> None:
        self._creates.know(sampler_id)

    async def _drain(self) -> None:
        await self._creates.drain()


def wake_url(sampler: Sampler, base_url: str) -> str:
    """Return where *sampler* is woken, if the key may be sent there."""
    if not isinstance(sampler, Sampler):
        raise TypeError(f"wake needs a Sampler, which has the address, not {type(sampler).__name__}; get it by its id")
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
    path = parts.path.rstrip("/").removesuffix("/sync")
    return f"{parts.scheme}://{parts.netloc}{path}/wake"
