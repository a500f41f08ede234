"""The simulated network: what TCP connections between nodes do to messages, and worse.

A directed link delays, loses, duplicates and reorders frames as its condition says, or blocks them for a while
(both directions blocked is a partition, one is a one-way partition). Loss and duplication on a connection that stays
up are harsher than TCP; a node must survive them, because a retry or a full buffer looks just like that.

Invariants:
- Messages pass through the production codec in both directions, joined per turn of the sender's loop.
- A frame reaches only the process at the other end of its own connection, never a later life of that member.
- Without reordering, the frames of one direction arrive in the order in which they were sent.
- A connection ends at each side separately: a killed process resets its peers at once; a lost machine, a blocked link
  or a paused process is noticed after `PEER_SILENCE_TIMEOUT_MS`; the other side hears of it when it can.

Rejected: simulating pings. What they find out follows from the links' states, and they would be half of all events.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from quorate.core.limits import (
    PEER_PING_INTERVAL_MS,
    PEER_SILENCE_TIMEOUT_MS,
    RECONNECT_DELAY_MAX_MS,
    RECONNECT_DELAY_MIN_MS,
)
from quorate.core.messages import Message
from quorate.core.wire.codec import decode_messages
from quorate.sim.clocks import MachineClock
from quorate.sim.connection import CLOSED, OPEN, Connection
from quorate.sim.link import Link
from quorate.sim.loop import Process, VirtualLoop
from quorate.sim.random_streams import SeededRng, Streams
from quorate.sim.trace import KIND_CONNECTION, KIND_FRAME, KIND_LOST, Trace
from quorate.sim.transport import SimTransport

Pair = tuple[int, int]


class Network:
    """All links and connections of one simulated cluster."""

    def __init__(self, loop: VirtualLoop, streams: Streams, trace: Trace, members: Sequence[int]) -> None:
        self._loop = loop
        self._streams = streams
        self._trace = trace
        self._transports: dict[int, SimTransport] = {}
        self._connections: dict[Pair, Connection] = {}
        self._dialling: dict[Pair, bool] = {}
        self._dial_rngs: dict[Pair, SeededRng] = {}
        self.links: dict[Pair, Link] = {}
        self._members: list[int] = []
        for member in members:
            self.add(member)
        self.frames_delivered = 0
        self.on_deliver: Callable[[int, int, Message], None] | None = None
        """Called with (source, target, message) right before a message is handed to its receiver."""
        self.on_sent: Callable[[int, Message], None] = lambda source, message: None
        """Called with (source, message) when a node sends a message."""

    def add(self, member: int) -> None:
        """Lay links between a new member and all others."""
        for other in self._members:
            for source, target in ((other, member), (member, other)):
                self.links[source, target] = Link(self._streams.stream("link", source, target))
            pair = _pair(other, member)
            self._dial_rngs[pair] = self._streams.stream("dial", *pair)
            self._dialling[pair] = False
        self._members.append(member)

    # Processes come and go.

    def transport(self, member: int, process: Process, clock: MachineClock) -> SimTransport:
        """A transport for a new life of `member`; its earlier life must be over."""
        before = self._transports.get(member)
        assert before is None or not before.process.alive, "one process a member at a time"
        made = self._transports[member] = SimTransport(self, member, process, clock)
        return made

    def transport_of(self, member: int) -> SimTransport:
        """The transport of the present (or last) life of `member`."""
        return self._transports[member]

    def wants_peers(self, member: int) -> None:
        """`member` says whom it wants to be connected with. Of some, no machine may be there yet."""
        peers = self._transports[member].peers
        for peer, transport in self._transports.items():
            if peer in peers or member in transport.peers:
                self._dial_later(_pair(member, peer), RECONNECT_DELAY_MIN_MS)

    def drop(self, member: int, peer: int) -> None:
        """`member` ends its connection with `peer`, which is no member any more."""
        self._close(self._transports[member].connections[peer], member, peer, tell=True)

    def process_died(self, member: int, silently: bool) -> None:
        """The process of `member` is gone: its peers are reset, or (silently: no power) must find out themselves."""
        for pair, connection in self._connections.items():
            if member not in pair or connection.state[member] == CLOSED:
                continue
            peer = pair[0] + pair[1] - member
            connection.state[member] = CLOSED
            self._notice_end(connection, member, peer, silently or self.links[member, peer].blocked)

    def process_paused(self, member: int, until_us: int) -> None:
        """Peers of a process that says nothing for too long give the connection up."""
        for peer, connection in self._transports[member].connections.items():
            silent_us = self._silence_us(_pair(member, peer))
            if self._loop.now_us + silent_us < until_us:
                self._loop.at(self._loop.now_us + silent_us, self._closer(connection, peer, member, True))

    # Links.

    def block(self, source: int, target: int) -> None:
        """From now on nothing gets from `source` to `target`. What is on its way still arrives."""
        link = self.links[source, target]
        if link.blocked:
            return
        link.block()
        generation = link.generation
        silent_us = self._silence_us(_pair(source, target))

        def silence() -> None:
            connection = self._connections.get(_pair(source, target))
            if link.blocked and link.generation == generation and connection is not None:
                self._close(connection, target, source, tell=True)

        self._loop.at(self._loop.now_us + silent_us, silence)

    def unblock(self, source: int, target: int) -> None:
        """Let frames through again; those that TCP would have kept are delivered if their connection still stands."""
        for connection, frame, sent_ms in self.links[source, target].unblock():
            self._schedule_delivery(connection, source, target, frame, sent_ms)

    def reset(self, first: int, second: int) -> None:
        """Cut the connection between two members; what is on its way is lost."""
        connection = self._connections.get(_pair(first, second))
        if connection is not None:
            self._close(connection, first, second, tell=True)

    # Frames.

    def transmit(self, connection: Connection, source: int, target: int, frame: bytes) -> None:
        link = self.links[source, target]
        sent_ms = self._transports[source].clock.monotonic_ms()
        if link.blocked:
            link.hold(connection, frame, sent_ms)
        elif link.loses():
            self._trace.event(
                self._loop.now_us, target, KIND_LOST, frame, lambda: f"n{source} → n{target}  LOST {_describe(frame)}"
            )
        else:
            self._schedule_delivery(connection, source, target, frame, sent_ms)
            if link.duplicates():
                self._schedule_delivery(connection, source, target, frame, sent_ms)

    def _schedule_delivery(
        self, connection: Connection, source: int, target: int, frame: bytes, sent_ms: float
    ) -> None:
        arrival_us = self.links[source, target].arrival_us(self._loop.now_us)
        receiver = connection.transports[target]
        self._loop.at(
            arrival_us, lambda: self._deliver(connection, receiver, source, target, frame, sent_ms), receiver.process
        )

    def _deliver(
        self,
        connection: Connection,
        receiver: SimTransport,
        source: int,
        target: int,
        frame: bytes,
        sent_ms: float,
    ) -> None:
        if connection.state[target] != OPEN:
            return
        self.frames_delivered += 1
        age_ms = connection.arrived(target, sent_ms, receiver.clock.monotonic_ms())
        self._trace.event(
            self._loop.now_us, target, KIND_FRAME, frame, lambda: f"n{source} → n{target}  {_describe(frame)}"
        )
        handler = receiver.handler
        assert handler is not None, "a transport is attached before it connects"
        for message in decode_messages(frame):
            if self.on_deliver is not None:
                self.on_deliver(source, target, message)
            handler.on_message(source, message, age_ms)

    # Connections.

    def _dial_later(self, pair: Pair, within_ms: float = RECONNECT_DELAY_MAX_MS) -> None:
        if self._dialling[pair]:
            return
        self._dialling[pair] = True
        delay_ms = within_ms * self._dial_rngs[pair].random()
        self._loop.after_ms(delay_ms, lambda: self._dial(pair))

    def _dial(self, pair: Pair) -> None:
        self._dialling[pair] = False
        low, high = pair
        ends = [self._transports.get(low), self._transports.get(high)]
        if any(end is None or not end.process.alive for end in ends):
            return  # Whoever starts next dials again.
        first, second = self._transports[low], self._transports[high]
        if not (first.listening and second.listening) or (high not in first.peers and low not in second.peers):
            return
        refused = not first.admits(high) or not second.admits(low)
        old = self._connections.get(pair)
        if old is not None and old.stands_between(first, second):
            return
        paused = max(first.process.paused_until_us, second.process.paused_until_us) > self._loop.now_us
        if paused or self.links[low, high].blocked or self.links[high, low].blocked:
            self._dial_later(pair)
            return
        if refused:
            self._refuse(first, low, second, high)
            return
        connection = Connection({low: first, high: second})
        if old is not None:
            for member, peer in ((low, high), (high, low)):
                self._close(old, member, peer, tell=False)
        self._connections[pair] = connection
        for member, peer in ((low, high), (high, low)):
            self._loop.at(
                self._loop.now_us,
                lambda member=member, peer=peer: self._open(connection, member, peer),  # type: ignore[misc]
                connection.transports[member].process,
            )

    def _refuse(self, first: SimTransport, low: int, second: SimTransport, high: int) -> None:
        """One of them wants the other, and is not let in; if it was removed, it is told so."""
        for refusing, number, refused, peer in ((first, low, second, high), (second, high, first, low)):
            if peer in refusing.removed and number in refused.peers:
                self._trace.event(
                    self._loop.now_us,
                    peer,
                    KIND_CONNECTION,
                    b"refused %d" % number,
                    lambda number=number, peer=peer: f"n{number}  refuses n{peer}, which was removed",  # type: ignore[misc]
                )
                handler, reason = refused.handler, f"n{number} says so"
                assert handler is not None
                self._loop.at(self._loop.now_us, lambda h=handler, r=reason: h.on_removed(r), refused.process)  # type: ignore[misc]

    def _open(self, connection: Connection, member: int, peer: int) -> None:
        if connection.state[member] == CLOSED:
            return
        connection.state[member] = OPEN
        transport = connection.transports[member]
        transport.connections[peer] = connection
        self._trace.event(
            self._loop.now_us, member, KIND_CONNECTION, b"open %d" % peer, lambda: f"n{member}  connected to n{peer}"
        )
        assert transport.handler is not None
        transport.handler.on_connected(peer)

    def _close(self, connection: Connection, member: int, peer: int, tell: bool) -> None:
        """End the connection at `member`'s side, in a turn of its own, and (tell) let the other side find out."""
        if connection.state[member] == CLOSED:
            return
        was_open = connection.state[member] == OPEN
        connection.state[member] = CLOSED
        transport = connection.transports[member]

        def closed() -> None:
            if transport.connections.get(peer) is connection:
                del transport.connections[peer]
            self._trace.event(
                self._loop.now_us, member, KIND_CONNECTION, b"close %d" % peer, lambda: f"n{member}  lost n{peer}"
            )
            if was_open:
                assert transport.handler is not None
                transport.handler.on_disconnected(peer)

        if transport.process.alive:
            self._loop.at(self._loop.now_us, closed, transport.process)
        if tell:
            self._notice_end(connection, member, peer, self.links[member, peer].blocked)

    def _notice_end(self, connection: Connection, member: int, peer: int, silently: bool) -> None:
        """`member`'s side has ended; `peer` hears of it by a reset, or by silence."""
        pair = _pair(member, peer)
        link = self.links[member, peer]
        when_us = self._loop.now_us + self._silence_us(pair) if silently else link.arrival_us(self._loop.now_us)
        self._loop.at(when_us, self._closer(connection, peer, member, False))
        self._dial_later(pair)

    def _closer(self, connection: Connection, member: int, peer: int, tell: bool) -> Callable[[], None]:
        return lambda: self._close(connection, member, peer, tell)

    def _silence_us(self, pair: Pair) -> int:
        extra_ms = self._dial_rngs[pair].uniform(0.0, PEER_PING_INTERVAL_MS)
        return int((PEER_SILENCE_TIMEOUT_MS + extra_ms) * 1000)


def _pair(first: int, second: int) -> Pair:
    return (first, second) if first < second else (second, first)


def _describe(frame: bytes) -> str:
    """A frame's messages for the transcript: type, id and what tells most."""
    return "  ".join(describe_message(message) for message in decode_messages(frame))


def describe_message(message: Message) -> str:
    parts = [type(message).__name__]
    for name in ("id", "key", "status", "full", "request", "result"):
        if hasattr(message, name):
            parts.append(f"{name}={getattr(message, name)!r}")
    return " ".join(parts)
