"""One suite for every engine: what the port promises, checked on memory, on the engine that lies, and on RocksDB."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.adapters.runtime.system import LoopScheduler
from quorate.adapters.storage.memory import MemoryEngine
from quorate.adapters.storage.rocksdb import RocksDbEngine
from quorate.adapters.storage.unreliable import UnreliableEngine
from quorate.core.errors import StorageError
from quorate.core.ports import Engine, Space

END = b"\xff" * 64
MEMORY_DISK = Path("/dev/shm")
"""Where many stores are opened and closed quickly, if the system has it."""


class Lab:
    """A loop, and engines on it."""

    def __init__(self, kind: str, directory: Path) -> None:
        self.kind = kind
        self.directory = directory
        self.loop = asyncio.new_event_loop()
        self.made: list[Engine] = []

    def open(self, name: str = "n1") -> Engine:
        engine: Engine
        if self.kind == "memory":
            engine = MemoryEngine(LoopScheduler(self.loop))
        elif self.kind == "unreliable":
            engine = UnreliableEngine(LoopScheduler(self.loop))
        else:
            engine = RocksDbEngine(self.directory / name, self.loop.call_soon_threadsafe)
        self.made.append(engine)
        return engine

    def reopen(self, closed: Engine) -> Engine:
        if isinstance(closed, UnreliableEngine):
            self.made.append(heir := closed.restart())
            return heir
        return self.open()

    def sync(self, engine: Engine) -> StorageError | None:
        future: asyncio.Future[StorageError | None] = self.loop.create_future()
        engine.sync(future.set_result)
        return self.loop.run_until_complete(asyncio.wait_for(future, 20))

    def shut(self) -> None:
        for engine in self.made:
            engine.close()
        self.loop.close()


KINDS = ["memory", "unreliable", "rocksdb"]
LASTING_KINDS = ["unreliable", "rocksdb"]
"""Those whose data outlives the engine."""


@pytest.fixture(params=KINDS)
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lab]:
    made = Lab(request.param, tmp_path)
    yield made
    made.shut()


@pytest.fixture(params=LASTING_KINDS)
def lasting_lab(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lab]:
    made = Lab(request.param, tmp_path)
    yield made
    made.shut()


def contents(engine: Engine, space: Space = Space.DATA) -> list[tuple[bytes, bytes]]:
    return list(engine.scan(space, b"", END))


def test_a_new_engine_is_fresh_clean_and_empty(lab: Lab) -> None:
    engine = lab.open()
    assert (engine.report.fresh, engine.report.clean, engine.report.may_have_lost_writes) == (True, True, False)
    assert engine.get(Space.DATA, b"k") is None
    assert [contents(engine, space) for space in Space] == [[], [], []]


def test_put_overwrite_and_delete(lab: Lab) -> None:
    engine = lab.open()
    engine.write([(Space.DATA, b"k", b"1")])
    assert engine.get(Space.DATA, b"k") == b"1"
    engine.write([(Space.DATA, b"k", b"2")])
    assert engine.get(Space.DATA, b"k") == b"2"
    engine.write([(Space.DATA, b"k", None), (Space.DATA, b"never-there", None)])
    assert engine.get(Space.DATA, b"k") is None
    engine.write([])


def test_values_are_any_bytes(lab: Lab) -> None:
    engine = lab.open()
    values = {b"empty": b"", b"zeros": bytes(100), b"\x00": b"\xff", b"large": b"x" * 3_000_000}
    engine.write([(Space.DATA, key, value) for key, value in values.items()])
    assert dict(contents(engine)) == values
    assert {key: engine.get(Space.DATA, key) for key in values} == values


def test_operations_of_one_batch_apply_in_order(lab: Lab) -> None:
    engine = lab.open()
    engine.write([(Space.DATA, b"k", b"1"), (Space.DATA, b"k", None), (Space.DATA, b"k", b"3")])
    engine.write([(Space.DATA, b"gone", b"1"), (Space.DATA, b"gone", None)])
    assert contents(engine) == [(b"k", b"3")]


def test_spaces_are_separate_and_a_batch_spans_them(lab: Lab) -> None:
    engine = lab.open()
    engine.write([(space, b"k", space.name.encode()) for space in Space])
    assert [engine.get(space, b"k") for space in Space] == [b"DATA", b"META", b"HINTS"]
    engine.delete_range(Space.META, b"", END)
    assert [engine.get(space, b"k") for space in Space] == [b"DATA", None, b"HINTS"]


def test_a_scan_ends_where_it_was_told_even_if_its_caller_has_forgotten_the_end(lab: Lab) -> None:
    """RocksDB keeps a pointer to the bound, not a copy: bytes that nobody holds are soon something else."""
    engine = lab.open()
    keys = [bytes([letter]) * 20 for letter in b"abcdef"]
    engine.write([(Space.DATA, key, b"x") for key in keys])
    scans = [engine.scan(Space.DATA, b"a", bytes(bytearray(b"c" * 20))) for _ in range(50)]
    others = [bytes(bytearray(b"\xff" * 20)) for _ in range(5_000)]
    assert [[key for key, _ in scan] for scan in scans] == [keys[:2]] * 50
    assert len(others) == 5_000


def test_scan_is_ordered_and_keeps_its_bounds(lab: Lab) -> None:
    engine = lab.open()
    keys = [b"b", b"a", b"aa", b"\x00", b"c", b"a\x00", b"\xfe\xff"]
    engine.write([(Space.DATA, key, key) for key in keys])
    assert [key for key, _ in contents(engine)] == sorted(keys)
    assert [key for key, _ in engine.scan(Space.DATA, b"a", b"b")] == [b"a", b"a\x00", b"aa"]
    assert [key for key, _ in engine.scan(Space.DATA, b"aa", b"c")] == [b"aa", b"b"]
    assert list(engine.scan(Space.DATA, b"b", b"b")) == []
    assert list(engine.scan(Space.DATA, b"c", b"a")) == []


def test_scan_shows_the_moment_it_began(lab: Lab) -> None:
    engine = lab.open()
    before = [(b"%04d" % number, b"old") for number in range(500)]
    engine.write([(Space.DATA, key, value) for key, value in before])
    untouched, begun = engine.scan(Space.DATA, b"", END), engine.scan(Space.DATA, b"", END)
    first = [next(begun) for _ in range(10)]
    engine.write([(Space.DATA, key, None if number % 2 else b"new") for number, (key, _) in enumerate(before)])
    engine.write([(Space.DATA, b"0000a", b"new")])
    assert first + list(begun) == before
    assert list(untouched) == before
    assert len(contents(engine)) == 251


def test_delete_range_deletes_the_range_and_nothing_else(lab: Lab) -> None:
    engine = lab.open()
    engine.write([(Space.DATA, b"%02d" % number, b"v") for number in range(30)])
    engine.delete_range(Space.DATA, b"10", b"20")
    assert [key for key, _ in contents(engine)] == [b"%02d" % number for number in (*range(10), *range(20, 30))]
    assert engine.get(Space.DATA, b"15") is None
    engine.write([(Space.DATA, b"15", b"again")])
    assert engine.get(Space.DATA, b"15") == b"again"


def test_an_empty_or_inverted_range_deletes_nothing(lab: Lab) -> None:
    engine = lab.open()
    engine.write([(Space.DATA, b"a", b"v"), (Space.DATA, b"b", b"v")])
    engine.delete_range(Space.DATA, b"a", b"a")
    engine.delete_range(Space.DATA, b"b", b"a")
    assert len(contents(engine)) == 2
    engine.close()  # RocksDB would report here what an inverted range does to it.


def test_sync_answers_on_the_loop_later_and_in_order(lab: Lab) -> None:
    engine = lab.open()
    engine.write([(Space.DATA, b"k", b"v")])
    answers: list[tuple[int, StorageError | None, int]] = []
    all_answered = lab.loop.create_future()

    def done(number: int, failure: StorageError | None) -> None:
        answers.append((number, failure, threading.get_ident()))
        if number == 99:
            all_answered.set_result(None)

    for number in range(100):
        engine.sync(lambda failure, number=number: done(number, failure))  # type: ignore[misc]
    assert answers == [], "never before the call returns"
    lab.loop.run_until_complete(asyncio.wait_for(all_answered, 20))
    assert answers == [(number, None, threading.get_ident()) for number in range(100)]


def test_free_fraction_is_a_share(lab: Lab) -> None:
    engine = lab.open()
    assert 0.0 <= engine.free_fraction() <= 1.0


def test_a_closed_engine_refuses_everything(lab: Lab) -> None:
    engine = lab.open()
    engine.write([(Space.DATA, b"%d" % number, b"v") for number in range(10)])
    scan = engine.scan(Space.DATA, b"", END)
    next(scan)
    engine.close()
    engine.close()
    for refused in (
        lambda: engine.get(Space.DATA, b"1"),
        lambda: engine.scan(Space.DATA, b"", END),
        lambda: engine.write([(Space.DATA, b"k", b"v")]),
        lambda: engine.delete_range(Space.DATA, b"", END),
        lambda: engine.sync(lambda _: None),
        engine.free_fraction,
        lambda: next(scan),
    ):
        with pytest.raises(StorageError, match="closed"):
            refused()


def test_reopening_after_a_close_finds_everything(lasting_lab: Lab) -> None:
    engine = lasting_lab.open()
    engine.write([(space, b"k%d" % number, b"v") for space in Space for number in range(100)])
    engine.delete_range(Space.HINTS, b"", END)
    before = [contents(engine, space) for space in Space]
    assert lasting_lab.sync(engine) is None
    engine.close()
    again = lasting_lab.reopen(engine)
    report = again.report
    assert (report.fresh, report.clean, report.may_have_lost_writes) == (False, True, False)
    assert [contents(again, space) for space in Space] == before
    again.write([(Space.DATA, b"k0", b"later")])
    again.close()
    assert lasting_lab.reopen(again).get(Space.DATA, b"k0") == b"later"


KEYS = st.binary(min_size=0, max_size=3).map(lambda key: bytes(byte % 4 for byte in key))
SPACES = st.sampled_from(list(Space))
OPERATIONS = st.tuples(SPACES, KEYS, st.one_of(st.none(), st.binary(max_size=4)))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.lists(OPERATIONS, max_size=12)),
        st.tuples(st.just("delete_range"), st.tuples(SPACES, KEYS, KEYS)),
        st.tuples(st.just("scan"), st.tuples(SPACES, KEYS, KEYS)),
        st.tuples(st.just("reopen"), st.none()),
    ),
    max_size=25,
)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None)
@given(steps=STEPS)
def test_engines_behave_like_dictionaries(kind: str, steps: list[tuple[str, object]]) -> None:
    """The brute-force twin: a dictionary per space, and sorting."""
    with TemporaryDirectory(dir=MEMORY_DISK if MEMORY_DISK.is_dir() else None) as directory:
        lab = Lab(kind, Path(directory))
        try:
            run_beside_dictionaries(lab, steps)
        finally:
            lab.shut()


def run_beside_dictionaries(lab: Lab, steps: list[tuple[str, object]]) -> None:
    engine = lab.open()
    twins: dict[Space, dict[bytes, bytes]] = {space: {} for space in Space}
    for step, detail in steps:
        if step == "write":
            engine.write(detail)  # type: ignore[arg-type]
            for space, key, value in detail:  # type: ignore[attr-defined]
                if value is None:
                    twins[space].pop(key, None)
                else:
                    twins[space][key] = value
        elif step == "reopen":
            if lab.kind in LASTING_KINDS:
                engine.close()
                engine = lab.reopen(engine)
        else:
            space, start, end = detail  # type: ignore[misc]
            if step == "delete_range":
                engine.delete_range(space, start, end)
                twins[space] = {key: value for key, value in twins[space].items() if not start <= key < end}
            expected = sorted((key, value) for key, value in twins[space].items() if start <= key < end)
            assert list(engine.scan(space, start, end)) == expected
    for space in Space:
        assert contents(engine, space) == sorted(twins[space].items())
        assert all(engine.get(space, key) == value for key, value in twins[space].items())
