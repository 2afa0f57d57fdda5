"""The checkpoints of a control plane; free of I/O."""

from typing import Any

from ._catalog import CHECKPOINTS, Checkpoint
from ._refused import not_found, unacceptable
from ._requests import checkpoint_key


class Checkpoints:
    """The saved checkpoints, which can be found by id, run, base model or path, as in the API."""

    def __init__(self) -> None:
        self._checkpoints = {checkpoint.id: checkpoint for checkpoint in CHECKPOINTS}

    def checkpoint(self, checkpoint_id: str) -> Checkpoint:
        """Return a checkpoint by its id, which is not its name.

        Raises:
            Refused: with 404 if there is none.
        """
        try:
            return self._checkpoints[checkpoint_id]
        except KeyError:
            raise not_found("Checkpoint", checkpoint_id) from None

    def checkpoint_file(self, checkpoint_id: str, name: str) -> bytes:
        """Return the content of a file of a checkpoint.

        Raises:
            Refused: with 404 if there is no such file.
        """
        files = self.checkpoint(checkpoint_id).files
        if name not in files:
            raise not_found("File", name)
        return files[name]

    def checkpoints(
        self, *, run_id: str | None = None, base_model: str | None = None, checkpoint_path: str | None = None
    ) -> list[Checkpoint]:
        """Return the checkpoints that match the one given filter; the list may be empty.

        Raises:
            Refused: with 400 unless there is exactly one filter, and for a malformed path.
        """
        filters: dict[str, Any] = {
            "run_id": run_id,
            "base_model": base_model,
            "checkpoint_path": checkpoint_path,
        }
        if sum(value is not None for value in filters.values()) != 1:
            raise unacceptable(f"Give exactly one of {', '.join(filters)}.")
        if checkpoint_path is not None:
            key = checkpoint_key(checkpoint_path)
            return [each for each in self._checkpoints.values() if (each.run_id, each.target, each.name) == key]
        return [
            each
            for each in self._checkpoints.values()
            if (each.run_id == run_id if base_model is None else each.base_model == base_model)
        ]

    def sampler_checkpoint(self, path: str) -> Checkpoint:
        """Return the checkpoint at a path that a sampler can load.

        Raises:
            Refused: with 400 if the path is malformed or names no sampler checkpoint.
        """
        found = self.checkpoints(checkpoint_path=path)
        if not found or found[0].target != "sampler":
            raise unacceptable(f"Checkpoint {path!r} does not exist or is not a sampler checkpoint.")
        return found[0]
