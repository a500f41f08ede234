"""What is brought before the judges of registers: keys of a run, and what operators did to the cluster's metadata."""

from __future__ import annotations

import pytest

from quorate.core.record import Clock, Sibling
from quorate.core.store import Admin, Failure
from quorate.sim.graves import Graves
from quorate.sim.history import FAILED, OK, UNKNOWN, Ack, History, ReadEntry, WriteEntry
from quorate.sim.registers.history import LINEARIZABLE, NOT_LINEARIZABLE, READ, UNDECIDED, WRITE
from quorate.sim.registers.metadata import PLANS, OperatorLog, check_metadata, outcome_of
from quorate.sim.registers.of_history import STRANGE, measure_registers, registers_of
from tests.unit.test_sim_checkers import KEY, A, B, observer_of, record, sibling

QUORUM = 2
TTL = "spare.ttl"


def put(number: int, at_us: int, *, w: int = 2, acked: bool = True, delete: bool = False) -> WriteEntry:
    value = b"" if delete else b"%d" % number
    write = WriteEntry(number, KEY, value, delete=delete, operation=number if delete else 0, w=w, invoked_us=at_us)
    if acked:
        write.acks = [Ack(at_us, at_us + 5, {}), Ack(at_us, at_us + 3, {})]
    else:
        write.attempts_unknown = 1
    return write


def get(at_us: int, clock: Clock, *shown: Sibling, r: int = 2) -> ReadEntry:
    return ReadEntry(KEY, r, at_us, at_us + 5, clock, list(shown))


ONE = sibling(A, 1, b"1", time=1)
TWO = sibling(B, 1, b"2", time=2)
GONE = sibling(A, 2, b"", time=3, operation=3, delete=True)
STORED = (record({A: 1}, ONE), record({A: 1, B: 1}, TWO), record({A: 2, B: 1}, GONE))


class TestOfHistory:
    def reads(self, *reads: ReadEntry, writes: tuple[WriteEntry, ...] = ()) -> list[object]:
        """What these reads saw, by the numbers of the writes."""
        history = History(list(writes) or [put(1, 0), put(2, 10), put(3, 20, delete=True)], list(reads))
        operations = registers_of(history, [KEY], observer_of(*STORED), QUORUM)[KEY]
        return [operation.value for operation in operations if operation.kind == READ]

    def measured(self, *reads: ReadEntry, writes: list[WriteEntry] | None = None) -> dict[str, int]:
        history = History(writes or [put(1, 0), put(2, 10), put(3, 20, delete=True)], list(reads))
        return measure_registers(history, [KEY], observer_of(*STORED), QUORUM).counts

    def test_a_read_saw_the_write_of_what_it_shows(self) -> None:
        assert self.reads(get(30, {A: 1}, ONE), get(40, {A: 1, B: 1}, TWO)) == [1, 2]

    def test_what_is_shown_counts_and_not_what_should_have_been(self) -> None:
        assert self.reads(get(30, {A: 1, B: 1}, ONE)) == [1]

    def test_a_read_of_nothing_is_told_by_what_it_knows(self) -> None:
        assert self.reads(get(30, {})) == [None], "never written"
        assert self.reads(get(30, {A: 2, B: 1})) == [3], "the delete stands"
        assert self.reads(get(30, {A: 1, B: 1})) == [2], "it has expired"

    def test_an_event_that_no_write_explains_leaves_the_key_undecided(self) -> None:
        read = get(30, {A: 1}, ONE)
        assert self.reads(read, writes=(put(2, 10),)) == [STRANGE]
        assert self.measured(read, writes=[put(2, 10)]) == {LINEARIZABLE: 0, NOT_LINEARIZABLE: 0, UNDECIDED: 1}

    def test_good_and_bad_keys_are_counted(self) -> None:
        good = get(30, {A: 2, B: 1})
        bad = get(40, {A: 1}, ONE)
        assert self.measured(good) == {LINEARIZABLE: 1, NOT_LINEARIZABLE: 0, UNDECIDED: 0}
        assert self.measured(good, bad) == {LINEARIZABLE: 0, NOT_LINEARIZABLE: 1, UNDECIDED: 0}
        assert self.measured() == {LINEARIZABLE: 0, NOT_LINEARIZABLE: 0, UNDECIDED: 0}, "nobody has read"

    def test_the_first_bad_key_is_explained(self) -> None:
        history = History([put(1, 0), put(2, 10)], [get(30, {A: 1}, ONE)])
        found = measure_registers(history, [KEY], observer_of(*STORED), QUORUM)
        assert found.first_bad is not None
        assert "must come and go" in found.first_bad.explanation
        assert found.operations == 3

    def test_reads_without_a_majority_and_sloppy_ones_are_left_out(self) -> None:
        sloppy = get(30, {A: 1}, ONE)
        sloppy.strict = False
        assert self.reads(get(30, {A: 1}, ONE, r=1), sloppy) == []

    @pytest.mark.parametrize(("w", "acked"), [(1, True), (2, False)])
    def test_a_write_without_a_majority_may_come_at_any_time(self, w: int, acked: bool) -> None:
        writes = [put(1, 0), put(2, 10, w=w, acked=acked)]
        late = (get(30, {A: 1}, ONE), get(40, {A: 1, B: 1}, TWO))
        assert self.measured(*late, writes=writes)[LINEARIZABLE] == 1
        assert self.measured(*late[::-1], writes=writes)[LINEARIZABLE] == 1, "the reads overlap nothing"
        new_and_old = (get(30, {A: 1, B: 1}, TWO), get(40, {A: 1}, ONE))
        assert self.measured(*new_and_old, writes=writes)[NOT_LINEARIZABLE] == 1

    def test_a_write_completes_with_its_first_acknowledgement(self) -> None:
        operations = registers_of(History([put(1, 10)], []), [KEY], observer_of(*STORED), QUORUM)[KEY]
        assert [(one.kind, one.invoked_us, one.completed_us, one.outcome) for one in operations] == [
            (WRITE, 10, 13, OK)
        ]

    def test_a_write_that_was_not_done_is_none(self) -> None:
        failed = put(1, 10, acked=False)
        failed.attempts_unknown = 0
        assert failed.outcome == FAILED
        assert registers_of(History([failed], []), [KEY], observer_of(), QUORUM)[KEY] == []

    def test_other_keys_and_collected_ones_are_no_registers(self) -> None:
        history = History([put(1, 0)], [get(30, {A: 1}, ONE)])
        graves = Graves(horizon_ms=int, now_us=int, replicas=lambda key: (), known=lambda member, key: None)
        assert registers_of(history, [b"other"], observer_of(*STORED), QUORUM, graves) == {b"other": []}
        assert list(registers_of(history, [KEY], observer_of(*STORED), QUORUM, graves)) == [KEY]
        graves.clocks[KEY] = {A: 1}
        assert registers_of(history, [KEY], observer_of(*STORED), QUORUM, graves) == {}


