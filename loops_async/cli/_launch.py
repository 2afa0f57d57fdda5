"""`loops-async launch`: its options."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from loops_async import SamplerSpec

from . import _spec_file
from ._common import Common, common_options, policy_of, poll_option, timeout_option
from ._exits import HELP
from ._formats import format_option
from ._launching import Launching, Order
from ._timeline import check_kind

MOST: Final = _spec_file.MOST

EPILOG: Final = (
    f"{HELP} JSON: outcome, exit_code, seconds, gpu_minutes, session_id, journal; samplers, each with index, "
    "base_model, id, state, status, base_url, seconds, error, resumed and kept; deactivated and still_billed, lists of "
    "ids; unknown, each with base_model and candidates; unresolved, those of earlier launches; error, if the launch "
    "itself failed."
)


@click.command(epilog=EPILOG, short_help="Launch samplers and wait until they are ACTIVE.")
@click.argument("models", metavar="[MODEL]...", nargs=-1)
@click.option(
    "--count", type=click.IntRange(1, MOST), default=1, show_default=True, metavar="N", help="Samplers of each MODEL."
)
@click.option(
    "--spec",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE.toml",
    help="Launch what this file says, too: a [[sampler]] with base_model, count and the options below for each kind.",
)
@click.option("--model-path", metavar="bt://...", help="Sampler weights to start each MODEL from.")
@click.option("--max-seq-length", type=click.IntRange(1), metavar="N", help="Longest prompt, in tokens.")
@click.option("--num-replicas", type=click.IntRange(1), metavar="N", help="Replicas, smallest and largest number.")
@click.option("--availability-model", metavar="NAME", help="Such as dedicated or spot.")
@click.option("--session", "session_id", metavar="ID", help="Session to launch in; the default creates one.")
@timeout_option(3600.0)
@click.option("--at-least", type=click.IntRange(1), metavar="K", help="Succeed as soon as K samplers are ACTIVE.")
@click.option(
    "--relaunches",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    metavar="N",
    help="How often a sampler that failed is deactivated and replaced.",
)
@click.option("--hold", is_flag=True, help="Keep the samplers until Ctrl-C, then deactivate them.")
@click.option(
    "--journal",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Record what is created, for `deactivate --journal` and `orphans`, even after a crash.",
)
@click.option(
    "--resume",
    is_flag=True,
    help="With --journal: resume the samplers that its earlier launches kept or left, if their specs are equal; other "
    "samplers of launches that were killed are deactivated.",
)
@click.option(
    "--probe", is_flag=True, help="A sampler is up once it is ACTIVE and has answered a request for one token."
)
@click.option(
    "--timeline",
    type=click.Path(dir_okay=False, path_type=Path),
    callback=check_kind,
    metavar="FILE.svg|html|json",
    help="Draw the statuses of each sampler, however the launch ends.",
)
@click.option(
    "--no-cache",
    is_flag=True,
    envvar="LOOPS_NO_CACHE",
    help="Do not store how long samplers of a base model took to come up (in durations.json of the cache directory "
    "loops-async), and do not show the time to go, which is estimated from that; so does LOOPS_NO_CACHE=1.",
)
@click.option("--no-check", is_flag=True, help="Do not ask first whether the base models exist.")
@poll_option
@format_option
@common_options
def launch(
    common: Common,
    models: tuple[str, ...],
    count: int,
    spec: Path | None,
    model_path: str | None,
    max_seq_length: int | None,
    num_replicas: int | None,
    availability_model: str | None,
    session_id: str | None,
    timeout: float,
    at_least: int | None,
    relaunches: int,
    hold: bool,
    journal: Path | None,
    resume: bool,
    probe: bool,
    timeline: Path | None,
    no_check: bool,
    no_cache: bool,
    poll: float | None,
    form: str,
) -> int:
    """Launch samplers of each MODEL and wait until they are ACTIVE.

    Samplers that are ACTIVE stay and are billed, and the command that deactivates them is shown. A launch that fails,
    runs out of time or is interrupted deactivates all its samplers. With --at-least, samplers that are still coming up
    stay, too.

    With --format env, `out=$(loops-async launch MODEL --format env) && eval "$out"` sets LOOPS_SAMPLER_COUNT,
    LOOPS_SAMPLER_IDS, and for each sampler, counted from 0, LOOPS_SAMPLER_0_ID, LOOPS_SAMPLER_0_MODEL and
    LOOPS_SAMPLER_0_URL.
    """
    try:
        specs = [
            SamplerSpec(
                model,
                model_path=model_path,
                max_seq_length=max_seq_length,
                num_replicas=num_replicas,
                availability_model=availability_model,
            )
            for model in models
            for _ in range(count)
        ]
        if spec is not None:
            specs += _spec_file.read(spec)
    except (TypeError, ValueError) as exc:
        raise click.UsageError(str(exc)) from None
    if not specs:
        raise click.UsageError("nothing to launch: name a MODEL, or give --spec FILE.toml")
    if len(specs) > MOST:
        raise click.UsageError(f"that makes {len(specs):,} samplers; {MOST:,} are the most")
    if at_least is not None and at_least > len(specs):
        raise click.UsageError(f"--at-least {at_least} is more than the launch has samplers: {len(specs)}")
    if resume and journal is None:
        raise click.UsageError("--resume needs --journal FILE")
    if session_id is not None and not session_id.strip():
        raise click.UsageError("--session must not be empty")
    order = Order(
        specs=tuple(specs),
        session_id=session_id,
        timeout=timeout,
        at_least=at_least,
        relaunches=relaunches,
        hold=hold,
        journal=journal,
        resume=resume,
        probe=probe,
        timeline=timeline,
        check=not no_check,
        cache=not no_cache,
        policy=policy_of(poll),
        form=form,
    )
    return Launching(common, order).run()
