"""`loops-async deactivate`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import click
from attrs import Factory, define

from loops_async import CreateOutcomeUnknown, LoopsClient, LoopsError, Sampler, TeardownError
from loops_async.journal import reclaim

from . import _json
from ._common import Common, check_ids, common_options, journal_errors
from ._exits import DONE, FAILED, HELP, INTERRUPTED, code_of_all
from ._formats import own_samplers, table_lines
from ._words import counted, errors, how_to_acknowledge, ids, report_unknown, say


@define
class Account:
    """The samplers that were deactivated, and those that were not."""

    journal: Path | None = None
    """The journal that said what to deactivate, if one did."""
    deactivated: list[str] = Factory(list)
    """Ids of the samplers that were deactivated, or had been before."""
    failed: dict[str, Exception] = Factory(dict)
    """The errors of the samplers that could not be deactivated, by id."""
    unsure: list[str] = Factory(list)
    """Ids of the samplers that may or may not be deactivated, since Ctrl-C came before the response."""
    unknown: Sequence[CreateOutcomeUnknown] = ()
    """The unknown creates of a journal."""
    missing: Sequence[str] = ()
    """Ids in a journal that the service does not know."""
    elsewhere: Mapping[str, str] = Factory(dict)
    """Samplers in a journal that belong to another control plane or team, by id, and its address."""
    acknowledged: Sequence[CreateOutcomeUnknown] = ()
    """The unknown creates of a journal that are not reported again."""
    kept: Sequence[str] = ()
    """Ids in a journal of samplers that a launch kept on purpose, and that were left alone."""

    def code(self) -> int:
        """Return the exit code."""
        if self.unsure:
            return INTERRUPTED
        if self.failed:
            return code_of_all(self.failed.values())
        return FAILED if self.unknown or self.missing or self.elsewhere else DONE

    def report(self, common: Common) -> None:
        """Write this as text to stderr and, with `--json`, as JSON to stdout."""
        if common.as_json:
            common.write(
                {
                    "deactivated": self.deactivated,
                    "failed": [{"id": each, "error": _json.error_fields(exc)} for each, exc in self.failed.items()],
                    "unsure": self.unsure,
                    "unknown": _json.unknown_fields(self.unknown),
                    "missing": list(self.missing),
                    "elsewhere": _json.elsewhere_fields(self.elsewhere),
                    "acknowledged": _json.unknown_fields(self.acknowledged),
                    "kept": list(self.kept),
                }
            )
        done = self.deactivated
        common.say(f"Deactivated {counted(len(done))}" + (f": {ids(done)}" if done else "."))
        errors(f"{each} was not deactivated and may still be billed: {exc}" for each, exc in self.failed.items())
        if self.unsure:
            say(f"Interrupted. Not known to be deactivated: {ids(self.unsure, most=len(self.unsure))}")
        if self.kept:
            common.say(f"Left alone, since a launch kept them on purpose: {ids(self.kept)} (see --include-kept)")
        if self.acknowledged:
            candidates = dict.fromkeys(sampler.id for each in self.acknowledged for sampler in each.candidates)
            number = counted(len(self.acknowledged), "unknown create")
            shown = say if candidates else common.say
            shown(f"Acknowledged {number}; samplers that may be theirs: {ids([*candidates]) or 'none'}")
        report_unknown(self.unknown, self.missing, self.elsewhere)
        if self.journal is not None and any(each.look_error is None for each in self.unknown):
            common.say(how_to_acknowledge(common.words(), self.journal))


@click.command(
    short_help="Deactivate samplers: by id, of a journal, or all of yours.",
    epilog=f"{HELP} Here, 1 is also for anything of the journal that may still be billed. JSON: deactivated, a list of "
    "ids; failed, each with id and error; unsure, a list of ids after Ctrl-C; unknown, each with base_model, "
    "candidates and look_error; missing, a list of ids that the service does not know; elsewhere, each with id and "
    "address; acknowledged, with the keys of unknown; kept, a list of ids that were left alone.",
)
@click.argument("sampler_ids", metavar="[ID]...", nargs=-1, callback=check_ids)
@click.option(
    "--journal",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Deactivate what the launches of this journal made and did not deactivate, unless they kept it on purpose.",
)
@click.option(
    "--include-kept", is_flag=True, help="With --journal: also the samplers that launches kept because they were up."
)
@click.option(
    "--acknowledge-unknown",
    is_flag=True,
    help="With --journal: do not report again the creates whose response was lost. Their samplers are left alone: "
    "look at the candidates that `orphans` names first, and deactivate yours.",
)
@click.option("--all-mine", is_flag=True, help="Deactivate each sampler of yours that is billed; asks first.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@common_options
def deactivate(
    common: Common,
    sampler_ids: tuple[str, ...],
    journal: Path | None,
    include_kept: bool,
    acknowledge_unknown: bool,
    all_mine: bool,
    yes: bool,
) -> int:
    """Deactivate samplers, so that they are not billed any more. One that is deactivated already counts as done."""
    if sum((bool(sampler_ids), journal is not None, all_mine)) != 1:
        raise click.UsageError("say what to deactivate: either IDs, or --journal FILE, or --all-mine")
    for option, is_given in (("--include-kept", include_kept), ("--acknowledge-unknown", acknowledge_unknown)):
        if is_given and journal is None:
            raise click.UsageError(f"{option} needs --journal FILE")
    if journal is not None:
        return common.run(partial(_of_journal, common, journal, include_kept, acknowledge_unknown))
    if all_mine:
        return common.run(partial(_all_mine, common, yes))
    return common.run(partial(_by_id, common, sampler_ids))


async def _by_id(common: Common, sampler_ids: Sequence[str], client: LoopsClient) -> int:
    return await _deactivate_all(common, client, sampler_ids)


async def _of_journal(
    common: Common, journal: Path, include_kept: bool, acknowledge_unknown: bool, client: LoopsClient
) -> int:
    account = Account(journal)
    with journal_errors(journal):
        try:
            done = await reclaim(client, journal, include_kept=include_kept, acknowledge_unknown=acknowledge_unknown)
        except TeardownError as left:
            account.unknown = left.unknown
            # The errors of the samplers come first, in the order of their ids.
            account.failed = dict(zip(left.sampler_ids, left.exceptions, strict=False))
            account.deactivated = list(left.deactivated)
        else:
            account.deactivated, account.unknown = list(done.deactivated), done.unknown
            account.missing, account.kept = done.missing, done.kept
            account.elsewhere, account.acknowledged = done.elsewhere, done.acknowledged
    account.report(common)
    return account.code()


async def _all_mine(common: Common, yes: bool, client: LoopsClient) -> int:
    found = await own_samplers(client)
    if found and not yes:
        await _ask(found)
    return await _deactivate_all(common, client, [sampler.id for sampler in found])


async def _ask(found: Sequence[Sampler]) -> None:
    """Return if the user says yes.

    Raises:
        UsageError: Stdin is not a terminal.
        Abort: The user did not say yes.
    """
    if not sys.stdin.isatty():
        raise click.UsageError(
            f"{counted(len(found))} would be deactivated, and stdin is no terminal to ask at: give --yes"
        )
    say("\n".join(table_lines(found)))
    click.echo(f"Deactivate {counted(len(found))}? [y/N] ", file=sys.stderr, nl=False)
    if (await _line_of_stdin()).strip().lower() not in {"y", "yes"}:
        say("Nothing was deactivated.")
        raise click.Abort


async def _line_of_stdin() -> str:
    """Read a line so that Ctrl-C ends the wait for it; a read in a thread would go on."""
    loop, can_be_read = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), can_be_read.set)
    try:
        await can_be_read.wait()
    finally:
        loop.remove_reader(sys.stdin.fileno())
    return sys.stdin.readline()


async def _deactivate_all(common: Common, client: LoopsClient, sampler_ids: Sequence[str]) -> int:
    tasks = {each: asyncio.create_task(client.samplers.deactivate(each)) for each in dict.fromkeys(sampler_ids)}
    try:
        if tasks:
            await asyncio.wait(tasks.values())
    except asyncio.CancelledError:
        for task in tasks.values():
            task.cancel()
        await asyncio.wait(tasks.values())
        _account(tasks).report(common)
        raise
    account = _account(tasks)
    account.report(common)
    return account.code()


def _account(tasks: Mapping[str, asyncio.Task[None]]) -> Account:
    account = Account()
    for sampler_id, task in tasks.items():
        if task.cancelled():
            account.unsure.append(sampler_id)
        elif isinstance(error := task.exception(), LoopsError):
            account.failed[sampler_id] = error
        else:
            task.result()
            account.deactivated.append(sampler_id)
    return account
