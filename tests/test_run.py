"""`run()`: signals end a script through its teardown, with the exit code that shells expect."""

from __future__ import annotations

import asyncio
import random
import signal
import threading
from collections.abc import Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

import loops_async
from loops_async.emulator import Emulator, Fault

from .launching import CREATE, DEACTIVATE, LIFECYCLES, until
from .processes import Process, forked
from .support import KEY

START = f"""
import asyncio, os, signal, sys
import loops_async
from loops_async import LoopsClient, PollPolicy, launch

POLL = PollPolicy(initial=0.01, factor=1.0, maximum=0.02, multiples={{}})

def client():
    return LoopsClient({KEY!r}, base_url=sys.argv[1], rate_limit=None)

def say(text):
    print(text, flush=True)
"""

FOREVER = """
async def main():
    async with client() as c, launch(c, ["slow"] * 3, policy=POLL) as fleet:
        say("begun")
        await fleet.active()
"""


def script(code: str, *arguments: str) -> AbstractAsyncContextManager[Process]:
    return forked(START + code, *arguments, stdin=asyncio.subprocess.PIPE)


async def line(process: Process) -> str:
    assert process.stdout is not None
    return (await process.stdout.readline()).decode().rstrip()


def plane() -> Emulator:
    return Emulator(api_key=KEY, lifecycles=LIFECYCLES)


MOMENTS = """
async def main():
    async with client() as c:
        say("begun")
        async with launch(c, ["slow", "good", "good"], policy=POLL):
            await asyncio.Event().wait()

late = 0

def count(*_):
    global late
    late += 1

for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    # What comes late, after run(), meets the handlers from before it.
    signal.signal(number, count)
if sys.argv[2] == "default":
    signal.signal(signal.SIGINT, signal.default_int_handler)

# One line for each run: a late second signal must not meet the next run.
for _ in sys.stdin:
    try:
        loops_async.run(main())
    except SystemExit as exit_:
        say(exit_.code)
    except BaseException as error:
        say(repr(error))
"""


@pytest.mark.parametrize("kind", ["SIGINT", "SIGTERM", "SIGHUP", "double"])
async def test_nothing_stays_billed_whenever_a_signal_comes(kind: str) -> None:
    """Four processes at once, ten runs each, most of the time of which is waiting."""
    await asyncio.gather(*(interrupted_runs(kind, random.Random(f"{kind} {seed}"), 10) for seed in range(4)))


