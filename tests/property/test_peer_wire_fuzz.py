"""The peer port against bytes that no Quorate node would send (hard case 35).

Whatever comes, a connection answers with a refusal or is closed; nothing is raised into the loop, nothing is delivered
to the handler that was not sent by a known peer, and no memory is taken for what is merely declared.
"""

from __future__ import annotations

import asyncio
import struct
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.adapters.transport.connection import PeerConnection
from quorate.adapters.transport.peers import PeerCounters
from quorate.core.errors import PeerError
from quorate.core.limits import (
    FRAME_BYTES_MAX,
    HANDSHAKE_FRAME_BYTES_MAX,
    HANDSHAKE_TIMEOUT_MS,
    KIB,
    MIB,
    PEER_PING_INTERVAL_MS,
    PEER_SILENCE_TIMEOUT_MS,
)
from quorate.core.messages import Message, Read, ReadReply, Write, WriteReply
from quorate.core.ring.ring import Member
from quorate.core.wire.codec import encode_messages
from quorate.core.wire.framing import FrameReader, frame_header
from quorate.core.wire.handshake import Handshake, HandshakeRefused, Role
from tests.peer_cluster import SECRET, ManualTime, RecordingHandler, SeededRng, make_identity, make_member

MEMBERS = {number: make_member(number) for number in (1, 2)}
MESSAGES: list[Message] = [
    Write(1, 1000, 1, b"default:key", b"value" * 20, 0),
    WriteReply(2, 0),
    Read(3, 1000, 1, b"default:key", True),
    ReadReply(4, 0, 77, b"body"),
]

chunks = st.lists(st.binary(min_size=1, max_size=200), max_size=10)


class FakeSocket(asyncio.Transport):
    """The loop's side of a connection: keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closed = False
        self.buffered_bytes = 0

    def write(self, data: Any) -> None:
        assert not self.closed, "nothing is written to a closed connection"
        self.written.append(bytes(data))

    def writelines(self, parts: Any) -> None:
        self.write(b"".join(parts))

    def get_write_buffer_size(self) -> int:
        return self.buffered_bytes

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def take(self) -> list[bytes]:
        """The bodies of the frames written since the last call."""
        data, self.written = b"".join(self.written), []
        return [bytes(body) for _, body in FrameReader(FRAME_BYTES_MAX).frames(data)]


class Owner:
    """Lets everybody in who is authenticated, and keeps what it is told."""

    def __init__(self) -> None:
        self.ready = 0
        self.ends: list[Exception | None] = []
        self.released = 0

    def connection_opened(self, connection: PeerConnection) -> bool:
        return True

    def connection_authenticated(self, connection: PeerConnection, peer: Member) -> PeerCounters:
        return PeerCounters()

    def connection_ready(self, connection: PeerConnection) -> None:
        self.ready += 1

    def connection_ended(self, connection: PeerConnection, cause: Exception | None) -> None:
        self.ends.append(cause)

    def connection_released(self, connection: PeerConnection) -> None:
        self.released += 1


class Endpoint:
    """Member 1's end of a connection that somebody has opened to it (or that it has opened to member 2)."""

    def __init__(self, role: Role = Role.ACCEPTOR) -> None:
        self.time, self.owner, self.handler, self.socket = ManualTime(), Owner(), RecordingHandler(), FakeSocket()
        dialled = MEMBERS[2] if role is Role.DIALER else None
        handshake = Handshake(
            role, make_identity(1), SECRET, MEMBERS, SeededRng().token_bytes(32), 2 if dialled else None
        )
        self.connection = PeerConnection(self.owner, handshake, self.handler, self.time, self.time, dialled)
        self.connection.connection_made(self.socket)

    def receive(self, data: bytes) -> None:
        """As the loop would: nothing arrives on a closed connection."""
        if not self.socket.closed:
            self.connection.data_received(data)

    def check(self) -> None:
        """What holds in every state."""
        assert len(self.owner.ends) <= 1
        assert self.socket.closed == self.connection.ended == bool(self.owner.ends)
        for cause in self.owner.ends:
            assert isinstance(cause, PeerError)


def frame(body: bytes, sent_ms: float = 5.0) -> bytes:
    return frame_header(len(body), sent_ms) + body


def dialing_peer() -> Handshake:
    return Handshake(Role.DIALER, make_identity(2), SECRET, MEMBERS, b"n" * 32, 1)


def authenticated() -> Endpoint:
    """An endpoint that knows its peer, member 2."""
    endpoint, peer = Endpoint(), dialing_peer()
    body = peer.start()
    while body is not None:
        endpoint.receive(frame(body))
        answers = endpoint.socket.take()
        body = peer.receive(answers[0])
    assert endpoint.owner.ready == 1 and endpoint.connection.member == 2
    return endpoint


