"""The state of a control plane, free of I/O: time and bytes come in as arguments.

`now` is a reading, in seconds, of one monotonic clock; `wall` is the aware UTC time
that new samplers get as their creation time.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from random import Random
from typing import Any

from attrs import define, field, frozen

from ._catalog import CHECKPOINTS, RUNS, Checkpoint
from ._lifecycle import INACTIVE, Lifecycles
from ._progress import Progress
from ._refused import Refused, invalid, not_found
from ._requests import SamplerRequest, checkpoint_key

# No vowels and no look-alikes, so that ids read like Baseten's and spell nothing.
_ID_ALPHABET = "13456789bcdfghjkmnpqrstvwxyz"


@define(eq=False)
class Sampler:
    """A sampler as the control plane keeps it."""

    id: str
    model_id: str
    deployment_id: str
    base_model: str
    session_id: str
    run_id: str | None
    """The run that it is paired to."""
    team_id: str | None
    created_at: datetime
    progress: Progress
    rendered: tuple[str, str] | None = field(default=None, repr=False)
    """A status and the JSON of this sampler in it: only the status of a document ever changes."""


@frozen
class SamplerView:
    """A sampler at one moment, as a test wants to look at it."""

    id: str
    base_model: str
    session_id: str
    status: str
    created_at: datetime
    """Aware UTC, as the API reports it: with the emulator's clock skew."""
    billed: bool


