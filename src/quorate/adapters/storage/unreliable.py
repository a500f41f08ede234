"""An engine that lies: a memory engine with the failures of real machines, for the simulator and the tests.

It keeps what was synced apart from what was not. Each batch that is not yet synced has an undo entry; power loss undoes
a suffix of them, which is exactly what a torn log leaves behind: a prefix of the batches, never a part of one. A killed
process loses nothing, because its batches had reached the operating system.

Invariants:
- a crash or a restart gives a new engine and ends the old one: it answers nothing any more, and syncs that it had
  under way are never reported, as in a process that has died;
- what a sync reported as done is never undone;
- after a failed write or sync the engine refuses both for the rest of its life, even if the disk has healed: nobody
  knows what is stored. The next life starts unclean;
- `report` says what RocksDB's adapter would say, and as there, the finding that writes may be missing is repeated at
  each start until a life's first sync is done: a node that dies before it could act on it is told again.

Rejected: two copies of the data, synced and current, which would double the cost of every write.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Final, Literal

from quorate.adapters.storage.memory import MemoryEngine
from quorate.core.errors import StorageError
from quorate.core.ports import OpenReport, Rng, Scheduler, Space, WriteOperation

Operation = Literal["get", "write", "sync"]
"""What can be made to fail; `get` includes scans, `write` includes range deletions."""

NO_SPACE: Final = "ENOSPC: no space left on device"
INPUT_OUTPUT_ERROR: Final = "EIO: input/output error"


class UnreliableEngine(MemoryEngine):
    """A memory engine whose machine can crash and whose disk can fail. See `crash`, `restart`, `fail_with`."""

    def __init__(self, scheduler: Scheduler, *, sync_delay_ms: float = 0.0) -> None:
        super().__init__(scheduler, sync_delay_ms=sync_delay_ms)
        self._undo: list[list[WriteOperation]] = []
        """For each unsynced batch, oldest first, the values that its keys had before it."""
        self._batches = 0
        """Batches in the store, synced ones included."""
        self._dead = False
        self._suspect = False
        self._broken: StorageError | None = None
        self._failures: dict[Operation, StorageError] = {}
        self._apply_failed_writes = False
        self._free = 1.0

    @property
    def unsynced_batches(self) -> int:
        """How many batches a loss of power could undo now."""
        return len(self._undo)

    def crash(self, lose_unsynced: bool, rng: Rng | None = None) -> UnreliableEngine:
        """End this engine as a crash would, and return the one that finds what is left.

        `lose_unsynced` false: the process was killed, every batch is there. True: the power failed. Then all unsynced
        batches are gone, or with `rng` a suffix of random length. An engine that was closed before loses nothing.
        """
        if not self._open:
            return self.restart()
        lost = 0
        if lose_unsynced:
            lost = len(self._undo) - (rng.below(len(self._undo) + 1) if rng is not None else 0)
        for _ in range(lost):
            for space, key, value in self._undo.pop():
                self._set(space, key, value)
        self._batches -= lost
        if lose_unsynced:
            self._undo.clear()
        return self._successor(clean=False, lost=lose_unsynced)

    def restart(self) -> UnreliableEngine:
        """The engine that finds what this one left when it was closed properly."""
        assert not self._open and not self._dead, "only a closed engine restarts; one that runs can crash"
        return self._successor(clean=self._broken is None, lost=False)

    def fail_with(
        self,
        error: StorageError | None,
        operations: Collection[Operation] = ("write", "sync"),
        *,
        apply_failed_writes: bool = False,
    ) -> None:
        """Make `operations` fail with `error` until further notice, or with None no longer (see the invariants).

        With `apply_failed_writes` a write that fails is stored nevertheless: the port leaves that open, so a caller
        must bear both.
        """
        for operation in operations:
            if error is None:
                self._failures.pop(operation, None)
            else:
                self._failures[operation] = error
        self._apply_failed_writes = apply_failed_writes and error is not None

    def flip_byte(self, space: Space, key: bytes, index: int, mask: int = 0x01) -> bool:
        """Damage the stored value of `key`: xor its byte at `index` with `mask`. False if there is no such byte."""
        value = self._values[space].get(key)
        if value is None or not 0 <= index < len(value):
            return False
        damaged = bytearray(value)
        damaged[index] ^= mask
        self._values[space][key] = bytes(damaged)
        return True

    def set_free_fraction(self, fraction: float) -> None:
        """What `free_fraction` answers from now on."""
        self._free = fraction

    def free_fraction(self) -> float:
        super().free_fraction()
        return self._free

    def get(self, space: Space, key: bytes) -> bytes | None:
        if self._failures:
            self._maybe_fail("get")
        return super().get(space, key)

    def scan(self, space: Space, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        if self._failures:
            self._maybe_fail("get")
        return super().scan(space, start, end)

    def write(self, batch: Sequence[WriteOperation]) -> None:
        self._refuse_if_broken()
        if not batch:
            return
        failure = self._failures.get("write")
        if failure is None or self._apply_failed_writes:
            undo: list[WriteOperation] = [(space, key, self._values[space].get(key)) for space, key, _ in batch]
            super().write(batch)
            self._undo.append(undo)
            self._batches += 1
        if failure is not None:
            self._broken = failure
            raise failure

    def sync(self, done: Callable[[StorageError | None], None]) -> None:
        if not self._open:
            self._refuse()
        covered = self._batches
        self._later(lambda: self._synced(covered, done))

    def close(self) -> None:
        if self._open:
            self._broken = self._broken or self._failures.get("sync")
            if self._broken is None:
                self._undo.clear()
        super().close()

    def _synced(self, covered_batches: int, done: Callable[[StorageError | None], None]) -> None:
        if self._dead:
            return
        self._broken = failure = self._broken or self._failures.get("sync")
        if failure is None:
            still_unsynced = max(self._batches - covered_batches, 0)
            del self._undo[: max(len(self._undo) - still_unsynced, 0)]
            self._suspect = False
        done(failure)

    def _successor(self, *, clean: bool, lost: bool) -> UnreliableEngine:
        heir = UnreliableEngine(self._scheduler, sync_delay_ms=self._sync_delay_ms)
        heir._values, heir._keys = self._values, self._keys
        heir._undo, heir._batches = self._undo, self._batches
        heir._suspect = self._suspect or lost or self._broken is not None
        heir._failures = self._failures
        heir._apply_failed_writes = self._apply_failed_writes
        heir._free = self._free
        fresh = self._batches == 0
        heir._report = OpenReport(fresh=fresh, clean=clean or fresh, may_have_lost_writes=heir._suspect)
        self._open, self._dead = False, True
        self._values, self._keys, self._undo = [], [], []
        return heir

    def _maybe_fail(self, operation: Operation) -> None:
        failure = self._failures.get(operation)
        if failure is not None and self._open:
            raise failure

    def _refuse_if_broken(self) -> None:
        if not self._open:
            self._refuse()
        if self._broken is not None:
            raise self._broken
