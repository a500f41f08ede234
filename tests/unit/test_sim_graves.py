"""What may be collected, judged on small worlds: the graves, and the checks that they complete."""

from __future__ import annotations

from quorate.core.envelope import digest_of, pack
from quorate.core.ports import Space
from quorate.core.record import TOMBSTONE, VALUE, Clock, Record, Sibling, encode_record
from quorate.sim.checkers import check_answers, check_listings, check_no_loss, check_quorum_reads
from quorate.sim.graves import Graves, dead_since_ms
from quorate.sim.history import Ack, History, ListEntry, ReadEntry, Violation, WriteEntry
from quorate.sim.observer import Observer

KEY = b"\x00\x01\x05cartsk"
A, B = 1 << 48 | 7, 2 << 48 | 9


def value(actor: int, counter: int, text: bytes, *, at_ms: int = 10, expiry_ms: int = 0) -> Sibling:
    return Sibling(actor, counter, at_ms << 16, text, "", VALUE, expiry_ms)


def tombstone(actor: int, counter: int, at_ms: int) -> Sibling:
    return Sibling(actor, counter, at_ms << 16, b"", "", TOMBSTONE, 0, 77)


DELETED = Record({A: 2}, [tombstone(A, 2, 20)])


class World:
    """Three replicas, one key, a horizon."""

    def __init__(self, horizon_ms: int = 100) -> None:
        self.known: dict[int, Clock | None] = {1: {A: 2}, 2: {A: 2}, 3: {A: 2}}
        self.now_us = 1_000
        self.graves = Graves(
            horizon_ms=lambda: horizon_ms,
            now_us=lambda: self.now_us,
            replicas=lambda key: (1, 2, 3),
            known=lambda member, key: self.known[member],
        )

    def remove(self, member: int, record: Record = DELETED, left: Record | None = None) -> list[str]:
        self.graves.shrunk(member, KEY, record, left)
        if left is None:
            self.known[member] = {}
        return [violation.check for violation in self.graves.violations]


def test_what_is_dead_and_since_when() -> None:
    assert dead_since_ms(tombstone(A, 1, 20)) == 20
    assert dead_since_ms(value(A, 1, b"x", expiry_ms=30)) == 30
    assert dead_since_ms(value(A, 1, b"x")) == 0


def test_all_replicas_that_hold_the_same_may_remove_it_one_after_the_other() -> None:
    world = World()
    for member in (2, 1, 3, 2):
        assert world.remove(member) == []
    assert world.graves.collected == 4


def test_a_replica_that_knows_less_forbids_a_removal() -> None:
    world = World()
    world.known[3] = {A: 1}
    assert world.remove(1) == ["G"]


def test_a_replica_that_holds_nothing_and_never_removed_anything_forbids_it_too() -> None:
    world = World()
    world.known[3] = {}
    assert world.remove(1) == ["G"]


def test_a_replica_that_lost_its_disk_a_moment_ago_does_not() -> None:
    world = World()
    world.known[3] = None
    assert world.remove(1) == []


def test_nothing_goes_that_lives_or_died_too_lately() -> None:
    assert World(horizon_ms=19).remove(1) == ["G"]
    assert World().remove(1, Record({A: 2}, [value(A, 2, b"x")])) == ["G"]
    assert World().remove(1, Record({A: 2}, [value(A, 2, b"x", expiry_ms=101)])) == ["G"]
    assert World().remove(1, Record({A: 2}, [value(A, 2, b"x", expiry_ms=99)])) == []


def test_a_dead_sibling_may_leave_a_record_without_any_proof() -> None:
    world = World()
    world.known[2] = {}
    both = Record({A: 2, B: 1}, [tombstone(A, 2, 20), value(B, 1, b"y")])
    assert world.remove(1, both, Record(both.clock, both.siblings[1:])) == []
    assert world.graves.clocks == {}, "the clock is still there to tell"
    assert world.remove(1, both, Record(both.clock, both.siblings[:1])) == ["G"], "that one lives"


def test_what_was_replaced_by_what_is_collected_must_not_come_back() -> None:
    world = World()
    world.remove(1)
    world.graves.stored(1, KEY, DELETED)
    world.graves.stored(1, KEY, Record({B: 1}, [value(B, 1, b"new")]))
    assert world.graves.violations == [], "the tombstone itself, and new values, may be stored"
    world.graves.stored(3, KEY, Record({A: 1}, [value(A, 1, b"old")]))
    assert [violation.check for violation in world.graves.violations] == ["Z"]


def observed(*records: Record | None, graves: Graves | None = None) -> Observer:
    observer = Observer()
    observer.graves = graves
    observe = observer.of_member(1)
    old: bytes | None = None
    for record in records:
        new = None
        if record is not None:
            new = pack(digest_of(KEY, encode_record(record)), 0, encode_record(record))
        observe(Space.DATA, KEY, old, new)
        old = new
    return observer


def test_the_observer_tells_a_collection_from_a_write() -> None:
    world = World()
    both = Record({A: 2, B: 1}, [tombstone(A, 2, 20), value(B, 1, b"yes, and much longer than what follows")])
    replaced = Record({A: 2, B: 2}, [value(B, 2, b"z")])
    observed(both, replaced, graves=world.graves)
    assert world.graves.collected == 0, "the clock has grown: a write replaced them"
    observed(both, Record(both.clock, both.siblings[1:]), DELETED, None, graves=world.graves)
    assert world.graves.collected == 2


