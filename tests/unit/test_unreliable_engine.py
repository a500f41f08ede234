"""The engine that lies tells the truth about its lies: what a crash loses, keeps, and reports."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.adapters.storage.unreliable import INPUT_OUTPUT_ERROR, NO_SPACE, UnreliableEngine
from quorate.core.errors import StorageError
from quorate.core.ports import OpenReport, Space

END = b"\xff" * 64
FULL = StorageError(NO_SPACE)
BROKEN = StorageError(INPUT_OUTPUT_ERROR)


class Cancelled:
    def cancel(self) -> None:
        raise AssertionError("an engine cancels no timer")


class ManualScheduler:
    """Runs what is due when the test says so."""

    def __init__(self) -> None:
        self.due: list[Callable[[], None]] = []
        self.delays_ms: list[float] = []

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.due.append(callback)

    def call_later(self, delay_ms: float, callback: Callable[[], None]) -> Cancelled:
        self.delays_ms.append(delay_ms)
        self.due.append(callback)
        return Cancelled()

    def run(self) -> None:
        due, self.due = self.due, []
        for callback in due:
            callback()


class FixedRng:
    def __init__(self, answer: int) -> None:
        self.answer = answer

    def random(self) -> float:
        return 0.5

    def below(self, bound: int) -> int:
        assert 0 <= self.answer < bound
        return self.answer

    def token_bytes(self, size: int) -> bytes:
        return bytes(size)


def put(engine: UnreliableEngine, key: bytes, value: bytes = b"v") -> None:
    engine.write([(Space.DATA, key, value)])


def keys(engine: UnreliableEngine) -> list[bytes]:
    return [key for key, _ in engine.scan(Space.DATA, b"", END)]


def with_five_batches() -> tuple[UnreliableEngine, ManualScheduler]:
    """Five batches, of which the first two are synced."""
    scheduler = ManualScheduler()
    engine = UnreliableEngine(scheduler)
    for number in range(5):
        if number == 2:
            engine.sync(lambda failure: None)
            scheduler.run()
        engine.write([(Space.DATA, b"%d" % number, b"v"), (Space.DATA, b"last", b"%d" % number)])
    return engine, scheduler


def test_a_killed_process_loses_nothing() -> None:
    engine, _ = with_five_batches()
    heir = engine.crash(lose_unsynced=False)
    assert keys(heir) == [b"0", b"1", b"2", b"3", b"4", b"last"]
    assert heir.report == OpenReport(fresh=False, clean=False, may_have_lost_writes=False)
    assert heir.unsynced_batches == 3, "a later loss of power can still take them"


def test_a_loss_of_power_takes_everything_unsynced() -> None:
    engine, _ = with_five_batches()
    heir = engine.crash(lose_unsynced=True)
    assert keys(heir) == [b"0", b"1", b"last"]
    assert heir.get(Space.DATA, b"last") == b"1"
    assert heir.report == OpenReport(fresh=False, clean=False, may_have_lost_writes=True)


@pytest.mark.parametrize("survivors", [0, 1, 2, 3])
def test_a_torn_log_keeps_whole_batches_from_the_first_on(survivors: int) -> None:
    engine, _ = with_five_batches()
    heir = engine.crash(lose_unsynced=True, rng=FixedRng(survivors))
    assert keys(heir) == [b"%d" % number for number in range(2 + survivors)] + [b"last"]
    assert heir.get(Space.DATA, b"last") == b"%d" % (1 + survivors)
    assert heir.unsynced_batches == 0, "what was found on the disk stays there"


def test_a_sync_covers_what_was_written_before_it_was_asked_for() -> None:
    scheduler = ManualScheduler()
    engine = UnreliableEngine(scheduler, sync_delay_ms=5.0)
    put(engine, b"before")
    engine.sync(lambda failure: None)
    put(engine, b"after")
    assert engine.unsynced_batches == 2, "nothing is durable before the sync is done"
    scheduler.run()
    assert scheduler.delays_ms == [5.0]
    assert engine.unsynced_batches == 1
    assert keys(engine.crash(lose_unsynced=True)) == [b"before"]


def test_two_overlapping_syncs_never_make_more_durable_than_they_cover() -> None:
    scheduler = ManualScheduler()
    engine = UnreliableEngine(scheduler)
    put(engine, b"1")
    engine.sync(lambda failure: None)
    put(engine, b"2")
    engine.sync(lambda failure: None)
    put(engine, b"3")
    scheduler.run()
    assert keys(engine.crash(lose_unsynced=True)) == [b"1", b"2"]


def test_the_dead_answer_nothing() -> None:
    scheduler = ManualScheduler()
    engine = UnreliableEngine(scheduler)
    put(engine, b"k")
    answers: list[StorageError | None] = []
    engine.sync(answers.append)
    scan = engine.scan(Space.DATA, b"", END)
    heir = engine.crash(lose_unsynced=False)
    scheduler.run()
    assert answers == []
    assert heir.unsynced_batches == 1, "the sync died with its process"
    for use in (
        lambda: put(engine, b"x"),
        lambda: keys(engine),
        lambda: engine.get(Space.DATA, b"k"),
        lambda: next(scan),
    ):
        with pytest.raises(StorageError, match="closed"):
            use()
    assert keys(heir) == [b"k"]


def test_a_clean_stop_makes_everything_durable() -> None:
    engine, _ = with_five_batches()
    engine.close()
    heir = engine.restart()
    assert heir.report == OpenReport(fresh=False, clean=True, may_have_lost_writes=False)
    assert len(keys(heir.crash(lose_unsynced=True))) == 6


def test_a_crash_after_a_clean_stop_is_one() -> None:
    engine, _ = with_five_batches()
    engine.close()
    assert engine.crash(lose_unsynced=True).report.clean


def test_possible_loss_is_repeated_until_a_sync_is_done() -> None:
    engine, scheduler = with_five_batches()
    heir = engine.crash(lose_unsynced=True).crash(lose_unsynced=False)
    assert heir.report.may_have_lost_writes
    heir.sync(lambda failure: None)
    scheduler.run()
    assert not heir.crash(lose_unsynced=False).report.may_have_lost_writes


def test_a_store_that_lost_all_it_held_is_fresh() -> None:
    engine = UnreliableEngine(ManualScheduler())
    put(engine, b"k")
    heir = engine.crash(lose_unsynced=True)
    assert heir.report == OpenReport(fresh=True, clean=True, may_have_lost_writes=True)


@pytest.mark.parametrize("applied", [False, True])
def test_a_failed_write_is_final_and_either_stored_or_not(applied: bool) -> None:
    scheduler = ManualScheduler()
    engine = UnreliableEngine(scheduler)
    put(engine, b"1")
    engine.fail_with(FULL, apply_failed_writes=applied)
    with pytest.raises(StorageError, match="ENOSPC"):
        put(engine, b"2")
    engine.fail_with(None)
    with pytest.raises(StorageError, match="ENOSPC"):
        put(engine, b"3")
    answers: list[StorageError | None] = []
    engine.sync(answers.append)
    scheduler.run()
    assert answers == [FULL]
    assert keys(engine) == ([b"1", b"2"] if applied else [b"1"])
    engine.close()
    heir = engine.restart()
    assert heir.report == OpenReport(fresh=False, clean=False, may_have_lost_writes=True)
    put(heir, b"4")


def test_a_failed_sync_makes_nothing_durable() -> None:
    scheduler = ManualScheduler()
    engine = UnreliableEngine(scheduler)
    put(engine, b"1")
    engine.fail_with(BROKEN, ["sync"])
    answers: list[StorageError | None] = []
    engine.sync(answers.append)
    scheduler.run()
    assert answers == [BROKEN]
    with pytest.raises(StorageError, match="EIO"):
        put(engine, b"2")
    assert keys(engine.crash(lose_unsynced=True)) == []


def test_failing_reads_heal() -> None:
    engine, _ = with_five_batches()
    engine.fail_with(BROKEN, ["get"])
    for read in (lambda: engine.get(Space.DATA, b"0"), lambda: keys(engine)):
        with pytest.raises(StorageError, match="EIO"):
            read()
    put(engine, b"5")
    engine.fail_with(None, ["get"])
    assert engine.get(Space.DATA, b"5") == b"v"


def test_a_failing_disk_outlives_the_process() -> None:
    engine, _ = with_five_batches()
    engine.fail_with(FULL)
    heir = engine.crash(lose_unsynced=False)
    with pytest.raises(StorageError, match="ENOSPC"):
        put(heir, b"5")


def test_a_flipped_byte_shows_in_the_value() -> None:
    engine, _ = with_five_batches()
    assert engine.flip_byte(Space.DATA, b"0", 0, mask=0x01)
    assert engine.get(Space.DATA, b"0") == b"w"
    assert not engine.flip_byte(Space.DATA, b"0", 1)
    assert not engine.flip_byte(Space.DATA, b"absent", 0)


def test_free_fraction_is_what_was_set() -> None:
    engine, _ = with_five_batches()
    engine.set_free_fraction(0.01)
    assert engine.free_fraction() == engine.crash(lose_unsynced=False).free_fraction() == 0.01


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), min_size=1, max_size=4)),
        st.tuples(st.just("delete_range"), st.tuples(st.integers(0, 5), st.integers(0, 6))),
        st.tuples(st.just("sync"), st.none()),
        st.tuples(st.just("run"), st.none()),
        st.tuples(st.just("kill"), st.none()),
        st.tuples(st.just("power"), st.integers(0, 100)),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(events=EVENTS)
def test_crashes_leave_what_a_list_of_states_says(events: list[tuple[str, object]]) -> None:
    """The brute-force twin keeps the whole state after every batch, and how many of them are durable."""
    scheduler = ManualScheduler()
    engine = UnreliableEngine(scheduler)
    states: list[dict[bytes, bytes | None]] = [{}]
    durable, asked = 0, 0
    for event, detail in events:
        state = dict(states[-1])
        if event == "write":
            batch = [(b"%d" % key, b"%d" % value if value else None) for key, value in detail]  # type: ignore[attr-defined]
            engine.write([(Space.DATA, key, value) for key, value in batch])
            for key, value in batch:
                state[key] = value
            states.append({key: value for key, value in state.items() if value is not None})
        elif event == "delete_range":
            start, end = (b"%d" % bound for bound in detail)  # type: ignore[attr-defined]
            engine.delete_range(Space.DATA, start, end)
            if any(start <= key < end for key in state):
                states.append({key: value for key, value in state.items() if not start <= key < end})
        elif event == "sync":
            engine.sync(lambda failure: None)
            asked = len(states) - 1
        elif event == "run":
            scheduler.run()
            durable = max(durable, asked)
        else:
            unsynced = len(states) - 1 - durable
            if event == "power":
                survivors = int(detail) % (unsynced + 1)  # type: ignore[call-overload]
                engine = engine.crash(lose_unsynced=True, rng=FixedRng(survivors))
                del states[durable + survivors + 1 :]
                durable = len(states) - 1
            else:
                engine = engine.crash(lose_unsynced=False)
            asked = durable
        assert dict(engine.scan(Space.DATA, b"", END)) == states[-1]
        assert engine.unsynced_batches == len(states) - 1 - durable
