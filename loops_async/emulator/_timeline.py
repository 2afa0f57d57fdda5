"""The progress of one sampler or trainer, with what it takes to look back."""

from typing import Final

from ._progress import Progress


class Timeline:
    """What became of one progress, by time and by acts.

    Only acts are remembered: what time did between two of them can be worked out again. The moment of the next
    transition is worked out once, and until then a look costs one comparison: a list looks at thousands.
    """

    __slots__ = ("_acts", "progress", "until")

    def __init__(self, progress: Progress) -> None:
        self.progress: Progress
        """Where it stood when somebody looked last; only this class replaces it."""
        self.until: float
        """When time moves the progress on."""
        self._stand(progress)
        self._acts: Final = [(progress.since, progress)]

    def _stand(self, progress: Progress) -> None:
        self.progress = progress
        self.until = progress.until

    def advance(self, now: float) -> Progress:
        """Apply what became due up to *now*."""
        if now >= self.until:
            self._stand(self.progress.advanced(now))
        return self.progress

    def act(self, progress: Progress, now: float) -> None:
        """Go on from *progress*, which somebody brought about at *now*."""
        if progress != self.progress:
            self._stand(progress)
            self._acts.append((now, progress))

    def touch(self, now: float) -> None:
        """Note a request to the data plane."""
        before = self.advance(now)
        after = before.touched(now)
        if after is before:
            return
        self._stand(after)
        began, last = self._acts[-1]
        # Requests come by the thousand: only the last one within one stay in a stage is kept.
        if (last.phase, last.visits) == (after.phase, after.visits):
            self._acts[-1] = began, after
        else:
            self._acts.append((after.since, after))

    def at(self, moment: float) -> Progress | None:
        """Tell how things stood; `None` before the beginning."""
        if self._acts[-1][0] <= moment and self.progress.since <= moment < self.until:
            return self.progress
        for since, progress in reversed(self._acts):
            if since <= moment:
                return progress.advanced(moment)
        return None
