"""The checkers on histories that are known to be good or bad, and the observer that tells them the dots."""

from __future__ import annotations

from quorate.core.causality.actor import make_actor
from quorate.core.envelope import digest_of, pack
from quorate.core.hints import Hint, hint_key, pack_hint
from quorate.core.ports import Space
from quorate.core.record import TOMBSTONE, VALUE, Clock, Record, Sibling, encode_record
from quorate.sim.checkers import (
    NOTHING,
    check_failed_never_appears,
    check_no_loss,
    check_nothing_back,
    check_quorum_reads,
    check_replicas_equal,
)
from quorate.sim.copies import Copies
from quorate.sim.disk import Disk
from quorate.sim.history import Ack, History, ReadEntry, Violation, WriteEntry
from quorate.sim.loop import VirtualLoop
from quorate.sim.observer import Observer
from quorate.sim.random_streams import Streams

KEY = b"\x00\x01\x05cartsk"
A = make_actor(1, 7)
B = make_actor(2, 9)


def sibling(
    actor: int, counter: int, value: bytes, *, time: int = 1, operation: int = 0, delete: bool = False
) -> Sibling:
    return Sibling(actor, counter, time, b"" if delete else value, "", TOMBSTONE if delete else VALUE, 0, operation)


def record(clock: Clock, *siblings: Sibling) -> Record:
    return Record(clock, sorted(siblings, key=lambda found: found.dot))


def observer_of(*stored: Record, member: int = 1) -> Observer:
    """An observer that has seen these records stored one after the other."""
    observer = Observer()
    observe = observer.of_member(member)
    old: bytes | None = None
    for found in stored:
        new = pack(digest_of(KEY, encode_record(found)), 0, encode_record(found))
        observe(Space.DATA, KEY, old, new)
        old = new
    return observer


def write(
    value: bytes, *, number: int = 0, acked: Clock | None = None, unknown: bool = False, **fields: object
) -> WriteEntry:
    entry = WriteEntry(number, KEY, value, attempts_unknown=int(unknown), **fields)  # type: ignore[arg-type]
    if acked is not None:
        entry.acks.append(Ack(10 * number, 10 * number + 5, acked))
    return entry


def checks(violations: list[Violation]) -> list[str]:
    return [violation.check for violation in violations]


FIRST = record({A: 1}, sibling(A, 1, b"one"))
SECOND = record({A: 2}, sibling(A, 2, b"two"))


class TestNoLoss:
    def test_a_standing_value_is_kept(self) -> None:
        assert check_no_loss([write(b"one", acked={A: 1})], FIRST, observer_of(FIRST), False) == []

    def test_a_value_that_vanished_is_lost(self) -> None:
        writes = [write(b"one", acked={A: 1})]
        assert checks(check_no_loss(writes, NOTHING, observer_of(FIRST), False)) == ["D"]

    def test_a_value_taken_for_old_without_anyone_replacing_it_is_lost(self) -> None:
        writes = [write(b"one", acked={A: 1}), write(b"two", number=1, acked={A: 2})]
        assert checks(check_no_loss(writes, SECOND, observer_of(FIRST, SECOND), False)) == ["D"]

    def test_a_value_that_an_acknowledged_write_replaced_is_not_lost(self) -> None:
        writes = [write(b"one", acked={A: 1}), write(b"two", number=1, acked={A: 2}, context={A: 1})]
        assert check_no_loss(writes, SECOND, observer_of(FIRST, SECOND), False) == []

    def test_a_value_that_a_write_of_unknown_outcome_replaced_is_not_lost(self) -> None:
        writes = [write(b"one", acked={A: 1}), write(b"two", number=1, unknown=True, context={A: 1})]
        assert check_no_loss(writes, SECOND, observer_of(FIRST, SECOND), False) == []

    def test_a_write_that_failed_replaces_nothing(self) -> None:
        writes = [write(b"one", acked={A: 1}), write(b"two", number=1, context={A: 1})]
        assert checks(check_no_loss(writes, SECOND, observer_of(FIRST, SECOND), False)) == ["D"]

    def test_a_replacement_that_is_itself_unknown_in_the_end_excuses_nothing(self) -> None:
        writes = [write(b"one", acked={A: 1}), write(b"two", number=1, unknown=True, context={A: 1})]
        final = record({A: 1})
        assert checks(check_no_loss(writes, final, observer_of(FIRST, SECOND), False)) == ["D"]

    def test_what_the_coordinator_saw_counts_as_context_of_an_overwriting_put(self) -> None:
        writes = [write(b"one", acked={A: 1}), write(b"two", number=1, acked={A: 2}, overwrite_seen=True)]
        assert check_no_loss(writes, SECOND, observer_of(FIRST, SECOND), False) == []
        blind = observer_of(record({A: 2}, sibling(A, 1, b"one"), *SECOND.siblings))
        assert checks(check_no_loss(writes, SECOND, blind, False)) == ["D"]

    def test_last_write_wins_loses_to_a_later_time_and_to_nothing_else(self) -> None:
        early, late = sibling(A, 1, b"one", time=5), sibling(B, 1, b"two", time=9)
        observer = observer_of(record({A: 1}, early), record({B: 1}, late))
        writes = [write(b"one", acked={A: 1}), write(b"two", number=1, acked={B: 1})]
        assert check_no_loss(writes, record({A: 1, B: 1}, late), observer, True) == []
        assert checks(check_no_loss(writes, record({A: 1, B: 1}, early), observer, True)) == ["D"]
        assert checks(check_no_loss(writes, record({A: 1, B: 1}, late), observer, False)) == ["D"]

    def test_one_acknowledged_dot_of_a_repeated_write_is_enough(self) -> None:
        twice = record({A: 1, B: 1}, sibling(A, 1, b"one", operation=4), sibling(B, 1, b"one", operation=4))
        writes = [write(b"one", acked={B: 1}, operation=4)]
        observer = observer_of(twice)
        assert check_no_loss(writes, record({B: 1}, sibling(B, 1, b"one", operation=4)), observer, False) == []
        assert checks(check_no_loss(writes, record({A: 1}, sibling(A, 1, b"one", operation=4)), observer, False)) == [
            "D"
        ]

    def test_an_acknowledged_delete_is_a_write_like_any_other(self) -> None:
        deleted = record({A: 1}, sibling(A, 1, b"", operation=8, delete=True))
        writes = [write(b"", acked={A: 1}, operation=8, delete=True)]
        assert check_no_loss(writes, deleted, observer_of(deleted), False) == []
        assert checks(check_no_loss(writes, NOTHING, observer_of(deleted), False)) == ["D"]

    def test_an_acknowledged_write_that_no_disk_ever_held_is_lost(self) -> None:
        writes = [write(b"one", acked={A: 1})]
        assert checks(check_no_loss(writes, FIRST, Observer(), False)) == ["D"]


