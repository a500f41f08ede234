"""Small JSON documents on disk that must never be half there: a node's identity, a cluster's founding file, a journal.

Invariants:
- A reader finds the old document or the new one, whole, whatever happens in between (hard case 26): the new bytes go
  to a temporary file, are synced, take the name by `rename`, and the directory is synced.
- A document carries a checksum of itself, so damage is told apart from content (hard case 25).

Rejected: keeping these facts in the storage engine. They say whose store it is and must be readable when the engine
does not open. Rejected: a bare JSON file; an editor's slip or a flipped bit would be believed.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xxhash import xxh3_64_hexdigest

from quorate.core.errors import StartupError

DOCUMENT_BYTES_MAX = 16 * 1024 * 1024
_CHECKSUM = "checksum"


class DamagedDocument(StartupError):
    """The file is there and is not what was written."""


def write_document(path: Path, document: Mapping[str, Any], mode: int = 0o644) -> None:
    """Replace the file at `path` by `document`, atomically and durably; raises `OSError` and leaves the old one."""
    body = _with_checksum(document)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
        try:
            write_all(descriptor, body)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_directory(path.parent)


def read_document(path: Path, what: str, remedy: str) -> dict[str, Any] | None:
    """The document at `path`, None if there is no such file; raises `StartupError` if it is damaged or unreadable.

    `what` names the document in the message ("the node's identity"), `remedy` says what to do about it.
    """
    try:
        with path.open("rb") as file:
            body = file.read(DOCUMENT_BYTES_MAX + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StartupError(f"cannot read {what} in {path}: {reason(error)}; {remedy}") from None
    try:
        document = json.loads(body)
        if not isinstance(document, dict):
            raise ValueError("not an object")
        if document.get(_CHECKSUM) != _checksum(document):
            raise ValueError("its checksum does not match its content")
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise DamagedDocument(f"{what} in {path} is damaged ({error}); {remedy}") from None
    del document[_CHECKSUM]
    return document


def write_all(descriptor: int, body: bytes) -> None:
    """Write every byte; `os.write` may write fewer."""
    view = memoryview(body)
    while view:
        view = view[os.write(descriptor, view) :]


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable; raises `OSError`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def reason(error: OSError) -> str:
    """What went wrong, in words that a person can act on."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full"
    if error.errno in (errno.EACCES, errno.EPERM):
        return "permission denied"
    if error.errno == errno.EROFS:
        return "the file system is read-only"
    return (error.strerror or str(error)).lower()


def _with_checksum(document: Mapping[str, Any]) -> bytes:
    return json.dumps({**document, _CHECKSUM: _checksum(document)}, indent=1).encode() + b"\n"


def _checksum(document: Mapping[str, Any]) -> str:
    rest = {name: value for name, value in document.items() if name != _CHECKSUM}
    return xxh3_64_hexdigest(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode())