DONE = Admin({})
NOT_DONE = Failure("unavailable", "no majority")
NOBODY_KNOWS = Failure("unknown", "the node died")
QUIET_US = 1_000


class Story:
    """An operator's log, told in few words. Every order takes 10 µs."""

    def __init__(self) -> None:
        self.log = OperatorLog({TTL: "0"})

    def set(self, value: str, at_us: int, reply: Admin | Failure | None = DONE) -> Story:
        return self._order(TTL, value, at_us, reply)

    def commit(self, plan: str, at_us: int, reply: Admin | Failure | None = DONE, moves: bool = True) -> Story:
        return self._order(PLANS, plan, at_us, reply, moves)

    def _order(self, register: str, value: str, at_us: int, reply: Admin | Failure | None, moves: bool = True) -> Story:
        number = self.log.invoked(register, value, at_us, by="at n1", moves=moves)
        if reply is not None:
            self.log.answered(number, reply, at_us + 10)
        return self

    def newest(self, *plans: tuple[str | None, int]) -> Story:
        """Newest rings: (the plan under way, when somebody first went by it)."""
        for plan, at_us in plans:
            self.log.newest(plan, {}, at_us)
        return self

    def ran(self, plan: str, from_us: int, to_us: int) -> Story:
        return self.newest((plan, from_us), (None, to_us))

    def in_the_end(self, register: str, *values: str | None) -> Story:
        for member, value in enumerate(values, 1):
            self.log.found(register, value, QUIET_US, by=f"n{member}")
        return self

    @property
    def checks(self) -> list[str]:
        return [violation.check for violation in check_metadata(self.log, QUIET_US).violations]


GOOD = {
    "nothing": Story(),
    "nobody set it": Story().in_the_end(TTL, "0", "0"),
    "the last one stands": Story().set("1", 0).set("2", 20).in_the_end(TTL, "2", "2"),
    "either of two at once": Story().set("1", 0).set("2", 5).in_the_end(TTL, "1", "1"),
    "one that nobody knows of, decided late": Story().set("1", 0, NOBODY_KNOWS).set("2", 20).in_the_end(TTL, "1", "1"),
    "one that nobody knows of, not decided": Story().set("1", 0, None).set("2", 20).in_the_end(TTL, "2", "2"),
    "one that was refused": Story().set("1", 0).set("2", 20, NOT_DONE).in_the_end(TTL, "1", "1"),
    "plans one after the other": Story()
    .commit("p", 0)
    .ran("p", 8, 50)
    .commit("q", 60)
    .ran("q", 65, 90)
    .in_the_end(PLANS, None, None),
    "a plan that begins before the answer to the one before": Story()
    .commit("p", 0, None)
    .ran("p", 8, 50)
    .commit("q", 45)
    .ran("q", 52, 90),
    "a plan still under way": Story().commit("p", 0).in_the_end(PLANS, "p", "p"),
    "of two at once one is refused": Story()
    .commit("p", 0)
    .commit("q", 0, NOT_DONE)
    .ran("p", 8, 50)
    .in_the_end(PLANS, None),
    "an unknown one that began": Story().commit("p", 0, NOBODY_KNOWS).ran("p", 200, 300).in_the_end(PLANS, None),
    "an unknown one that did not": Story().commit("p", 0, None).commit("q", 20).ran("q", 25, 50),
    "one that moves nothing": Story().commit("p", 0, moves=False).in_the_end(PLANS, None),
    "one of which nobody knew that it lasts": Story().commit("p", 0, moves=False).ran("p", 5, 50),
}

