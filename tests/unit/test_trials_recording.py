"""Side files: everything that an engine took is in them, and what a kill left open is settled by the next life."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from quorate.adapters.storage.memory import MemoryEngine
from quorate.core.errors import StorageError
from quorate.core.ports import Cancellable, Space, WriteOperation
from quorate.trials.recording import RecordingEngine, life_numbers, life_path, read_life

NAME = "n1"


class Killed(BaseException):
    """The process ends here."""


class NoScheduler:
    """For engines that nobody asks to sync."""

    def call_soon(self, callback: Callable[[], None]) -> None:
        raise AssertionError("nothing is synced here")

    def call_later(self, delay_ms: float, callback: Callable[[], None]) -> Cancellable:
        raise AssertionError("nothing is synced here")


class FragileEngine(MemoryEngine):
    """An engine whose next write can be made to fail, or to be the last thing that happens, before or after it."""

    trouble = ""

    def write(self, batch: Sequence[WriteOperation]) -> None:
        if self.trouble == "refuse":
            raise StorageError("no space left")
        if self.trouble == "die before":
            raise Killed
        super().write(batch)
        if self.trouble == "die after":
            raise Killed


@pytest.fixture
def engine() -> FragileEngine:
    return FragileEngine(NoScheduler())


def put(key: bytes, value: bytes | None = b"value") -> WriteOperation:
    return (Space.DATA, key, value)


def test_what_is_written_is_recorded_in_order_and_before_the_engine_has_it(
    tmp_path: Path, engine: FragileEngine
) -> None:
    recording = RecordingEngine(engine, tmp_path, NAME)
    recording.write([put(b"a"), (Space.META, b"ring", b"x")])
    recording.write([(Space.META, b"ring", b"y")])
    recording.delete_range(Space.HINTS, b"a", b"b")
    recording.write([put(b"a", None)])
    life = read_life(tmp_path, NAME, 1)
    assert [change.batch for change in life.changes] == [[put(b"a")], [], [put(b"a", None)]]
    assert life.changes[1].cleared == (Space.HINTS, b"a", b"b")
    assert [change.time_ns for change in life.changes] == sorted(change.time_ns for change in life.changes)
    assert life.finished and not life.torn
    assert engine.get(Space.META, b"ring") == b"y"
    assert recording.get(Space.DATA, b"a") is None


@pytest.mark.parametrize(("trouble", "stored"), [("die before", False), ("die after", True), ("refuse", False)])
def test_the_next_life_says_whether_the_last_batch_was_stored(
    tmp_path: Path, engine: FragileEngine, trouble: str, stored: bool
) -> None:
    recording = RecordingEngine(engine, tmp_path, NAME)
    recording.write([put(b"a")])
    engine.trouble = trouble
    with pytest.raises((Killed, StorageError)):
        recording.write([put(b"b"), put(b"c")])
    engine.trouble = ""
    assert not read_life(tmp_path, NAME, 1).finished
    RecordingEngine(engine, tmp_path, NAME)
    assert read_life(tmp_path, NAME, 2).verdict == (1, stored)


def test_a_life_without_changes_is_passed_over(tmp_path: Path, engine: FragileEngine) -> None:
    RecordingEngine(engine, tmp_path, NAME).write([put(b"a")])
    RecordingEngine(engine, tmp_path, NAME)
    RecordingEngine(engine, tmp_path, NAME)
    assert life_numbers(tmp_path, NAME) == [1, 2, 3]
    assert read_life(tmp_path, NAME, 3).verdict == (1, True)


def test_a_batch_that_vanished_is_told(tmp_path: Path, engine: FragileEngine) -> None:
    RecordingEngine(engine, tmp_path, NAME).write([put(b"a")])
    engine.write([put(b"a", b"something else")])
    RecordingEngine(engine, tmp_path, NAME)
    assert read_life(tmp_path, NAME, 1).finished
    assert read_life(tmp_path, NAME, 2).verdict == (1, False)


def test_a_file_cut_at_any_offset_gives_a_prefix(tmp_path: Path, engine: FragileEngine) -> None:
    recording = RecordingEngine(engine, tmp_path, NAME)
    for key in (b"a", b"b", b"c"):
        recording.write([put(key)])
    path = life_path(tmp_path, NAME, 1)
    whole, changes = path.read_bytes(), read_life(tmp_path, NAME, 1).changes
    torn = 0
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        life = read_life(tmp_path, NAME, 1)
        assert life.changes == changes[: len(life.changes)]
        torn += life.torn
    assert torn > len(whole) // 2
