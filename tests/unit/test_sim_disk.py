"""The simulated disk: what survives a killed process, a lost machine and a wipe; and the engine suite on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.core.errors import StorageError
from quorate.core.ports import Engine, OpenReport, Space
from quorate.sim.disk import Disk, SimEngine
from quorate.sim.loop import Process, VirtualLoop
from quorate.sim.random_streams import Streams
from tests.conformance import test_engine as suite

END = b"\xff" * 8


class Lab:
    """A disk, and one process after the other on it. The surface that the engine suite asks for."""

    kind = "sim"

    def __init__(self, seed: int = 0) -> None:
        self.world = VirtualLoop()
        self.loop = self
        self.disk = Disk(self.world, Streams(seed).stream("disk"))
        self.process = Process(self.world)
        self.processes: list[Process] = []

    def open(self, name: str = "n1") -> SimEngine:
        self.process = Process(self.world)
        self.processes.append(self.process)
        return self.disk.open(self.process)

    def reopen(self, closed: Engine) -> SimEngine:
        return self.open()

    def sync(self, engine: Engine) -> StorageError | None:
        answers: list[StorageError | None] = []
        engine.sync(answers.append)
        assert not answers, "the answer comes on the loop, not within the call"
        self.world.run_until(self.world.now_us + 1_000_000)
        assert len(answers) == 1
        return answers[0]

    def die(self) -> None:
        self.process.kill()


def contents(disk: Disk) -> dict[bytes, bytes]:
    return dict(disk.values[Space.DATA])


@pytest.fixture
def lab() -> Iterator[Lab]:
    yield Lab()


SUITE: list[Callable[[Lab], None]] = [
    getattr(suite, name)
    for name, function in sorted(vars(suite).items())
    if name.startswith("test_")
    and "lab" in function.__code__.co_varnames[: function.__code__.co_argcount]
    and name != "test_sync_answers_on_the_loop_later_and_in_order"
]
"""The suite's own loop test speaks asyncio; the test after this one says the same for virtual time."""


@pytest.mark.parametrize("test", SUITE, ids=lambda test: test.__name__)
def test_engine_suite(test: Callable[[Lab], None], lab: Lab) -> None:
    test(lab)


def test_the_suite_was_found() -> None:
    assert len(SUITE) >= 8


def test_syncs_answer_later_on_the_loop() -> None:
    lab = Lab()
    engine = lab.open()
    engine.write([(Space.DATA, b"k", b"v")])
    assert lab.disk.unsynced_batches() == 1
    assert lab.sync(engine) is None
    assert lab.disk.unsynced_batches() == 0


@given(st.lists(st.tuples(st.sampled_from([b"a", b"b", b"c"]), st.sampled_from([b"1", b"2", None]))), st.data())
def test_power_loss_keeps_what_was_synced_and_a_prefix_of_the_rest(
    batches: list[tuple[bytes, bytes | None]], data: st.DataObject
) -> None:
    lab = Lab(data.draw(st.integers(0, 1_000)))
    engine = lab.open()
    synced = data.draw(st.integers(0, len(batches)))
    twin: dict[bytes, bytes] = {}
    states = [dict(twin)]
    for number, (key, value) in enumerate(batches):
        if number == synced:
            lab.sync(engine)
        engine.write([(Space.DATA, key, value), (Space.DATA, b"last", b"%d" % number)])
        if value is None:
            twin.pop(key, None)
        else:
            twin[key] = value
        twin[b"last"] = b"%d" % number
        states.append(dict(twin))
    if synced == len(batches):
        lab.sync(engine)
    worst = {key: lab.disk.synced_value(key) for key in (b"a", b"b", b"c", b"last")}
    assert {key: value for key, value in worst.items() if value is not None} == states[synced]
    assert {**contents(lab.disk), **lab.disk.without_unsynced()}.items() >= states[synced].items()
    lab.die()
    lost = lab.disk.lose_power()
    assert contents(lab.disk) == states[len(batches) - lost]
    assert 0 <= lost <= len(batches) - synced
    assert sorted(contents(lab.disk)) == lab.disk.keys[Space.DATA]


