"""The session guarantees on histories that are known to be good or bad, and against their definition, which is
quadratic."""

from __future__ import annotations

import random
import re

import pytest

from quorate.core.causality.version_vectors import join
from quorate.core.record import Clock, Record
from quorate.sim.graves import Graves
from quorate.sim.history import Ack, History, ReadEntry, Source, Violation, WriteEntry, covers
from quorate.sim.observer import Observer
from quorate.sim.sessions import GUARANTEES, SessionFindings, check_sessions
from tests.unit.test_sim_checkers import KEY, A, B, observer_of, record, sibling

N = 3


def put(
    value: bytes,
    at_us: int,
    acked: Clock | None = None,
    *,
    w: int = 2,
    session: int = 1,
    context: Clock | None = None,
    source: Source = "",
    strict: bool = True,
    operation: int = 0,
) -> WriteEntry:
    """A put from `at_us`, acknowledged 5 µs later with the clock `acked`."""
    entry = WriteEntry(at_us, KEY, value, context=context, w=w, session=session, strict=strict, operation=operation)
    entry.context_source = source
    entry.invoked_us = at_us
    if acked is not None:
        entry.acks.append(Ack(at_us, at_us + 5, acked))
    return entry


def read(at_us: int, clock: Clock, *values: tuple[int, int, bytes], r: int = 2, session: int = 1) -> ReadEntry:
    """A strict read from `at_us`, answered 5 µs later with these (actor, counter, value)."""
    return ReadEntry(KEY, r, at_us, at_us + 5, clock, [sibling(*value) for value in values], session=session)


def judge(
    writes: list[WriteEntry],
    reads: list[ReadEntry],
    *stored: Record,
    quorum_min: int = 1,
    finals: dict[bytes, Record] | None = None,
    losses_us: list[int] | None = None,
    unsynced_losses_us: list[int] | None = None,
    key_losses_us: dict[bytes, list[int]] | None = None,
    graves: Graves | None = None,
) -> SessionFindings:
    history = History(writes, reads)
    history.losses_us = losses_us or []
    history.unsynced_losses_us = unsynced_losses_us or []
    history.key_losses_us = key_losses_us or {}
    return check_sessions(history, observer_of(*stored), N, graves, quorum_min, finals)


def found(findings: SessionFindings) -> list[str]:
    return [violation.check for violation in findings.violations]


ONE = record({A: 1}, sibling(A, 1, b"one"))
TWO = record({A: 1, B: 1}, sibling(B, 1, b"two", time=2))


CASES_WITHOUT_A_QUORUM = [
    {"w": 1},
    {"r": 1},
    {"session": 2},
    {"quorum_min": 3},
    {"r": 1, "w": 3, "quorum_min": 2},
    {"r": 3, "w": 1, "quorum_min": 2},
]


def collected(at_us: int, clock: Clock) -> Graves:
    """At this time the record of the key, which knew `clock`, was removed for good."""
    graves = Graves(horizon_ms=int, now_us=int, replicas=lambda key: (), known=lambda member, key: None)
    graves.removals[KEY] = [(at_us, clock)]
    return graves


