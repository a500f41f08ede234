"""A simulated disk, and the engine on it that forgets what was not synced when the power goes.

The disk outlives processes. It applies every batch at once and remembers how to undo those that no sync has covered
yet. A killed process loses nothing, as the operating system still has its writes. A lost machine keeps everything
synced and some prefix of the rest, cut at a batch: a write-ahead log is torn only at its end, and its checksums drop
the torn batch as a whole. A wiped disk is a new one.

A disk can fail (`fail_with`): reads, writes or syncs raise an error for as long as the failure lasts. What that does to
the engine on it is what `adapters.storage.unreliable` says, and what RocksDB does: after a failed write or sync it
refuses both for the rest of its life, even on a disk that has healed, and a write that failed may be stored or not.

Invariants:
- Batches survive in order: if one is there, so are all before it.
- A flipped bit stays flipped until its record is written again; no report tells of it.
- After a loss of power, or a life whose engine broke, each life is told that writes may be missing, until one has
  synced: a process that dies before it could act on that is told again.
- An engine belongs to one life of a process. After that it can neither read nor write the disk.

Rejected: the memory adapter under the simulator. Its sync is immediate; here a sync takes time, writes go on
meanwhile, and a crash in that time is one of the interesting ones.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Final, Literal

from quorate.core.errors import StorageError
from quorate.core.ports import OpenReport, Space, WriteOperation
from quorate.sim.loop import Process, VirtualLoop
from quorate.sim.random_streams import SeededRng

UNSYNCED_BATCHES_MAX = 20_000
"""Above this the oldest half counts as written back, as an operating system would have done by then."""

FREE: Final = 0.9
"""The free share of a disk that nothing has filled."""

Operation = Literal["get", "write", "sync"]
"""What can fail; `get` includes scans, `write` the deletion of ranges."""

Observer = Callable[[Space, bytes, bytes | None, bytes | None], None]
"""Called as observer(space, key, old value, new value) for every operation that is applied."""


class Disk:
    """What one machine has on its disk, over all lives of its process."""

    def __init__(self, loop: VirtualLoop, rng: SeededRng, observer: Observer | None = None) -> None:
        self._loop = loop
        self._rng = rng
        self._observer = observer
        self.sync_min_ms = 0.3
        self.sync_mean_ms = 1.0
        self.on_emptied: Callable[[], None] = lambda: None
        """Called when a process has emptied its own store of records."""
        self.on_failed: Callable[[StorageError], None] = lambda error: None
        """Called when a write or a sync has failed, for the first time in the life of an engine."""
        self._failures: dict[Operation, StorageError] = {}
        self._stores_failed_writes = False
        self.free = FREE
        self.fillings = 0
        """How often somebody has filled it."""
        self.wipe()

    def wipe(self) -> None:
        """Lose everything: a new disk was put in."""
        self.values: dict[Space, dict[bytes, bytes]] = {space: {} for space in Space}
        self.keys: dict[Space, list[bytes]] = {space: [] for space in Space}
        self._undo: list[list[WriteOperation]] = []
        self._written_back = 0
        self._fresh = True
        self._clean = True
        self._suspect = False

    def fail_with(
        self, error: StorageError, operations: Collection[Operation], stores_failed_writes: bool = False
    ) -> None:
        """Let these operations fail until `repair`. `stores_failed_writes`: a write that fails is stored all the same,
        which the port leaves open."""
        self._failures = dict.fromkeys(operations, error)
        self._stores_failed_writes = stores_failed_writes

    def repair(self) -> None:
        """It fails no more, and there is room on it. An engine that has failed stays broken."""
        self._failures = {}
        self._stores_failed_writes = False
        self.free = FREE

    @property
    def failing(self) -> bool:
        """Does any operation fail, so that no store can be opened on it?"""
        return bool(self._failures)

    def fill(self, free: float) -> None:
        """Only this share of it is free from now on."""
        self.free = free
        self.fillings += 1

    @property
    def filled(self) -> bool:
        return self.free < FREE

    def failure(self, operation: Operation) -> StorageError | None:
        return self._failures.get(operation)

    def open(self, process: Process) -> SimEngine:
        """The engine of a new process, with the report of what it finds."""
        report = OpenReport(fresh=self._fresh, clean=self._clean, may_have_lost_writes=self._suspect)
        self._fresh = False
        self._clean = False
        return SimEngine(self, process, report)

    def lose_power(self) -> int:
        """Forget a random number of the last unsynced batches; returns how many."""
        lost = self._rng.below(len(self._undo) + 1)
        for _ in range(lost):
            for space, key, value in reversed(self._undo.pop()):
                self._set(space, key, value)
        self._undo.clear()
        self._suspect = True
        return lost

    def flip(self, key: bytes, bit: int, space: Space = Space.DATA) -> None:
        """Damage what is stored under `key`."""
        stored = bytearray(self.values[space][key])
        stored[bit // 8 % len(stored)] ^= 1 << bit % 8
        self.values[space][key] = bytes(stored)

    def write_back(self) -> None:
        """So much time passes that the operating system has written everything by itself."""
        self._write_back(self._written_back + len(self._undo))

    def unsynced_batches(self) -> int:
        return len(self._undo)

    def without_unsynced(self, touched_space: Space = Space.DATA) -> dict[bytes, bytes | None]:
        """What every key that the unsynced batches touched would hold if all of these were lost."""
        before: dict[bytes, bytes | None] = {}
        for batch in self._undo:
            for space, key, value in batch:
                if space == touched_space:
                    before.setdefault(key, value)
        return before

    def synced_value(self, key: bytes, of_space: Space = Space.DATA) -> bytes | None:
        """What this key would hold if all unsynced batches were lost."""
        for batch in self._undo:
            for space, touched, value in batch:
                if touched == key and space == of_space:
                    return value
        return self.values[of_space].get(key)

    def empty(self, space: Space, start: bytes, end: bytes) -> None:
        """Remove a whole range, as a store does that no longer trusts what it holds."""
        keys = self.keys[space]
        self.apply([(space, key, None) for key in keys[bisect_left(keys, start) : bisect_left(keys, end)]], told=False)
        if space == Space.DATA:
            self.on_emptied()

    def apply(self, batch: Sequence[WriteOperation], told: bool = True) -> None:
        """`told`: the observer hears of it, operation by operation."""
        undo: list[WriteOperation] = []
        for space, key, value in batch:
            old = self.values[space].get(key)
            undo.append((space, key, old))
            self._set(space, key, value)
            if told and self._observer is not None:
                self._observer(space, key, old, value)
        self._undo.append(undo)
        if len(self._undo) > UNSYNCED_BATCHES_MAX:
            self._write_back(self._written_back + UNSYNCED_BATCHES_MAX // 2)

    def sync(self, process: Process, broken: Callable[[], bool], done: Callable[[bool], None]) -> None:
        """`done(True)` runs once everything applied so far is safe; a crash before that may lose any tail of it.
        `done(False)`: the disk failed by then, or its engine was `broken`, and nobody knows what is safe."""
        position = self._written_back + len(self._undo)

        def synced() -> None:
            if broken() or "sync" in self._failures:
                done(False)
                return
            self._write_back(position)
            self._suspect = False
            done(True)

        delay_ms = self.sync_min_ms + self._rng.exponential(self.sync_mean_ms)
        process.at_true_time(self._loop.now_us + int(delay_ms * 1000), synced)

    def attempt(self, batch: Sequence[WriteOperation]) -> None:
        """Apply a batch, if the disk takes it. Raises `StorageError`; then it may have been applied, or not."""
        failure = self._failures.get("write")
        if failure is None or self._stores_failed_writes:
            self.apply(batch)
        if failure is not None:
            raise failure

    def mark_suspect(self) -> None:
        """An engine on it has failed: what it wrote may be missing."""
        self._suspect = True

    def mark_clean(self) -> None:
        """The process closed the store properly, which syncs it."""
        self._write_back(self._written_back + len(self._undo))
        self._clean = True

    def recover(self) -> None:
        """As quick as a disk should be."""
        self.sync_min_ms = 0.3
        self.sync_mean_ms = 1.0

    def _write_back(self, position: int) -> None:
        count = position - self._written_back
        if count > 0:
            del self._undo[:count]
            self._written_back = position

    def _set(self, space: Space, key: bytes, value: bytes | None) -> None:
        values, keys = self.values[space], self.keys[space]
        if value is None:
            if key in values:
                del values[key]
                del keys[bisect_left(keys, key)]
        else:
            if key not in values:
                insort(keys, key)
            values[key] = value


class SimEngine:
    """The `Engine` port on a `Disk`, for one life of a process."""

    def __init__(self, disk: Disk, process: Process, report: OpenReport) -> None:
        self._disk = disk
        self._process = process
        self._report = report
        self._closed = False
        self.broken: StorageError | None = None
        """Why it writes and syncs no more."""

    @property
    def report(self) -> OpenReport:
        return self._report

    def get(self, space: Space, key: bytes) -> bytes | None:
        self._check_read()
        return self._disk.values[space].get(key)

    def scan(self, space: Space, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        self._check_read()
        keys, values = self._disk.keys[space], self._disk.values[space]
        found = keys[bisect_left(keys, start) : bisect_left(keys, end)] if start < end else []
        return self._pairs([(key, values[key]) for key in found])

    def _pairs(self, pairs: list[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
        for pair in pairs:
            self._check_read()
            yield pair

    def write(self, batch: Sequence[WriteOperation]) -> None:
        self._check_write()
        try:
            self._disk.attempt(batch)
        except StorageError as error:
            raise self._break(error) from error

    def delete_range(self, space: Space, start: bytes, end: bytes) -> None:
        self._check_write()
        failure = self._disk.failure("write")
        if failure is not None:
            raise self._break(failure)
        self._disk.empty(space, start, end)

    def sync(self, done: Callable[[StorageError | None], None]) -> None:
        self._check()

        def synced(healthy: bool) -> None:
            if not healthy and self.broken is None:
                failure = self._disk.failure("sync")
                assert failure is not None
                self._break(failure)
            done(self.broken)

        self._disk.sync(self._process, lambda: self.broken is not None, synced)

    def data_bytes(self) -> int:
        return sum(len(key) + len(value) for key, value in self._disk.values[Space.DATA].items())

    def free_fraction(self) -> float:
        self._check()
        return self._disk.free

    def close(self) -> None:
        if not self._closed:
            self._check()
            failure = self._disk.failure("write") or self._disk.failure("sync")
            if self.broken is not None or failure is not None:
                self._disk.mark_suspect()
            else:
                self._disk.mark_clean()
            self._closed = True

    def _check(self) -> None:
        assert self._process.alive, "a dead process touches no disk"
        if self._closed:
            raise StorageError("this engine is closed; open the store again to use it")

    def _check_read(self) -> None:
        self._check()
        failure = self._disk.failure("get")
        if failure is not None:
            raise failure

    def _check_write(self) -> None:
        self._check()
        if self.broken is not None:
            raise self.broken

    def _break(self, error: StorageError) -> StorageError:
        """Nothing is written or synced any more. Returns `error`."""
        self.broken = error
        self._disk.mark_suspect()
        self._disk.on_failed(error)
        return error
