"""The TCP transport where sockets, processes and time matter: refusals, replacement, backpressure, faults, stalls."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import uvloop

from quorate.adapters.runtime.system import LoopScheduler, SystemClock
from quorate.adapters.transport.dialer import reconnect_delay_ms
from quorate.adapters.transport.faults import FaultyTransport
from quorate.adapters.transport.peers import OnceLog
from quorate.adapters.transport.tcp import TcpTransport
from quorate.core.errors import StartupError
from quorate.core.limits import (
    FRAME_BYTES_MAX,
    HANDSHAKE_TIMEOUT_MS,
    MIB,
    PEER_CONNECTIONS_MAX,
    PEER_OUTPUT_BYTES_MAX,
    PEER_SILENCE_TIMEOUT_MS,
    RECONNECT_DELAY_MAX_MS,
    RECONNECT_DELAY_MIN_MS,
)
from quorate.core.messages import Message, Write, WriteReply
from quorate.core.ring.ring import Member
from quorate.core.wire.framing import FrameReader, frame_header
from quorate.core.wire.handshake import Handshake, Identity, Role
from tests.peer_cluster import SECRET, ManualTime, RecordingHandler, SeededRng, make_identity, make_member

pytestmark = pytest.mark.integration

WAIT_SECONDS = 15.0


class Peer:
    """A transport with a handler that records, and the means to wait for what it is told."""

    def __init__(self, number: int, members: list[Member], **changes: Any) -> None:
        self.handler = RecordingHandler()
        self.changed = asyncio.Event()
        self.handler.wake = self.changed.set
        self.member = members[number - 1]
        self.transport = TcpTransport(
            identity=changes.get("identity", make_identity(number)),
            secret=changes.get("secret", SECRET),
            members=changes.get("members", members),
            handler=self.handler,
            clock=SystemClock(),
            rng=SeededRng(number),
            scheduler=changes.get("scheduler") or LoopScheduler(asyncio.get_running_loop()),
            bind_address=self.member.peer_address,
        )

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_SECONDS):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    async def until_connected(self, number: int) -> None:
        await self.until(lambda: self.transport.connected(number))


class LogLines(logging.Handler):
    """What the peer port logs, and an event for each line."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.changed = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
        self.changed.set()

    async def until(self, words: str) -> str:
        async with asyncio.timeout(WAIT_SECONDS):
            while not (found := [line for line in self.lines if words in line]):
                self.changed.clear()
                await self.changed.wait()
        return found[0]


@pytest.fixture
def run() -> Callable[[Coroutine[Any, Any, None]], None]:
    return uvloop.run


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in sockets]
    for listener in sockets:
        listener.close()
    return ports


def members(count: int = 2) -> list[Member]:
    ports = free_ports(count)
    return [make_member(number, f"127.0.0.1:{port}") for number, port in enumerate(ports, 1)]


@asynccontextmanager
async def started(*peers: Peer) -> AsyncIterator[LogLines]:
    """Start them, stop them at the end, and see that no exception has escaped into the loop meanwhile."""
    lines, log, escaped = LogLines(), logging.getLogger("quorate.peer"), []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: escaped.append(context))
    log.addHandler(lines)
    level = log.level
    log.setLevel(logging.INFO)
    try:
        for peer in peers:
            await peer.transport.start()
        yield lines
    finally:
        for peer in peers:
            await peer.transport.stop()
        log.removeHandler(lines)
        log.setLevel(level)
    assert escaped == []