async def interrupted_runs(kind: str, moments: random.Random, runs: int) -> None:
    async with plane() as emulator:
        # A teardown that takes a moment, so that second signals meet it.
        emulator.add_fault(Fault(method="POST", route=DEACTIVATE, delay=0.01, times=None))
        handlers = "counting" if kind == "double" else "default"
        async with script(MOMENTS, emulator.url, handlers) as process:
            assert process.stdin is not None
            for number in range(runs):
                made = len(emulator.samplers)
                process.stdin.write(b"run\n")
                first = signal.Signals[moments.choice(["SIGINT", "SIGTERM", "SIGHUP"]) if kind == "double" else kind]
                assert await line(process) == "begun"
                if number % 2:
                    # On a busy machine, no moment after the beginning is late enough to be sure of a sampler.
                    while len(emulator.samplers) <= made:
                        await asyncio.sleep(0.002)
                await asyncio.sleep(moments.uniform(0, 0.08))
                process.send_signal(first)
                expected = {first}
                if kind == "double":
                    await asyncio.sleep(moments.uniform(0, 0.03))
                    second = moments.choice([signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
                    process.send_signal(second)
                    # A process that had no turn in between does not know which came first.
                    expected.add(second)
                assert int(await line(process)) - 128 in expected
                assert not emulator.billed
            process.stdin.close()
            await process.wait()
        assert process.returncode == 0
        assert len(emulator.samplers) >= runs // 2


async def test_a_second_signal_prints_what_is_billed_and_does_not_cut_the_teardown_short() -> None:
    async with plane() as emulator:
        emulator.add_fault(Fault(method="POST", route=DEACTIVATE, delay=0.4, times=None))
        async with script(FOREVER + "loops_async.run(main())", emulator.url) as process:
            await line(process)
            await until(lambda: len(emulator.billed) == 3)
            process.send_signal(signal.SIGINT)
            await until(lambda: emulator.requests("POST", DEACTIVATE))
            process.send_signal(signal.SIGINT)
            process.send_signal(signal.SIGTERM)
            _, errors = await process.communicate()
        ids = [each.id for each in emulator.samplers]
        assert not emulator.billed
    assert process.returncode == 130
    text = errors.decode()
    assert "Traceback" not in text
    assert "Still deactivating; 3 samplers are billed until that is done." in text
    command = f"  loops-async deactivate --base-url {emulator.url} "
    found = next(each for each in text.splitlines() if each.startswith(command))
    assert sorted(found.removeprefix(command).split()) == sorted(ids)


async def test_a_second_signal_says_that_a_create_is_waited_for() -> None:
    async with plane() as emulator:
        emulator.add_fault(Fault(method="POST", route=CREATE, delay_after=0.4, times=None))
        async with script(FOREVER + "loops_async.run(main())", emulator.url) as process:
            await line(process)
            await until(lambda: len(emulator.requests("POST", CREATE)) == 3)
            process.send_signal(signal.SIGTERM)
            await asyncio.sleep(0.05)
            process.send_signal(signal.SIGTERM)
            _, errors = await process.communicate()
        assert len(emulator.samplers) == 3
        assert not emulator.billed
    assert process.returncode == 143
    assert "Still waiting for the response to 3 creates, and then deactivating what is made.\n" in errors.decode()


async def ended(code: str) -> tuple[int | None, str, str]:
    """Run a program to its end and return its exit code, stdout and stderr."""
    async with forked(START + code) as process:
        output, errors = await process.communicate()
    return process.returncode, output.decode(), errors.decode()


@pytest.mark.parametrize(
    ("main", "code", "output"),
    [
        # It swallows the cancellation.
        ("try: await wait()\n    except asyncio.CancelledError: pass\n    return 7", 143, ""),
        # Its clean-up fails.
        ("try: await wait()\n    finally: raise ValueError('clean-up')", 143, "ValueError: clean-up"),
        # It asks for an exit code of its own.
        ("try: await wait()\n    finally: sys.exit(3)", 3, ""),
        # It is over when the signal comes, and another task is not.
        ("asyncio.get_running_loop().create_task(late())\n    await asyncio.sleep(0)", 143, "late"),
    ],
)
async def test_after_a_signal_the_exit_code_is_its_own(main: str, code: int, output: str) -> None:
    returned, _, errors = await ended(f"""
def strike():
    os.kill(os.getpid(), signal.SIGTERM)

async def wait():
    strike()
    await asyncio.Event().wait()

async def late():
    try:
        await asyncio.Event().wait()
    finally:
        strike()
        await asyncio.sleep(0.01)
        print("late", file=sys.stderr)

async def main():
    {main}

loops_async.run(main())
""")
    assert returned == code
    assert output in errors
    if not output:
        assert errors == ""


async def test_ignored_signals_stay_ignored_and_others_keep_their_handlers() -> None:
    found = await ended("""
signal.signal(signal.SIGHUP, signal.SIG_IGN)
signal.signal(signal.SIGTERM, lambda *_: say("mine"))

async def main():
    os.kill(os.getpid(), signal.SIGHUP)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    await asyncio.sleep(0.01)
    return 7

say(loops_async.run(main()))
say(loops_async.run(main(), signals=[signal.SIGHUP]))
os.kill(os.getpid(), signal.SIGTERM)
say(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
""")
    assert found == (0, "7\n7\nmine\nTrue\n", "")


async def answer() -> int:
    await asyncio.sleep(0)
    return 42


async def fail() -> None:
    raise LookupError("mine")


async def cancel_itself() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)


def run_in_thread(main: Coroutine[Any, Any, Any], **options: Any) -> object:
    """Run it where there is no event loop, as tests have one."""
    found: list[object] = []

    def work() -> None:
        try:
            found.append(loops_async.run(main, **options))
        except BaseException as exc:  # noqa: BLE001 -- it is looked at
            found.append(exc)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return found[0]


def test_without_a_signal_it_is_asyncio_run() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    assert loops_async.run(answer()) == 42
    with pytest.raises(LookupError, match="mine"):
        loops_async.run(fail())
    with pytest.raises(asyncio.CancelledError):
        loops_async.run(cancel_itself())
    assert before == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]


def test_it_works_in_another_thread() -> None:
    assert run_in_thread(answer()) == 42
    assert isinstance(run_in_thread(fail()), LookupError)


async def test_inside_of_a_running_loop_it_is_refused() -> None:
    with pytest.raises(RuntimeError, match="await main"):
        loops_async.run(answer())


def test_what_cannot_be_run_or_handled_is_refused() -> None:
    with pytest.raises(TypeError, match=r"as in run\(main\(\)\), not function"):
        loops_async.run(answer)  # type: ignore[arg-type]
    for signals, error in (
        ([signal.SIGKILL], ValueError),
        ([0], ValueError),
        ([4711], ValueError),
        (15, TypeError),
        (["SIGTERM"], ValueError),
    ):
        before = signal.getsignal(signal.SIGTERM)
        with pytest.raises(error):
            loops_async.run(answer(), signals=signals)  # type: ignore[arg-type]
        assert signal.getsignal(signal.SIGTERM) is before
    assert loops_async.run(answer(), signals=()) == 42
