"""Ids that resemble Baseten's; no I/O."""

from random import Random
from typing import Final

# No vowels and no similar characters, so that ids form no words.
_ALPHABET: Final = "13456789bcdfghjkmnpqrstvwxyz"


class Ids:
    """The ids of one control plane, each of which is given once; the same seed gives the same ids."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)  # noqa: S311 -- ids that a seed repeats, no secrets
        self._taken: set[str] = set()

    def __contains__(self, each: object) -> bool:
        return each in self._taken

    def take(self, *ids: str) -> None:
        """Record ids that are given from outside."""
        self._taken.update(ids)

    def new(self, length: int) -> str:
        """Return a new id of *length* characters."""
        while True:
            candidate = "".join(self._random.choices(_ALPHABET, k=length))
            if candidate not in self._taken:
                self._taken.add(candidate)
                return candidate
