"""Replicas of one key as pure values: stores that run the production algebra, each beside its exact history.

No network and no node: a test moves records about as it likes. How a store chooses the actor of its next event is a
parameter, so that tests can show what goes wrong without the rule of `quorate.core.causality.actor`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from quorate.core.causality.actor import EpochCounter, first_epoch, make_actor, vouches
from quorate.core.causality.dotted_version_vectors import context_of, resolve_last_write_wins, sync, update
from quorate.core.causality.hybrid_logical_clock import HybridLogicalClock
from quorate.core.record import EMPTY_CONTEXT, TOMBSTONE, VALUE, Actor, Context, Record, check
from tests.property.causal_graph import NOTHING, CausalGraph, Event, History

BIRTH_MS = 1_750_000_000_000
SKEW_MAX_MS = 60_000


@dataclass(frozen=True)
class Reading:
    """What a client takes away from a read: the context, and the exact history that it stands for."""

    context: Context = EMPTY_CONTEXT
    seen: History = NOTHING


@dataclass(frozen=True)
class Disk:
    """What a store has of the key."""

    record: Record | None = None
    marker: Actor = 0
    known: History = NOTHING


class PureStore:
    """One member's store. `disk` is replaced, never changed, so a test can put an older one back."""

    def __init__(self, member: int, choose_actor: ActorChoice) -> None:
        self.member = member
        self.choose_actor = choose_actor
        self.disk = Disk()
        self.floor_epoch = 0
        self.clock = HybridLogicalClock(SKEW_MAX_MS)
        self.lives = 0
        self.epochs = EpochCounter(member, first_epoch(BIRTH_MS, 0))

    def wipe(self) -> None:
        """A new, empty disk, some seconds later."""
        self.lives += 1
        self.disk = Disk()
        self.floor_epoch = 0
        self.epochs = EpochCounter(self.member, first_epoch(BIRTH_MS + 10_000 * self.lives, 0))

    def lose_unsynced(self, older: Disk) -> None:
        """The machine went down; the disk holds what it held at some earlier time. Reserved epochs were synced."""
        self.disk = older
        self.epochs = EpochCounter(self.member, self.epochs.reserve(1))
        self.floor_epoch = self.epochs.next_epoch

    def mint(self) -> Actor:
        if self.epochs.needs_reservation(1):
            self.epochs.reserve(4)
        return self.epochs.mint()


ActorChoice = Callable[[PureStore], Actor]


def by_the_rule(store: PureStore) -> Actor:
    """Production's rule: go on under the marker if the store vouches for it, mint otherwise."""
    disk = store.disk
    if disk.record is not None and vouches(disk.marker, store.floor_epoch, store.member):
        return disk.marker
    return store.mint()


def member_alone(store: PureStore) -> Actor:
    """Control: no epochs at all; the member is the actor."""
    return make_actor(store.member, 0)


def epoch_per_key(store: PureStore) -> Actor:
    """Control: a new epoch only if there is no record; else the latest of this member's actors in the record."""
    clock = store.disk.record.clock if store.disk.record is not None else {}
    own = [actor for actor in clock if make_actor(store.member, 0) <= actor < make_actor(store.member + 1, 0)]
    return max(own) if own else store.mint()


def floor_never_raised(store: PureStore) -> Actor:
    """Control: markers are trusted whatever happened to the disk."""
    disk = store.disk
    if disk.record is not None and vouches(disk.marker, 0, store.member):
        return disk.marker
    return store.mint()


class PureReplicas:
    """Stores of members 1, 2, 3 …, one key, and the judge."""

    def __init__(self, count: int, choose_actor: ActorChoice = by_the_rule, *, last_write_wins: bool = False) -> None:
        self.graph = CausalGraph()
        self.stores = [PureStore(member, choose_actor) for member in range(1, count + 1)]
        self.last_write_wins = last_write_wins
        self.times: list[int] = []

    def put(
        self, at: PureStore, reading: Reading | None = None, wall_ms: int = BIRTH_MS, *, delete: bool = False
    ) -> Event:
        """Coordinate a put; its value is the event's number."""
        reading = reading or Reading()
        disk = at.disk
        event = self.graph.add(reading.seen)
        actor = at.choose_actor(at)
        time = at.clock.tick(wall_ms, reading.context.time)
        kind = TOMBSTONE if delete else VALUE
        value = b"" if delete else b"%d" % event
        record = update(disk.record, reading.context, actor, time, value, "", kind, 0, event + 1)
        self.times.append(time)
        at.disk = Disk(self._settle(record), actor, disk.known | reading.seen | {event})
        return event

    def send(self, source: PureStore, target: PureStore) -> None:
        """Merge the source's record into the target's, as a replica write, a hint, repair and transfer all do."""
        sent, held = source.disk, target.disk
        if sent.record is None:
            return
        record = sent.record if held.record is None else self._settle(sync(held.record, sent.record))
        target.disk = Disk(record, held.marker, held.known | sent.known)

    def read(self, *stores: PureStore) -> Reading:
        """What a client learns that reads from `stores` together."""
        merged: Record | None = None
        seen = NOTHING
        for store in stores:
            record = store.disk.record
            seen |= store.disk.known
            if record is not None:
                merged = record if merged is None else self._settle(sync(merged, record))
        return Reading(context_of(merged), seen)

    def exchange_all(self) -> None:
        """Everybody's record to everybody, twice: afterwards all replicas must be identical."""
        for _ in range(2):
            for source in self.stores:
                for target in self.stores:
                    if source is not target:
                        self.send(source, target)

    def standing(self, store: PureStore) -> set[Event]:
        """The events that the store's record holds as siblings (by the operation id that each of them carries)."""
        record = store.disk.record
        return set() if record is None else {sibling.operation - 1 for sibling in record.siblings}

    def expected(self, store: PureStore) -> set[Event]:
        """The events that should stand there, by the judge."""
        known = store.disk.known
        if not self.last_write_wins:
            return self.graph.standing(known)
        latest = max((self.times[event] for event in known), default=0)
        return {event for event in self.graph.standing(known) if self.times[event] == latest}

    def verify(self, store: PureStore) -> None:
        """Compare one store with the judge."""
        record = store.disk.record
        if record is None:
            assert store.disk.known == NOTHING
            return
        check(record)
        held, expected = self.standing(store), self.expected(store)
        if self.last_write_wins:
            assert len(held) == 1 and held <= expected, "one of the latest standing events"
        else:
            assert held == expected
        assert context_of(record).time == max(self.times[event] for event in store.disk.known)

    def _settle(self, record: Record) -> Record:
        return resolve_last_write_wins(record) if self.last_write_wins else record