def test_every_length_of_the_lost_tail_occurs() -> None:
    lengths = set()
    for seed in range(40):
        lab = Lab(seed)
        engine = lab.open()
        for number in range(3):
            engine.write([(Space.DATA, b"k%d" % number, b"v")])
        lab.die()
        lengths.add(lab.disk.lose_power())
    assert lengths == {0, 1, 2, 3}


def test_reports_of_each_kind_of_end() -> None:
    lab = Lab()
    engine = lab.open()
    assert engine.report == OpenReport(fresh=True, clean=True, may_have_lost_writes=False)
    engine.write([(Space.DATA, b"k", b"v")])
    lab.die()
    assert lab.open().report == OpenReport(fresh=False, clean=False, may_have_lost_writes=False)
    assert contents(lab.disk) == {b"k": b"v"}, "a killed process loses nothing"
    lab.die()
    lab.disk.lose_power()
    engine = lab.open()
    assert engine.report == OpenReport(fresh=False, clean=False, may_have_lost_writes=True)
    engine.close()
    lab.die()
    engine = lab.open()
    assert engine.report == OpenReport(fresh=False, clean=True, may_have_lost_writes=True), "nobody has acted on it yet"
    assert lab.sync(engine) is None
    engine.close()
    lab.die()
    assert lab.open().report == OpenReport(fresh=False, clean=True, may_have_lost_writes=False)
    lab.die()
    lab.disk.wipe()
    assert lab.open().report == OpenReport(fresh=True, clean=True, may_have_lost_writes=False)
    assert contents(lab.disk) == {}


def test_a_sync_covers_what_was_written_before_it_and_nothing_later() -> None:
    lab = Lab()
    engine = lab.open()
    engine.write([(Space.DATA, b"a", b"1")])
    done: list[object] = []
    engine.sync(done.append)
    engine.write([(Space.DATA, b"b", b"2")])
    lab.world.run_until(1_000_000)
    assert done == [None]
    assert (lab.disk.synced_value(b"a"), lab.disk.synced_value(b"b")) == (b"1", None)


def test_the_sync_of_a_dead_process_is_never_reported() -> None:
    lab = Lab()
    engine = lab.open()
    engine.write([(Space.DATA, b"a", b"1")])
    done: list[object] = []
    engine.sync(done.append)
    lab.die()
    lab.world.run_until(1_000_000)
    assert done == []
    assert lab.disk.unsynced_batches() == 1


def test_a_dead_process_touches_no_disk() -> None:
    lab = Lab()
    engine = lab.open()
    lab.die()
    with pytest.raises(AssertionError, match="dead process"):
        engine.get(Space.DATA, b"k")


def test_a_flipped_bit_is_one_bit_and_goes_with_the_next_write() -> None:
    lab = Lab()
    engine = lab.open()
    engine.write([(Space.DATA, b"k", b"\x00\x00\x00"), (Space.DATA, b"other", b"\x00")])
    for bit in (0, 9, 1_000_003):
        lab.disk.flip(b"k", bit)
    assert sum(byte.bit_count() for byte in lab.disk.values[Space.DATA][b"k"]) == 3
    assert lab.disk.values[Space.DATA][b"other"] == b"\x00"
    engine.write([(Space.DATA, b"k", b"new")])
    assert contents(lab.disk)[b"k"] == b"new"


def test_what_was_written_back_survives_a_loss_of_power() -> None:
    lab = Lab()
    lab.open().write([(Space.DATA, b"k", b"v")])
    lab.disk.write_back()
    lab.die()
    assert lab.disk.lose_power() == 0
    assert contents(lab.disk) == {b"k": b"v"}


def test_a_store_that_empties_itself_is_told_of_as_a_whole() -> None:
    seen: list[bytes] = []
    emptied: list[bool] = []
    lab = Lab()
    lab.disk = Disk(lab.world, Streams(1).stream("disk", 1), lambda space, key, old, new: seen.append(key))
    lab.disk.on_emptied = lambda: emptied.append(True)
    engine = lab.open()
    engine.write([(Space.DATA, b"a", b"1"), (Space.DATA, b"b", b"2"), (Space.HINTS, b"h", b"3")])
    engine.delete_range(Space.HINTS, b"", b"\xff")
    assert emptied == []
    engine.delete_range(Space.DATA, b"", b"\xff")
    assert (contents(lab.disk), seen, emptied) == ({}, [b"a", b"b", b"h"], [True])
