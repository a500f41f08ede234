"""The TCP transport's outer faces: starting, cutting what is sent into frames, injected faults, its small parts."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import pytest
import uvloop

from quorate.adapters.transport.dialer import reconnect_delay_ms
from quorate.adapters.transport.faults import FaultyTransport
from quorate.adapters.transport.peers import OnceLog
from quorate.adapters.transport.tcp import TcpTransport
from quorate.core.errors import StartupError
from quorate.core.limits import (
    FRAME_BYTES_MAX,
    MIB,
    RECONNECT_DELAY_MAX_MS,
    RECONNECT_DELAY_MIN_MS,
)
from quorate.core.messages import Message, Write, WriteReply
from tests.peer_cluster import ManualTime, make_member
from tests.transport_peers import Peer, members, started

pytestmark = pytest.mark.integration


def test_a_port_in_use_refuses_to_start(run: Callable[[Any], None]) -> None:
    async def main() -> None:
        both = members(1) * 2
        first, second = Peer(1, both), Peer(1, both)
        async with started(first):
            with pytest.raises(StartupError, match=f"peer port {both[0].peer_address} is in use.*another port"):
                await second.transport.start()

    run(main())


@pytest.mark.parametrize(
    ("address", "words"), [("203.0.113.7:7601", "address of this machine"), ("nonsense", "not an address")]
)
def test_an_address_that_cannot_be_bound_refuses_to_start(run: Callable[[Any], None], address: str, words: str) -> None:
    async def main() -> None:
        with pytest.raises(StartupError, match=words):
            await Peer(1, [make_member(1, address)]).transport.start()

    run(main())


def test_an_empty_secret_refuses_to_start(run: Callable[[Any], None]) -> None:
    async def main() -> None:
        with pytest.raises(StartupError, match="secret is empty"):
            Peer(1, members(1), secret=b"")

    run(main())


def test_a_socket_bound_before_may_be_handed_over(run: Callable[[Any], None]) -> None:
    async def main() -> None:
        peer, listener = Peer(1, members(1)), socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        await peer.transport.start(listener)
        assert peer.transport.address == f"127.0.0.1:{port}"
        await peer.transport.stop()
        await peer.transport.stop()

    run(main())


# Frames.


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_what_a_turn_sends_is_one_frame(run: Callable[[Any], None]) -> None:
    async def main() -> None:
        both = members()
        low, high = Peer(1, both), Peer(2, both)
        async with started(low, high):
            await high.until_connected(1)
            before = high.transport.peer_states()[1]
            for number in range(100):
                assert high.transport.send(1, WriteReply(number, 0))
            assert high.transport.peer_states()[1]["frames_out"] == before["frames_out"]
            await asyncio.sleep(0)
            after = high.transport.peer_states()[1]
            assert after["frames_out"] == before["frames_out"] + 1
            assert after["messages_out"] == before["messages_out"] + 100
            await low.until(lambda: len(low.handler.messages) == 100)
            state = low.transport.peer_states()[2]
            assert state["messages_in"] == 100 and state["connected"] and state["connects"] == 1
            assert state["bytes_in"] == high.transport.peer_states()[1]["bytes_out"]
            assert set(low.handler.ages_ms) == {low.handler.ages_ms[0]}, "one frame has one age"

    run(main())


def test_a_turn_of_more_than_a_frame_is_split(run: Callable[[Any], None]) -> None:
    async def main() -> None:
        both = members()
        low, high = Peer(1, both), Peer(2, both)
        async with started(low, high):
            await high.until_connected(1)
            body = bytes(9 * MIB)
            sent = [Write(number, 1000, 1, b"k", body, 0) for number in range(FRAME_BYTES_MAX // len(body) + 2)]
            assert len(sent) * len(body) > FRAME_BYTES_MAX
            before = high.transport.peer_states()[1]["frames_out"]
            assert all(high.transport.send(1, message) for message in sent)
            await low.until(lambda: len(low.handler.messages) == len(sent))
            assert [message.id for _, message in low.handler.messages] == [message.id for message in sent]  # type: ignore[union-attr]
            assert high.transport.peer_states()[1]["frames_out"] > before + 1
            assert high.transport.connected(1)

    run(main())


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_nagle_is_off_at_both_ends(run: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch) -> None:
    handles: list[Any] = []
    original = TcpTransport.connection_opened

    def keep(self: TcpTransport, connection: Any) -> bool:
        handles.append(connection._transport.get_extra_info("socket"))
        return original(self, connection)

    async def main() -> None:
        monkeypatch.setattr(TcpTransport, "connection_opened", keep)
        both = members()
        low, high = Peer(1, both), Peer(2, both)
        async with started(low, high):
            await high.until_connected(1)
            assert len(handles) == 2
            assert all(handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for handle in handles)

    run(main())


# Faults.


class Script:
    """Loses odd ids and holds id 100 back."""

    def delay_ms(self, member: int, message: Message) -> float | None:
        assert isinstance(message, WriteReply)
        if message.id == 100:
            return 40.0
        return None if message.id % 2 else 0.0


def test_faults_lose_and_delay_messages(run: Callable[[Any], None]) -> None:
    async def main() -> None:
        both, by_hand = members(), ManualTime()
        low, high = Peer(1, both), Peer(2, both)
        faulty = FaultyTransport(high.transport, by_hand, Script())
        async with started(low, high):
            assert not faulty.send(1, WriteReply(0, 0)), "no connection yet"
            await high.until_connected(1)
            for number in (100, 1, 2, 3, 4):
                assert faulty.send(1, WriteReply(number, 0))
            await low.until(lambda: len(low.handler.messages) == 2)
            by_hand.advance(40.0)
            await low.until(lambda: len(low.handler.messages) == 3)
            assert [message.id for _, message in low.handler.messages] == [2, 4, 100]  # type: ignore[union-attr]

    run(main())


# Small parts.


def test_the_reconnect_delay_grows_within_its_bounds() -> None:
    for failures in range(200):
        delays = [reconnect_delay_ms(failures, random) for random in (0.0, 0.5, 0.999)]
        assert RECONNECT_DELAY_MIN_MS <= delays[0] <= delays[1] <= delays[2] <= RECONNECT_DELAY_MAX_MS
    assert reconnect_delay_ms(0, 0.999) <= RECONNECT_DELAY_MIN_MS
    assert reconnect_delay_ms(100, 0.0) == RECONNECT_DELAY_MAX_MS / 2
    assert reconnect_delay_ms(3, 0.9) > reconnect_delay_ms(3, 0.1), "jitter"


def test_a_once_log_is_bounded_and_forgets_on_demand() -> None:
    once = OnceLog(capacity=2)
    assert once.first("a", "x") and once.first("a", "y")
    assert not once.first("a", "x")
    assert once.first("b", "x"), "this pushes out the oldest, (a, y)"
    assert not once.first("a", "x") and once.first("a", "y")
    once.forget("a")
    assert once.first("a", "x")
