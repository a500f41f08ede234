"""What a trial does beyond the simulator's checkers: dots for answered values, and stores against side files."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from quorate.adapters.runtime.system import SystemClock
from quorate.core.record import Record, Sibling, encode_record
from quorate.sim.history import Ack, WriteEntry
from quorate.sim.observer import Observer
from quorate.trials.clocks import OffsetClock, set_offset
from quorate.trials.judgement import NEVER_STORED, candidates_of, check_store, make_history
from quorate.trials.workload import Answer, stored_operation

A, B = 1 << 48 | 1, 2 << 48 | 1
KEY = b"\x00\x00\x05cartskey"


class OneKey:
    """As much of a cluster as `make_history` asks for."""

    def locate(self, bucket: bytes, key: bytes) -> bytes:
        return KEY


def observer_of(*records: Record) -> Observer:
    observer = Observer()
    for record in records:
        observer._stored(1, KEY, encode_record(record), dict)
    return observer


def put(value: bytes, operation: int, context: dict[int, int] | None = None) -> WriteEntry:
    return WriteEntry(operation, KEY, value, operation=operation, context=context, acks=[Ack(0, 1, {})])


def answer(clock: dict[int, int], *rows: tuple[bytes, int]) -> Answer:
    return Answer(b"carts", b"key", 2, 0, 1, clock, list(rows), 0, 1)


ONE_AT_A = Sibling(A, 1, 5 << 16, b"one", operation=7)
ONE_AT_B = Sibling(B, 1, 6 << 16, b"one", operation=7)
RETRIED = observer_of(Record({A: 1, B: 1}, [ONE_AT_A, ONE_AT_B]))


@pytest.mark.parametrize(
    ("clock", "time_ms", "expected"),
    [
        ({A: 1, B: 1}, 5, [ONE_AT_A]),
        ({A: 1, B: 1}, 6, [ONE_AT_B]),
        ({A: 1}, 5, [ONE_AT_A]),
        ({A: 1}, 6, [Sibling(*NEVER_STORED, 6 << 16, b"one")]),
    ],
)
def test_a_retried_write_is_found_by_time_and_clock(
    clock: dict[int, int], time_ms: int, expected: list[Sibling]
) -> None:
    row = (b"one", time_ms)
    assert candidates_of(put(b"one", 7), *row, answer(clock, row), RETRIED) == expected


def test_an_answer_is_wrong_only_if_it_is_wrong_with_each_candidate() -> None:
    """The retry's dots have the same time; a later write replaced one of them, whichever the judge looks at first."""
    twin = Sibling(B, 1, 5 << 16, b"one", operation=7)
    both = Record({A: 1, B: 1}, [ONE_AT_A, twin])
    for replaced, left, later in ((ONE_AT_A, twin, (A, 2)), (twin, ONE_AT_A, (B, 2))):
        two = Sibling(*later, 9 << 16, b"two", operation=8)
        clock = {A: 1, B: 1, later[0]: 2}
        observer = observer_of(both, Record(clock, sorted([two, left], key=lambda sibling: sibling.dot)))
        writes = [put(b"one", 7), put(b"two", 8, context={replaced.actor: 1})]
        seen = answer(clock, (b"one", 5))
        history = make_history(OneKey(), writes, [seen], observer)  # type: ignore[arg-type]
        assert history.reads[0].siblings == [left]


def test_a_value_that_nobody_wrote_keeps_its_place() -> None:
    history = make_history(OneKey(), [], [answer({A: 1}, (b"forged", 5))], Observer())  # type: ignore[arg-type]
    assert history.reads[0].siblings == [Sibling(*NEVER_STORED, 5 << 16, b"forged")]


def test_operation_ids_are_known_as_records_keep_them() -> None:
    from quorate.api.resp.commands.kv import _operation

    for operation in (10**18, 10**18 + 1, 9 * 10**18):
        assert stored_operation(operation) == _operation(b"%d" % operation)


def test_a_store_holds_what_it_was_given() -> None:
    held = {b"a": b"1", b"b": b"2"}
    assert check_store(1, held, dict(held)) == []
    for stored in ({b"a": b"1"}, {**held, b"c": b"3"}, {**held, b"b": b"x"}):
        assert [violation.check for violation in check_store(1, held, stored)] == ["store"]


def test_a_clock_goes_by_its_file_when_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "clock"
    clock = OffsetClock(path)
    assert abs(clock.wall_ms() - SystemClock().wall_ms()) < 1_000_000
    before = signal.getsignal(signal.SIGUSR1)
    try:
        clock.listen()
        set_offset(path, -3_600_000)
        assert clock.offset_ms == 0, "not before it is told"
        signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert clock.offset_ms == -3_600_000
    assert SystemClock().wall_ms() - clock.wall_ms() > 3_000_000
    assert '"offset_ms": -3600000' in capfd.readouterr().out
