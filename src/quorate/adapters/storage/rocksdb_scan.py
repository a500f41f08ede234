"""One ordered walk over a range of a RocksDB column family.

The iterator is made when the scan begins, so the walk sees one moment whatever is written meanwhile. It pins memory
and files of that moment: it lets go of them at the range's end, at an error, when it is closed, when it is dropped, and
when its engine is closed (a live iterator would keep the database open and its directory locked).

Rejected: `rocksdict`'s own pair iterator, which is faster and ends silently when a read fails, so that a damaged block
would look like the end of the data; and a generator, which would end silently when its engine is closed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rocksdict import Rdict, RdictIter, ReadOptions

from quorate.adapters.storage.failures import read_error
from quorate.core.errors import StorageError


class RocksDbScan(Iterator[tuple[bytes, bytes]]):
    """Pairs with start ≤ key < end in key order. Raises `StorageError` if a read fails or the engine was closed."""

    __slots__ = ("__weakref__", "_closed_early", "_end", "_iterator", "_path")

    def __init__(self, family: Rdict, path: Path, start: bytes, end: bytes) -> None:
        options = ReadOptions()
        options.set_iterate_upper_bound(end)
        # RocksDB keeps a pointer to these bytes, and the binding does not keep the bytes.
        self._end = end
        self._path = path
        self._closed_early = False
        self._iterator: RdictIter | None = family.iter(options)
        self._iterator.seek(start)

    def __next__(self) -> tuple[bytes, bytes]:
        iterator = self._iterator
        if iterator is None:
            if self._closed_early:
                raise StorageError(f"the store in {self._path} was closed during a scan; open it and scan again")
            raise StopIteration
        if iterator.valid():
            pair = (iterator.key(), iterator.value())
            iterator.next()
            return pair
        self._iterator = None
        failure: StorageError | None = None
        try:
            iterator.status()
        except Exception as error:
            failure = read_error(self._path, error)
        del iterator  # The traceback must not keep it: it would keep the database open.
        if failure is not None:
            raise failure
        raise StopIteration

    def close(self) -> None:
        """Let go of what the scan pins. Further steps raise, unless the scan had ended."""
        if self._iterator is not None:
            self._closed_early = True
            self._iterator = None