def mutations(valid: bytes) -> st.SearchStrategy[bytes]:
    """`valid` with bytes replaced, removed, inserted, repeated or cut off."""

    def apply(edits: list[tuple[int, int, bytes]]) -> bytes:
        data = valid
        for position, length, new in edits:
            at = position % (len(data) + 1)
            data = data[:at] + new + data[at + length :]
        return data

    edit = st.tuples(st.integers(0, len(valid)), st.integers(0, 8), st.binary(max_size=8))
    return st.lists(edit, min_size=1, max_size=4).map(apply)


# Framing alone, handshake alone.


@settings(max_examples=150, deadline=None)
@given(chunks, st.sampled_from([16, HANDSHAKE_FRAME_BYTES_MAX, FRAME_BYTES_MAX]))
def test_the_reader_yields_frames_or_blames_the_peer(pieces: list[bytes], limit_bytes: int) -> None:
    reader, fed = FrameReader(limit_bytes), 0
    try:
        for piece in pieces:
            fed += len(piece)
            for sent_ms, body in reader.frames(piece):
                assert sent_ms >= 0.0 and 1 <= len(body) <= limit_bytes
            assert reader.held_bytes <= min(fed, limit_bytes + 4)
    except PeerError:
        pass


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.binary(max_size=300), mutations(dialing_peer().start() or b"")), st.sampled_from(Role))
def test_a_handshake_ends_in_an_answer_or_a_refusal(body: bytes, role: Role) -> None:
    expected = 2 if role is Role.DIALER else None
    side = Handshake(role, make_identity(1), SECRET, MEMBERS, b"m" * 32, expected)
    try:
        answer = side.receive(body)
    except HandshakeRefused as error:
        assert error.answer is None or len(error.answer) < HANDSHAKE_FRAME_BYTES_MAX
    else:
        assert answer is not None and not side.done


# The whole connection.


@settings(max_examples=150, deadline=None)
@given(chunks, st.sampled_from(Role))
def test_random_bytes_from_a_stranger(pieces: list[bytes], role: Role) -> None:
    endpoint = Endpoint(role)
    for piece in pieces:
        endpoint.receive(piece)
        endpoint.check()
    assert endpoint.owner.ready == 0 and endpoint.handler.events == []
    endpoint.time.advance(HANDSHAKE_TIMEOUT_MS)
    endpoint.check()
    assert endpoint.connection.ended, "a stranger is not kept for ever"


@settings(max_examples=150, deadline=None)
@given(mutations(frame(dialing_peer().start() or b"")), st.binary(max_size=100))
def test_a_mutated_hello_from_a_stranger(hello: bytes, rest: bytes) -> None:
    endpoint = Endpoint()
    endpoint.receive(hello)
    endpoint.receive(rest)
    endpoint.check()
    assert endpoint.owner.ready == 0 and endpoint.handler.events == []


@settings(max_examples=150, deadline=None)
@given(st.one_of(chunks.map(b"".join), mutations(frame(encode_messages(MESSAGES)))), st.integers(1, 300))
def test_mutated_messages_from_a_known_peer(data: bytes, cut: int) -> None:
    endpoint = authenticated()
    for at in range(0, len(data), cut):
        endpoint.receive(data[at : at + cut])
        endpoint.check()
    assert len(endpoint.handler.messages) <= len(data)
    assert all(number == 2 for number, _ in endpoint.handler.messages)
    if not endpoint.connection.ended:
        endpoint.time.turn()
        assert endpoint.connection.send(WriteReply(1, 0)), "the connection still works"


@settings(deadline=None)
@given(st.lists(st.sampled_from(MESSAGES), max_size=8), st.integers(1, 50))
def test_valid_messages_arrive_however_they_are_cut(batch: list[Message], cut: int) -> None:
    endpoint, data = authenticated(), frame(encode_messages(batch)) * 2
    for at in range(0, len(data), cut):
        endpoint.receive(data[at : at + cut])
    assert [message for _, message in endpoint.handler.messages] == batch * 2
    endpoint.check()


def test_messages_before_the_handshake_are_refused() -> None:
    endpoint = Endpoint()
    endpoint.receive(frame(encode_messages(MESSAGES)))
    endpoint.check()
    assert endpoint.connection.ended and endpoint.handler.events == []


