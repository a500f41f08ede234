"""Collecting what is dead: the proof by all replicas, the wait, and the removal (see `core.collection` for why).

For each key the first of its replicas is the one that acts; the others only answer. Its sweep brings the keys whose
records hold something dead since before the horizon, in batches. A batch is proven when every replica, this one
included, has answered that it holds the very same record, and has it synced; after `collect_quiet_ms` every replica
removes what is dead, from each record that is still the same. Whoever misses that keeps something dead, which spreads
at worst as that, and is collected later.

A proof is kept in memory only: a restart forgets it, and the next sweep begins anew. A replica that cannot be reached,
is fenced, lags, or whose clock is behind, prevents a collection and nothing else.

With every removal of a whole record goes a note, in the same batch, that something was collected now: a store that
returns after a long absence asks for it (`absence`).

Invariants: mints no versions (hard case 24); removes no record without the proof of all N; everything is bounded.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence

import msgspec

from quorate.core.collection import collectable, collected
from quorate.core.errors import DamagedRecord, PeerError, StorageError
from quorate.core.keyspace import split_storage_key
from quorate.core.limits import (
    COLLECT_ATTEMPTS_MAX,
    COLLECT_BATCHES_PROVEN_MAX,
    COLLECT_ENTRIES_MAX,
    COLLECT_TIMEOUT_MS,
    IN_FLIGHT_REQUESTS_MAX,
)
from quorate.core.messages import Collect, CollectAsk, CollectReply, Message, Status
from quorate.core.record import Record, decode_record, encode_record
from quorate.node.absence import COLLECTED_KEY, stamp
from quorate.node.context import NodeContext
from quorate.node.gather import Answers
from quorate.node.steps import Wait, admission, answers, pause, run

log = logging.getLogger(__name__)

Entry = tuple[bytes, int]
"""(storage key, digest of the record there)"""

_ROOM_INTERVAL_MS = 1_000.0
_RETRY_INTERVAL_MS = 1_000.0
_TIMER_TOLERANCE_MS = 5.0
"""A loop may run a timer this much early."""


class Proof(msgspec.Struct, frozen=True, gc=False):
    """A batch of which all `replicas` said that they hold just that; to be collected at `due_ms` (monotonic)."""

    replicas: tuple[int, ...]
    ring_version: int
    horizon_ms: int
    entries: list[Entry]
    due_ms: float


class Collector:
    """Both sides: the first replica's batches, and the handlers of CollectAsk and Collect."""

    def __init__(self, node: NodeContext) -> None:
        self._node = node
        self._proven: deque[Proof] = deque()

    def horizon_ms(self) -> int:
        """What has been dead since before this, in Unix milliseconds by this node's clock, may be collected."""
        return self._node.clock.wall_ms() - self._node.options.grace_ms

    @property
    def waiting(self) -> int:
        """Batches that are proven and wait for their time."""
        return len(self._proven)

    # --- the first replica ---

    async def prove(self, replicas: tuple[int, ...], entries: list[Entry]) -> None:
        """Ask all `replicas`, of which this node is one, about `entries`; what all confirm is collected in due time.

        Waits while too many proofs wait for their time. Raises `StorageError`.
        """
        node = self._node
        assert node.self_number in replicas and 0 < len(entries) <= COLLECT_ENTRIES_MAX
        while len(self._proven) >= COLLECT_BATCHES_PROVEN_MAX:
            await pause(node, _ROOM_INTERVAL_MS)
        await admission(node, 1)
        others = [member for member in replicas if member != node.self_number]
        if not all(node.usable(member) for member in replicas):
            node.count("collections_without_proof")
            return
        horizon_ms, version = self.horizon_ms(), node.view.version

        def question(number: int) -> Message:
            return CollectAsk(number, COLLECT_TIMEOUT_MS, version, horizon_ms, entries)

        confirmations = await answers(node, others, question, COLLECT_TIMEOUT_MS)
        places = self._held(entries, horizon_ms)
        for member in others:
            confirmed = _confirmed(confirmations, member)
            places = [place for place in places if place in confirmed]
        if not await self._synced() or not places:
            node.count("collections_without_proof")
            return
        proven = [entries[place] for place in places]
        quiet_ms = node.options.collect_quiet_ms
        due_ms = node.clock.monotonic_ms() + quiet_ms
        self._proven.append(Proof(replicas, version, horizon_ms, proven, due_ms))
        node.scheduler.call_later(quiet_ms, self._mature)

    def _mature(self) -> None:
        """Collect the batches whose time has come."""
        now_ms = self._node.clock.monotonic_ms() + _TIMER_TOLERANCE_MS
        while self._proven and self._proven[0].due_ms <= now_ms:
            run(self._collect(self._proven.popleft()), lambda _: None)

    async def _collect(self, proof: Proof) -> None:
        node = self._node
        await admission(node, len(proof.entries))
        entries = [entry for entry in proof.entries if self._replicas(entry[0]) == proof.replicas]
        if node.fenced_because or node.view.version != proof.ring_version or not entries:
            node.count("collections_given_up")
            return
        try:
            self._remove(entries, proof.horizon_ms)
        except StorageError as error:
            log.error("tombstones and expired values could not be collected: %s", error)
            return

        def order(number: int) -> Message:
            return Collect(number, COLLECT_TIMEOUT_MS, proof.ring_version, proof.horizon_ms, entries)

        silent = [member for member in proof.replicas if member != node.self_number]
        for attempt in range(COLLECT_ATTEMPTS_MAX):
            if attempt:
                await pause(node, _RETRY_INTERVAL_MS)
            done = await answers(node, silent, order, COLLECT_TIMEOUT_MS)
            silent = [member for member in silent if member not in done]
            if not silent:
                return
        node.count("collections_missed", len(silent))

    def _synced(self) -> Wait[bool]:
        """Everything that this node has stored so far is on its disk, or False."""
        return Wait(lambda resume: self._node.commits.wait(True, lambda _, durable: resume(durable), None))

    # --- every replica ---

    def on_ask(self, member: int, message: CollectAsk, age_ms: float) -> None:
        """Confirm what this node holds, once it is on the disk: a yes that a power cut takes back proves nothing."""
        if not self._admits(member, message, age_ms):
            return
        node = self._node
        try:
            places = self._held(message.entries, message.horizon_ms)
        except StorageError:
            node.transport.send(member, CollectReply(message.id, Status.FENCED, []))
            return
        if not places:
            node.transport.send(member, CollectReply(message.id, Status.OK, []))
            return

        def synced(_: object, durable: bool) -> None:
            status = Status.OK if durable else Status.FENCED
            node.transport.send(member, CollectReply(message.id, status, places if durable else []))

        node.commits.wait(True, synced, None)

    def on_collect(self, member: int, message: Collect, age_ms: float) -> None:
        """Remove what all replicas have confirmed to hold, wherever this one still holds it."""
        if not self._admits(member, message, age_ms):
            return
        node = self._node
        try:
            places = self._remove(message.entries, message.horizon_ms)
        except StorageError:
            node.transport.send(member, CollectReply(message.id, Status.FENCED, []))
            return

        def written(_: object, durable: bool) -> None:
            status = Status.OK if durable else Status.FENCED
            node.transport.send(member, CollectReply(message.id, status, places if durable else []))

        node.commits.wait(False, written, None)

    def _admits(self, member: int, message: CollectAsk | Collect, age_ms: float) -> bool:
        """May this be answered? Otherwise it has been refused, or dropped. Raises `PeerError`."""
        node = self._node
        if len(message.entries) > COLLECT_ENTRIES_MAX:
            raise PeerError(f"a peer named {len(message.entries)} keys to collect; {COLLECT_ENTRIES_MAX} are allowed")
        if message.remaining_ms <= age_ms:
            node.count("expired_requests_dropped")
            return False
        status = Status.OK
        if message.ring_version != node.view.version:
            status = Status.STALE_RING
        elif node.fenced_because:
            status = Status.FENCED
        elif node.commits.unsynced_waiters() >= IN_FLIGHT_REQUESTS_MAX:
            status = Status.OVERLOADED
        elif message.horizon_ms > self.horizon_ms() + node.options.clock_skew_max_ms:
            # By this node's clock it is too early. One of the two clocks is wrong, and nobody can tell which.
            node.count("collections_refused_by_clock")
            status = Status.NOT_READY
        if status != Status.OK:
            node.transport.send(member, CollectReply(message.id, status, []))
            return False
        return True

    def _held(self, entries: Sequence[Entry], horizon_ms: int) -> list[int]:
        """The places of those that this node holds as they are said to be, with something to collect."""
        return [
            place
            for place, (key, digest) in enumerate(entries)
            if self._is_replica(key)
            and (record := self._read(key, digest)) is not None
            and collectable(record, horizon_ms)
        ]

    def _remove(self, entries: Sequence[Entry], horizon_ms: int) -> list[int]:
        """Collect from those that this node holds as they are said to be: their places. Raises `StorageError`."""
        node = self._node
        done: list[int] = []
        for place, (key, digest) in enumerate(entries):
            record = self._read(key, digest) if self._is_replica(key) else None
            if record is None:
                continue
            left = collected(record, horizon_ms)
            if left is record:
                continue
            done.append(place)
            node.count("siblings_collected", len(record.siblings) - (len(left.siblings) if left is not None else 0))
            if left is not None:
                node.records.replace_collected(key, digest, encode_record(left), _ignore, None)
            elif node.records.remove(key, digest, _ignore, None):
                node.count("records_collected")
                node.commits.put_meta(COLLECTED_KEY, stamp(node.clock.wall_ms()))
        return done

    def _read(self, key: bytes, digest: int) -> Record | None:
        """The record under `key` if it is whole and has this digest."""
        try:
            stored = self._node.records.read(key)
        except DamagedRecord:
            return None
        if stored is None or stored[0] != digest:
            return None
        try:
            return decode_record(stored[2])
        except msgspec.DecodeError:
            return None

    def _replicas(self, key: bytes) -> tuple[int, ...]:
        partition, bucket, _ = split_storage_key(key)
        placements = self._node.view.bucket(bucket).placements
        return placements[partition].homes if partition < len(placements) else ()

    def _is_replica(self, key: bytes) -> bool:
        try:
            return self._node.self_number in self._replicas(key)
        except IndexError as error:
            raise PeerError("a peer named a key that is none") from error


def _confirmed(confirmations: Answers, member: int) -> frozenset[int]:
    """The places that `member` confirmed; none if it did not answer, or refused."""
    answer: CollectReply | None = confirmations.get(member)
    return frozenset(answer.places) if answer is not None and answer.status == Status.OK else frozenset()


def _ignore(argument: object, durable: bool) -> None:
    pass
