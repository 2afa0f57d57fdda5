"""The state of a control plane; no I/O: times come in as arguments.

`now` and `moment` are times of one monotonic clock, in seconds; a method with `moment`
also returns the state of the past. `wall` is the aware UTC time that a new sampler gets
as its creation time.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from math import inf
from typing import TypeVar

from msgspec.structs import replace

from ._catalog import RUNS, CatalogRun
from ._checkpoints import Checkpoints
from ._ids import Ids
from ._lifecycle import INACTIVE, SERVERLESS_LIFECYCLE, Lifecycles
from ._models import Catalog
from ._progress import Progress
from ._records import Run, Sampler, SamplerView
from ._refused import conflict, not_found, unacceptable
from ._sessions import Sessions
from ._shapes import CreateRun, CreateSampler
from ._timeline import Timeline

SERVERLESS = "serverless"
"""The availability model of samplers on shared capacity."""

_Record = TypeVar("_Record", Sampler, Run)


class ControlPlane(Checkpoints, Sessions):
    """Sessions, samplers, runs and checkpoints of one organisation with one user."""

    def __init__(
        self,
        lifecycles: Lifecycles | None = None,
        *,
        seed: int = 0,
        teams: Mapping[str, str] | None = None,
        catalog: Catalog | None = None,
        serverless: bool = False,
    ) -> None:
        Checkpoints.__init__(self)
        Sessions.__init__(self, Ids(seed), teams)
        self._serverless = serverless
        self.catalog = Catalog() if catalog is None else catalog
        self._lifecycles = Lifecycles.of() if lifecycles is None else lifecycles
        self._seed = seed
        self._samplers: dict[str, Sampler] = {}
        self._by_deployment: dict[tuple[str, str], Sampler] = {}
        self._by_run: dict[str, Sampler] = {}
        self._runs: dict[str, Run] = {}
        for run in RUNS:
            self.add_session(run.session_id)
            self._ids.take(run.deployment_id)
            self._add_run(run)

    def _add_run(self, run: CatalogRun) -> None:
        self._ids.take(run.id)
        self._runs[run.id] = Run(
            id=run.id,
            model_id=self._ids.new(8),
            deployment_id=run.deployment_id,
            session_id=run.session_id,
            name=run.id,
            base_model=run.base_model,
            availability_model="dedicated",
            team_id=None,
            created_at=datetime.fromisoformat(run.created_at),
            trainer=Timeline(Progress(self._lifecycles.trainer, self._lifecycles.deactivation_seconds, since=-inf)),
        )

    def add_run(self, base_model: str, wall: datetime, run_id: str | None = None) -> str:
        """Add a run whose trainer is running and that has no sampler, and return its id.

        Raises:
            ValueError: the id exists.
        """
        if run_id in self._ids:
            raise ValueError(f"{run_id!r} exists already")
        run = CatalogRun(
            run_id or self._ids.new(7), self.create_session(), self._ids.new(7), base_model, wall.isoformat()
        )
        self._add_run(run)
        return run.id

    def create_sampler(self, request: CreateSampler, now: float, wall: datetime, team_id: str | None = None) -> Sampler:
        """Start a sampler; if the request names a run with a live sampler, return that sampler.

        Raises:
            Refused: with 404 if the session, the team or the run is unknown; 403 if the session belongs to another
                team; 409 if the run is deactivated; 400 if the run has another base model or availability model, if
                the weights do not exist, or if the base model cannot run.
        """
        self.check_session(request.session_id, team_id)
        run = None if request.run_id is None else self.run(request.run_id)
        if run is not None and not run.active(now):
            raise conflict(f"Run {run.id} is deactivated.")
        base_model, model_path = self._weights(request, run)
        availability = request.availability_model
        if run is not None:
            if availability not in {None, run.availability_model}:
                raise unacceptable(f"availability_model: run {run.id} is {run.availability_model}.")
            paired = self._by_run.get(run.id)
            if paired is not None and paired.timeline.advance(now).billed:
                return paired
            availability = run.availability_model
        serverless = availability == SERVERLESS or (
            # Loops' own client always sends "dedicated", and leaves the choice to the organisation.
            self._serverless and run is None and availability in {None, "dedicated"} and request.num_replicas is None
        )
        progress = Progress(
            SERVERLESS_LIFECYCLE if serverless else self._lifecycles.of_model(base_model),
            self._lifecycles.deactivation_seconds,
            since=now,
            seed=self._seed * 1_000_003 + len(self._samplers),
            spot=availability == "spot",
            fixed=request.num_replicas is not None,
        )
        sampler = Sampler(
            id=self._ids.new(7),
            model_id=self._ids.new(8),
            deployment_id=self._ids.new(7),
            base_model=base_model,
            session_id=request.session_id,
            run_id=request.run_id,
            team_id=team_id,
            created_at=wall.astimezone(UTC),
            timeline=Timeline(progress),
            serverless=serverless,
            num_replicas=request.num_replicas,
            model_path=model_path,
            max_seq_length=request.max_seq_length,
        )
        self._samplers[sampler.id] = sampler
        if not serverless:
            self._by_deployment[sampler.model_id, sampler.deployment_id] = sampler
        if request.run_id is not None:
            self._by_run[request.run_id] = sampler
        return sampler

    def _weights(self, request: CreateSampler, run: Run | None) -> tuple[str, str | None]:
        """Return the base model of a new sampler, and the path of the checkpoint to load, if any."""
        base_model, model_path = request.base_model, None
        if run is not None:
            if base_model not in {None, run.base_model}:
                raise unacceptable(f"base_model: run {run.id} is of {run.base_model}.")
            base_model = run.base_model
        if request.model_path is not None:
            found = self.sampler_checkpoint(request.model_path)
            if base_model not in {None, found.base_model}:
                raise unacceptable(f"model_path: {request.model_path!r} is of {found.base_model}, not {base_model}.")
            base_model, model_path = found.base_model, found.path
        if base_model is None:
            raise unacceptable("base_model: required unless run_id or model_path is given.")
        if run is None:
            self.catalog.check(base_model)
        longest = self.catalog.model(base_model).max_seq_len
        if request.max_seq_length is not None and request.max_seq_length > longest:
            raise unacceptable(f"max_seq_length: {base_model} takes at most {longest} tokens.")
        return base_model, model_path

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
        """Yield the samplers of a team (`None`: of no team), or all; newest first, deactivated ones included.

        Raises:
            Refused: with 404 if the team is unknown.
        """
        for sampler in self._of(self._samplers, team_id, everyone):
            # Most samplers have no transition due; this test saves thousands of calls for one list.
            if now >= sampler.timeline.until:
                sampler.timeline.advance(now)
            yield sampler

    def samplers_at(
        self, moment: float, *, team_id: str | None = None, everyone: bool = False
    ) -> Iterator[tuple[Sampler, str]]:
        """Yield the samplers that existed at a moment in the past, with their statuses then; newest first."""
        for sampler in self._of(self._samplers, team_id, everyone):
            progress = sampler.timeline.at(moment)
            if progress is not None:
                yield sampler, progress.status

    def deactivate(self, sampler_id: str, now: float) -> Sampler:
        """Begin to shut a sampler down; one that is DEACTIVATING or INACTIVE stays as it is.

        Raises:
            Refused: with 404 if there is none, 409 if it belongs to a run.
        """
        sampler = self.sampler(sampler_id, now)
        if sampler.run_id is not None:
            raise conflict(f"Sampler {sampler_id} is paired to run {sampler.run_id}: deactivate the run instead.")
        sampler.timeline.act(sampler.progress.deactivated(now), now)
        return sampler

    def force(self, sampler_id: str, status: str, now: float) -> None:
        """Hold a sampler in a status.

        Raises:
            Refused: with 404 if there is none.
        """
        sampler = self.sampler(sampler_id, now)
        sampler.timeline.act(sampler.progress.forced(status, now), now)

    def deployed(self, model_id: str, deployment_id: str, now: float) -> Sampler:
        """Return the sampler of a deployment, also if it is shut down.

        Raises:
            Refused: with 404 if there is none.
        """
        sampler = self._by_deployment.get((model_id, deployment_id))
        if sampler is None:
            raise not_found("Deployment", deployment_id)
        return self._advance(sampler, now)

    def deployment(self, model_id: str, deployment_id: str, now: float) -> Sampler:
        """Return the sampler of a deployment that is not shut down.

        Raises:
            Refused: with 404 if there is none, or if it is shut down.
        """
        sampler = self.deployed(model_id, deployment_id, now)
        if sampler.progress.status == INACTIVE:
            raise not_found("Deployment", deployment_id)
        return sampler

    def use(self, sampler: Sampler, now: float) -> None:
        """Record a request to the data plane: it delays an idle scale-down, and wakes a sampler scaled to zero."""
        sampler.timeline.touch(now)
        sampler.timeline.act(sampler.progress.woken(now), now)

    def wake(self, model_id: str, deployment_id: str, now: float) -> None:
        """Wake a sampler that is scaled to zero; any other stays as it is.

        Raises:
            Refused: with 404 if there is none, or if it is shut down.
        """
        sampler = self.deployment(model_id, deployment_id, now)
        sampler.timeline.act(sampler.progress.woken(now), now)

    def create_run(self, request: CreateRun, now: float, wall: datetime, team_id: str | None = None) -> Run:
        """Start a run and the sampler that is paired to it.

        Raises:
            Refused: with 404 if the session or the team is unknown; 403 if the session belongs to another team; 400
                if the model cannot run, or takes fewer tokens than `max_seq_len`.
        """
        self.check_session(request.session_id, team_id)
        paired = CreateSampler(
            session_id=request.session_id,
            base_model=request.base_model,
            max_seq_length=request.max_seq_len,
            num_replicas=request.sampler_num_replicas,
            availability_model=request.availability_model,
        )
        # Checked first, so that no run is left without a sampler.
        self._weights(paired, None)
        run_id = self._ids.new(7)
        run = Run(
            id=run_id,
            model_id=self._ids.new(8),
            deployment_id=self._ids.new(7),
            session_id=request.session_id,
            name=request.name or f"run-{run_id}",
            base_model=request.base_model,
            availability_model=request.availability_model,
            team_id=team_id,
            created_at=wall.astimezone(UTC),
            trainer=Timeline(Progress(self._lifecycles.trainer, self._lifecycles.deactivation_seconds, since=now)),
        )
        self._runs[run_id] = run
        self.create_sampler(replace(paired, run_id=run_id), now, wall, team_id)
        return run

    def run(self, run_id: str) -> Run:
        """Return a run.

        Raises:
            Refused: with 404 if there is none.
        """
        try:
            return self._runs[run_id]
        except KeyError:
            raise not_found("Loops run", run_id) from None

    def run_of_deployment(self, deployment_id: str) -> Run:
        """Return the run of a trainer deployment.

        Raises:
            Refused: with 404 if there is none.
        """
        for run in self._runs.values():
            if run.deployment_id == deployment_id:
                return run
        raise not_found("Loops deployment", deployment_id)

    def is_trainer(self, model_id: str, deployment_id: str) -> bool:
        """Return True if the deployment is that of a run's trainer."""
        return any((run.model_id, run.deployment_id) == (model_id, deployment_id) for run in self._runs.values())

    def runs(
        self,
        moment: float,
        *,
        run_id: str | None = None,
        base_model: str | None = None,
        team_id: str | None = None,
        everyone: bool = False,
    ) -> list[Run]:
        """Return the runs that existed at a moment and match every given filter, newest first.

        Raises:
            Refused: with 404 if the team is unknown.
        """
        return [
            run
            for run in self._of(self._runs, team_id, everyone)
            if run_id in {None, run.id} and base_model in {None, run.base_model} and run.trainer.at(moment) is not None
        ]

    def paired_sampler(self, run: Run, moment: float) -> tuple[Sampler, str] | None:
        """Return the newest sampler of a run and its status at a moment; `None` if it did not exist then."""
        sampler = self._by_run.get(run.id)
        progress = None if sampler is None else sampler.timeline.at(moment)
        return None if sampler is None or progress is None else (sampler, progress.status)

    def deactivate_run(self, run: Run, now: float) -> None:
        """Begin to shut down a run and the sampler that is paired to it; a second call changes nothing."""
        run.trainer.act(run.trainer.progress.deactivated(now), now)
        sampler = self._by_run.get(run.id)
        if sampler is not None:
            sampler.timeline.act(sampler.progress.deactivated(now), now)

    def view(self, sampler: Sampler, now: float) -> SamplerView:
        """Return a snapshot of a sampler."""
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
        """Return a snapshot of every sampler, in the order of creation."""
        return tuple(self.view(sampler, now) for sampler in self._samplers.values())

    def validate_checkpoint(self, path: str, run_id: str | None = None) -> None:
        """Check that a sampler can load a checkpoint.

        Raises:
            Refused: with 400 if the path is malformed, names no sampler checkpoint, or does not fit the run.
        """
        found = self.sampler_checkpoint(path)
        if run_id is not None and (run_id not in self._runs or self._runs[run_id].base_model != found.base_model):
            raise unacceptable(f"Checkpoint {path!r} cannot be loaded by run {run_id!r}.")

    def _of(self, records: dict[str, _Record], team_id: str | None, everyone: bool) -> Iterator[_Record]:
        self.check_team(team_id)
        for record in reversed(records.values()):
            if everyone or record.team_id == team_id:
                yield record

    def _advance(self, sampler: Sampler, now: float) -> Sampler:
        sampler.timeline.advance(now)
        return sampler
