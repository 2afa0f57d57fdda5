"""The progress of one sampler or trainer, with what it takes to look back."""

from ._progress import Progress


class Timeline:
    """What became of one progress, by time and by acts.

    Only acts are remembered: what time did between two of them can be worked out again.
    """

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self._acts = [(progress.since, progress)]

    def advance(self, now: float) -> Progress:
        """Apply what became due up to *now*."""
        self.progress = self.progress.advanced(now)
        return self.progress

    def act(self, progress: Progress, now: float) -> None:
        """Go on from *progress*, which somebody brought about at *now*."""
        if progress != self.progress:
            self.progress = progress
            self._acts.append((now, progress))

    def touch(self, now: float) -> None:
        """Note a request to the data plane."""
        before = self.advance(now)
        after = before.touched(now)
        if after is before:
            return
        self.progress = after
        began, last = self._acts[-1]
        # Requests come by the thousand: only the last one within one stay in a stage is kept.
        if (last.phase, last.visits) == (after.phase, after.visits):
            self._acts[-1] = began, after
        else:
            self._acts.append((after.since, after))

    def at(self, moment: float) -> Progress | None:
        """Tell how things stood; `None` before the beginning."""
        for since, progress in reversed(self._acts):
            if since <= moment:
                return progress.advanced(moment)
        return None