class TestNothingBack:
    WRITES = [write(b"one", acked={A: 1}), write(b"two", number=1, acked={A: 2}, context={A: 1})]

    def test_a_replaced_value_stays_away(self) -> None:
        assert check_nothing_back(self.WRITES, SECOND, observer_of(FIRST, SECOND)) == []

    def test_a_replaced_value_is_back(self) -> None:
        both = record({A: 2}, sibling(A, 1, b"one"), sibling(A, 2, b"two"))
        assert checks(check_nothing_back(self.WRITES, both, observer_of(FIRST, SECOND))) == ["Z"]

    def test_a_write_of_unknown_outcome_promises_nothing(self) -> None:
        writes = [write(b"one", acked={A: 1}), write(b"two", number=1, unknown=True, context={A: 1})]
        assert check_nothing_back(writes, FIRST, observer_of(FIRST, SECOND)) == []


class TestReplicasEqual:
    def test_equal_replicas_and_nobody_else(self) -> None:
        assert check_replicas_equal(KEY, (1, 2), {1: b"x", 2: b"x", 3: None}) == []
        assert check_replicas_equal(KEY, (1, 2), {1: None, 2: None, 3: None}) == []

    def test_different_or_missing_or_stray_copies(self) -> None:
        assert checks(check_replicas_equal(KEY, (1, 2), {1: b"x", 2: b"y", 3: None})) == ["C"]
        assert checks(check_replicas_equal(KEY, (1, 2), {1: b"x", 2: None, 3: None})) == ["C"]
        assert checks(check_replicas_equal(KEY, (1, 2), {1: b"x", 2: b"x", 3: b"x"})) == ["C"]


class TestQuorumReads:
    def read(self, begin_us: int, clock: Clock, r: int = 2) -> ReadEntry:
        return ReadEntry(KEY, r, begin_us, begin_us + 5, clock, [])

    def judge(self, read: ReadEntry, w: int = 2, losses_us: list[int] | None = None) -> list[str]:
        history = History([write(b"one", number=1, acked={A: 1}, w=w)], [read], losses_us or [])
        return checks(check_quorum_reads(history, observer_of(FIRST), 3))

    def test_a_read_that_knows_the_write(self) -> None:
        assert self.judge(self.read(20, {A: 1})) == []
        assert self.judge(self.read(20, {A: 3, B: 1})) == []

    def test_a_read_that_missed_it(self) -> None:
        assert self.judge(self.read(20, {B: 1})) == ["R"]
        assert self.judge(self.read(20, {}, r=1), w=3) == ["R"]

    def test_a_read_that_need_not_know_it(self) -> None:
        assert self.judge(self.read(12, {})) == [], "it began before the acknowledgement"
        assert self.judge(self.read(15, {})) == [], "or at the same moment"
        assert self.judge(self.read(20, {}, r=1)) == [], "R+W is not above N"
        assert self.judge(self.read(20, {}, r=2), w=1) == []

    def test_losses_that_the_promise_allows(self) -> None:
        assert self.judge(self.read(30, {}), losses_us=[20]) == [], "the copy may be gone"
        assert self.judge(self.read(30, {}), losses_us=[12]) == [], "it was lost while the write was under way"
        assert self.judge(self.read(30, {}), losses_us=[32]) == [], "a loss during the read"
        assert self.judge(self.read(30, {}), losses_us=[3]) == ["R"], "a loss before the write excuses nothing"


