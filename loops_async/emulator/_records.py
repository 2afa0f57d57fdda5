"""What a control plane keeps about samplers and runs, and shows of them; free of I/O."""

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
    """The run that it is paired to."""
    team_id: str | None
    created_at: datetime
    timeline: Timeline
    serverless: bool = False
    """It runs on shared capacity: nobody is told of a model and a deployment, and there are none."""
    num_replicas: int | None = None
    model_path: str | None = None
    """The checkpoint that it loads instead of the base model's own weights."""
    max_seq_length: int | None = None
    """The longest prompt, in tokens, if less than what the base model takes."""
    rendered: tuple[str, str] | None = field(default=None, repr=False)
    """A status and the JSON of this sampler in it: only the status of a document ever changes."""
    shown: Progress | None = field(default=None, repr=False)
    """The progress that `rendered` shows, if it shows the sampler as it stands and not as it stood once."""

    @property
    def progress(self) -> Progress:
        """Where it stood when somebody looked last."""
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
        """Tell whether it was not deactivated yet."""
        progress = self.trainer.at(moment)
        return progress is None or progress.billed


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