class RawPeer:
    """Member `number`, spoken by hand over a socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        self.reader, self.writer = reader, writer
        self.handshake = Handshake(
            Role.DIALER, make_identity(number), SECRET, {1: make_member(1)}, os.urandom(32), expected=1
        )
        self._frames = FrameReader(FRAME_BYTES_MAX)

    @classmethod
    async def dial(cls, address: str, number: int) -> RawPeer:
        host, _, port = address.rpartition(":")
        return cls(*await asyncio.open_connection(host, int(port)), number)

    async def bodies(self) -> list[bytes]:
        """The frames in the next chunk; empty at the end of the stream."""
        async with asyncio.timeout(WAIT_SECONDS):
            found: list[bytes] = []
            while not found:
                chunk = await self.reader.read(65_536)
                if not chunk:
                    return []
                found = [bytes(body) for _, body in self._frames.frames(chunk)]
            return found

    def write(self, body: bytes) -> None:
        self.writer.write(frame_header(len(body), time.monotonic() * 1000) + body)

    async def shake_hands(self) -> None:
        body = self.handshake.start()
        while body is not None:
            self.write(body)
            body = self.handshake.receive((await self.bodies())[0])

    async def until_closed(self) -> None:
        while await self.bodies():
            pass


# Starting.


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


# Refusals: both sides say why, once.


def other_cluster(identity: Identity) -> Identity:
    return msgspec.structs.replace(identity, cluster_id="d2" * 16)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"identity": other_cluster(make_identity(2))}, "wrong cluster"),
        ({"identity": msgspec.structs.replace(make_identity(2), id="ab" * 16)}, "wrong identity"),
        ({"identity": msgspec.structs.replace(make_identity(5), id="ab" * 16)}, "unknown member"),
        ({"secret": b"another secret"}, "wrong secret"),
        (
            {"identity": msgspec.structs.replace(make_identity(2), wire_version=9, wire_version_min=8)},
            "wire version",
        ),
    ],
)
def test_a_refused_peer_is_told_why_and_both_log_it_once(
    run: Callable[[Any], None], changes: dict[str, Any], reason: str
) -> None:
    """Hard cases 16 and 20. Time is moved by hand, so that many attempts pass quickly."""

    async def main() -> None:
        both, time_of_dialer = members(), ManualTime()
        low, high = Peer(1, both), Peer(2, both, scheduler=time_of_dialer, **changes)
        async with started(low, high) as log:
            refused_by = await log.until("refused by n1")
            refused = await log.until("no handshake with")
            assert reason in refused and reason in refused_by
            attempts = 4
            for _ in range(attempts):
                before = len(released)
                time_of_dialer.advance(RECONNECT_DELAY_MAX_MS)
                async with asyncio.timeout(WAIT_SECONDS):
                    while len(released) < before + 2:
                        changed.clear()
                        await changed.wait()
            assert reason in high.transport.peer_states()[1]["last_refusal"]
            assert low.handler.events == high.handler.events == []
            assert sum(reason in line for line in log.lines) == 2, log.lines

    released: list[Any] = []
    changed = asyncio.Event()
    original = TcpTransport.connection_released

    def keep(self: TcpTransport, connection: Any) -> None:
        released.append(connection)
        changed.set()
        original(self, connection)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TcpTransport, "connection_released", keep)
        run(main())


def test_an_address_that_leads_back_to_ourselves_is_refused(run: Callable[[Any], None]) -> None:
    async def main() -> None:
        both = members()
        misled = [msgspec.structs.replace(both[0], peer_address=both[1].peer_address), both[1]]
        async with started(Peer(2, misled)) as log:
            assert "connected to itself" in await log.until("refused by n1")

    run(main())


def test_a_redis_client_on_the_peer_port_is_cut_off(run: Callable[[Any], None]) -> None:
    async def main() -> None:
        peer = Peer(1, members())
        async with started(peer) as log:
            reader, writer = await asyncio.open_connection(*peer.transport.address.split(":"))
            writer.write(b"*1\r\n$4\r\nPING\r\n")
            async with asyncio.timeout(WAIT_SECONDS):
                assert await reader.read(100) == b""
            writer.close()
            assert "something else than a Quorate node" in await log.until("no handshake with")

    run(main())


def test_a_silent_stranger_is_cut_off_in_time(run: Callable[[Any], None]) -> None:
    async def main() -> None:
        by_hand = ManualTime()
        peer = Peer(1, members(), scheduler=by_hand)
        async with started(peer):
            raw = await RawPeer.dial(peer.transport.address, 2)
            raw.write(raw.handshake.start() or b"")
            assert len(await raw.bodies()) == 1, "the hello is answered"
            by_hand.advance(HANDSHAKE_TIMEOUT_MS)
            await raw.until_closed()
            raw.writer.close()

    run(main())


def test_strangers_are_bounded(run: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Hard case 34: whoever opens connections and says nothing gets so many and no more."""

    async def main() -> None:
        peer = Peer(1, members())
        async with started(peer) as log:
            raws = [await RawPeer.dial(peer.transport.address, 2) for _ in range(5)]
            await log.until("wait for their handshake")
            for raw in raws[3:]:
                await raw.until_closed()
            await raws[0].shake_hands()
            assert raws[0].handshake.done, "those who came in time are served"
            for raw in raws:
                raw.writer.close()

    assert PEER_CONNECTIONS_MAX > 3
    monkeypatch.setattr("quorate.adapters.transport.tcp.PEER_CONNECTIONS_MAX", 3)
    run(main())


# One connection a peer.