class TestReadYourWrites:
    def judge(self, clock: Clock, *, w: int = 2, r: int = 2, session: int = 1, **options: object) -> SessionFindings:
        write = put(b"one", 10, {A: 1}, w=w)
        return judge([write], [read(30, clock, r=r, session=session)], ONE, **options)  # type: ignore[arg-type]

    def test_a_read_that_knows_the_own_write_is_good_and_counted(self) -> None:
        findings = self.judge({A: 1})
        assert found(findings) == []
        assert findings.pairs["S-RYW"] == 1

    def test_a_read_that_does_not_know_it_is_bad(self) -> None:
        assert found(self.judge({B: 4})) == ["S-RYW"]

    def test_what_was_replaced_is_known_without_being_shown(self) -> None:
        assert found(self.judge({A: 7})) == []

    @pytest.mark.parametrize("case", CASES_WITHOUT_A_QUORUM)
    def test_nothing_is_asked_where_no_quorum_meets_or_of_another_session(self, case: dict[str, int]) -> None:
        findings = self.judge({}, **case)
        assert found(findings) == []
        assert findings.pairs["S-RYW"] == 0

    def test_r_1_meets_w_3(self) -> None:
        assert found(self.judge({}, r=1, w=3)) == ["S-RYW"]

    def test_a_sloppy_write_promises_nothing(self) -> None:
        assert found(judge([put(b"one", 10, {A: 1}, strict=False)], [read(30, {})], ONE)) == []

    def test_a_read_that_began_before_the_acknowledgement_need_not_know(self) -> None:
        assert found(judge([put(b"one", 10, {A: 1})], [read(15, {})], ONE)) == []

    @pytest.mark.parametrize("loss_us", [10, 12, 20, 30, 35])
    def test_a_loss_since_the_write_began_excuses(self, loss_us: int) -> None:
        assert found(self.judge({}, losses_us=[loss_us])) == []
        assert found(self.judge({}, key_losses_us={KEY: [loss_us]})) == []

    def test_a_loss_before_or_of_another_key_or_of_what_was_not_acknowledged_excuses_nothing(self) -> None:
        assert found(self.judge({}, losses_us=[9])) == ["S-RYW"]
        assert found(self.judge({}, losses_us=[36])) == ["S-RYW"]
        assert found(self.judge({}, key_losses_us={b"other": [20]})) == ["S-RYW"]
        assert found(self.judge({}, unsynced_losses_us=[20])) == ["S-RYW"]

    def test_an_acknowledgement_that_may_be_of_either_of_two_dots_asks_nothing(self) -> None:
        twice = record({A: 1, B: 1}, sibling(A, 1, b"one", operation=7), sibling(B, 1, b"one", operation=7))
        assert found(judge([put(b"one", 10, {A: 1, B: 1}, operation=7)], [read(30, {A: 1})], twice)) == []
        assert found(judge([put(b"one", 10, {A: 1, B: 1}, operation=7)], [read(30, {B: 1})], twice)) == []

    def test_what_was_collected_need_not_be_known(self) -> None:
        assert found(self.judge({}, graves=collected(25, {A: 1}))) == []
        assert found(self.judge({}, graves=collected(36, {A: 1}))) == ["S-RYW"], "not yet"
        assert found(self.judge({}, graves=collected(25, {B: 1}))) == ["S-RYW"], "another event"

    def test_losses_of_one_key_and_of_all_count_together(self) -> None:
        assert found(self.judge({}, losses_us=[20], key_losses_us={KEY: [3]})) == []


class TestMonotonicReads:
    def judge(self, first: Clock, later: Clock, *, r: int = 3, acked: bool = False, **options: object) -> list[str]:
        """Two reads of session 1; session 2 has put A's first event, and perhaps been told so."""
        write = put(b"one", 10, {A: 1} if acked else None, session=2)
        reads = [read(20, first), read(40, later, r=r)]
        return found(judge([write], reads, ONE, **options))  # type: ignore[arg-type]

    def test_a_read_of_all_replicas_knows_whatever_was_read_before(self) -> None:
        assert self.judge({A: 1}, {A: 1, B: 3}) == []
        assert self.judge({A: 1}, {B: 3}) == ["S-MR"]

    def test_a_smaller_read_need_not_know_what_may_stand_on_one_replica(self) -> None:
        assert self.judge({A: 1}, {}, r=2) == []

    def test_it_knows_what_was_acknowledged_by_a_quorum_that_it_meets(self) -> None:
        assert self.judge({A: 1}, {}, r=2, acked=True) == ["S-MR"]
        assert self.judge({A: 1}, {}, r=1, acked=True) == []
        assert self.judge({B: 1}, {}, r=2, acked=True) == [], "the first read did not know it"

    def test_what_was_acknowledged_is_found_behind_what_was_not(self) -> None:
        assert self.judge({A: 9}, {}, r=2, acked=True) == ["S-MR"]

    @pytest.mark.parametrize("loss_us", [20, 22, 30, 42])
    def test_a_machine_that_lost_what_was_not_synced_excuses_what_was_not_acknowledged(self, loss_us: int) -> None:
        assert self.judge({A: 1}, {}, unsynced_losses_us=[loss_us]) == []
        assert self.judge({A: 1}, {}, unsynced_losses_us=[loss_us], acked=True) == ["S-MR"]

    def test_what_was_not_acknowledged_yet_or_under_way_during_a_loss_is_not_sure(self) -> None:
        late = put(b"one", 38, {A: 1}, session=2)
        assert found(judge([late], [read(20, {A: 1}), read(40, {})], ONE)) == []
        assert self.judge({A: 1}, {}, r=2, acked=True, losses_us=[9]) == ["S-MR"]
        assert self.judge({A: 1}, {}, r=2, acked=True, losses_us=[12]) == []

    def test_an_older_acknowledged_event_is_sure_where_the_last_is_not(self) -> None:
        second = record({A: 2}, sibling(A, 2, b"two"))
        writes = [put(b"one", 10, {A: 1}, session=2), put(b"two", 38, {A: 2}, session=2)]
        assert found(judge(writes, [read(20, {A: 2}), read(40, {})], ONE, second)) == ["S-MR"]

    def test_what_was_collected_need_not_be_known(self) -> None:
        assert self.judge({A: 1}, {}, graves=collected(30, {A: 1})) == []
        assert self.judge({A: 1}, {}, graves=collected(50, {A: 1})) == ["S-MR"]

    def test_losses_before_the_first_read_began_excuse_nothing(self) -> None:
        assert self.judge({A: 1}, {}, unsynced_losses_us=[19]) == ["S-MR"]
        assert self.judge({A: 1}, {}, losses_us=[19]) == ["S-MR"]

    def test_a_legitimate_loss_excuses_both(self) -> None:
        assert self.judge({A: 1}, {}, losses_us=[30], acked=True) == []
        assert self.judge({A: 1}, {}, key_losses_us={KEY: [30]}, acked=True) == []

    def test_while_the_members_change_only_quorums_are_promised(self) -> None:
        assert self.judge({A: 1}, {}, quorum_min=2) == []
        assert self.judge({A: 1}, {}, quorum_min=2, acked=True) == ["S-MR"]

    def test_reads_of_two_sessions_and_sloppy_reads_are_not_compared(self) -> None:
        reads = [read(20, {A: 1}), read(40, {}, r=3, session=2)]
        assert found(judge([], reads, ONE)) == []
        reads[1].session, reads[1].strict = 1, False
        assert found(judge([], reads, ONE)) == []


