"""The marker: a small file that tells a start whether the last life of the store ended properly.

It is written at opening ("open", with the machine's boot id) and at closing ("closed", with the log's last sequence
number). A later start concludes:
- closed: nothing is missing, if the store still reaches the recorded sequence number;
- open, same boot id: the process died, the machine did not; what was written is there;
- open, other or unknown boot id: the machine went down, writes that were not synced may be missing;
- failed: the disk refused a write or a sync; a refused sync may have dropped earlier writes as well;
- no marker, or a damaged one: nothing is known, so the worst is assumed.

Invariants:
- the file on the disk is always one complete marker, the old or the new: written aside, synced, renamed, and the
  directory synced. A full disk leaves the old state intact (hard case 26);
- a damaged file is never believed: the first line is the marker, the second its checksum (hard case 25);
- `suspect` carries the finding "writes may be missing" from life to life until it was acted upon, so that a node that
  dies between learning it and acting on it is told again.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final, Literal

import msgspec
import xxhash

MARKER_NAME: Final = "engine.state"
MARKER_BYTES_MAX: Final = 4096
_BOOT_ID_PATH: Final = Path("/proc/sys/kernel/random/boot_id")


class Marker(msgspec.Struct, frozen=True):
    """One state of the store. JSON on the disk, so that people can read it."""

    state: Literal["open", "closed", "failed"]
    boot_id: str
    """Empty: this system has none."""
    sequence: int
    """RocksDB's sequence number when the marker was written; a store that ends below it has lost writes."""
    suspect: bool
    format: int = 1


def read_boot_id() -> str:
    """What identifies this run of the machine; empty where the system does not tell."""
    try:
        return _BOOT_ID_PATH.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def read_marker(directory: Path) -> Marker | None:
    """The marker in `directory`; None if there is none, or none to be believed. Raises `OSError` if unreadable."""
    try:
        with (directory / MARKER_NAME).open("rb") as file:
            content = file.read(MARKER_BYTES_MAX + 1)
    except FileNotFoundError:
        return None
    body, separator, checksum = content.partition(b"\n")
    if not separator or checksum != _checksum_line(body):
        return None
    try:
        marker = msgspec.json.decode(body, type=Marker)
    except msgspec.DecodeError:
        return None
    return marker if marker.format == 1 else None


def write_marker(directory: Path, marker: Marker) -> None:
    """Replace the marker durably. Raises `OSError`; then a complete marker stands, as a rule the old one."""
    body = msgspec.json.encode(marker)
    aside = directory / (MARKER_NAME + ".new")
    try:
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            _write_all(descriptor, body + b"\n" + _checksum_line(body))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        aside.replace(directory / MARKER_NAME)
        sync_directory(directory)
    except OSError:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)
        raise


def sync_directory(directory: Path) -> None:
    """Make renames in `directory` durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content) :]


def _checksum_line(body: bytes) -> bytes:
    return xxhash.xxh3_64_hexdigest(body).encode() + b"\n"
