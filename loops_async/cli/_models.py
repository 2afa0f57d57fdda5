"""`loops-async models`."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

import click

from loops_async import LoopsClient, SupportedModel

from . import _json
from ._common import Common, common_options
from ._exits import DONE, HELP, REFUSED, USAGE, Failure
from ._words import clean, write_out


@click.command(
    epilog=f"{HELP} JSON: models, each with the fields of the API.", short_help="List the base models that Loops knows."
)
@click.option("--use-case", type=click.Choice(["rl", "sft"]), help="What the models are for; the default is rl.")
@click.option("--max-seq-length", type=click.IntRange(1), metavar="N", help="Sequence length needed, in tokens.")
@common_options
def models(common: Common, use_case: str | None, max_seq_length: int | None) -> int:
    """List the base models that Loops knows, and whether this account may use them."""

    async def command(client: LoopsClient) -> int:
        known = await client.capabilities(use_case=use_case, max_seq_len=max_seq_length)
        if common.as_json:
            common.write({"models": [_json.fields_of(model) for model in known]})
        else:
            write_out("".join(f"{line}\n" for line in table_lines(known)))
        return DONE

    return common.run(command)


def table_lines(known: Sequence[SupportedModel]) -> list[str]:
    """List base models, one a line."""
    rows = [("BASE MODEL", "TOKENS", "ENABLED"), *(_row(model) for model in known)]
    names, lengths = (max(len(row[column]) for row in rows) for column in range(2))
    return [f"{name:<{names}}  {length:>{lengths}}  {enabled}" for name, length, enabled in rows]


def _row(model: SupportedModel) -> tuple[str, str, str]:
    enabled = "yes"
    if not model.enabled:
        details = model.enablement_details
        enabled = "no" if details is None else f"no: {details.reason_detail or details.reason}"
    elif model.max_enabled_seq_len not in {0, model.max_seq_len}:
        enabled = f"up to {model.max_enabled_seq_len:,} tokens"
    return clean(model.model_name), f"{model.max_seq_len:,}", clean(enabled)


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
    # Most mistakes are about upper case, and about the part before the slash.
    keys = {key: each for each in known for key in (each.rpartition("/")[2].lower(), each.lower())}
    if same := keys.get(name.lower()):
        return f"did you mean {same}?"
    found = difflib.get_close_matches(name.lower(), keys, n=6, cutoff=0.5)
    near = list(dict.fromkeys(keys[each] for each in found))[:3]
    return f"did you mean {' or '.join(near)}?" if near else "see loops-async models"