class TestCausality:
    CASES = [("put", "S-MW"), ("read", "S-WFR")]

    def writes(self, source: Source) -> list[WriteEntry]:
        return [put(b"one", 10, {A: 1}, w=1), put(b"two", 20, None, context={A: 1}, source=source)]

    @pytest.mark.parametrize(("source", "guarantee"), CASES)
    def test_whoever_knows_a_write_knows_its_context(self, source: Source, guarantee: str) -> None:
        good = judge(self.writes(source), [read(40, {A: 1, B: 1}, (B, 1, b"two"))], ONE, TWO)
        assert found(good) == []
        assert good.pairs[guarantee] == 1
        assert found(judge(self.writes(source), [read(40, {B: 1}, (B, 1, b"two"))], ONE, TWO)) == [guarantee]

    @pytest.mark.parametrize(("source", "guarantee"), CASES)
    def test_whoever_knows_a_write_shows_nothing_that_it_replaced(self, source: Source, guarantee: str) -> None:
        both = ((A, 1, b"one"), (B, 1, b"two"))
        assert found(judge(self.writes(source), [read(40, {A: 1, B: 1}, *both)], ONE, TWO)) == [guarantee]

    @pytest.mark.parametrize(("source", "guarantee"), CASES)
    def test_final_records_and_acknowledgements_are_judged_too(self, source: Source, guarantee: str) -> None:
        torn = record({B: 1}, sibling(B, 1, b"two"))
        assert found(judge(self.writes(source), [], ONE, TWO, finals={KEY: torn})) == [guarantee]
        both = record({A: 1, B: 1}, sibling(A, 1, b"one"), sibling(B, 1, b"two"))
        assert found(judge(self.writes(source), [], ONE, TWO, finals={KEY: both})) == [guarantee]
        writes = [*self.writes(source), put(b"three", 30, {B: 2})]
        assert found(judge(writes, [], ONE, TWO)) == [guarantee]

    def test_a_replaced_value_of_the_same_actor_is_not_shown(self) -> None:
        second = record({A: 2}, sibling(A, 2, b"two"))
        writes = [put(b"one", 10, {A: 1}), put(b"two", 20, {A: 2}, context={A: 1}, source="put")]
        both = ((A, 1, b"one"), (A, 2, b"two"))
        assert found(judge(writes, [read(40, {A: 2}, *both)], ONE, second)) == ["S-MW"]

    def test_the_past_of_an_actors_earlier_events_is_demanded_too(self) -> None:
        stored = (ONE, TWO, record({A: 1, B: 2}, sibling(B, 2, b"three")))
        writes = [*self.writes("put"), put(b"three", 30)]
        assert found(judge(writes, [read(40, {B: 2}, (B, 2, b"three"))], *stored)) == ["S-MW"]
        assert found(judge(writes, [read(40, {A: 1, B: 2}, (B, 2, b"three"))], *stored)) == []

    def test_no_loss_excuses_a_torn_past(self) -> None:
        assert found(judge(self.writes("put"), [read(40, {B: 1})], ONE, TWO, losses_us=[30])) == ["S-MW"]

    def test_who_does_not_know_the_write_need_not_know_its_past(self) -> None:
        findings = judge(self.writes("put"), [read(40, {A: 1}, (A, 1, b"one")), read(50, {})], ONE, TWO)
        assert found(findings) == []
        assert findings.pairs["S-MW"] == 0

    def test_a_write_without_a_context_has_no_past(self) -> None:
        assert found(judge([put(b"two", 20)], [read(40, {B: 1})], TWO)) == []


