"""The records that a control plane keeps of samplers and runs; no I/O."""

from datetime import datetime

from attrs import define, field, frozen

from ._progress import Progress
from ._timeline import Timeline


@define(eq=False)
class Sampler:
    """A sampler as the control plane keeps it."""

    id: str
    model_id: str
    deployment_id: str
    base_model: str
    session_id: str
    run_id: str | None
    """The run that the sampler is paired to."""
    team_id: str | None
    created_at: datetime
    timeline: Timeline
    serverless: bool = False
    """Whether the sampler runs on shared capacity; its document then shows no model and no deployment."""
    num_replicas: int | None = None
    model_path: str | None = None
    """The path of the checkpoint that the sampler loads instead of the base model's own weights."""
    max_seq_length: int | None = None
    """The longest prompt in tokens, if it is shorter than the base model allows."""
    rendered: tuple[str, str] | None = field(default=None, repr=False)
    """A status, and the JSON of this sampler in that status; nothing else in the JSON ever changes."""
    shown: Progress | None = field(default=None, repr=False)
    """The progress that `rendered` shows; None if it shows a status of the past."""

    @property
    def progress(self) -> Progress:
        """The progress at the time of the last request about the sampler."""
        return self.timeline.progress


@define(eq=False)
class Run:
    """A run as the control plane keeps it, with the deployment of its trainer."""

    id: str
    model_id: str
    deployment_id: str
    session_id: str
    name: str
    base_model: str
    availability_model: str
    team_id: str | None
    created_at: datetime
    trainer: Timeline

    def active(self, moment: float) -> bool:
        """Return True unless the run was deactivated before *moment*."""
        progress = self.trainer.at(moment)
        return progress is None or progress.billed


@frozen
class SamplerView:
    """A snapshot of a sampler, for tests.

    Attributes:
        id: Id of the sampler.
        base_model: Hugging Face name of its base model.
        session_id: Id of the session in which it was created.
        status: Its status.
        created_at: Time of its creation as the API reports it: aware UTC, with the emulator's clock skew.
        billed: Whether it is neither deactivated nor failed for good.
    """

    id: str
    base_model: str
    session_id: str
    status: str
    created_at: datetime
    billed: bool
