"""How to say what a clean-up could not clean up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..errors import CreateOutcomeUnknown, TeardownError


def still_billed(
    billed: Mapping[str, Exception], unknown: Sequence[CreateOutcomeUnknown], released: Sequence[str] = ()
) -> TeardownError | None:
    """Return the error for samplers that could not be released, by id, and for creates that may have made others.

    None if there is neither.
    """
    if not billed and not unknown:
        return None
    parts = []
    if billed:
        words = (
            "1 sampler could not be released and is"
            if len(billed) == 1
            else (f"{len(billed)} samplers could not be released and are")
        )
        parts.append(f"{words} still billed")
    if unknown:
        candidates = dict.fromkeys(sampler.id for error in unknown for sampler in error.candidates)
        words = "the answer to 1 create is" if len(unknown) == 1 else f"the answers to {len(unknown)} creates are"
        may = f"; what they made may be {', '.join(candidates)}" if candidates else ""
        parts.append(f"{words} missing{may}")
    error = TeardownError("; ".join(parts), [*billed.values(), *unknown], tuple(billed), released)
    if billed:
        error.add_note("to release them by hand: samplers.deactivate(id)")
    if unknown:
        error.add_note("whether a candidate is yours only you can tell; if it is: samplers.deactivate(id)")
    return error
