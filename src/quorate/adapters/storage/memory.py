"""The memory engine: an `Engine` without a disk, for tests, trials and the simulator.

It holds to the port's contract to the letter, so that one conformance suite runs on it and on RocksDB: batches are
atomic, a scan sees the moment it began, `sync` answers later and on the loop, a closed engine refuses everything.
`quorate.adapters.storage.unreliable` adds what a real machine adds: crashes, torn writes, failing disks.

Invariant: the keys of each space's dictionary and of its ordered set are the same.

A scan copies the references of its range when it begins. Copy-on-write versions would make it lazy, and were rejected:
ranges are one partition or less, and the plain copy cannot be wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from quorate.adapters.storage.ordered import OrderedKeys
from quorate.core.errors import StorageError
from quorate.core.ports import OpenReport, Scheduler, Space, WriteOperation

FRESH = OpenReport(fresh=True, clean=True, may_have_lost_writes=False)


class MemoryEngine:
    """See `quorate.core.ports.Engine`. `sync` answers through `scheduler`, after `sync_delay_ms` if that is not 0."""

    def __init__(self, scheduler: Scheduler, *, sync_delay_ms: float = 0.0) -> None:
        self._scheduler = scheduler
        self._sync_delay_ms = sync_delay_ms
        self._values: list[dict[bytes, bytes]] = [{} for _ in Space]
        self._keys: list[OrderedKeys] = [OrderedKeys() for _ in Space]
        self._open = True
        self._report = FRESH

    @property
    def report(self) -> OpenReport:
        return self._report

    def get(self, space: Space, key: bytes) -> bytes | None:
        if not self._open:
            self._refuse()
        return self._values[space].get(key)

    def scan(self, space: Space, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        if not self._open:
            self._refuse()
        values = self._values[space]
        return self._pairs([(key, values[key]) for key in self._keys[space].between(start, end)])

    def write(self, batch: Sequence[WriteOperation]) -> None:
        if not self._open:
            self._refuse()
        for space, key, value in batch:
            self._set(space, key, value)

    def delete_range(self, space: Space, start: bytes, end: bytes) -> None:
        if not self._open:
            self._refuse()
        self.write([(space, key, None) for key in self._keys[space].between(start, end)])

    def sync(self, done: Callable[[StorageError | None], None]) -> None:
        if not self._open:
            self._refuse()
        self._later(lambda: done(None))

    def data_bytes(self) -> int:
        return sum(len(key) + len(value) for key, value in self.scan(Space.DATA, b"", b"\xff" * 4))

    def free_fraction(self) -> float:
        """Always 1.0: memory has no file system to fill."""
        if not self._open:
            self._refuse()
        return 1.0

    def close(self) -> None:
        self._open = False

    def _set(self, space: Space, key: bytes, value: bytes | None) -> None:
        values = self._values[space]
        if value is None:
            if values.pop(key, None) is not None:
                self._keys[space].remove(key)
        else:
            if key not in values:
                self._keys[space].add(key)
            values[key] = value

    def _later(self, callback: Callable[[], None]) -> None:
        if self._sync_delay_ms:
            self._scheduler.call_later(self._sync_delay_ms, callback)
        else:
            self._scheduler.call_soon(callback)

    def _pairs(self, pairs: list[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
        """Yield `pairs` for as long as the engine is open, as a scan of a real store does."""
        for pair in pairs:
            if not self._open:
                self._refuse()
            yield pair

    def _refuse(self) -> None:
        raise StorageError("the memory engine is closed; open a new one")
