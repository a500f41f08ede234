"""The network of a trial has the faults that it says, in the direction that it says, and takes them back."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from quorate.trials.ground import Skipped, command
from quorate.trials.namespaces import Namespaces, namespaces

pytestmark = pytest.mark.integration

PORT = 7000
TRIES = 20
DELAY_MS = 80

ECHO = f"""
import socket
server = socket.socket(type=socket.SOCK_DGRAM)
server.bind(("", {PORT}))
print("ready", flush=True)
while True:
    server.sendto(*server.recvfrom(100))
"""
ASK = f"""
import json, socket, sys, time
asker = socket.socket(type=socket.SOCK_DGRAM)
asker.settimeout(float(sys.argv[2]))
answered, fastest_ms = 0, float("inf")
for _ in range({TRIES}):
    began = time.monotonic()
    asker.sendto(b"x", (sys.argv[1], {PORT}))
    try:
        asker.recvfrom(100)
    except TimeoutError:
        continue
    answered, fastest_ms = answered + 1, min(fastest_ms, (time.monotonic() - began) * 1000)
print(json.dumps([answered, fastest_ms]))
"""
Answered = tuple[int, float]
"""(how many datagrams were answered, how fast the fastest was in milliseconds)"""


@asynccontextmanager
async def echoing(net: Namespaces, *numbers: int) -> AsyncIterator[None]:
    """Nodes that send back what they are sent."""
    servers = []
    try:
        for number in numbers:
            program = [*net.launcher(number), sys.executable, "-c", ECHO]
            server = await asyncio.create_subprocess_exec(*program, stdout=asyncio.subprocess.PIPE)
            servers.append(server)
            assert server.stdout is not None
            assert await server.stdout.readline() == b"ready\n"
        yield
    finally:
        for server in servers:
            server.kill()
            await server.wait()


async def ask(net: Namespaces, source: int, target: int, patience_s: float = 5.0) -> Answered:
    program = [*net.launcher(source), sys.executable, "-c", ASK, net.address(target)[0], str(patience_s)]
    asker = await asyncio.create_subprocess_exec(*program, stdout=asyncio.subprocess.PIPE)
    out, _ = await asker.communicate()
    answered, fastest_ms = json.loads(out)
    return answered, fastest_ms


def with_network(check: Callable[[Namespaces], Coroutine[Any, Any, None]]) -> None:
    """Run `check` on a network of three."""

    async def run() -> None:
        with namespaces(3) as net:
            async with echoing(net, 1, 2, 3):
                await check(net)

    try:
        asyncio.run(run())
    except Skipped as reason:
        pytest.skip(str(reason))


def test_a_cut_is_one_way_and_ends() -> None:
    async def check(net: Namespaces) -> None:
        assert (await ask(net, 1, 2))[0] == TRIES
        await net.cut(1, 2)
        assert (await ask(net, 1, 2, 0.05))[0] == 0, "requests are cut off"
        assert await net.heal() >= TRIES
        await net.cut(2, 1)
        assert (await ask(net, 1, 2, 0.05))[0] == 0, "answers are cut off"
        assert (await ask(net, 1, 3))[0] == TRIES, "others are not"
        await net.heal()
        assert (await ask(net, 1, 2))[0] == TRIES
        assert await net.heal() == 0

    with_network(check)


def test_loss_takes_some_and_not_all() -> None:
    async def check(net: Namespaces) -> None:
        await net.lose(2, 50)
        answered, _ = await ask(net, 1, 2, 0.3)
        assert 0 < answered < TRIES, "a fair coin fails this once in half a million times"
        assert await net.heal() >= TRIES - answered

    with_network(check)


def test_delay_is_added_to_what_a_node_sends() -> None:
    async def check(net: Namespaces) -> None:
        if not net.delays:
            pytest.skip(net.no_delay_because)
        await net.delay(1, DELAY_MS)
        for source, target in ((1, 2), (2, 1)):
            answered, fastest_ms = await ask(net, source, target)
            assert answered == TRIES
            assert fastest_ms >= DELAY_MS, "a frame never comes early"
        await net.heal()
        assert (await ask(net, 1, 2))[0] == TRIES

    with_network(check)


def test_nothing_is_left_behind() -> None:
    names: list[str] = []

    async def check(net: Namespaces) -> None:
        names.extend(net.namespace(number) for number in (1, 2, 3))
        assert names[0] in command("ip", "netns", "list")

    with_network(check)
    left = command("ip", "netns", "list") + command("ip", "link", "show")
    assert [name for name in [*names, names[0].split("-")[1]] if name in left] == []


def test_what_the_machine_lacks_is_a_reason_to_skip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if shutil.which("ip") is None:
        pytest.skip("there is no program `ip` on this machine")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("os.geteuid", lambda: 0)
    with pytest.raises(Skipped, match="no program `ip`"), namespaces(2):
        pass
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(Skipped, match="needs root"), namespaces(2):
        pass
