"""Check that base models exist and may be used, before anything is created."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from loops_async import SupportedModel

from ._exits import REFUSED, USAGE, Failure


def check(wanted: Iterable[str], known: Sequence[SupportedModel]) -> None:
    """Raise Failure if one of the *wanted* base models is not among the *known*, or not enabled."""
    by_name = {model.model_name: model for model in known}
    for name in dict.fromkeys(wanted):
        model = by_name.get(name)
        if model is None:
            raise Failure(
                f"no base model is called {name!r}; {_hint(name, list(by_name))} (--no-check leaves it to the service)",
                USAGE,
            )
        if not model.enabled:
            details = model.enablement_details
            why = "" if details is None else f": {details.reason_detail or details.reason}. {details.remediation}"
            raise Failure(f"{name} is not enabled for this account{why}".rstrip(), REFUSED)


def _hint(name: str, known: list[str]) -> str:
    # Most mistakes are in capitals and in the part before the slash.
    keys = {key: each for each in known for key in (each.rpartition("/")[2].lower(), each.lower())}
    if same := keys.get(name.lower()):
        return f"did you mean {same}?"
    found = difflib.get_close_matches(name.lower(), keys, n=6, cutoff=0.5)
    near = list(dict.fromkeys(keys[each] for each in found))[:3]
    return f"did you mean {' or '.join(near)}?" if near else "see loops-async models"
