"""Build the `TeardownError` for an incomplete cleanup."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..errors import CreateOutcomeUnknown, TeardownError


def still_billed(
    billed: Mapping[str, Exception], unknown: Sequence[CreateOutcomeUnknown], deactivated: Sequence[str] = ()
) -> TeardownError | None:
    """Return the error for samplers that could not be deactivated, by id, and for creates whose outcome is unknown.

    Returns None when there are neither.
    """
    if not billed and not unknown:
        return None
    parts = []
    if billed:
        words = "1 sampler could not be deactivated and is"
        if len(billed) > 1:
            words = f"{len(billed)} samplers could not be deactivated and are"
        parts.append(f"{words} still billed")
    if unknown:
        words = "1 create" if len(unknown) == 1 else f"{len(unknown)} creates"
        parts.append(f"the outcome of {words} is unknown")
    error = TeardownError(", and ".join(parts), [*billed.values(), *unknown], tuple(billed), deactivated, unknown)
    if billed:
        error.add_note("to deactivate them by hand: samplers.deactivate(id)")
    if unknown:
        error.add_note("whether a candidate is yours only you can know; if it is: samplers.deactivate(id)")
    return error