class TestFailedNeverAppears:
    def test_a_failed_write_on_a_disk(self) -> None:
        history = History([write(b"one")])
        assert checks(check_failed_never_appears(history, observer_of(FIRST), {})) == ["F"]
        assert check_failed_never_appears(history, Observer(), {}) == []

    def test_unknown_and_acknowledged_writes_may_be_there(self) -> None:
        for entry in (write(b"one", unknown=True), write(b"one", acked={A: 1}), write(b"one", attempts_open=1)):
            assert check_failed_never_appears(History([entry]), observer_of(FIRST), {KEY: FIRST}) == []

    def test_a_failed_or_foreign_value_in_an_answer(self) -> None:
        answer = ReadEntry(KEY, 2, 0, 1, {A: 1}, [sibling(A, 1, b"one")])
        assert checks(check_failed_never_appears(History([write(b"one")], [answer]), Observer(), {})) == ["F"]
        assert checks(check_failed_never_appears(History([], [answer]), Observer(), {})) == ["F"]
        elsewhere = WriteEntry(0, KEY + b"2", b"one", attempts_unknown=1)
        assert checks(check_failed_never_appears(History([elsewhere], [answer]), Observer(), {})) == ["F"]

    def test_a_failed_value_in_the_final_record(self) -> None:
        assert checks(check_failed_never_appears(History([write(b"one")]), Observer(), {KEY: FIRST})) == ["F"]


class TestObserver:
    def test_a_dot_stands_for_one_event(self) -> None:
        assert observer_of(FIRST, SECOND).violations == []
        reused = observer_of(FIRST, record({A: 1}, sibling(A, 1, b"another")))
        assert checks(reused.violations) == ["dot"]

    def test_a_record_that_breaks_its_invariants(self) -> None:
        assert checks(observer_of(record({}, sibling(A, 1, b"one"))).violations) == ["record"]

    def test_dots_of_a_write_by_value_and_by_operation(self) -> None:
        twice = record({A: 1, B: 2}, sibling(A, 1, b"one", operation=4), sibling(B, 2, b"one", operation=4))
        observer = observer_of(FIRST, twice)
        assert observer.dots_of(write(b"one")) == [(A, 1)]
        observer = observer_of(twice)
        assert observer.dots_of(write(b"one", operation=4)) == [(A, 1), (B, 2)]
        assert observer.acked_dots(write(b"one", operation=4), {B: 2}) == [(B, 2)]

    def test_what_a_coordinator_saw_is_noted_at_the_coordinator_only(self) -> None:
        assert observer_of(FIRST, SECOND).seen_clock(KEY, (A, 2)) == {A: 1}
        assert observer_of(FIRST, SECOND, member=2).seen_clock(KEY, (A, 2)) == {}

    def test_acknowledged_events_are_joined(self) -> None:
        observer = observer_of(FIRST, SECOND)
        observer.acknowledged(write(b"two"), {A: 2})
        observer.acknowledged(write(b"one"), {A: 1})
        assert observer.acked_clocks() == {KEY: {A: 2}}


def test_a_sloppy_write_or_read_says_nothing_about_quorums() -> None:
    for strict_write, strict_read, expected in ((True, True, ["R"]), (False, True, []), (True, False, [])):
        history = History(
            writes=[write(b"one", acked={A: 1}, strict=strict_write)],
            reads=[ReadEntry(KEY, 2, 100, 110, {}, [], strict=strict_read)],
        )
        assert checks(check_quorum_reads(history, observer_of(FIRST), 3)) == expected


def three(key: bytes) -> tuple[int, ...]:
    return (1, 2, 3)


class Disks:
    """Four disks; 1, 2 and 3 are the replicas of the key."""

    def __init__(self, synced: bool) -> None:
        loop = VirtualLoop()
        self.disks = {number: Disk(loop, Streams(1).stream("disk", number)) for number in (1, 2, 3, 4)}
        self.copies = Copies(self.disks, read=three, keepers=three, staying=three, synced=synced)

    def store(self, member: int, found: Record) -> None:
        body = encode_record(found)
        self.disks[member].apply([(Space.DATA, KEY, pack(digest_of(KEY, body), 0, body))])

    def hint(self, member: int, home: int, found: Record | None) -> None:
        key = hint_key(home, KEY)
        value = None if found is None else pack_hint(key, Hint(0, 0, 0, encode_record(found)))
        self.disks[member].apply([(Space.HINTS, key, value)])

    def may_lose(self, victim: int, *, wiped: bool = True, others_too: bool = False) -> bool:
        return self.copies.can_lose({KEY: {A: 1}}, victim, wiped, others_too)


