"""The import of a file: many rows in flight, a position that is known to be done, and no row twice.

A row overwrites what the key holds: read the key's context, put with it. Each put carries an operation id that is made
of the import's name and the row's line, so a row that is sent again (after an unknown outcome, or by a resumed import)
is the same write: it never stands beside itself as a sibling.

Rejected: `SET`, which overwrites without a read, but cannot say that the value is JSON, and whose repetition after an
unknown outcome is another write. Rejected: a put without a context, which makes every re-import a conflict.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterator
from typing import Protocol

from quorate.cli.journal import Journal, Pending, Progress, RejectsFile, Watermark
from quorate.cli.retry import Patience
from quorate.cli.rows import Rejected, Row
from quorate.core.errors import CallerError

CONCURRENCY_DEFAULT = 64
CONCURRENCY_MAX = 1024
SPAN_PER_WORKER = 16
"""Rows that may be done beyond the oldest that is not, for each row in flight: what a resumed import repeats."""
SAVE_INTERVAL_S = 0.5


class Sink(Protocol):
    """Where rows go."""

    async def put(self, key: bytes, value: bytes, operation: int) -> None:
        """Overwrite `key`. Repeating it with the same `operation` is the same write. Raises `QuorateError`."""
        ...


class Importer:
    """Sends `rows` to `sink`, keeping `journal` and `rejects`."""

    def __init__(
        self,
        rows: Iterator[Row | Rejected],
        sink: Sink,
        journal: Journal,
        rejects: RejectsFile,
        patience: Patience,
        concurrency: int = CONCURRENCY_DEFAULT,
        on_progress: Callable[[Progress], None] = lambda progress: None,
    ) -> None:
        self._rows = rows
        self._sink = sink
        self._journal = journal
        self._rejects = rejects
        self._patience = patience
        self._concurrency = concurrency
        self._on_progress = on_progress
        self._watermark = Watermark(concurrency * SPAN_PER_WORKER)
        self._room = asyncio.Event()
        self._room.set()

    async def run(self) -> None:
        """Import until the file is at its end. However it ends, the journal says how far it got.

        Raises `Unavailable` or `OutcomeUnknown` if the cluster stays away, `CallerError` if a journal cannot be kept.
        """
        self._save()
        saver = asyncio.ensure_future(self._save_now_and_then())
        workers = [asyncio.ensure_future(self._work()) for _ in range(self._concurrency)]
        try:
            unfinished = {saver, *workers}
            while unfinished != {saver}:
                done, unfinished = await asyncio.wait(unfinished, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()  # Raises at once what any of them raised.
        finally:
            for task in (saver, *workers):
                task.cancel()
            await asyncio.gather(saver, *workers, return_exceptions=True)
            self._save()
            self._rejects.close()

    async def _work(self) -> None:
        while True:
            while self._watermark.full:
                self._room.clear()
                await self._room.wait()
            # From here to `begin` nothing else runs, so rows are begun in the order of the file.
            row = next(self._rows, None)
            if row is None:
                return
            pending = self._watermark.begin(row.end, row.end_line)
            if isinstance(row, Rejected):
                self._finish(pending, row)
                await asyncio.sleep(0)
            else:
                await self._store(row, pending)

    async def _store(self, row: Row, pending: Pending) -> None:
        operation = operation_id(self._journal.progress.run, row.line)
        try:
            await self._patience.call(lambda: self._sink.put(row.key, row.value, operation))
        except CallerError as error:
            excerpt = row.value[:200].decode("utf-8", "replace")
            self._finish(pending, Rejected(row.line, row.end, row.end_line, str(error), excerpt))
        else:
            self._finish(pending, None)

    def _finish(self, pending: Pending, rejected: Rejected | None) -> None:
        self._watermark.finish(pending, rejected)
        progress = self._journal.progress
        for row in self._watermark.advance(progress):
            self._rejects.add(row)
        progress.rejects_bytes = self._rejects.size
        if not self._watermark.full:
            self._room.set()

    async def _save_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(SAVE_INTERVAL_S)
            self._save()

    def _save(self) -> None:
        """The report of rejects first: the journal must not claim that it holds what it does not."""
        self._rejects.sync()
        self._journal.save()
        self._on_progress(self._journal.progress)


def operation_id(run: str, line: int) -> int:
    """The operation id of a row: the same whenever this import sends it. 19 digits, as clients' own ids have."""
    digest = hashlib.blake2b(f"{run}:{line}".encode(), digest_size=8).digest()
    return 10**18 + int.from_bytes(digest, "big") % (8 * 10**18)