def test_messages_may_come_in_one_chunk_with_the_last_frame_of_the_handshake() -> None:
    endpoint, peer = Endpoint(), dialing_peer()
    endpoint.receive(frame(peer.start() or b""))
    proof = peer.receive(endpoint.socket.take()[0])
    large = Write(1, 1000, 1, b"k", b"v" * 2 * HANDSHAKE_FRAME_BYTES_MAX, 0)
    endpoint.receive(frame(proof or b"") + frame(encode_messages([large])))
    assert endpoint.handler.messages == [(2, large)]


def test_frames_that_came_with_the_end_are_not_delivered() -> None:
    """The handler ends the connection at the first of three frames, which the loop has read as one chunk."""
    endpoint = authenticated()
    endpoint.handler.react = lambda member, message: endpoint.connection.end(None)
    endpoint.receive(frame(encode_messages([WriteReply(1, 0)])) * 3)
    assert len(endpoint.handler.messages) == 1 and endpoint.owner.ends == [None]


@pytest.mark.parametrize("make", [Endpoint, authenticated])
@pytest.mark.parametrize("declared", [FRAME_BYTES_MAX + 1, 2**31, 2**32 - 1])
def test_a_huge_length_is_refused_at_once_and_takes_no_memory(make: Callable[[], Endpoint], declared: int) -> None:
    endpoint = make()
    tracemalloc.start()
    try:
        endpoint.receive(struct.pack(">I", declared))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert endpoint.connection.ended and peak < 16 * KIB
    endpoint.check()


def test_a_stranger_cannot_have_more_than_a_small_frame_kept() -> None:
    endpoint = Endpoint()
    tracemalloc.start()
    try:
        endpoint.receive(struct.pack(">I", HANDSHAKE_FRAME_BYTES_MAX))
        for _ in range(HANDSHAKE_FRAME_BYTES_MAX - 1):
            endpoint.receive(b"\0")
        kept = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert not endpoint.connection.ended and kept < 16 * KIB


def test_a_body_that_declares_more_than_it_holds_takes_no_memory() -> None:
    endpoint = authenticated()
    tracemalloc.start()
    try:
        endpoint.receive(frame(b"\xdd\x7f\xff\xff\xff" + bytes(1000)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert endpoint.connection.ended and peak < MIB


def test_a_slow_handshake_is_cut_off() -> None:
    """A slow loris sends a byte a second: each resets nothing."""
    endpoint, hello = Endpoint(), frame(dialing_peer().start() or b"")
    for second in range(HANDSHAKE_TIMEOUT_MS // 1000):
        assert not endpoint.connection.ended
        endpoint.receive(hello[second : second + 1])
        endpoint.time.advance(1000)
    assert endpoint.connection.ended
    endpoint.check()


def test_a_known_peer_has_no_handshake_deadline() -> None:
    endpoint = authenticated()
    endpoint.time.advance(10 * HANDSHAKE_TIMEOUT_MS)
    assert not endpoint.connection.ended


# Silence, in the connection's own ticks.


def test_a_silent_peer_is_closed_and_pinged_before() -> None:
    endpoint, ticks = authenticated(), 0
    while not endpoint.connection.ended:
        endpoint.connection.tick()
        ticks += 1
        assert ticks < 100
    assert (ticks - 1) * PEER_PING_INTERVAL_MS >= PEER_SILENCE_TIMEOUT_MS
    assert len(endpoint.socket.take()) == ticks - 1, "each tick that did not end it has sent a ping"
    assert "not even a ping" in str(endpoint.owner.ends[0])


def test_any_byte_breaks_the_silence() -> None:
    """Of a frame of megabytes over a slow line, too."""
    endpoint, data = authenticated(), frame(encode_messages(MESSAGES))
    for at in range(len(data)):
        for _ in range(PEER_SILENCE_TIMEOUT_MS // PEER_PING_INTERVAL_MS):
            endpoint.connection.tick()
        endpoint.receive(data[at : at + 1])
    assert not endpoint.connection.ended and len(endpoint.handler.messages) == len(MESSAGES)


def test_who_sends_does_not_ping() -> None:
    endpoint = authenticated()
    endpoint.connection.tick()
    endpoint.socket.take()
    for _ in range(3):
        assert endpoint.connection.send(WriteReply(1, 0))
        endpoint.time.turn()
        endpoint.connection.tick()
    assert endpoint.socket.take() == [encode_messages([WriteReply(1, 0)])] * 3


def test_a_stall_of_our_own_blames_nobody() -> None:
    """This process was stopped for an hour: one tick is late by an hour, then what had arrived is read."""
    endpoint = authenticated()
    for _ in range(5):
        endpoint.connection.tick()
        endpoint.time.advance(3_600_000)
        endpoint.connection.tick()
        endpoint.receive(frame(encode_messages([])))
    assert not endpoint.connection.ended
