"""Collection against its judges: the algebra commutes with it, and no deleted value comes back in a world of replicas,
messages under way and hints, as long as a removal waits for its proof and for what is still under way."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.core.causality.dotted_version_vectors import context_of, sync, update
from quorate.core.collection import NEVER, beyond_horizon, collectable, collected, dead_since_ms
from quorate.core.record import EMPTY_CONTEXT, TOMBSTONE, VALUE, Record, Sibling, check
from tests.property.pure_replicas import BIRTH_MS, Disk, PureReplicas, PureStore

# --- the algebra ---


@st.composite
def replicated(draw: st.DrawFn) -> list[Record]:
    """What three replicas hold of one key after some puts, deletes and merges, at milliseconds 1, 2, 3 …"""
    held: list[Record | None] = [None, None, None]
    for now_ms in range(1, draw(st.integers(1, 12)) + 1):
        here, other = draw(st.integers(0, 2)), draw(st.integers(0, 2))
        mine, theirs = held[here], held[other]
        if here != other and theirs is not None and draw(st.booleans()):
            held[here] = theirs if mine is None else sync(mine, theirs)
            continue
        context = context_of(theirs) if draw(st.booleans()) else EMPTY_CONTEXT
        time = max(now_ms << 16, context.time + 1)
        kind = draw(st.sampled_from([VALUE, TOMBSTONE]))
        expiry_ms = draw(st.sampled_from([0, now_ms, now_ms + 3])) if kind == VALUE else 0
        held[here] = update(mine, context, here + 1, time, b"%d" % now_ms, "", kind, expiry_ms, 0)
    return [record for record in held if record is not None]


def is_dead(sibling: Sibling, horizon_ms: int) -> bool:
    """The plain definition, as the judge."""
    if sibling.kind == TOMBSTONE:
        return sibling.time >> 16 < horizon_ms
    return sibling.expiry_ms != 0 and sibling.expiry_ms < horizon_ms and sibling.time >> 16 < horizon_ms


@given(records=replicated(), horizon_ms=st.integers(0, 16))
def test_just_the_dead_go_and_the_clock_stays(records: list[Record], horizon_ms: int) -> None:
    for record in records:
        living = [sibling for sibling in record.siblings if not is_dead(sibling, horizon_ms)]
        left = collected(record, horizon_ms)
        assert collectable(record, horizon_ms) == (len(living) < len(record.siblings))
        if left is None:
            assert living == []
        else:
            assert (left.clock, left.siblings) == (record.clock, living)
            check(left)
            assert collected(left, horizon_ms) is left


@given(records=replicated(), horizon_ms=st.integers(0, 16))
def test_whoever_collects_first_all_end_with_the_same(records: list[Record], horizon_ms: int) -> None:
    """Collecting before, after, on one side or on both: once everybody has collected, nothing tells them apart."""
    for left in records:
        for right in records:
            expected = collected(sync(left, right), horizon_ms)
            for one in (left, collected(left, horizon_ms)):
                for other in (right, collected(right, horizon_ms)):
                    if one is None or other is None:
                        continue  # Removed whole: that needs the proof, and is judged below.
                    merged = sync(one, other)
                    assert merged.clock == sync(left, right).clock
                    assert collected(merged, horizon_ms) == expected


@given(records=replicated(), horizon_ms=st.integers(0, 16))
def test_collecting_brings_nothing_back(records: list[Record], horizon_ms: int) -> None:
    for left in records:
        for right in records:
            shorter = collected(left, horizon_ms)
            if shorter is not None:
                whole = sync(left, right)
                merged = sync(shorter, right)
                assert all(sibling in whole.siblings for sibling in merged.siblings)
                gone = [sibling for sibling in whole.siblings if sibling not in merged.siblings]
                assert all(is_dead(sibling, horizon_ms) for sibling in gone)


@given(records=replicated())
def test_every_older_version_is_from_before_the_latest_sibling(records: list[Record]) -> None:
    """What the horizon stands on: if all siblings of a record are from before it, so is all that the clock covers."""
    for record in records:
        latest = max(sibling.time for sibling in record.siblings)
        for other in records:
            for sibling in other.siblings:
                if record.clock.get(sibling.actor, 0) >= sibling.counter:
                    assert sibling.time <= latest


def test_an_expiry_from_a_clock_that_is_behind_does_not_make_a_value_older_than_its_event() -> None:
    assert dead_since_ms(Sibling(1, 1, 100 << 16, b"v", expiry_ms=7)) == 100
    assert dead_since_ms(Sibling(1, 1, 100 << 16, b"v", expiry_ms=700)) == 700
    assert dead_since_ms(Sibling(1, 1, 100 << 16, b"v")) == NEVER
    assert dead_since_ms(Sibling(1, 1, 100 << 16, b"", kind=TOMBSTONE)) == 100


@pytest.mark.parametrize(("age_ms", "too_old"), [(74, False), (75, False), (76, True)])
def test_what_a_fallback_kept_is_judged_by_its_latest_event(age_ms: int, too_old: bool) -> None:
    early = Sibling(1, 1, 1 << 16, b"early")
    late = Sibling(2, 1, (1_000 - age_ms) << 16, b"late")
    assert beyond_horizon(Record({1: 1, 2: 1}, [early, late]), 1_000, 100) == too_old


# --- the world ---

GRACE_MS = 100
FLIGHT_MS = 10


@dataclass(frozen=True)
class Parcel:
    """A record on its way, or kept as a hint: it arrives until `until_ms`, or never."""

    disk: Disk
    until_ms: int


class World:
    """Three replicas, messages, hints, and a collector that is a few lines long."""

    def __init__(self, quiet_ms: int, replicas_asked: int = 3) -> None:
        self.replicas = PureReplicas(3)
        self.stores = self.replicas.stores
        self.quiet_ms = quiet_ms
        self.replicas_asked = replicas_asked
        self.now_ms = 0
        self.parcels: list[Parcel] = []
        self.proofs: list[tuple[int, int, Record, list[PureStore]]] = []

    def step(self, action: int, one: int, other: int, choice: int) -> None:
        """One thing that may happen. All arguments are drawn blindly."""
        store = self.stores[one]
        if action == 0:
            self._put(store, delete=False, seen=choice % 2 == 1)
        elif action == 1:
            self._put(store, delete=True, seen=True)
        elif action == 2:
            self.parcels.append(Parcel(store.disk, self.now_ms + FLIGHT_MS))
        elif action == 3:
            self._deliver(self.stores[other], choice)
        elif action == 4:
            self.now_ms += (1, FLIGHT_MS, GRACE_MS // 2, GRACE_MS)[choice % 4]
        elif action == 5:
            self.replicas.exchange_all()
        elif action == 6:
            self._prove()
        else:
            self._collect(choice)
        self.verify()

    def _put(self, store: PureStore, *, delete: bool, seen: bool) -> None:
        if delete and store.disk.record is None:
            return
        reading = self.replicas.read(store) if seen else None
        self.replicas.put(store, reading, BIRTH_MS + self.now_ms, delete=delete)
        self.parcels.append(Parcel(store.disk, self.now_ms + GRACE_MS // 2))

    def _deliver(self, target: PureStore, choice: int) -> None:
        self.parcels = [parcel for parcel in self.parcels if parcel.until_ms >= self.now_ms]
        if self.parcels:
            carrier = PureStore(9, self.stores[0].choose_actor)
            carrier.disk = self.parcels[choice % len(self.parcels)].disk
            self.replicas.send(carrier, target)

    def _prove(self) -> None:
        first = self.stores[0].disk.record
        asked = self.stores[: self.replicas_asked]
        horizon_ms = BIRTH_MS + self.now_ms - GRACE_MS
        if first is None or collected(first, horizon_ms) is not None:
            return
        if all(store.disk.record == first for store in asked):
            self.proofs.append((self.now_ms + self.quiet_ms, horizon_ms, first, self.stores[:]))

    def _collect(self, choice: int) -> None:
        """One replica, any, hears of the oldest proof whose time has come; the next time another may."""
        for due_ms, _, record, left in self.proofs:
            if due_ms <= self.now_ms and left:
                store = left.pop(choice % len(left))
                if store.disk.record == record:
                    store.disk = Disk(None, 0, store.disk.known)
                return

    def verify(self) -> None:
        """No value stands in a store that, as far as its whole history goes, was overwritten or deleted."""
        for store in self.stores:
            record = store.disk.record
            if record is not None:
                values = {sibling.operation - 1 for sibling in record.siblings if sibling.kind == VALUE}
                assert values <= self.replicas.graph.standing(store.disk.known), "a deleted value is back"


steps = st.lists(
    st.tuples(st.integers(0, 7), st.integers(0, 2), st.integers(0, 2), st.integers(0, 7)), min_size=1, max_size=60
)


@settings(max_examples=300)
@given(steps=steps)
def test_nothing_deleted_comes_back(steps: list[tuple[int, int, int, int]]) -> None:
    world = World(quiet_ms=FLIGHT_MS + 1)
    for step in steps:
        world.step(*step)


PUT, DELETE, SEND, DELIVER, TICK, EXCHANGE, PROVE, COLLECT = range(8)
LAGGARD = [
    (PUT, 0, 0, 0),
    (EXCHANGE, 0, 0, 0),
    (DELETE, 0, 0, 0),
    (TICK, 0, 0, 3),
    (TICK, 0, 0, 0),
    (SEND, 2, 0, 0),  # The third replica still holds the value, and has just sent it, as a read repair.
]
REMOVED_AND_DELIVERED = [(COLLECT, 0, 0, 0), (COLLECT, 0, 0, 0), (COLLECT, 0, 0, 0), (DELIVER, 0, 0, 0)]


def happens(world: World, steps: list[tuple[int, int, int, int]]) -> None:
    for step in steps:
        world.step(*step)


def test_without_the_quiet_time_a_late_read_repair_brings_it_back() -> None:
    """The judge sees what the safeguard is for: the proof alone is not enough."""
    proven = [*LAGGARD, (EXCHANGE, 0, 0, 0), (PROVE, 0, 0, 0), *REMOVED_AND_DELIVERED]
    with pytest.raises(AssertionError, match="a deleted value is back"):
        happens(World(quiet_ms=0), proven)
    waiting = [*proven[:-4], (TICK, 0, 0, 1), (TICK, 0, 0, 0), *REMOVED_AND_DELIVERED]
    happens(World(quiet_ms=FLIGHT_MS + 1), waiting)


def test_with_the_proof_of_a_majority_the_laggard_brings_it_back() -> None:
    two_agree = [*LAGGARD, (SEND, 0, 0, 0), (DELIVER, 0, 1, 1), (PROVE, 0, 0, 0), (TICK, 0, 0, 1), (TICK, 0, 0, 0)]
    removed = [(COLLECT, 0, 0, 0), (COLLECT, 0, 0, 0), (EXCHANGE, 0, 0, 0)]
    with pytest.raises(AssertionError, match="a deleted value is back"):
        happens(World(FLIGHT_MS + 1, replicas_asked=2), [*two_agree, *removed])
    happens(World(FLIGHT_MS + 1), [*two_agree, *removed])