def by_definition(history: History, observer: Observer) -> set[tuple[str, int]]:
    """(guarantee, when the offending read began), from every pair of operations; without losses."""
    bad: set[tuple[str, int]] = set()
    acked = [
        (write, ack, dot)
        for write in history.writes
        for ack in write.acks
        for dot in observer.acked_dots(write, ack.clock)
    ]
    for later in history.reads:
        for write, ack, dot in acked:
            must = write.w + later.r > N and ack.completed_us < later.invoked_us and not covers(later.clock, dot)
            if must and write.session == later.session:
                bad.add(("S-RYW", later.invoked_us))
            for earlier in history.reads:
                follows = earlier.session == later.session and earlier.completed_us < later.invoked_us
                if must and follows and covers(earlier.clock, dot):
                    bad.add(("S-MR", later.invoked_us))
        for earlier in history.reads:
            follows = earlier.session == later.session and earlier.completed_us < later.invoked_us
            if follows and later.r == N and join(later.clock, earlier.clock) != later.clock:
                bad.add(("S-MR", later.invoked_us))
        for write in history.writes:
            for dot in observer.dots_of(write):
                if write.context and covers(later.clock, dot):
                    torn = any(not covers(later.clock, old) for old in write.context.items())
                    if torn or any(covers(write.context, shown.dot) for shown in later.siblings):
                        bad.add(("S-MW" if write.context_source == "put" else "S-WFR", later.invoked_us))
    return bad


def told(violation: Violation) -> tuple[str, int]:
    """(guarantee, when the offending read began), from what the finding says."""
    interval = re.search(r"from (\d+) to", violation.message)
    end = re.search(r"at (\d+) µs", violation.message)
    assert interval or end
    return violation.check, int(interval[1]) if interval else int(end[1]) - 5 if end else 0


@pytest.mark.parametrize("seed", range(250))
def test_the_findings_are_those_of_the_definition(seed: int) -> None:
    """Histories at random: most are bad, in all ways."""
    rng = random.Random(seed)
    counters = {A: 0, B: 0}
    writes, reads, stored = [], [], []
    for at_us in range(10, 10 * rng.randint(3, 20), 10):
        session = rng.randint(1, 2)
        clock = {actor: rng.randint(0, last) for actor, last in counters.items() if last}
        clock = {actor: counter for actor, counter in clock.items() if counter}
        if rng.random() < 0.5:
            actor = rng.choice((A, B))
            counters[actor] += 1
            source: Source = rng.choice(("put", "read"))
            context, source = (clock, source) if clock and rng.random() < 0.5 else (None, "")
            dot = (actor, counters[actor])
            value = b"%d" % at_us
            stored.append(record({**counters}, sibling(*dot, value)))
            acked = {**counters} if rng.random() < 0.7 else None
            writes.append(
                put(value, at_us, acked, w=rng.randint(1, 3), session=session, context=context, source=source)
            )
        else:
            shown = [dot for dot in clock.items() if rng.random() < 0.3]
            reads.append(read(at_us, clock, *[(*dot, b"") for dot in shown], r=rng.randint(1, 3), session=session))
    rng.shuffle(writes)
    observer = observer_of(*stored)
    history = History(writes, reads)
    findings = check_sessions(history, observer, N)
    assert {told(violation) for violation in findings.violations if "a read of" in violation.message} == by_definition(
        history, observer
    )
    assert tuple(findings.pairs) == GUARANTEES
