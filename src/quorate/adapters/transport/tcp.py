"""The `Transport` port over TCP: which connections exist, and whose they are.

One listener, one dialer for every member, eager for those with a lower number (see `dialer.py`), at most one
authenticated connection a peer. A connection belongs to nobody until its handshake is done: that the peer's kernel
accepts it proves only that a kernel runs there. Who may have one is said in `roster.py`.

A node whose address in the ring is not the one where it is (`advertised_address`) is eager towards all members: those
that should dial it cannot, until the ring says where it is.

Invariants:
- `on_connected` and `on_disconnected` alternate for each member, beginning with the former.
- The newest authenticated connection of a peer replaces the older one, which is dead but does not know it yet: its
  dialer opens a second one only after it has lost the first.
- A removed member is disconnected by `set_members` itself unless it lingers, and refused by the next handshake.
- Connections of candidates are at most `CANDIDATE_CONNECTIONS_MAX`, and belong to nobody.
- Unauthenticated connections are at most `PEER_CONNECTIONS_MAX`, each for at most `HANDSHAKE_TIMEOUT_MS`.
- A refusal is logged once for each peer and reason until that peer has connected; the status keeps the latest.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Sequence
from functools import partial
from math import inf
from typing import Any, Final, cast

from quorate.adapters.transport.connection import PeerConnection
from quorate.adapters.transport.dialer import Dialer
from quorate.adapters.transport.peers import OnceLog, PeerCounters
from quorate.adapters.transport.roster import Roster
from quorate.core.errors import CallerError, PeerError, StartupError
from quorate.core.limits import (
    CANDIDATE_CONNECTIONS_MAX,
    PEER_CLOSE_TIMEOUT_MS,
    PEER_CONNECTIONS_MAX,
    PEER_PING_INTERVAL_MS,
)
from quorate.core.messages import Message
from quorate.core.ports import Cancellable, Clock, PeerHandler, Rng, Scheduler
from quorate.core.ring.ring import Member
from quorate.core.ring.transition import Departed
from quorate.core.wire.address import join_address, split_address
from quorate.core.wire.handshake import (
    CANDIDATE,
    NONCE_BYTES,
    Handshake,
    HandshakeRefused,
    Identity,
    RefusalCode,
    Role,
)

log: Final = logging.getLogger("quorate.peer")


class TcpTransport:
    """See the module, and `quorate.core.ports.Transport`.

    `identity` is who this node says it is, `secret` the cluster's (not empty), `bind_address` host:port (port 0: any
    free one, see `address`), `advertised_address` where others reach it (empty: where the ring says). The handler is
    given here or by `attach`, before `start`.
    """

    def __init__(
        self,
        *,
        identity: Identity,
        secret: bytes,
        members: Sequence[Member],
        clock: Clock,
        rng: Rng,
        scheduler: Scheduler,
        bind_address: str,
        advertised_address: str = "",
        handler: PeerHandler | None = None,
    ) -> None:
        if not secret:
            raise StartupError("the cluster secret is empty: set the same long random secret on every node")
        self._identity = identity
        self._secret = secret
        self._clock = clock
        self._rng = rng
        self._scheduler = scheduler
        self._bind_address = bind_address
        self._advertised_address = advertised_address
        self._handler = handler
        self._roster = Roster(identity.number)
        self._counters: dict[int, PeerCounters] = {}
        self._ready: dict[int, PeerConnection] = {}
        self._dialers: dict[int, Dialer] = {}
        self._strangers: dict[PeerConnection, None] = {}
        self._candidates: dict[PeerConnection, None] = {}
        self._open: dict[PeerConnection, None] = {}
        self._refusals = OnceLog()
        self._server: asyncio.Server | None = None
        self._ticker: Cancellable | None = None
        self._all_released: asyncio.Event | None = None
        self._running = False
        self._is_cut_off = False
        self._removal_told = False
        self.set_members(members)

    def attach(self, handler: PeerHandler) -> None:
        """Say who hears what arrives; before `start`."""
        assert not self._running
        self._handler = handler

    async def start(self, listener: socket.socket | None = None) -> None:
        """Listen, and begin to dial. Raises `StartupError` if the address cannot be bound.

        `listener` is a socket that was bound before, instead of `bind_address`; it belongs to the transport now.
        """
        assert self._handler is not None and not self._running
        self._server = await self._listen(listener)
        self._running = True
        self._all_released = asyncio.Event()
        self._ticker = self._scheduler.call_later(PEER_PING_INTERVAL_MS, self._tick)
        for member in self._roster.members.values():
            self._start_dialing(member)

    async def stop(self) -> None:
        """Close everything; what was queued has `PEER_CLOSE_TIMEOUT_MS` to leave. Idempotent."""
        if not self._running:
            return
        assert self._server is not None and self._ticker is not None and self._all_released is not None
        self._running = False
        self._ticker.cancel()
        self._server.close()
        for dialer in self._dialers.values():
            dialer.stop()
        self._dialers.clear()
        for connection in list(self._open):
            connection.flush()
            connection.end(None, gracefully=True)
        giving_up = self._scheduler.call_later(PEER_CLOSE_TIMEOUT_MS, self._abort_all)
        if self._open:
            await self._all_released.wait()
        giving_up.cancel()
        await self._server.wait_closed()

    @property
    def address(self) -> str:
        """host:port where the listener is bound; only after `start`."""
        assert self._server is not None
        server: Any = self._server  # Its sockets are a tuple with asyncio's own loop, and a list with uvloop.
        host, port = server.sockets[0].getsockname()[:2]
        return join_address(host, port)

    def cut_off(self, cut: bool) -> None:
        """Be without any peer, as if the network were gone, until told otherwise: so that people can watch what that
        does. Dialers go on trying, and find a way again when it is over."""
        self._is_cut_off = cut
        if cut:
            for connection in list(self._open):
                connection.end(None)

    def send(self, member: int, message: Message) -> bool:
        connection = self._ready.get(member)
        return connection is not None and connection.send(message)

    def connected(self, member: int) -> bool:
        return member in self._ready

    def heard_ms(self, member: int) -> float:
        connection = self._ready.get(member)
        return -inf if connection is None else connection.received_ms

    def set_members(
        self, members: Sequence[Member], departed: Sequence[Departed] = (), lingering: Sequence[int] = ()
    ) -> None:
        roster = self._roster
        dropped = roster.change(members, departed, lingering, self._ready)
        changes = roster.changes
        for number in [number for number in self._dialers if number not in roster.members]:
            self._dialers.pop(number).stop()
        for number in dropped:
            self._forget(number)
            if roster.changes != changes:
                return  # `on_disconnected` has called us again, with newer members.
        for number, member in roster.members.items():
            self._counters.setdefault(number, PeerCounters())
            dialer = self._dialers.get(number)
            if dialer is not None:
                dialer.member = member
                dialer.set_eager(self._is_eager(member))
            elif self._running:
                self._start_dialing(member)

    def peer_states(self) -> dict[int, dict[str, Any]]:
        """By member number: connected, address, output_bytes, and the fields of `PeerCounters`."""
        states = {}
        for number, member in self._roster.members.items():
            connection = self._ready.get(number)
            states[number] = {
                "connected": connection is not None,
                "address": member.peer_address,
                "output_bytes": connection.output_bytes() if connection is not None else 0,
                **self._counters[number].document(),
            }
        return states

    # Connections report here (`ConnectionOwner`).

    def connection_opened(self, connection: PeerConnection) -> bool:
        self._open[connection] = None
        if not self._running or self._is_cut_off:
            return False
        if connection.dialled is None and len(self._strangers) >= PEER_CONNECTIONS_MAX:
            if self._refusals.first("", "crowd"):
                log.warning("%d connections wait for their handshake; more are dropped", len(self._strangers))
            return False
        self._strangers[connection] = None
        return True

    def connection_authenticated(self, connection: PeerConnection, peer: Member) -> PeerCounters | None:
        self._strangers.pop(connection, None)
        if peer.number == CANDIDATE:
            return self._admit_candidate(connection)
        if not self._roster.admits(peer):
            return None
        older = self._ready.get(peer.number)
        if older is not None:
            log.info("%s connected anew from %s; its older connection is dropped", peer.name, connection.remote)
            older.end(None)
            if not self._roster.admits(peer):
                return None  # `on_disconnected` of the older connection has removed or exchanged the member.
        self._roster.welcome(peer)
        return self._counters.setdefault(peer.number, PeerCounters())

    def connection_ready(self, connection: PeerConnection) -> None:
        number = connection.member
        peer = self._roster.peer(number)
        assert peer is not None and number not in self._ready
        counters = self._counters[number]
        counters.connects += 1
        counters.last_refusal = ""
        self._refusals.forget(_subject(number))
        self._ready[number] = connection
        log.info("connected with %s (member %d, %s)", peer.name, number, connection.remote)
        self._tell("on_connected", number)

    def connection_ended(self, connection: PeerConnection, cause: Exception | None) -> None:
        self._strangers.pop(connection, None)
        self._candidates.pop(connection, None)
        number = connection.member
        was_ready = self._ready.get(number) is connection
        if was_ready:
            del self._ready[number]
        if self._running:
            self._explain_end(connection, cause, was_ready)
        if was_ready and self._roster.part(number):
            self._counters.pop(number, None)
        led_to = connection.dialled.number if connection.dialled is not None else number
        if (was_ready or connection.dialled is not None) and led_to in self._dialers:
            self._dialers[led_to].connection_ended(self._clock.monotonic_ms() - connection.opened_ms)
        if was_ready:
            self._tell("on_disconnected", number)
        if connection.dialled is not None:
            self._hear_of_removal(cause)

    def connection_released(self, connection: PeerConnection) -> None:
        self._open.pop(connection, None)
        if not self._open and not self._running and self._all_released is not None:
            self._all_released.set()

    # Opening connections.

    async def _listen(self, listener: socket.socket | None) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        try:
            if listener is not None:
                return await loop.create_server(self._accept, sock=listener, backlog=PEER_CONNECTIONS_MAX)
            host, port = split_address(self._bind_address)
            return await loop.create_server(self._accept, host, port, backlog=PEER_CONNECTIONS_MAX)
        except CallerError as error:
            raise StartupError(f"the peer address: {error}") from error
        except OSError as error:
            raise StartupError(self._bind_failure(error)) from error

    def _accept(self) -> asyncio.Protocol:
        return self._connection(Role.ACCEPTOR, None)

    def _connection(self, role: Role, dialled: Member | None) -> asyncio.Protocol:
        assert self._handler is not None
        handshake = Handshake(
            role,
            self._identity,
            self._secret,
            self._roster.expected,
            self._rng.token_bytes(NONCE_BYTES),
            None if dialled is None else dialled.number,
            self._roster.removed,
        )
        connection = PeerConnection(self, handshake, self._handler, self._clock, self._scheduler, dialled)
        return cast(asyncio.Protocol, connection)

    def _start_dialing(self, member: Member) -> None:
        eager = self._is_eager(member)
        dialer = Dialer(member, self._connect, self._scheduler, self._rng, self._on_dial_failure, eager)
        self._dialers[member.number] = dialer
        dialer.start()

    def _is_eager(self, member: Member) -> bool:
        """Is it this node that has to dial?"""
        own = self._roster.own
        moved = own is not None and self._advertised_address not in ("", own.peer_address)
        return moved or member.number < self._identity.number

    def _admit_candidate(self, connection: PeerConnection) -> PeerCounters | None:
        if len(self._candidates) >= CANDIDATE_CONNECTIONS_MAX:
            return None
        self._candidates[connection] = None
        return connection.counters

    async def _connect(self, member: Member, host: str, port: int) -> None:
        if member.number in self._ready:
            return
        if self._is_cut_off:
            raise ConnectionError("this node is cut off")
        loop = asyncio.get_running_loop()
        await loop.create_connection(partial(self._connection, Role.DIALER, member), host, port)

    def _on_dial_failure(self, member: Member, cause: Exception) -> None:
        if self._refusals.first(_subject(member.number), "unreachable"):
            log.warning("%s at %s cannot be reached: %s; trying on", member.name, member.peer_address, cause)

    # Closing connections.

    def _forget(self, number: int) -> None:
        """`number` has no place here any more, or is another one now."""
        dialer = self._dialers.pop(number, None)
        if dialer is not None:
            dialer.stop()
        self._counters.pop(number, None)
        self._refusals.forget(_subject(number))
        connection = self._ready.get(number)
        if connection is not None:
            connection.end(None)

    def _abort_all(self) -> None:
        for connection in list(self._open):
            connection.abort()

    def _tick(self) -> None:
        self._ticker = self._scheduler.call_later(PEER_PING_INTERVAL_MS, self._tick)
        for connection in [*self._ready.values(), *self._candidates]:
            if not connection.ended:
                connection.tick()

    def _hear_of_removal(self, cause: Exception | None) -> None:
        """Tell the handler, once, if a member has refused this node for good."""
        if not isinstance(cause, HandshakeRefused) or not cause.proven or cause.code != RefusalCode.REMOVED:
            return
        if not self._removal_told:
            self._removal_told = True
            self._tell("on_removed", cause.reason)

    def _tell(self, event: str, about: int | str) -> None:
        """Call the handler's method `event`; its exceptions are our bugs, and not the connection's fault."""
        try:
            getattr(self._handler, event)(about)
        except Exception:
            log.exception("%s(%r) failed; this is a bug", event, about)

    # Explaining.

    def _explain_end(self, connection: PeerConnection, cause: Exception | None, was_ready: bool) -> None:
        """Log why a connection is over, once, and remember a refusal for the status.

        What a stranger claims about itself may be false, and how it words a refusal is up to it: neither may decide
        how many lines are logged, so those are counted by code, not by text.
        """
        if connection.candidate and not isinstance(cause, PeerError):
            return  # It comes and goes with each question.
        refusal = cause if isinstance(cause, HandshakeRefused) else None
        number = connection.member or (connection.dialled.number if connection.dialled is not None else 0)
        if not number and refusal is not None and refusal.number is not None:
            number = refusal.number
        member = self._roster.peer(number)
        peer = f"{member.name} (member {number}, {connection.remote})" if member is not None else connection.remote
        if was_ready:
            log.warning("lost the connection with %s: %s", peer, cause or "closed")
            return
        if cause is None and connection.dialled is None:
            return
        reason = str(cause or "closed before the handshake was done")
        if member is not None and number in self._counters:
            self._counters[number].last_refusal = reason
        refused_by_peer = refusal is not None and refusal.answer is None
        kind = refusal.code if refusal is not None and not refused_by_peer else type(cause).__name__
        subject = _subject(number) if member is not None else connection.remote.rpartition(":")[0]
        if self._refusals.first(subject, kind):
            log.warning("%s %s: %s", "refused by" if refused_by_peer else "no handshake with", peer, reason)

    def _bind_failure(self, error: OSError) -> str:
        if error.errno == errno.EADDRINUSE:
            return (
                f"the peer port {self._bind_address} is in use: another node may be running here; "
                "stop it, or choose another port"
            )
        return f"cannot listen on the peer address {self._bind_address}: {error}; choose an address of this machine"


def _subject(number: int) -> str:
    return f"member {number}"
