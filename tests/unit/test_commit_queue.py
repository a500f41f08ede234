"""Group commit: one batch a turn, one fsync for all that wait, and nothing acknowledged after a failure."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from quorate.core.errors import StorageError
from quorate.core.ports import Space
from quorate.node.commit_queue import CommitQueue
from tests.unit.small_cluster import DictEngine, Ports, World


class Bench:
    """A queue in front of a dictionary, and what it told its waiters."""

    def __init__(self) -> None:
        self.world = World()
        self.engine = DictEngine(Ports(self.world))
        self.failures: list[StorageError] = []
        self.batches = 0
        write = self.engine.write

        def counted(batch: object) -> None:
            self.batches += 1
            write(batch)  # type: ignore[arg-type]

        self.engine.write = counted  # type: ignore[method-assign,assignment]
        self.queue = CommitQueue(self.engine, Ports(self.world), self.failures.append)
        self.told: list[tuple[str, bool]] = []

    def put(self, name: str, synced: bool = False) -> None:
        self.queue.put(name.encode(), b"v" + name.encode(), synced, self.note, name)

    def note(self, name: str, durable: bool) -> None:
        self.told.append((name, durable))


def test_one_turn_is_one_batch_and_reads_see_it_at_once() -> None:
    bench = Bench()
    bench.put("a")
    bench.put("b")
    assert bench.queue.get(b"a") == b"va"
    assert bench.told == []
    bench.world.run(0)
    assert bench.batches == 1
    assert bench.told == [("a", True), ("b", True)]
    assert bench.engine.get(Space.DATA, b"b") == b"vb"


def test_the_engine_is_asked_for_a_sync_whether_or_not_one_is_under_way() -> None:
    """It serves together what it is asked for meanwhile, and need not wait for the loop to ask again."""
    bench = Bench()
    held: list[Callable[[StorageError | None], None]] = []
    bench.engine.held_syncs = held
    for name in "abc":
        bench.put(name, synced=True)
        bench.world.run(1)
    bench.put("d", synced=True)
    assert len(held) == 3
    assert bench.queue.unsynced_waiters() == 4
    held.pop(0)(None)
    assert bench.told == [("a", True)]
    assert bench.queue.unsynced_waiters() == 3
    bench.world.run(1)
    for done in held:
        done(None)
    assert bench.told == [(name, True) for name in "abcd"]
    assert bench.queue.unsynced_waiters() == 0


@pytest.mark.parametrize("error", [None, StorageError("Input/output error")], ids=["it goes on", "it fails"])
def test_a_disk_that_hangs_is_asked_for_a_bounded_number_of_syncs(error: StorageError | None) -> None:
    """The engine takes so many and then calls the disk broken, which would fence a node whose disk only paused."""
    bench = Bench()
    held: list[Callable[[StorageError | None], None]] = []
    bench.engine.held_syncs = held
    for number in range(100):
        bench.put(f"{number:02}", synced=True)
        bench.world.run(1)
    assert (len(held), bench.queue.unsynced_waiters(), bench.failures) == (64, 100, [])
    held.pop(0)(error)
    assert len(held) == (64 if error is None else 63)
    for done in held:
        done(error)
    assert sorted(bench.told) == [(f"{number:02}", error is None) for number in range(100)]
    assert bench.queue.unsynced_waiters() == 0


def test_a_failed_batch_is_acknowledged_to_nobody_and_nothing_is_after_it() -> None:
    bench = Bench()
    bench.engine.failure = StorageError("Input/output error")
    bench.put("a")
    bench.put("b", synced=True)
    bench.world.run(1)
    assert bench.told == [("a", False), ("b", False)]
    assert len(bench.failures) == 1
    bench.engine.failure = None
    bench.put("c")
    bench.world.run(1)
    assert bench.told[-1] == ("c", False)
    assert bench.engine.get(Space.DATA, b"c") is None


def test_a_failed_fsync_is_acknowledged_to_nobody() -> None:
    bench = Bench()
    held: list[Callable[[StorageError | None], None]] = []
    bench.engine.held_syncs = held
    bench.put("a", synced=True)
    bench.world.run(1)
    bench.put("b", synced=True)
    bench.world.run(1)
    held.pop(0)(StorageError("Input/output error"))
    held.pop(0)(None)
    assert bench.told == [("a", False), ("b", False)]
    assert bench.failures


def test_after_a_failure_nobody_is_told_that_anything_is_durable_not_even_of_what_is_there_already() -> None:
    """Hard case 27. A write of what the store holds already waits for the others of its turn and queues nothing; then
    the disk fails at something else."""
    bench = Bench()
    bench.queue.wait(False, bench.note, "there already")
    bench.queue.wait(True, bench.note, "there already, synced")
    bench.queue.failed = True
    bench.world.run(1)
    assert bench.told == [("there already", False), ("there already, synced", False)]
