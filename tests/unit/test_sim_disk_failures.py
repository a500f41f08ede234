"""The simulated disk fails as the unreliable engine does, which fails as RocksDB does; and nodes on it must say so."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.adapters.storage.unreliable import UnreliableEngine
from quorate.core.errors import StorageError
from quorate.core.ports import Engine, Space
from quorate.core.store import Failure, PutRequest, PutResult
from quorate.node.commit_queue import CommitQueue
from quorate.node.node import Node
from quorate.sim.disk import Disk, Operation, SimEngine
from quorate.sim.faults import DISK_ERROR, DISK_FULL, READ_ONLY
from quorate.sim.loop import Process, VirtualLoop
from quorate.sim.random_streams import Streams
from quorate.sim.run import SimOptions, Simulation, run

KEYS = (b"a", b"b", b"c")
WRITES: tuple[Operation, ...] = ("write", "sync")
SYNCS: tuple[Operation, ...] = ("sync",)
READS: tuple[Operation, ...] = ("get",)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.sampled_from(KEYS), st.binary(min_size=1, max_size=2)),
        st.tuples(st.just("remove"), st.sampled_from(KEYS)),
        st.just(("sync",)),
        st.tuples(st.just("fail"), st.sampled_from((WRITES, SYNCS, READS)), st.booleans()),
        st.just(("repair",)),
        st.just(("kill",)),
        st.just(("close",)),
    ),
    max_size=30,
)


class Pair:
    """The simulated disk and the unreliable engine, which are told to do the same."""

    def __init__(self) -> None:
        self.loop = VirtualLoop()
        self.disk = Disk(self.loop, Streams(0).stream("disk"))
        self.process = Process(self.loop)
        self.mine: SimEngine = self.disk.open(self.process)
        self.other = UnreliableEngine(Process(self.loop))
        self.both_do(("write", b"first", b"1"))

    def both_do(self, step: tuple[object, ...]) -> None:
        verb, *what = step
        if verb in ("write", "remove"):
            key, value = what if verb == "write" else (what[0], None)
            assert self.written(self.mine, key, value) == self.written(self.other, key, value)
        elif verb == "sync":
            assert self.synced(self.mine) == self.synced(self.other)
        elif verb == "fail":
            error = StorageError("EIO")
            operations, stored = what
            self.both_do(("repair",))
            self.disk.fail_with(error, operations, stored)  # type: ignore[arg-type]
            self.other.fail_with(error, operations, apply_failed_writes=stored)  # type: ignore[arg-type]
        elif verb == "repair":
            self.disk.repair()
            self.other.fail_with(None, ("get", "write", "sync"))
        else:
            self.end(closed=verb == "close")

    def written(self, engine: Engine, key: object, value: object) -> bool:
        try:
            engine.write([(Space.DATA, key, value)])  # type: ignore[list-item]
        except StorageError:
            return False
        return True

    def synced(self, engine: Engine) -> bool:
        answers: list[StorageError | None] = []
        engine.sync(answers.append)
        self.loop.run_until(self.loop.now_us + 1_000_000)
        assert len(answers) == 1
        return answers[0] is None

    def end(self, closed: bool) -> None:
        if closed:
            self.mine.close()
            self.other.close()
        self.process.kill()
        self.process = Process(self.loop)
        self.mine = self.disk.open(self.process)
        self.other = self.other.restart() if closed else self.other.crash(lose_unsynced=False)

    def check(self) -> None:
        mine, other = self.mine.report, self.other.report
        assert (mine.clean, mine.may_have_lost_writes) == (other.clean, other.may_have_lost_writes)
        assert self.found(self.mine) == self.found(self.other)

    def found(self, engine: Engine) -> list[tuple[bytes, bytes]] | None:
        try:
            return list(engine.scan(Space.DATA, b"", b"\xff"))
        except StorageError:
            return None


@given(STEPS)
def test_it_fails_as_the_unreliable_engine_does(steps: list[tuple[object, ...]]) -> None:
    pair = Pair()
    for step in steps:
        pair.both_do(step)
        pair.check()


def test_an_engine_that_has_failed_stays_broken_on_a_healthy_disk() -> None:
    pair = Pair()
    pair.disk.fail_with(StorageError("ENOSPC"), WRITES)
    with pytest.raises(StorageError):
        pair.mine.write([(Space.DATA, b"k", b"v")])
    pair.disk.repair()
    with pytest.raises(StorageError):
        pair.mine.write([(Space.DATA, b"k", b"v")])
    with pytest.raises(StorageError):
        pair.mine.delete_range(Space.DATA, b"", b"\xff")
    assert not pair.synced(pair.mine)
    assert pair.mine.get(Space.DATA, b"first") == b"1", "it still reads"


class Bench:
    """A cluster of three without clients and faults."""

    def __init__(self) -> None:
        self.simulation = Simulation(1, SimOptions(nodes=3, durability="fsync", faults=()))
        self.cluster = self.simulation.cluster
        for number in self.cluster.machines:
            self.cluster.start(number)
        assert self.simulation._wait(self.cluster.whole, 10_000)
        assert self.simulation._wait(lambda: not self.cluster.filling(), 20_000)

    def put(self, number: int) -> PutResult | Failure:
        node = self.cluster.machines[number].node
        assert node is not None
        answers: list[PutResult | Failure] = []
        node.put(PutRequest(b"carts", b"key", b"value", w=1), answers.append)
        self.simulation._pass(2_000)
        (answer,) = answers
        return answer

    def reason(self, number: int) -> str:
        node = self.cluster.machines[number].node
        return "" if node is None else node._shared.fenced_because


def test_a_node_is_fenced_by_its_disk_until_it_is_restarted() -> None:
    bench = Bench()
    machine = bench.cluster.machines[1]
    machine.disk.fail_with(StorageError("EIO: input/output error"), SYNCS)
    bench.put(1)
    assert "EIO" in bench.reason(1) and machine.broken
    machine.disk.repair()
    bench.simulation._pass(6_000)
    assert "EIO" in bench.reason(1), "a disk that has healed is not enough"
    bench.cluster.stop(1)
    bench.cluster.start(1)
    bench.simulation._pass(6_000)
    assert not bench.reason(1) and isinstance(bench.put(1), PutResult)
    assert bench.simulation.fence_check.violations == [] and bench.simulation.fence_check.fenced == 1


def test_a_node_refuses_writes_while_its_disk_is_nearly_full_and_needs_no_restart() -> None:
    bench = Bench()
    machine = bench.cluster.machines[1]
    machine.disk.fill(0.01)
    bench.cluster.on_disk_filled(machine)
    bench.simulation._pass(6_000)
    assert "full" in bench.reason(1) and not machine.broken
    assert bench.simulation.fence_check.violations == [] and bench.simulation.fence_check.fenced == 1
    machine.disk.repair()
    bench.simulation._pass(2_000)
    assert not bench.reason(1) and machine.lives == 1


def test_no_store_is_opened_on_a_disk_that_fails() -> None:
    bench = Bench()
    machine = bench.cluster.machines[1]
    machine.disk.fail_with(StorageError("EIO"), READS)
    bench.cluster.kill(1)
    bench.cluster.start(1)
    assert not machine.up
    machine.disk.repair()
    bench.cluster.start(1)
    assert machine.up


def test_the_check_sees_a_node_that_does_not_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Node, "fence", lambda self, error: None)
    bench = Bench()
    machine = bench.cluster.machines[1]
    machine.disk.fail_with(StorageError("EIO"), SYNCS)
    bench.put(1)
    bench.simulation._pass(6_000)
    assert [violation.check for violation in bench.simulation.fence_check.violations] == ["fence"]


@pytest.mark.sources
def test_the_check_sees_an_acknowledgement_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit queue that takes a failed sync for one that was done."""
    fail = CommitQueue._fail

    def lie(queue: CommitQueue, waiters: list[tuple[object, object]], error: StorageError) -> None:
        fail(queue, [], error)
        for callback, argument in waiters:
            callback(argument, True)  # type: ignore[operator]

    monkeypatch.setattr(CommitQueue, "_fail", lie)
    bench = Bench()
    bench.cluster.machines[1].disk.fail_with(StorageError("EIO"), SYNCS)
    bench.put(2)
    assert "said" in bench.simulation.fence_check.violations[0].message


def test_faults_of_disks_happen_are_noticed_and_end() -> None:
    options = SimOptions(nodes=5, seconds=20, faults=(DISK_FULL, DISK_ERROR, READ_ONLY))
    happened: dict[str, int] = {}
    fenced = 0
    for seed in range(8):
        outcome = run(seed, options)
        assert outcome.violations == []
        fenced += outcome.reached["fenced by their disks"]
        happened.update(outcome.faults)
    assert {DISK_FULL, DISK_ERROR, READ_ONLY, "disk mended"} <= set(happened) and fenced >= 5