def test_a_hint_is_a_copy_unless_the_write_was_strict() -> None:
    lab = Disks(synced=False)
    lab.store(1, FIRST)
    lab.hint(4, 2, FIRST)
    lab.hint(4, 3, FIRST)
    assert lab.copies.count(KEY, (A, 1), strict=False) == 2, "two hints on one node are one copy"
    assert lab.copies.count(KEY, (A, 1), strict=True) == 1
    assert lab.copies.hints_left() == {4: 2}


def test_what_is_not_synced_is_no_durable_copy() -> None:
    lab = Disks(synced=True)
    lab.store(1, FIRST)
    lab.hint(4, 2, FIRST)
    assert lab.copies.count(KEY, (A, 1), strict=False) == 0
    lab.disks[4].mark_clean()
    assert lab.copies.count(KEY, (A, 1), strict=False) == 1


def test_a_disk_may_go_while_a_hint_elsewhere_holds_what_it_held_but_not_one_for_it() -> None:
    lab = Disks(synced=False)
    lab.store(2, FIRST)
    assert not lab.may_lose(2)
    lab.hint(4, 2, FIRST)
    assert not lab.may_lose(2), "the hint is for the victim, and may be gone as soon as that has acknowledged it"
    assert lab.may_lose(4)
    lab.hint(4, 3, FIRST)
    assert lab.may_lose(2)
    lab.copies.lasting = lambda member, created_ms: False
    assert not lab.may_lose(2), "the hint is about to expire"
    lab.copies.lasting = lambda member, created_ms: True
    assert not lab.may_lose(2, others_too=True), "the hint is not synced"
    lab.disks[4].mark_clean()
    assert lab.may_lose(2, others_too=True)


def test_the_holder_of_the_only_copy_may_not_lose_its_unsynced_hint() -> None:
    lab = Disks(synced=False)
    lab.hint(4, 2, FIRST)
    assert not lab.may_lose(4, wiped=False)
    lab.disks[4].mark_clean()
    assert lab.may_lose(4, wiped=False)


def test_the_observer_sees_dots_in_hints_and_hints_that_go() -> None:
    observer = Observer()
    removed: list[tuple[int, int, bytes, Clock, int]] = []
    observer.on_hint_removed = lambda *hint: removed.append(hint)
    observe = observer.of_member(4)
    key = hint_key(2, KEY)
    stored = pack_hint(key, Hint(1234, 0, 0, encode_record(FIRST)))
    observe(Space.HINTS, key, None, stored)
    assert observer.dots_of(write(b"one")) == [(A, 1)]
    other = record({A: 1}, sibling(A, 1, b"another"))
    observe(Space.HINTS, key, stored, pack_hint(key, Hint(0, 0, 0, encode_record(other))))
    assert checks(observer.violations) == ["dot"]
    observe(Space.HINTS, key, stored, None)
    assert removed == [(4, 2, KEY, {A: 1}, 1234)]


def test_a_disk_that_may_be_emptied_or_is_damaged_is_no_copy() -> None:
    lab = Disks(synced=False)
    for member in (1, 2):
        lab.store(member, FIRST)
    assert lab.may_lose(1) and lab.copies.safe_without_hints({KEY: {A: 1}}, [1])
    lab.copies.doubtful[2] = True
    assert not lab.may_lose(1)
    lab.copies.trust(2)
    lab.disks[2].flip(KEY, 200)
    assert not lab.may_lose(1) and lab.may_lose(2)
    lab.hint(4, 3, FIRST)
    assert lab.may_lose(1), "the hint is a copy"
    assert not lab.copies.safe_without_hints({KEY: {A: 1}}, [1]), "until it expires"


def test_a_write_has_seen_what_came_in_the_same_turn_and_does_not_stand_beside_it() -> None:
    """Another's write and one that overwrites it reach the disk as one batch: nothing is lost."""
    final = record({A: 1, B: 1}, sibling(A, 1, b"new"))
    observer = observer_of(final)
    assert observer.seen_clock(KEY, (A, 1)) == {A: 0, B: 1}
    beside = record({A: 1, B: 2}, sibling(A, 1, b"new"), sibling(B, 2, b"late"))
    assert observer_of(beside).seen_clock(KEY, (A, 1)) == {A: 0, B: 1}, "what stands beside it may be younger"