def test_a_damaged_record_is_no_record_to_the_observer() -> None:
    world = World()
    observer = Observer()
    observer.graves = world.graves
    observe = observer.of_member(1)
    stored = pack(digest_of(KEY, encode_record(DELETED)), 0, encode_record(DELETED))
    observe(Space.DATA, KEY, None, stored)
    damaged = stored[:-1] + bytes([stored[-1] ^ 1])
    observe(Space.DATA, KEY, damaged, None)
    observe(Space.DATA, KEY, damaged, stored)
    assert world.graves.collected == 0 and observer.violations == []


def delete(*, context: Clock | None, acked: Clock, number: int = 1) -> WriteEntry:
    acks = [Ack(10 * number, 10 * number + 5, acked)]
    return WriteEntry(number, KEY, b"", delete=True, operation=77, context=context, acks=acks, invoked_us=10 * number)


def put(text: bytes, acked: Clock) -> WriteEntry:
    return WriteEntry(0, KEY, text, acks=[Ack(0, 5, acked)])


FIRST = Record({A: 1}, [value(A, 1, b"one")])
NOTHING = Record({}, [])


def checks(violations: list[Violation]) -> list[str]:
    return [violation.check for violation in violations]


def test_what_was_collected_is_not_lost() -> None:
    world = World()
    observer = observed(FIRST, DELETED, None, graves=world.graves)
    writes = [put(b"one", {A: 1}), delete(context={A: 1}, acked={A: 2})]
    assert checks(check_no_loss(writes, NOTHING, observer, False)) == ["D", "D"]
    assert check_no_loss(writes, world.graves.with_collected(KEY, NOTHING), observer, False) == []
    other = [put(b"one", {A: 1})]
    whole = world.graves.with_collected(KEY, NOTHING)
    assert checks(check_no_loss(other, whole, observer, False)) == ["D"], "nobody replaced it"


def test_a_read_need_not_know_what_was_collected_before_it_ended() -> None:
    world = World()
    observer = observed(FIRST, DELETED, None, graves=world.graves)
    for ended_us, expected in ((1_500, []), (900, ["R"])):
        history = History([delete(context={A: 1}, acked={A: 2})], [ReadEntry(KEY, 2, 100, ended_us, {}, [])])
        assert checks(check_quorum_reads(history, observer, 3, world.graves)) == expected


def test_a_damaged_copy_excuses_reads_of_its_key_only() -> None:
    observer = observed(FIRST)
    for lost, expected in ((KEY, []), (KEY + b"2", ["R"])):
        history = History([put(b"one", {A: 1})], [ReadEntry(KEY, 2, 100, 110, {}, [])], key_losses_us={lost: [50]})
        assert checks(check_quorum_reads(history, observer, 3)) == expected


class TestAnswers:
    def judge(self, read: ReadEntry, *writes: WriteEntry) -> list[str]:
        observer = observed(FIRST, DELETED)
        return checks(check_answers(History(list(writes), [read]), {KEY: writes}, observer))

    def test_an_expired_value_is_answered(self) -> None:
        expiring = [value(A, 1, b"one", expiry_ms=50)]
        assert self.judge(ReadEntry(KEY, 2, 0, 1, {A: 1}, expiring, wall_ms=49)) == []
        assert self.judge(ReadEntry(KEY, 2, 0, 1, {A: 1}, expiring, wall_ms=0)) == [], "some clock jumped meanwhile"
        assert self.judge(ReadEntry(KEY, 2, 0, 1, {A: 1}, expiring, wall_ms=50)) == ["Z"]

    def test_a_value_is_answered_beside_the_delete_that_removed_it(self) -> None:
        gone = delete(context={A: 1}, acked={A: 2})
        assert self.judge(ReadEntry(KEY, 2, 0, 1, {A: 1}, FIRST.siblings), gone) == [], "it does not know the delete"
        assert self.judge(ReadEntry(KEY, 2, 0, 1, {A: 2}, FIRST.siblings), gone) == ["Z"]
        blind = delete(context=None, acked={A: 2})
        assert self.judge(ReadEntry(KEY, 2, 0, 1, {A: 2}, FIRST.siblings), blind) == [], "concurrent: both stay"


class TestListings:
    def judge(self, keys: list[bytes], *writes: WriteEntry, begun_us: int = 100, wall_ms: int = 1) -> list[str]:
        history = History(list(writes), listings=[ListEntry(b"carts", begun_us, begun_us + 10, keys, wall_ms)])
        grouped = {KEY: writes} if writes else {}
        return checks(check_listings(history, grouped, observed(FIRST, DELETED), 3))

    def test_a_key_that_stands_is_listed(self) -> None:
        assert self.judge([b"k"], put(b"one", {A: 1})) == []
        assert self.judge([], put(b"one", {A: 1})) == ["L"]
        assert self.judge([], put(b"one", {A: 1}), begun_us=3) == [], "it was not acknowledged yet"

    def test_a_key_that_was_deleted_is_not(self) -> None:
        writes = (put(b"one", {A: 1}), delete(context={A: 1}, acked={A: 2}))
        assert self.judge([], *writes) == []
        assert self.judge([b"k"], *writes) == ["L"]
        assert self.judge([b"k"], *writes, begun_us=12) == [], "it was being deleted"
        assert self.judge([b"k"], writes[0], delete(context=None, acked={A: 2})) == [], "concurrent: the value stays"

    def test_a_key_that_nobody_wrote_is_not(self) -> None:
        assert self.judge([b"other"], put(b"one", {A: 1})) == ["L", "L"]
