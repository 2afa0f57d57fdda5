"""`loops-async emulator`."""

from __future__ import annotations

import asyncio
import signal
import socket

import pytest

from loops_async import AuthenticationError, LoopsClient

from .command_process import INTERRUPTIBLE, SECONDS, finished, first_line, started


def models_at(url: str, key: str) -> int:
    """Ask a control plane for its base models and return how many there are."""

    async def ask() -> int:
        async with LoopsClient(key, base_url=url) as client:
            return len(await client.capabilities())

    return asyncio.run(ask())


def test_first_line_is_the_url_and_sigterm_ends_it_well() -> None:
    with started("emulator") as process:
        url = first_line(process)
        assert models_at(url, "any-key-at-all") > 0
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=SECONDS)
    assert (process.returncode, output) == (0, "")
    assert errors == f"export LOOPS_BASE_URL={url}\nexport BASETEN_API_KEY=any-key-will-do  # or any other key\n"


def test_lets_in_the_given_key_alone() -> None:
    with started("emulator", "--api-key", "it's-mine") as process:
        url = first_line(process)
        assert models_at(url, "it's-mine") > 0
        with pytest.raises(AuthenticationError):
            models_at(url, "not-mine")
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=SECONDS)
    assert errors.splitlines()[1] == "export BASETEN_API_KEY='it'\"'\"'s-mine'"


def test_ctrl_c_ends_it_with_130() -> None:
    with started("emulator", code=INTERRUPTIBLE) as process:
        first_line(process)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 130
    assert "Traceback" not in errors


def test_a_port_in_use_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, output, errors = finished("emulator", "--port", str(port))
    assert (code, output) == (1, "")
    assert errors == f"Error: cannot listen on 127.0.0.1 port {port}: Address already in use\n"


def test_an_address_of_another_machine_is_one_line() -> None:
    code, output, errors = finished("emulator", "--host", "192.0.2.1")
    assert (code, output) == (1, "")
    assert errors.startswith("Error: cannot listen on 192.0.2.1 port 0: ")
    assert errors.count("\n") == 1