def test_the_newest_connection_replaces_the_older(run: Callable[[Any], None]) -> None:
    """A peer whose machine lost power dials again before its old connection has timed out."""

    async def main() -> None:
        peer = Peer(1, members())
        async with started(peer):
            old = await RawPeer.dial(peer.transport.address, 2)
            await old.shake_hands()
            await peer.until_connected(2)
            new = await RawPeer.dial(peer.transport.address, 2)
            await new.shake_hands()
            await old.until_closed()
            assert peer.handler.connections_of(2) == ["connected", "disconnected", "connected"]
            assert peer.transport.send(2, WriteReply(1, 0))
            assert len(await new.bodies()) == 1
            assert peer.transport.peer_states()[2]["connects"] == 2
            for raw in (old, new):
                raw.writer.close()

    run(main())


def test_a_member_removed_while_it_is_replaced_does_not_get_in(run: Callable[[Any], None]) -> None:
    """The handler, told that the older connection is lost, removes the member whose newer one is just being let in."""

    async def main() -> None:
        both = members()
        peer = Peer(1, both)
        peer.handler.on_disconnect = lambda member: peer.transport.set_members([both[0]])
        async with started(peer):
            old, new = [await RawPeer.dial(peer.transport.address, 2) for _ in range(2)]
            await old.shake_hands()
            await peer.until_connected(2)
            await new.shake_hands()
            await new.until_closed()
            assert peer.handler.connections_of(2) == ["connected", "disconnected"]
            assert not peer.transport.connected(2) and peer.transport.peer_states() == {}
            for raw in (old, new):
                raw.writer.close()

    run(main())


def test_an_unproven_connection_replaces_nothing(run: Callable[[Any], None]) -> None:
    async def main() -> None:
        peer = Peer(1, members())
        async with started(peer) as log:
            real = await RawPeer.dial(peer.transport.address, 2)
            await real.shake_hands()
            await peer.until_connected(2)
            fake = await RawPeer.dial(peer.transport.address, 2)
            fake.handshake = Handshake(
                Role.DIALER, make_identity(2), b"a guess", {1: make_member(1)}, os.urandom(32), expected=1
            )
            fake.write(fake.handshake.start() or b"")
            fake.write(fake.handshake.receive((await fake.bodies())[0]) or b"")
            await log.until("wrong secret")
            assert peer.transport.connected(2) and peer.handler.connections_of(2) == ["connected"]
            for raw in (real, fake):
                raw.writer.close()

    run(main())


def test_a_member_removed_during_its_handshake_does_not_get_in(run: Callable[[Any], None]) -> None:
    """Hard case 16, in its narrowest moment: the hello was judged by an older ring than the proof."""

    async def main() -> None:
        both = members()
        peer = Peer(1, both)
        async with started(peer) as log:
            raw = await RawPeer.dial(peer.transport.address, 2)
            raw.write(raw.handshake.start() or b"")
            proof = raw.handshake.receive((await raw.bodies())[0])
            peer.transport.set_members([both[0]])
            raw.write(proof or b"")
            await raw.until_closed()
            assert "no member any more" in await log.until("no handshake with")
            assert peer.handler.events == [] and peer.transport.peer_states() == {}
            raw.writer.close()

    run(main())


def test_a_late_attempt_does_not_replace_a_good_connection(run: Callable[[Any], None]) -> None:
    """Else each replacement would look to the dialer like a loss, and it would go on dialling for ever."""

    async def main() -> None:
        both = members()
        low, high = Peer(1, both), Peer(2, both)
        async with started(low, high):
            await high.until_connected(1)
            await low.until_connected(2)
            await high.transport._connect(both[0], *_host_and_port(both[0]))
            high.transport.send(1, WriteReply(1, 0))
            await low.until(lambda: low.handler.messages != [])
            assert low.handler.connections_of(2) == high.handler.connections_of(1) == ["connected"]
            assert len(high.transport._open) == 1

    run(main())


def _host_and_port(member: Member) -> tuple[str, int]:
    host, _, port = member.peer_address.rpartition(":")
    return host, int(port)


def test_a_member_moves_to_another_address(run: Callable[[Any], None]) -> None:
    """Hard case 21: identity is not tied to an address."""

    async def main() -> None:
        both, elsewhere = members(), members(1)[0]
        low, high = Peer(1, both), Peer(2, both)
        async with started(high):
            await low.transport.start()
            await high.until_connected(1)
            await low.transport.stop()
            await high.until(lambda: not high.transport.connected(1))
            moved = [elsewhere, both[1]]
            low = Peer(1, moved)
            async with started(low):
                high.transport.set_members(moved)
                await high.until_connected(1)
                assert high.transport.peer_states()[1]["address"] == elsewhere.peer_address

    run(main())


# Backpressure and silence.


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
