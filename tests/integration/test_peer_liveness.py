"""Peers that do not read, that stand still, and that leave: what is bounded, noticed and delivered."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from quorate.core.limits import (
    MIB,
    PEER_OUTPUT_BYTES_MAX,
    PEER_SILENCE_TIMEOUT_MS,
)
from quorate.core.messages import Write, WriteReply
from tests.transport_peers import WAIT_SECONDS, Peer, RawPeer, members, started

pytestmark = pytest.mark.integration


def test_a_peer_that_does_not_read_is_sent_a_bounded_amount(run: Callable[[Any], None]) -> None:
    async def main() -> None:
        peer = Peer(1, members())
        async with started(peer):
            raw = await RawPeer.dial(peer.transport.address, 2)
            await raw.shake_hands()
            await peer.until_connected(2)
            raw.writer.transport.pause_reading()
            message, accepted = Write(1, 1000, 1, b"k", bytes(8 * MIB), 0), 0
            for turn in range(40):
                accepted += peer.transport.send(2, message)
                if turn % 3 == 0:
                    await asyncio.sleep(0)
            state = peer.transport.peer_states()[2]
            assert 0 < state["output_bytes"] <= PEER_OUTPUT_BYTES_MAX
            assert state["sends_refused"] == 40 - accepted > 0
            assert not peer.transport.send(2, message)
            assert peer.transport.connected(2)
            raw.writer.transport.resume_reading()
            read = 0
            while read < accepted * 8 * MIB:
                async with asyncio.timeout(WAIT_SECONDS):
                    read += len(await raw.reader.read(4 * MIB))
            assert peer.transport.send(2, message), "there is room again"
            raw.writer.close()

    run(main())


def test_a_stopped_process_is_noticed_and_comes_back(run: Callable[[Any], None]) -> None:
    """Its kernel goes on accepting and acknowledging: that is no sign of life."""

    async def main() -> None:
        both = members()
        low = Peer(1, both)
        async with started(low) as log:
            child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", _CHILD, both[0].peer_address, both[1].peer_address),
                cwd=Path(__file__).parents[2],
            )
            try:
                await low.until_connected(2)
                child.send_signal(signal.SIGSTOP)
                await low.until(lambda: not low.transport.connected(2))
                assert "not even a ping" in await log.until("lost the connection with n2")
                child.send_signal(signal.SIGCONT)
                await low.until_connected(2)
            finally:
                child.kill()
                await child.wait()

    run(main())


_CHILD = """
import asyncio, sys
from quorate.adapters.runtime.system import LoopScheduler, SystemClock
from quorate.adapters.transport.tcp import TcpTransport
from tests.peer_cluster import SECRET, RecordingHandler, SeededRng, make_identity, make_member
async def main():
    transport = TcpTransport(
        identity=make_identity(2), secret=SECRET, handler=RecordingHandler(), clock=SystemClock(), rng=SeededRng(2),
        members=[make_member(1, sys.argv[1]), make_member(2, sys.argv[2])],
        scheduler=LoopScheduler(asyncio.get_running_loop()), bind_address=sys.argv[2])
    await transport.start()
    await asyncio.Event().wait()
asyncio.run(main())
"""


def test_our_own_stall_is_not_the_peers_silence(run: Callable[[Any], None]) -> None:
    """The loop of both stands still for longer than the time limit; what arrived meanwhile is read before judging."""

    async def main() -> None:
        both = members()
        low, high = Peer(1, both), Peer(2, both)
        async with started(low, high):
            await low.until_connected(2)
            await high.until_connected(1)
            time.sleep(PEER_SILENCE_TIMEOUT_MS / 1000 + 0.3)  # noqa: ASYNC251 - the stall itself
            for number in range(3):
                high.transport.send(1, WriteReply(number, 0))
                await low.until(lambda expected=number + 1: len(low.handler.messages) == expected)  # type: ignore[misc]
            assert low.handler.connections_of(2) == high.handler.connections_of(1) == ["connected"]
            assert low.handler.ages_ms[-1] < PEER_SILENCE_TIMEOUT_MS

    run(main())


def test_what_was_queued_leaves_before_the_end(run: Callable[[Any], None]) -> None:
    async def main() -> None:
        both = members()
        low, high = Peer(1, both), Peer(2, both)
        async with started(low, high):
            await high.until_connected(1)
            for number in range(10):
                high.transport.send(1, WriteReply(number, 0))
            await high.transport.stop()
            await low.until(lambda: low.handler.events[-1] == ("disconnected", 2))
            assert len(low.handler.messages) == 10

    run(main())
