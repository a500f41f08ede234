"""Rows of an import file, JSON Lines or CSV, each with its line number and the byte offset after it.

Nothing in a file can end an import: what is wrong with a row becomes a `Rejected` row, and the reading goes on after
it. Offsets are exact, because resuming begins at one.

- JSON Lines: a row is an object on a line; its bytes are stored as they stand, so no number loses a digit.
- CSV: the first record names the columns; a row becomes a JSON object of texts. A quoted field may span lines. A
  record that no quote ever closes is rejected and the reading goes on with the line after its first, so that one stray
  quote costs a row and not the rest of the file.

Rejected: `csv.DictReader` on a text file. It hides offsets, and fills or drops columns without a word.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import msgspec

from quorate.core.errors import CallerError
from quorate.core.keyspace import check_key
from quorate.core.limits import VALUE_BYTES_MAX_DEFAULT

ROW_BYTES_MAX = 2 * VALUE_BYTES_MAX_DEFAULT
"""Of one row in the file; memory is never taken for more."""
EXCERPT_CHARACTERS = 200
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

csv.field_size_limit(ROW_BYTES_MAX)


class Row(msgspec.Struct, frozen=True, gc=False):
    """A row to store."""

    line: int
    """Number of its first line, from 1."""
    end: int
    """Offset of the byte after it."""
    end_line: int
    """How many lines of the file end at or before `end`."""
    key: bytes
    value: bytes


class Rejected(msgspec.Struct, frozen=True, gc=False):
    """A row that cannot be stored, and why."""

    line: int
    end: int
    end_line: int
    reason: str
    excerpt: str


class RowReader(Protocol):
    def rows(self, offset: int, line: int) -> Iterator[Row | Rejected]:
        """The rows from `offset`, before which there are `line` lines; 0, 0: from the beginning."""
        ...


def open_rows(path: Path, file: BinaryIO, key_field: str) -> RowReader:
    """A reader for `path` by its name: `.csv`, or else JSON Lines. Raises `CallerError` for a CSV without columns."""
    if path.suffix.lower() == ".csv":
        return CsvRows(file, key_field)
    return JsonRows(file, key_field)


class _Lines:
    """Lines of a binary file with their positions, none longer than `ROW_BYTES_MAX`."""

    def __init__(self, file: BinaryIO, offset: int, line: int) -> None:
        self._file = file
        self.offset = offset
        self.line = line
        self.too_long = False
        """The line just read was longer than allowed: its beginning was given, its rest skipped."""
        file.seek(offset)

    def next(self) -> bytes:
        """The next line with its end; empty at the end of the file."""
        body = self._file.readline(ROW_BYTES_MAX)
        self.offset += len(body)
        self.too_long = len(body) == ROW_BYTES_MAX and not body.endswith(b"\n")
        rest = body if self.too_long else b""
        while rest and not rest.endswith(b"\n"):
            rest = self._file.readline(ROW_BYTES_MAX)
            self.offset += len(rest)
        if body:
            self.line += 1
            if self.offset == len(body):
                body = body.removeprefix(_BYTE_ORDER_MARK)
        return body


class JsonRows:
    """JSON Lines; blank lines are passed over."""

    def __init__(self, file: BinaryIO, key_field: str) -> None:
        self._file = file
        self._key_field = key_field
        # Values are checked for their form only, so no number is too large and nothing is built of them.
        self._decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode

    def rows(self, offset: int, line: int) -> Iterator[Row | Rejected]:
        lines = _Lines(self._file, offset, line)
        while body := lines.next():
            text = body.strip()
            if not text:
                continue
            try:
                if lines.too_long:
                    raise CallerError(f"the line is longer than {ROW_BYTES_MAX} bytes")
                key = key_of(self._object(text), self._key_field)
            except CallerError as error:
                yield Rejected(lines.line, lines.offset, lines.line, str(error), excerpt(text))
            else:
                yield Row(lines.line, lines.offset, lines.line, key, text)

    def _object(self, text: bytes) -> dict[str, Any]:
        """The object on a line, of which only the key's field is decoded; raises `CallerError`."""
        try:
            text.decode("utf-8")
            fields = self._decode(text)
            named = fields.get(self._key_field)
            return {} if named is None else {self._key_field: msgspec.json.decode(named)}
        except UnicodeDecodeError:
            raise CallerError("not UTF-8 text") from None
        except msgspec.ValidationError as error:
            raise CallerError(f"not a JSON object: {error}") from None
        except (msgspec.DecodeError, RecursionError) as error:
            raise CallerError(f"not valid JSON: {error}") from None


