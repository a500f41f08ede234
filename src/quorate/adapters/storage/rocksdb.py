"""The RocksDB engine: an `Engine` on a disk, through `rocksdict`.

A directory holds `rocksdb/` (the database), `engine.state` (the marker of unclean stops) and `engine.reach` (how far
the store has come). Each space is a column family, so one batch spans them atomically. `write` returns when the log
record is in the operating system; `sync` goes through one thread with group commit.

Invariants:
- after a failed write or sync nothing is written any more and no sync succeeds, until the store is opened anew: what is
  stored is unknown, and a sync that fails once may falsely succeed later;
- the marker says "closed" only when every write is on the disk and nothing failed; all marker writes between opening
  and closing happen in the sync thread, so the loop does not wait for them;
- no reference to RocksDB outlives `close`: any of them would keep the directory locked.

Rejected: a sync flag on each write (blocks the loop), and letting RocksDB resume after errors by itself (the node would
acknowledge again without anyone having looked at what is missing).
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NoReturn
from weakref import WeakSet

from rocksdict import ColumnFamily, Rdict, WriteBatch

from quorate.adapters.storage.background_threads import lower_background_priority
from quorate.adapters.storage.failures import open_error, read_error, sync_error, write_error
from quorate.adapters.storage.log_sync import Deliver, LogSyncer
from quorate.adapters.storage.marker import Marker, read_boot_id, read_marker, sync_directory, write_marker
from quorate.adapters.storage.reach import Reach, Reached, read_reach
from quorate.adapters.storage.rocksdb_open import DATABASE_NAME, manifest_of, open_database
from quorate.adapters.storage.rocksdb_options import (
    BLOCK_CACHE_BYTES_DEFAULT,
    FAMILY_NAMES,
    WRITE_BUFFER_BYTES_DEFAULT,
)
from quorate.adapters.storage.rocksdb_scan import RocksDbScan
from quorate.core.errors import StorageError
from quorate.core.ports import OpenReport, Space, WriteOperation

log: Final = logging.getLogger("quorate.storage")

_LIVE_BYTES: Final = "rocksdb.estimate-live-data-size"
_FREE_FRACTION_AGE_MAX_SECONDS: Final = 1.0


class RocksDbEngine:
    """See `quorate.core.ports.Engine`. One process opens a directory at a time.

    `deliver` runs a callback on the loop's thread from any thread: `loop.call_soon_threadsafe`.
    Raises `StartupError` if the directory is in use, unwritable, full, or damaged beyond what a crash leaves.
    """

    _families: list[Rdict]
    _handles: list[ColumnFamily]
    _getters: list[Callable[[bytes], bytes | None]]
    _commit: Callable[[WriteBatch], None]
    _sequence: Callable[[], int]

    def __init__(
        self,
        path: Path,
        deliver: Deliver,
        *,
        block_cache_bytes: int = BLOCK_CACHE_BYTES_DEFAULT,
        write_buffer_bytes: int = WRITE_BUFFER_BYTES_DEFAULT,
    ) -> None:
        self._path = path
        self._closed = False
        self._failure: StorageError | None = None
        self._scans: WeakSet[RocksDbScan] = WeakSet()
        self._free_measured = (float("-inf"), 1.0)
        self._reach = Reach(path)
        try:
            reached = read_reach(path)
        except OSError as error:
            raise open_error(path, error) from error
        self._database, damaged = open_database(path, block_cache_bytes, write_buffer_bytes, reached)
        lower_background_priority()
        try:
            self._bind(self._database)
            sequence = self._sequence()
            self._report, self._marker = _enter(path, sequence, damaged, reached)
            # After the marker: until that says what is suspected, the file must not come down.
            manifest = manifest_of(path / DATABASE_NAME)
            assert manifest is not None, "RocksDB has just opened it"
            self._reach.begin(sequence, manifest)
        except OSError as error:
            self._release()
            raise open_error(path, error) from error
        self._syncer = LogSyncer(self._flush_log, self._mark_failed, deliver)

    @property
    def report(self) -> OpenReport:
        return self._report

    @property
    def syncs(self) -> int:
        """Syncs of the log so far; fewer than calls of `sync` where several were served together."""
        return self._syncer.syncs

    def get(self, space: Space, key: bytes) -> bytes | None:
        try:
            return self._getters[space](key)
        except StorageError:
            raise
        except Exception as error:
            raise read_error(self._path, error) from error

    def scan(self, space: Space, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        if self._closed:
            self._refuse()
        if start >= end:
            return iter(())
        try:
            scan = RocksDbScan(self._families[space], self._path, start, end)
        except Exception as error:
            raise read_error(self._path, error) from error
        self._scans.add(scan)
        return scan

    def write(self, batch: Sequence[WriteOperation]) -> None:
        if self._closed:
            self._refuse()
        joined = WriteBatch(raw_mode=True)
        put, handles = joined.put, self._handles
        for space, key, value in batch:
            if value is None:
                joined.delete(key, handles[space])
            else:
                put(key, value, handles[space])
        try:
            self._commit(joined)
            self._reach.advance(self._sequence())
        except StorageError:
            raise
        except Exception as error:
            raise self._write_failed(error) from error

    def delete_range(self, space: Space, start: bytes, end: bytes) -> None:
        if self._closed:
            self._refuse()
        if start >= end:
            return  # RocksDB accepts such a range, and then fails for good when it flushes it.
        joined = WriteBatch(raw_mode=True)
        joined.delete_range(start, end, self._handles[space])
        try:
            self._commit(joined)
            self._reach.advance(self._sequence())
        except StorageError:
            raise
        except Exception as error:
            raise self._write_failed(error) from error

    def sync(self, done: Callable[[StorageError | None], None]) -> None:
        if self._closed:
            self._refuse()
        self._syncer.request(done)

    def data_bytes(self) -> int:
        if self._closed:
            self._refuse()
        return self._families[Space.DATA].property_int_value(_LIVE_BYTES) or 0

    def free_fraction(self) -> float:
        if self._closed:
            self._refuse()
        measured_at, fraction = self._free_measured
        now = time.monotonic()
        if now - measured_at >= _FREE_FRACTION_AGE_MAX_SECONDS:
            try:
                status = os.statvfs(self._path)
            except OSError as error:
                raise read_error(self._path, error) from error
            fraction = status.f_bavail / status.f_blocks if status.f_blocks else 1.0
            self._free_measured = (now, fraction)
        return fraction

    def close(self) -> None:
        """See the port. Blocks for as long as the disk takes. Raises `StorageError` if the end was not clean."""
        if self._closed:
            return
        self._closed = True
        self._getters = [_closed_getter(self._path)] * len(Space)
        if not self._syncer.stop():
            raise StorageError(f"the disk under {self._path} hangs; the store is left as after a crash")
        reported, sequence = self._failure, self._sequence()
        failure = reported or self._flush_all()
        self._release()
        suspect = self._marker.suspect or failure is not None
        marker = Marker("closed" if failure is None else "failed", self._marker.boot_id, sequence, suspect)
        try:
            write_marker(self._path, marker)
        except OSError as error:
            failure = failure or write_error(self._path, error)
        if failure is not None and reported is None:
            raise failure

    def _bind(self, database: Rdict) -> None:
        """Look up once what every call needs."""
        self._families = [database.get_column_family(FAMILY_NAMES[space]) for space in Space]
        self._handles = [database.get_column_family_handle(FAMILY_NAMES[space]) for space in Space]
        self._getters = [family.get for family in self._families]
        self._commit = database.write
        self._sequence = database.latest_sequence_number

    def _flush_log(self) -> None:
        """One sync, in the sync thread. The first of a life also settles a suspicion that the node has acted upon."""
        try:
            self._database.flush_wal(True)
            if self._marker.suspect:
                settled = Marker("open", self._marker.boot_id, self._marker.sequence, suspect=False)
                write_marker(self._path, settled)
                self._marker = settled
        except Exception as error:
            raise sync_error(self._path, error) from error

    def _mark_failed(self, failure: StorageError) -> None:
        """Tell the next start, as far as the disk still can. In the sync thread; after this it writes no marker."""
        self._failure = self._failure or failure
        self._commit = _failed_commit(self._failure)
        self._marker = Marker("failed", self._marker.boot_id, self._marker.sequence, suspect=True)
        try:
            write_marker(self._path, self._marker)
        except OSError:
            return  # The marker still says "open": unclean, which is the next best thing.

    def _flush_all(self) -> StorageError | None:
        """Bring log and memtables to the disk, so that the next start has nothing to replay."""
        try:
            self._database.flush_wal(True)
            for family in self._families:
                family.flush()
        except Exception as error:
            return sync_error(self._path, error)
        return None

    def _release(self) -> None:
        """Drop every reference to RocksDB; the last one closes it and unlocks the directory."""
        for scan in list(self._scans):
            scan.close()
        self._commit = _failed_commit(StorageError(f"the store in {self._path} is closed; open it again"))
        self._sequence = lambda: 0
        self._reach.close()
        self._getters = [_closed_getter(self._path)] * len(Space)
        self._handles.clear()  # In place: the traceback of a failed write may hold the list.
        for handle in (*self._families, self._database):
            try:
                handle.close()
            except Exception:
                continue  # Its flush failed, which `_flush_all` has reported; the handle is closed all the same.
        self._families.clear()

    def _write_failed(self, error: Exception) -> StorageError:
        self._failure = failure = write_error(self._path, error)
        self._commit = _failed_commit(failure)
        self._syncer.fail(failure)
        return failure

    def _refuse(self) -> NoReturn:
        raise StorageError(f"the store in {self._path} is closed; open it again")


def _enter(path: Path, sequence: int, damaged: bool, reached: Reached | None) -> tuple[OpenReport, Marker]:
    """Judge the last life by its marker and its reach, and write the marker of the life that begins."""
    last, boot_id = read_marker(path), read_boot_id()
    fresh = sequence == 0
    if last is None:
        clean = False
        suspect = not fresh
    else:
        clean = last.state == "closed"
        same_boot = last.boot_id == boot_id and boot_id != ""
        suspect = last.suspect or last.state == "failed" or (last.state == "open" and not same_boot)
        suspect = suspect or sequence < last.sequence
        if last.state == "open" and (reached is None or sequence < reached.sequence):
            suspect = True
            came_to = "who knows where" if reached is None else reached.sequence
            log.warning(
                "the store in %s ends at write %d, and had come to %s: its end is missing", path, sequence, came_to
            )
    suspect = suspect or damaged
    marker = Marker("open", boot_id, sequence, suspect)
    write_marker(path, marker)
    sync_directory(path / DATABASE_NAME)
    return OpenReport(fresh=fresh, clean=clean or fresh, may_have_lost_writes=suspect), marker


def _closed_getter(path: Path) -> Callable[[bytes], bytes | None]:
    def refuse(_key: bytes) -> bytes | None:
        raise StorageError(f"the store in {path} is closed; open it again")

    return refuse


def _failed_commit(failure: StorageError) -> Callable[[WriteBatch], None]:
    def refuse(_batch: WriteBatch) -> None:
        raise failure

    return refuse
