"""The progress of one sampler or trainer, now and at any earlier time."""

from typing import Final

from ._progress import Progress


class Timeline:
    """The history of one progress, which time and acts move on.

    Only the acts are stored: the transitions between them can be computed again. The time of the next transition is
    computed once, so that `advance()` costs one comparison until then; one list calls it for thousands of samplers.
    """

    __slots__ = ("_acts", "progress", "until")

    def __init__(self, progress: Progress) -> None:
        self.progress: Progress
        """The progress at the last `advance()`; only this class replaces it."""
        self.until: float
        """The time of the next transition."""
        self._stand(progress)
        self._acts: Final = [(progress.since, progress)]

    def _stand(self, progress: Progress) -> None:
        self.progress = progress
        self.until = progress.until

    def advance(self, now: float) -> Progress:
        """Apply every transition that is due at *now*."""
        if now >= self.until:
            self._stand(self.progress.advanced(now))
        return self.progress

    def act(self, progress: Progress, now: float) -> None:
        """Continue from *progress*, which is the result of an act at *now*."""
        if progress != self.progress:
            self._stand(progress)
            self._acts.append((now, progress))

    def touch(self, now: float) -> None:
        """Record a request to the data plane."""
        before = self.advance(now)
        after = before.touched(now)
        if after is before:
            return
        self._stand(after)
        began, last = self._acts[-1]
        # There can be thousands of requests: only the last one of each visit to a stage is kept.
        if (last.phase, last.visits) == (after.phase, after.visits):
            self._acts[-1] = began, after
        else:
            self._acts.append((after.since, after))

    def at(self, moment: float) -> Progress | None:
        """Return the progress at a moment; `None` before the beginning."""
        if self._acts[-1][0] <= moment and self.progress.since <= moment < self.until:
            return self.progress
        for since, progress in reversed(self._acts):
            if since <= moment:
                return progress.advanced(moment)
        return None
