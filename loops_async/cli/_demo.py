"""`loops-async demo`: a complete launch, without an account."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from itertools import cycle, islice
from typing import Final

import click

from loops_async import DeploymentStatus, LoopsClient, LoopsError, PollPolicy, launch
from loops_async.emulator import Emulator, Stage

from ._exits import run_to_end
from ._formats import columns_of_stdout, url_lines
from ._live import Board
from ._options import speed_option
from ._progress import Display
from ._words import say, write_out

MOST: Final = 100
"""Number of samplers beyond which the table is too long to be read."""

LIFECYCLES: Final[Mapping[str, Sequence[Stage]]] = {
    "Qwen/Qwen3-0.6B": (
        Stage("BUILDING", 0.8),
        Stage("DEPLOYING", 1.2),
        Stage("LOADING_MODEL", 1.6),
        Stage("ACTIVE"),
    ),
    # It has no replica at first, and goes on only when the client wakes it.
    "Qwen/Qwen3-8B": (
        Stage("BUILDING", 1.0),
        Stage("DEPLOYING", 1.4),
        Stage("SCALED_TO_ZERO"),
        Stage("WAKING_UP", 1.5),
        Stage("LOADING_MODEL", 1.3),
        Stage("ACTIVE"),
    ),
    "moonshotai/Kimi-K2.6": (
        Stage("BUILDING", 1.3),
        Stage("DEPLOYING", 2.2),
        Stage("LOADING_MODEL", 3.8),
        Stage("ACTIVE"),
    ),
}
"""Base models of the demo and the lifecycles of their samplers, some hundred times faster than real ones."""

API_KEY: Final = "demo-key"


@click.command(short_help="Launch samplers without an account, and deactivate them.")
@click.option(
    "--count", type=click.IntRange(1, MOST), default=6, show_default=True, metavar="N", help="Samplers to launch."
)
@speed_option
def demo(count: int, speed: float) -> int:
    """Launch samplers on an emulated control plane, await them all, deactivate them.

    It needs no account, sends nothing beyond this machine, and takes about eight seconds. On Ctrl-C it
    deactivates what it has created and ends with exit code 130.
    """
    return run_to_end(_demo(count, speed))


async def _demo(count: int, speed: float) -> int:
    models = tuple(islice(cycle(LIFECYCLES), count))
    async with (
        Emulator(api_key=API_KEY, speed=speed, lifecycles=LIFECYCLES) as emulator,
        LoopsClient(API_KEY, base_url=emulator.url, trust_env=False) as client,
    ):
        write_out(f"Launching {_samplers(count)} on an emulated control plane at {emulator.url}\n")
        try:
            async with Display(Board(expected=count)) as display:
                on_status = display.changed
                async with launch(client, models, timeout=None, policy=_policy(speed), on_status=on_status) as fleet:
                    began = time.monotonic()
                    try:
                        active = await fleet.active()
                    finally:
                        # What follows goes below the table.
                        await display.aclose()
                    took = time.monotonic() - began
                    width = columns_of_stdout()
                    write_out("\n".join(["Base URLs of the ACTIVE samplers:", *url_lines(active, width), ""]))
        except (asyncio.CancelledError, LoopsError) as error:
            end = "Failed" if isinstance(error, LoopsError) else "Interrupted"
            say(f"{end}: {_account(emulator)}")
            raise
        if emulator.billed:
            say(f"Error: {_account(emulator)}")
            return 1
        write_out(f"{_samplers(count)} ACTIVE in {took:.1f} s; {_account(emulator)}\n")
    return 0


def _policy(speed: float) -> PollPolicy:
    """Return a policy whose polls are as fast as the samplers."""
    interval = max(0.02, 0.2 / speed)
    # The emulator wakes a sampler at once; with a longer interval the user can see SCALED_TO_ZERO.
    multiples: dict[str, float] = {DeploymentStatus.SCALED_TO_ZERO: 4.0}
    return PollPolicy(initial=interval, factor=1.0, maximum=5 * interval, multiples=multiples)


def _account(emulator: Emulator) -> str:
    """Return the number of samplers that are billed, as the emulator itself counts them."""
    total = len(emulator.samplers)
    if emulator.billed:
        return f"{len(emulator.billed)} of {_samplers(total)} still billed: {', '.join(sorted(emulator.billed))}"
    return f"{'all ' if total > 1 else ''}{total} deactivated, none billed any more"


def _samplers(count: int) -> str:
    return f"{count} sampler" if count == 1 else f"{count} samplers"