class CsvRows:
    """Comma-separated values after RFC 4180, UTF-8, with a header."""

    def __init__(self, file: BinaryIO, key_field: str) -> None:
        self._file = file
        self._key_field = key_field
        header = next(self._records(0, 0), None)
        if not isinstance(header, _Record) or not header.fields:
            raise CallerError("the file has no header line that names the columns")
        self._columns = header.fields
        self._after_header = (header.end, header.end_line)
        repeated = {name for name in self._columns if self._columns.count(name) > 1}
        if repeated:
            raise CallerError(f"the header names a column twice: {', '.join(sorted(repeated))}")
        if key_field not in self._columns:
            raise CallerError(f"no column is named '{key_field}'; there are: {', '.join(self._columns)}")

    def rows(self, offset: int, line: int) -> Iterator[Row | Rejected]:
        if offset < self._after_header[0]:
            offset, line = self._after_header
        for record in self._records(offset, line):
            yield self._row(record) if isinstance(record, _Record) else record

    def _row(self, record: _Record) -> Row | Rejected:
        fields = record.fields
        try:
            if len(fields) != len(self._columns):
                raise CallerError(f"{len(fields)} fields, but the header names {len(self._columns)} columns")
            document = dict(zip(self._columns, fields, strict=True))
            key = key_of(document, self._key_field)
            value = msgspec.json.encode(document)
        except CallerError as error:
            return Rejected(record.line, record.end, record.end_line, str(error), excerpt(",".join(fields).encode()))
        return Row(record.line, record.end, record.end_line, key, value)

    def _records(self, offset: int, line: int) -> Iterator[_Record | Rejected]:
        """Records from a position on; begins anew after each broken one."""
        position: tuple[int, int] | None = (offset, line)
        while position is not None:
            source = _CsvSource(self._file, *position)
            position = None
            reader = csv.reader(source, strict=True)
            while True:
                source.begin_record()
                try:
                    fields = next(reader)
                except StopIteration:
                    break
                except (csv.Error, CallerError) as error:
                    yield source.rejected(str(error))
                    position = source.after_first_line
                    break
                if fields:
                    yield _Record(source.first_line, source.lines.offset, source.lines.line, fields)


class _Record(msgspec.Struct, frozen=True, gc=False):
    line: int
    end: int
    end_line: int
    fields: list[str]


class _CsvSource:
    """Feeds lines to a `csv.reader`, which asks for no more of them than the record at hand needs."""

    def __init__(self, file: BinaryIO, offset: int, line: int) -> None:
        self.lines = _Lines(file, offset, line)
        self.begin_record()

    def begin_record(self) -> None:
        self.first_line = self.lines.line + 1
        self.after_first_line = (self.lines.offset, self.lines.line)
        self._first: bytes | None = None
        self._bytes = 0

    def __iter__(self) -> _CsvSource:
        return self

    def __next__(self) -> str:
        body = self.lines.next()
        if not body:
            raise StopIteration
        if self._first is None:
            self._first = body[: 4 * EXCERPT_CHARACTERS]
            self.after_first_line = (self.lines.offset, self.lines.line)
        self._bytes += len(body)
        if self.lines.too_long or self._bytes > ROW_BYTES_MAX:
            raise CallerError(f"the row is longer than {ROW_BYTES_MAX} bytes; is a quote not closed?")
        try:
            return body.decode("utf-8")
        except UnicodeDecodeError:
            raise CallerError("not UTF-8 text") from None

    def rejected(self, reason: str) -> Rejected:
        """The record at hand, which is broken; the reading goes on after its first line."""
        end, end_line = self.after_first_line
        return Rejected(self.first_line, end, end_line, reason, excerpt(self._first or b""))


def key_of(document: dict[str, Any], key_field: str) -> bytes:
    """The key that a row names; raises `CallerError`."""
    if key_field not in document:
        raise CallerError(f"no field '{key_field}'")
    named = document[key_field]
    if isinstance(named, bool) or not isinstance(named, str | int):
        raise CallerError(f"field '{key_field}' must be text or an integer to be a key")
    try:
        key = str(named).encode()
    except UnicodeEncodeError:
        raise CallerError(f"field '{key_field}' is not valid Unicode") from None
    check_key(key)
    return key


def excerpt(body: bytes) -> str:
    """The beginning of a row, for the report."""
    text = body[: 4 * EXCERPT_CHARACTERS].decode("utf-8", "backslashreplace").strip()
    return text if len(text) <= EXCERPT_CHARACTERS else text[:EXCERPT_CHARACTERS] + "…"
