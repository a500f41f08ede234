"""The ring's keeper: which ring this node goes by, made durable before anything is done under it.

Everything that changes the ledger (`core.membership.ring_ledger`) comes through `settle`: it makes the newest state
durable, synced, and only then gives out the reply, and lets the node go by the newest ring that is durable now. So a
node *confirms* a ring just by acting by it, and no crash takes it back (the rules F and T of `core.ring.advance`).

Fencing. A request between nodes carries the ring version of its sender. If that is this node's, it is carried out. If
it is older, it is refused, and the newer ring is sent along. If it is newer, this node lacks a ring: it asks the sender
for it and *parks* the request until it goes by that one; the sender notices nothing but a few milliseconds.

Operations under way at a coordinator that is refused wait for the newer ring (`when_newer`) and begin again under it.

Invariants: what is parked, and how often a ring is asked for or sent, is bounded; a ring that cannot be read is never
adopted. Rejected: adopting before the sync (after a power cut, the node would serve the older ring once more).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final, Protocol, TypeVar

import msgspec

from quorate.core.errors import PeerError, StorageError
from quorate.core.limits import MIB
from quorate.core.membership.ring_chain import RingChain, Verdict
from quorate.core.membership.ring_consensus import Announcement, RingAsk, RingValue
from quorate.core.membership.ring_ledger import Held, LedgerState, Memory
from quorate.core.messages import Message
from quorate.core.ports import Space
from quorate.core.ring.metadata import of_value
from quorate.node.cluster_view import ClusterView
from quorate.node.context import NodeContext
from quorate.node.documents import load, sealed

log = logging.getLogger(__name__)

LEDGER_KEY: Final = b"ring"
PARKED_MESSAGES_MAX: Final = 8_192
PARKED_BYTES_MAX: Final = 32 * MIB
PARKED_MAX_MS: Final = 10_000.0
ASK_INTERVAL_MS: Final = 100.0
"""Between two questions to the same member for its ring."""

T = TypeVar("T")


class Versioned(Protocol):
    """A request between nodes."""

    @property
    def ring_version(self) -> int: ...


class _Parked(msgspec.Struct, gc=False):
    member: int
    message: Any
    age_ms: float
    since_ms: float


class RingKeeper:
    """One node's rings. Made before everything else, since all parts look at its `view`."""

    def __init__(
        self, node: NodeContext, founding: RingValue, newborn: bool, on_failure: Callable[[StorageError], None]
    ) -> None:
        """`founding` is the ring that the assembly knows; what the store has counts more. `newborn`: the identity of
        this member was made just now, so it cannot have voted. Raises `StorageError`, `StartupError`."""
        self._node = node
        self._on_failure = on_failure
        self.on_adopted: Callable[[], None] = lambda: None
        """Called when the node goes by a newer ring."""
        self.on_message: Callable[[int, Message, float], None] = lambda member, message, age_ms: None
        """Takes what was parked."""
        saved = self._load()
        if saved is None:
            saved = LedgerState(founding, Memory.WHOLE if newborn else Memory.LOST)
            self._write(saved)
        self.chain = RingChain(node.self_number, saved)
        self.view = ClusterView(node.self_number, of_value(saved.ring))
        self.view.told = self.chain.memory is not Memory.LOST
        self._parked: list[_Parked] = []
        self._parked_bytes = 0
        self._waiting: list[tuple[int, Callable[[], None]]] = []
        self._asked: dict[int, tuple[float, int]] = {}
        """Member → when it was asked last, and for which version."""
        self._told: dict[int, int] = {}
        """Member → the ring version that it was sent over its present connection."""
        self.failed = False
        """A state could not be made durable: nothing more is decided, learned or voted on until a restart."""

    # --- durability ---

    def settle(self, held: Held[T], then: Callable[[T], None], failed: Callable[[], None] = lambda: None) -> None:
        """Make durable what `held` rests on, go by the newest ring that is durable, then hand out the reply.

        `failed` is called instead if the disk does not take it, now or before.
        """
        if self.failed:
            failed()
            return
        state = held.take()
        if state is None:
            then(held.saved())
            return

        def synced(error: StorageError | None) -> None:
            if error is not None or self.failed:
                self.failed = True
                self._on_failure(error or StorageError("the ledger of rings could not be written"))
                failed()
                return
            reply = held.saved()
            self._go_by_newest()
            then(reply)

        try:
            self._write(state)
            self._node.engine.sync(synced)
        except StorageError as error:
            synced(error)

    def _load(self) -> LedgerState | None:
        raw = load(self._node.engine, LEDGER_KEY)
        return None if raw is None else msgspec.msgpack.decode(raw, type=LedgerState)

    def _write(self, state: LedgerState) -> None:
        self._node.engine.write([(Space.META, LEDGER_KEY, sealed(msgspec.msgpack.encode(state)))])

    def _go_by_newest(self) -> None:
        ring = self.chain.confirmed
        view = self.view
        told = self.chain.memory is not Memory.LOST
        if told:
            view.be_told()
        if ring.version <= view.version:
            return
        view.take_over(of_value(ring))
        log.info("this node goes by ring version %d", ring.version)
        self.on_adopted()
        waiting, self._waiting = self._waiting, []
        for version, go_on in waiting:
            if version < view.version:
                go_on()
            else:
                self._waiting.append((version, go_on))
        self._unpark()

    # --- learning and telling ---

    def learn(self, ring: RingValue) -> None:
        """`ring` was decided, says somebody. Raises `PeerError` if it cannot have been."""
        if ring.position <= self.chain.ring.position:
            held = self.chain.learn(ring)
            if held.take() is None and held.saved() is Verdict.FORKED:
                log.error("two rings of version %d are about, both forced: force one again", ring.version)
            return
        of_value(ring)
        self.settle(self.chain.learn(ring), lambda verdict: None)

    def on_announcement(self, member: int, message: Announcement) -> None:
        self.learn(message.ring)

    def on_ring_ask(self, member: int, message: RingAsk) -> None:
        ring = self.chain.confirmed
        if ring.position > (message.forced, message.version):
            self._told[member] = ring.version
            self._node.transport.send(member, Announcement(ring))

    def ask(self, member: int, wanted: int = 0) -> None:
        """Ask `member` for its ring, unless it was asked a moment ago, when it may have had the version that is wanted
        already (0: whatever is newer)."""
        now_ms = self._node.clock.monotonic_ms()
        asked_ms, asked_for = self._asked.get(member, (-ASK_INTERVAL_MS, 0))
        if now_ms - asked_ms < ASK_INTERVAL_MS and wanted <= asked_for:
            return
        self._asked[member] = (now_ms, wanted)
        ring = self.chain.ring
        self._node.transport.send(member, RingAsk(*ring.position))

    def tell(self, member: int) -> None:
        """Send `member` this node's ring, unless it was sent already."""
        ring = self.chain.confirmed
        if self._told.get(member) != ring.version and self._node.transport.send(member, Announcement(ring)):
            self._told[member] = ring.version

    def on_connected(self, member: int) -> None:
        """Whoever has the older ring gets the newer one at once: a question costs a few bytes, and no gossip round."""
        self._told.pop(member, None)
        self._asked.pop(member, None)
        self.ask(member)

    # --- fencing ---

    def admits(self, member: int, message: Versioned, age_ms: float) -> bool | None:
        """What to do with a request of another ring version: False, refuse it as stale; None, it is parked."""
        if message.ring_version < self.view.version:
            self._node.count("requests_of_an_older_ring")
            self.tell(member)
            return False
        self.ask(member, message.ring_version)
        if self._parked:
            self._drop_expired()
        size_bytes = len(getattr(message, "body", b""))
        if len(self._parked) >= PARKED_MESSAGES_MAX or self._parked_bytes + size_bytes > PARKED_BYTES_MAX:
            self._node.count("requests_not_parked")
            return None
        self._node.count("requests_parked")
        self._parked_bytes += size_bytes
        self._parked.append(_Parked(member, message, age_ms, self._node.clock.monotonic_ms()))
        return None

    def when_newer(self, version: int, go_on: Callable[[], None]) -> None:
        """Call `go_on` as soon as this node goes by a ring above `version`: at once if it does already."""
        if self.view.version > version:
            go_on()
        elif len(self._waiting) < PARKED_MESSAGES_MAX:
            self._waiting.append((version, go_on))

    def _drop_expired(self) -> None:
        now_ms = self._node.clock.monotonic_ms()
        if now_ms - self._parked[0].since_ms > PARKED_MAX_MS:
            self._parked = [parked for parked in self._parked if now_ms - parked.since_ms <= PARKED_MAX_MS]
            self._parked_bytes = sum(len(getattr(parked.message, "body", b"")) for parked in self._parked)

    def _unpark(self) -> None:
        parked, self._parked = self._parked, []
        self._parked_bytes = 0
        now_ms = self._node.clock.monotonic_ms()
        for one in parked:
            if now_ms - one.since_ms <= PARKED_MAX_MS:
                try:
                    self.on_message(one.member, one.message, one.age_ms + now_ms - one.since_ms)
                except PeerError as error:
                    log.warning("a request that had waited for a newer ring is bad: %s", error)