BAD = {
    "two members disagree": Story().set("1", 0).set("2", 0).in_the_end(TTL, "1", "2"),
    "two members disagree, nobody knows why": Story().set("1", 0, None).set("2", 0, None).in_the_end(TTL, "1", "2"),
    "the last one is lost": Story().set("1", 0).set("2", 20).in_the_end(TTL, "1", "1"),
    "the only one is lost": Story().set("1", 0).in_the_end(TTL, "0", "0"),
    "one that was refused stands": Story().set("1", 0, NOT_DONE).in_the_end(TTL, "1", "1"),
    "two plans at once": Story().commit("p", 0).commit("q", 20),
    "one plan in the place of another": Story().commit("p", 0).commit("q", 20).newest(("p", 8), ("q", 25), (None, 50)),
    "a plan begins before the end of another": Story()
    .commit("p", 0)
    .newest(("p", 8), ("p", 60), (None, 100))
    .commit("q", 20),
    "a plan is lost": Story().commit("p", 0).in_the_end(PLANS, None, None),
    "a plan that was refused begins": Story().commit("p", 0, NOT_DONE).ran("p", 8, 50),
    "a plan that nobody asked for": Story().ran("p", 8, 50),
    "a plan comes back after its end": Story().commit("p", 0).ran("p", 8, 50).in_the_end(PLANS, "p"),
    "a plan ends twice": Story().commit("p", 0).ran("p", 8, 50).ran("p", 60, 70),
    "one that moves nothing begins while another is under way": Story()
    .commit("p", 0)
    .newest(("p", 8), ("p", 60), (None, 100))
    .commit("q", 40, moves=False),
}


class TestMetadata:
    @pytest.mark.parametrize("story", GOOD.values(), ids=GOOD)
    def test_what_one_register_may_do_is_good(self, story: Story) -> None:
        assert story.checks == []

    @pytest.mark.parametrize("story", BAD.values(), ids=BAD)
    def test_what_it_may_not_do_is_found(self, story: Story) -> None:
        assert story.checks == ["M"]

    def test_the_newest_rings_are_reads(self) -> None:
        story = Story().set("1", 0).set("2", 20)
        for value, at_us in (("0", 2), ("1", 15), ("2", 25)):
            story.log.newest(None, {TTL: value}, at_us)
        assert story.checks == []
        story.log.newest(None, {TTL: "2"}, 40)
        assert story.checks == [], "a version in which something else has changed"
        story.log.newest(None, {TTL: "1"}, 45)
        assert story.checks == ["M"]

    def test_registers_are_counted_by_verdict(self) -> None:
        story = Story().set("1", 0).commit("p", 0).in_the_end(TTL, "1").in_the_end(PLANS, None)
        findings = check_metadata(story.log, QUIET_US)
        assert findings.counts == {LINEARIZABLE: 1, NOT_LINEARIZABLE: 1, UNDECIDED: 0}
        assert findings.operations == 4
        assert "'the plan under way'" in findings.violations[0].message

    def test_a_search_that_gives_up_is_counted_and_accuses_nobody(self) -> None:
        story = Story().commit("p", 0).ran("p", 5, 50)
        findings = check_metadata(story.log, QUIET_US, states_max=0)
        assert findings.counts[UNDECIDED] == 1
        assert findings.violations == []

    def test_what_an_answer_says(self) -> None:
        assert [outcome_of(reply) for reply in (DONE, NOT_DONE, NOBODY_KNOWS)] == [OK, FAILED, UNKNOWN]
        assert outcome_of(Failure("caller", "another plan is under way")) == FAILED

    def test_orders_have_values_of_their_own_and_one_answer(self) -> None:
        log = OperatorLog({TTL: "0"})
        with pytest.raises(AssertionError, match="nobody asked for"):
            log.invoked(TTL, "0", 5)
        number = log.invoked(TTL, "1", 5)
        log.answered(number, DONE, 7)
        with pytest.raises(AssertionError, match="answered once"):
            log.answered(number, DONE, 9)


def test_an_order_that_was_given_twice_may_have_been_done_by_either() -> None:
    """Both are told of success, as the second one finds done what it asks for."""
    log = OperatorLog()
    first = log.invoked(PLANS, "plan", 10, by="n1")
    log.repeated(first)
    log.answered(first, Failure("caller", "it is under way"), 30)
    log.newest("plan", {}, 20)
    assert check_metadata(log, 100).violations == []