class ControlPlane:
    """Sessions, samplers and checkpoints of one organisation with one user."""

    def __init__(self, lifecycles: Lifecycles | None = None, *, seed: int = 0) -> None:
        self._lifecycles = Lifecycles.of() if lifecycles is None else lifecycles
        self._random = Random(seed)  # noqa: S311 -- ids that a seed repeats, no secrets
        self._taken: set[str] = set()
        self._sessions: dict[str, str | None] = {}
        self._samplers: dict[str, Sampler] = {}
        self._by_deployment: dict[tuple[str, str], Sampler] = {}
        self._by_run: dict[str, Sampler] = {}
        self._checkpoints = {checkpoint.id: checkpoint for checkpoint in CHECKPOINTS}

    def create_session(self, team_id: str | None = None) -> str:
        """Open a session and return its id."""
        session_id = self._new_id(7)
        self._sessions[session_id] = team_id
        return session_id

    def session(self, session_id: str) -> str:
        """Return the id of an existing session.

        Raises:
            Refused: with 404 if there is none.
        """
        if session_id not in self._sessions:
            raise not_found("Loops session", session_id)
        return session_id

    def create_sampler(
        self, request: SamplerRequest, now: float, wall: datetime, team_id: str | None = None
    ) -> Sampler:
        """Start a sampler; for a run that has a live one already, return that one.

        Raises:
            Refused: with 404 if the session or the run that has to give the base model is unknown.
        """
        self.session(request.session_id)
        base_model = request.base_model
        if request.run_id is not None:
            paired = self._by_run.get(request.run_id)
            if paired is not None and self._advance(paired, now).progress.billed:
                return paired
            base_model = base_model or RUNS.get(request.run_id)
            if base_model is None:
                raise not_found("Loops run", request.run_id)
        if base_model is None:
            raise invalid("base_model: field required unless run_id is given.")
        sampler = Sampler(
            id=self._new_id(7),
            model_id=self._new_id(8),
            deployment_id=self._new_id(7),
            base_model=base_model,
            session_id=request.session_id,
            run_id=request.run_id,
            team_id=team_id,
            created_at=wall.astimezone(UTC),
            progress=Progress(self._lifecycles.of_model(base_model), self._lifecycles.release_seconds, since=now),
        )
        self._samplers[sampler.id] = sampler
        self._by_deployment[sampler.model_id, sampler.deployment_id] = sampler
        if request.run_id is not None:
            self._by_run[request.run_id] = sampler
        return sampler

    def sampler(self, sampler_id: str, now: float) -> Sampler:
        """Return a sampler as it stands at *now*.

        Raises:
            Refused: with 404 if there is none.
        """
        try:
            return self._advance(self._samplers[sampler_id], now)
        except KeyError:
            raise not_found("Loops sampler", sampler_id) from None

    def samplers(self, now: float, *, team_id: str | None = None, everyone: bool = False) -> Iterator[Sampler]:
        """Give the samplers of a team (`None`: of no team), or all; newest first, dead ones included."""
        for sampler in reversed(self._samplers.values()):
            if everyone or sampler.team_id == team_id:
                yield self._advance(sampler, now)

    def deactivate(self, sampler_id: str, now: float) -> Sampler:
        """Begin to shut a sampler down; one that is shutting or shut down stays as it is.

        Raises:
            Refused: with 404 if there is none, 409 if it belongs to a run.
        """
        sampler = self.sampler(sampler_id, now)
        if sampler.run_id is not None:
            raise Refused(
                409,
                "CONFLICT",
                f"Sampler {sampler_id} is paired to run {sampler.run_id}: deactivate the run instead.",
            )
        sampler.progress = sampler.progress.deactivated(now)
        return sampler

    def force(self, sampler_id: str, status: str, now: float) -> None:
        """Hold a sampler in any status.

        Raises:
            Refused: with 404 if there is none.
        """
        sampler = self.sampler(sampler_id, now)
        sampler.progress = sampler.progress.forced(status, now)

    def deployment(self, model_id: str, deployment_id: str, now: float) -> Sampler:
        """Return the sampler behind a deployment.

        Raises:
            Refused: with 404 if there is none, or if it is shut down.
        """
        sampler = self._by_deployment.get((model_id, deployment_id))
        if sampler is None or self._advance(sampler, now).progress.status == INACTIVE:
            raise not_found("Deployment", deployment_id)
        return sampler

    def wake(self, model_id: str, deployment_id: str, now: float) -> None:
        """Move a sampler on that is scaled to zero; any other stays as it is.

        Raises:
            Refused: with 404 if there is none, or if it is shut down.
        """
        sampler = self.deployment(model_id, deployment_id, now)
        sampler.progress = sampler.progress.woken(now)

    def view(self, sampler: Sampler, now: float) -> SamplerView:
        """Take a picture of a sampler."""
        progress = self._advance(sampler, now).progress
        return SamplerView(
            sampler.id,
            sampler.base_model,
            sampler.session_id,
            progress.status,
            sampler.created_at,
            progress.billed,
        )

    def views(self, now: float) -> tuple[SamplerView, ...]:
        """Take a picture of every sampler, in the order of creation."""
        return tuple(self.view(sampler, now) for sampler in self._samplers.values())

    def checkpoint(self, checkpoint_id: str) -> Checkpoint:
        """Return a checkpoint by its id, which is not its name.

        Raises:
            Refused: with 404 if there is none.
        """
        try:
            return self._checkpoints[checkpoint_id]
        except KeyError:
            raise not_found("Checkpoint", checkpoint_id) from None

    def checkpoints(
        self, *, run_id: str | None = None, base_model: str | None = None, checkpoint_path: str | None = None
    ) -> list[Checkpoint]:
        """Return the checkpoints that the one given filter lets through; may be none.

        Raises:
            Refused: with 400 unless there is exactly one filter, and for a malformed path.
        """
        filters: dict[str, Any] = {
            "run_id": run_id,
            "base_model": base_model,
            "checkpoint_path": checkpoint_path,
        }
        if sum(value is not None for value in filters.values()) != 1:
            raise invalid(f"Give exactly one of {', '.join(filters)}.")
        if checkpoint_path is not None:
            key = checkpoint_key(checkpoint_path)
            return [each for each in self._checkpoints.values() if (each.run_id, each.target, each.name) == key]
        return [
            each
            for each in self._checkpoints.values()
            if (each.run_id == run_id if base_model is None else each.base_model == base_model)
        ]

    def validate_checkpoint(self, path: str, run_id: str | None = None) -> None:
        """Check that a sampler can load a checkpoint.

        Raises:
            Refused: with 400 if the path is malformed, names no sampler checkpoint, or does not fit the run.
        """
        found = self.checkpoints(checkpoint_path=path)
        if not found or found[0].target != "sampler":
            raise invalid(f"Checkpoint {path!r} does not exist or is not a sampler checkpoint.")
        if run_id is not None and RUNS.get(run_id) != found[0].base_model:
            raise invalid(f"Checkpoint {path!r} cannot be loaded by run {run_id!r}.")

    def _advance(self, sampler: Sampler, now: float) -> Sampler:
        sampler.progress = sampler.progress.advanced(now)
        return sampler

    def _new_id(self, length: int) -> str:
        while True:
            candidate = "".join(self._random.choices(_ID_ALPHABET, k=length))
            if candidate not in self._taken:
                self._taken.add(candidate)
                return candidate
