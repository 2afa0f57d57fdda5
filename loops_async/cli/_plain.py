"""Lines of text for pipes and terminals alike: nothing in them is shortened or broken."""

from __future__ import annotations

from collections.abc import Iterable

from loops_async import Sampler, StatusChange


def status_line(change: StatusChange) -> str:
    """Return a line with the new status of a sampler and the one before."""
    way = change.status if change.previous is None else f"{change.previous} -> {change.status}"
    return f"{change.elapsed:6.1f} s  {change.sampler.id}  {change.sampler.base_model}  {way}"


def url_lines(samplers: Iterable[Sampler], width: int | None = None) -> list[str]:
    """List samplers with their base URLs, one line each if they all fit into *width* columns (None: no limit).

    Otherwise each URL has a line of its own: a terminal may fold it, but copies it as a whole.
    """
    samplers = tuple(samplers)
    models = max((len(sampler.base_model) for sampler in samplers), default=0)
    lines = [f"{sampler.base_model:<{models}}  {sampler.id}  {sampler.base_url}" for sampler in samplers]
    if width is None or all(len(line) <= width for line in lines):
        return lines
    return [
        line
        for sampler in samplers
        for line in (f"{sampler.base_model}  {sampler.id}", f"  {sampler.base_url}".rstrip())
    ]
