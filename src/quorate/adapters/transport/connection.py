"""One connection to a peer: bytes to messages and back, on `asyncio.Protocol`.

The hot path is here. What it costs on top of encoding and decoding is counted in tens of nanoseconds a message:
`send` appends to a list and, for the first message of a turn, asks for a flush at its end; `flush` encodes the whole
list at once and writes one frame; `data_received` cuts frames, decodes each at once, and calls the handler.

Invariants:
- Before the handshake is done the connection belongs to a stranger: small frames only, nothing delivered, a time limit.
- The handler hears of a message only between `on_connected` and `on_disconnected` of its sender.
- A candidate (`core.wire.handshake`) may send small frames of `Candidacy` messages and nothing else, is answered on its
  connection alone, and is otherwise unheard of.
- Bytes waiting to leave (queued in this turn, plus the socket's buffer) stay below `PEER_OUTPUT_BYTES_MAX`.
- An exception of the handler is our bug and is logged; it costs neither the connection nor the frame's other messages.
  Whatever the bytes are, they cost the peer its connection at most (`PeerError`).

Silence is counted in *our own* ticks, not in time: a tick renews itself only when it has run, and the loop reads its
sockets between two ticks, so a node that was itself stopped for a minute counts one tick, reads what lies in its
buffers, and blames nobody. Each side pings when it has sent nothing, so no ping needs an answer.

Rejected: `asyncio.BufferedProtocol` (measured on uvloop: it saves about 60 µs a MiB where the socket never runs dry,
and costs a second call into Python for each read of the usual few KiB; and what was cut from a buffer that is used
again must not outlive the turn), and delivering messages from a queue (another bound, another wait: not reading *is*
the backpressure).
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Final, Protocol, cast

from quorate.adapters.transport.peers import PeerCounters
from quorate.core.errors import PeerError
from quorate.core.limits import (
    FRAME_BYTES_MAX,
    HANDSHAKE_FRAME_BYTES_MAX,
    HANDSHAKE_TIMEOUT_MS,
    PEER_OUTPUT_BYTES_MAX,
    PEER_PING_INTERVAL_MS,
    PEER_SILENCE_TIMEOUT_MS,
)
from quorate.core.messages import Candidacy, Message, Read, ReadReply, Write, WriteReply
from quorate.core.ports import Cancellable, Clock, PeerHandler, Scheduler
from quorate.core.ring.ring import Member
from quorate.core.wire.age import FrameAge
from quorate.core.wire.codec import LIGHT_BYTES, MESSAGE_BYTES_MAX, PING, decode_messages, encode_messages, weigh
from quorate.core.wire.framing import BODY_BYTES_MAX, HEADER_BYTES, Body, FrameReader, frame_header
from quorate.core.wire.handshake import CANDIDATE, Handshake, HandshakeRefused

SILENCE_TICKS_MAX: Final = PEER_SILENCE_TIMEOUT_MS // PEER_PING_INTERVAL_MS
_JOIN_BYTES_MAX: Final = 128 * 1024
"""Up to this size, joining header and body costs less than a second buffer in the write."""

_WRITE: Final[type] = Write
_WRITE_REPLY: Final[type] = WriteReply
_READ: Final[type] = Read
_READ_REPLY: Final[type] = ReadReply
"""Names that compiled code need not look up each time."""

log: Final = logging.getLogger("quorate.peer")


class ConnectionOwner(Protocol):
    """What a connection reports to the transport that it belongs to."""

    def connection_opened(self, connection: PeerConnection) -> bool:
        """False: there are too many strangers already; the connection is dropped."""
        ...

    def connection_authenticated(self, connection: PeerConnection, peer: Member) -> PeerCounters | None:
        """The handshake is done. The counters to use, or None if `peer` is not to be let in (any more)."""
        ...

    def connection_ready(self, connection: PeerConnection) -> None:
        """Messages may be sent and will be delivered from now on."""
        ...

    def connection_ended(self, connection: PeerConnection, cause: Exception | None) -> None:
        """Nothing more is sent or delivered; called exactly once."""
        ...

    def connection_released(self, connection: PeerConnection) -> None:
        """The socket is closed; called exactly once, after `connection_ended`."""
        ...


class PeerConnection:
    """See the module. Has what `asyncio.Protocol` asks for, and is none by name (see `quorate._compiled`).
    `handshake` says which side this is; `dialled` is the member it leads to, if we dialled."""

    __slots__ = (
        "_age",
        "_delivering",
        "_frames_out_at_tick",
        "_handshake",
        "_monotonic_ms",
        "_on_candidacy",
        "_on_frame",
        "_on_message",
        "_owner",
        "_queue",
        "_queued_bytes",
        "_reader",
        "_room_bytes",
        "_scheduler",
        "_silent_ticks",
        "_timeout",
        "_transport",
        "candidate",
        "counters",
        "dialled",
        "ended",
        "member",
        "opened_ms",
        "received_ms",
        "remote",
    )

    def __init__(
        self,
        owner: ConnectionOwner,
        handshake: Handshake,
        handler: PeerHandler,
        clock: Clock,
        scheduler: Scheduler,
        dialled: Member | None = None,
    ) -> None:
        self.dialled = dialled
        self.member = 0
        """The authenticated peer's number; 0 as long as it is a stranger, or a candidate."""
        self.candidate = False
        """It is authenticated, as a candidate."""
        self.ended = False
        self.counters = PeerCounters()
        self.opened_ms = clock.monotonic_ms()
        self.received_ms = self.opened_ms
        """When bytes last came."""
        self.remote = "unknown address"
        self._owner = owner
        self._handshake = handshake
        self._on_message = handler.on_message
        self._on_candidacy = handler.on_candidacy
        self._monotonic_ms = clock.monotonic_ms
        self._scheduler = scheduler
        self._transport: asyncio.Transport | None = None
        self._timeout: Cancellable | None = None
        self._reader = FrameReader(HANDSHAKE_FRAME_BYTES_MAX)
        self._on_frame: Callable[[float, Body], None] = self._on_handshake_frame
        self._age = FrameAge()
        self._delivering: list[Message] = []
        self._silent_ticks = 0
        self._frames_out_at_tick = 0
        self._queue: list[Message] = []
        self._queued_bytes = 0
        self._room_bytes = MESSAGE_BYTES_MAX
        """Up to so many queued bytes nothing needs to be looked at: at least that much fits, and in one frame."""

    # Called by the loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        address = transport.get_extra_info("peername")
        if isinstance(address, tuple):
            self.remote = f"{address[0]}:{address[1]}"
        handle = transport.get_extra_info("socket")
        if handle is not None:
            handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not self._owner.connection_opened(self):
            self.end(None)
            return
        self._timeout = self._scheduler.call_later(HANDSHAKE_TIMEOUT_MS, self._on_handshake_timeout)
        first = self._handshake.start()
        if first is not None:
            self._write(first)

    def data_received(self, data: bytes) -> None:
        self._silent_ticks = 0
        self.received_ms = self._monotonic_ms()
        self.counters.bytes_in += len(data)
        try:
            for sent_ms, body in self._reader.frames(data):
                self._on_frame(sent_ms, body)
        except PeerError as error:
            self._fail(error)

    def eof_received(self) -> None:
        """Nothing more comes; the loop closes the connection."""

    def pause_writing(self) -> None:
        """What waits to leave is bounded by `send`, and looked at there."""

    def resume_writing(self) -> None:
        pass

    def connection_lost(self, exc: Exception | None) -> None:
        self.end(exc)
        self._owner.connection_released(self)

    # Called by the transport.

    def send(self, message: Message) -> bool:
        """See `quorate.core.ports.Transport.send`."""
        # What the hot path sends, by exact type; see `weigh`, which costs a call.
        kind = type(message)
        if kind is _WRITE_REPLY:
            weight = LIGHT_BYTES
        elif kind is _WRITE or kind is _READ_REPLY:
            weight = LIGHT_BYTES + len(message.body)  # type: ignore[union-attr]
        elif kind is _READ:
            weight = LIGHT_BYTES
        else:
            weight = weigh(message)
        queued_bytes = self._queued_bytes + weight
        if queued_bytes > self._room_bytes and not self._make_room(queued_bytes, weight):
            return False
        self._queued_bytes = queued_bytes
        queue = self._queue
        if not queue:
            self._scheduler.call_soon(self.flush)
        queue.append(message)
        return True

    def flush(self) -> None:
        """Send what this turn queued, as one frame if it fits in one."""
        queue = self._queue
        if not queue:
            return
        self._queue = []
        self._queued_bytes = 0
        body = encode_messages(queue)
        if len(body) > BODY_BYTES_MAX:
            self._write_split(queue)
        else:
            self.counters.messages_out += len(queue)
            self._write(body)

    def tick(self) -> None:
        """Once per `PEER_PING_INTERVAL_MS` of an authenticated connection: judge the peer's silence, break our own."""
        if self._silent_ticks >= SILENCE_TICKS_MAX:
            self._fail(PeerError(f"nothing came for {PEER_SILENCE_TIMEOUT_MS} ms, not even a ping"))
            return
        self._silent_ticks += 1
        if self.counters.frames_out == self._frames_out_at_tick:
            self._write(PING)
        self._frames_out_at_tick = self.counters.frames_out

    def end(self, cause: Exception | None, gracefully: bool = False) -> None:
        """Stop sending and delivering at once. Idempotent. Gracefully: what was written may still leave."""
        if self.ended:
            return
        self.ended = True
        self._on_frame = self._on_late_frame
        self._delivering.clear()
        self._queue.clear()
        if self._timeout is not None:
            self._timeout.cancel()
        if self._transport is not None:
            if gracefully:
                self._transport.close()
            else:
                self._transport.abort()
        self._owner.connection_ended(self, cause)

    def abort(self) -> None:
        """Give up on what could not leave yet."""
        if self._transport is not None:
            self._transport.abort()

    def output_bytes(self) -> int:
        """Bytes that wait to leave."""
        written = self._transport.get_write_buffer_size() if self._transport is not None else 0
        return self._queued_bytes + written

    # Receiving.

    def _on_handshake_frame(self, sent_ms: float, body: Body) -> None:
        self._age.of(sent_ms, self.received_ms)
        answer = self._handshake.receive(body)
        if answer is not None:
            self._write(answer)
        peer = self._handshake.peer
        if peer is None:
            return
        counters = self._owner.connection_authenticated(self, peer)
        if counters is None:
            member = peer.number != CANDIDATE
            self.end(PeerError(f"{peer.name} is no member any more" if member else "too many candidates ask at once"))
            return
        self.member, self.counters = peer.number, counters
        self._frames_out_at_tick = counters.frames_out
        if self._timeout is not None:
            self._timeout.cancel()
        if peer.number == CANDIDATE:
            self.candidate = True
            self._on_frame = self._on_candidate_frame
            return
        self._reader.limit_bytes = FRAME_BYTES_MAX
        self._on_frame = self._on_messages_frame
        self._owner.connection_ready(self)

    def _on_candidate_frame(self, _sent_ms: float, body: Body) -> None:
        for message in decode_messages(body):
            if type(message) is not Candidacy:
                raise PeerError(f"a candidate sent a {type(message).__name__}, which only members may")
            try:
                self._on_candidacy(message, self._answer)
            except Exception:
                log.exception("the candidacy of %s could not be handled; this is a bug", self.remote)

    def _answer(self, message: Message) -> None:
        """Send `message` if the connection still stands."""
        if not self.ended:
            self.send(message)

    def _on_messages_frame(self, sent_ms: float, body: Body) -> None:
        age_ms = self._age.of(sent_ms, self.received_ms)
        messages = decode_messages(body)
        counters = self.counters
        counters.frames_in += 1
        counters.messages_in += len(messages)
        # `end` empties this list, so that nothing is delivered after `on_disconnected`.
        self._delivering = messages
        on_message, member = self._on_message, self.member
        for message in messages:
            try:
                on_message(member, message, age_ms)
            except Exception:
                log.exception("a %s from member %d could not be handled; this is a bug", type(message).__name__, member)

    def _on_late_frame(self, sent_ms: float, body: Body) -> None:
        """What came in one chunk with whatever ended the connection."""

    # Sending.

    def _write(self, body: bytes) -> None:
        assert self._transport is not None
        size = len(body)
        header = frame_header(size, self._monotonic_ms())
        if size <= _JOIN_BYTES_MAX:
            self._transport.write(header + body)
        else:
            self._transport.writelines((header, body))
        self._room_bytes = min(PEER_OUTPUT_BYTES_MAX - self._transport.get_write_buffer_size(), MESSAGE_BYTES_MAX)
        counters = self.counters
        counters.frames_out += 1
        counters.bytes_out += HEADER_BYTES + size

    def _write_split(self, messages: list[Message]) -> None:
        """Send `messages`, which are too much for one frame, as several."""
        if len(messages) == 1:
            log.error("a %s for member %d fits in no frame; it is lost", type(messages[0]).__name__, self.member)
            return
        middle = len(messages) // 2
        for part in (messages[:middle], messages[middle:]):
            body = encode_messages(part)
            if len(body) > BODY_BYTES_MAX:
                self._write_split(part)
            else:
                self.counters.messages_out += len(part)
                self._write(body)

    def _make_room(self, queued_bytes: int, weight: int) -> bool:
        """Whether a message of `weight` may be queued, looked at closely."""
        assert self._transport is not None
        if weight > MESSAGE_BYTES_MAX:
            log.error("a message of %d bytes for member %d fits in no frame; it is not sent", weight, self.member)
        elif queued_bytes + self._transport.get_write_buffer_size() <= PEER_OUTPUT_BYTES_MAX:
            return True
        self.counters.sends_refused += 1
        return False

    # Ending.

    def _on_handshake_timeout(self) -> None:
        self._fail(PeerError(f"the handshake took longer than {HANDSHAKE_TIMEOUT_MS} ms"))

    def _fail(self, error: PeerError) -> None:
        answer = error.answer if isinstance(error, HandshakeRefused) else None
        if answer is not None and not self.ended:
            self._write(answer)
        self.end(error, gracefully=answer is not None)
