"""How far an import got, so that it can go on there after any crash of either side.

The journal records one position: everything before it was acknowledged by the cluster or rejected and reported. Rows
after it may have been acknowledged, too; they are sent again, which changes nothing (see `importer`). It is replaced
atomically, and it is removed when the import is complete.

Invariant: a position is recorded only after every row before it is done (`Watermark`), and after the report of the
rejected rows before it is on the disk.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections import deque
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from quorate.cli.rows import Rejected
from quorate.core.errors import CallerError
from quorate.server.documents import DamagedDocument, read_document, reason, write_document

JOURNAL_FORMAT = 1
_FINGERPRINT_BYTES = 64 * 1024


class Progress(msgspec.Struct):
    """What the journal holds."""

    format: int
    run: str
    """Names this import of this file: rows that are sent again carry the same operation ids."""
    fingerprint: str
    """Of the beginning of the file: tells another file of the same name apart."""
    bucket: str
    key_field: str
    offset: int = 0
    """Everything before this byte is done."""
    line: int = 0
    imported: int = 0
    rejected: int = 0
    rejects_bytes: int = 0
    """Length of the report of rejected rows, as of `offset`."""
    cluster_id: str = ""
    """Where the rows went; empty until the first of them could."""


class Journal:
    """The journal of one import, in the file `path`."""

    def __init__(self, path: Path, progress: Progress, resumed: bool) -> None:
        self.path = path
        self.progress = progress
        self.resumed = resumed

    @classmethod
    def open(cls, path: Path, source: BinaryIO, bucket: str, key_field: str, restart: bool = False) -> Journal:
        """The journal in `path`, or a new one; raises `CallerError` if it belongs to something else."""
        mark = fingerprint(source)
        fresh = Progress(JOURNAL_FORMAT, secrets.token_hex(8), mark, bucket, key_field)
        document = None if restart else _read(path)
        if document is None:
            return cls(path, fresh, resumed=False)
        try:
            progress = msgspec.convert(document, Progress)
        except msgspec.ValidationError as error:
            raise CallerError(f"{path} is no import journal ({error}); begin anew with --restart") from None
        for what, then, now in (
            ("format", progress.format, fresh.format),
            ("bucket", progress.bucket, bucket),
            ("--key", progress.key_field, key_field),
        ):
            if then != now:
                raise CallerError(
                    f"{path} records an import with {what} {then}, this one has {now}; "
                    "finish that one, or begin anew with --restart"
                )
        if progress.fingerprint != mark or progress.offset > source.seek(0, os.SEEK_END):
            raise CallerError(f"{path} records the import of another file of this name; begin anew with --restart")
        return cls(path, progress, resumed=True)

    def save(self) -> None:
        """Make the progress durable; raises `CallerError` if it cannot be."""
        try:
            write_document(self.path, msgspec.structs.asdict(self.progress))
        except OSError as error:
            raise CallerError(
                f"cannot write the import journal {self.path}: {reason(error)}; give another with --journal"
            ) from None

    def belongs_to(self, cluster_id: str) -> None:
        """The rows go into this cluster; raises `CallerError` if those before went into another (hard case 20)."""
        before = self.progress.cluster_id
        if before and before != cluster_id:
            raise CallerError(
                f"{self.path} records an import into cluster {before}, and this is cluster {cluster_id}; "
                "name a node of the other one by --node, or begin anew with --restart"
            )
        self.progress.cluster_id = cluster_id

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)


class Pending(msgspec.Struct, gc=False):
    """A row between its reading and its end."""

    end: int
    end_line: int
    done: bool = False
    rejected: Rejected | None = None


class Watermark:
    """The position before which everything is done, while rows finish in any order.

    Rows are begun in the order of the file, each with the position after it; at most `span_max` rows lie between the
    oldest unfinished one and the newest.
    """

    def __init__(self, span_max: int) -> None:
        self._span_max = span_max
        self._open: deque[Pending] = deque()

    @property
    def full(self) -> bool:
        return len(self._open) >= self._span_max

    def begin(self, end: int, end_line: int) -> Pending:
        """The next row; to be handed to `finish` once."""
        assert not self.full
        pending = Pending(end, end_line)
        self._open.append(pending)
        return pending

    def finish(self, pending: Pending, rejected: Rejected | None = None) -> None:
        assert not pending.done, "a row is done once"
        pending.done, pending.rejected = True, rejected

    def advance(self, progress: Progress) -> list[Rejected]:
        """Move `progress` over every row that is done with all before it; those that were rejected, in order."""
        passed = []
        while self._open and self._open[0].done:
            pending = self._open.popleft()
            assert pending.end >= progress.offset
            progress.offset, progress.line = pending.end, pending.end_line
            if pending.rejected is None:
                progress.imported += 1
            else:
                progress.rejected += 1
                passed.append(pending.rejected)
        return passed


class RejectsFile:
    """The report of rejected rows, JSON Lines; made when there is one to report."""

    def __init__(self, path: Path, keep_bytes: int) -> None:
        self.path = path
        self._file: BinaryIO | None = None
        self.size = keep_bytes
        if path.exists():
            if keep_bytes:
                # Rows after the journal's position are read again, and rejected again.
                os.truncate(path, min(keep_bytes, path.stat().st_size))
            else:
                path.unlink()

    def add(self, row: Rejected) -> None:
        """Report a row; raises `CallerError` if the report cannot be written."""
        document = {"line": row.line, "reason": row.reason, "row": row.excerpt}
        try:
            if self._file is None:
                self._file = self.path.open("ab")
            self.size += self._file.write(msgspec.json.encode(document) + b"\n")
        except OSError as error:
            raise CallerError(f"cannot report a rejected row in {self.path}: {reason(error)}") from None

    def sync(self) -> None:
        if self._file is not None:
            try:
                self._file.flush()
                os.fsync(self._file.fileno())
            except OSError as error:
                raise CallerError(f"cannot report rejected rows in {self.path}: {reason(error)}") from None

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def fingerprint(source: BinaryIO) -> str:
    """Tells files apart by their beginnings; a file that only grew has the same, once it is past the first 64 KiB."""
    source.seek(0)
    return hashlib.blake2b(source.read(_FINGERPRINT_BYTES), digest_size=16).hexdigest()


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return read_document(path, "the import journal", "begin anew with --restart")
    except DamagedDocument as error:
        raise CallerError(str(error)) from None
