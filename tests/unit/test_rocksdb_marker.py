"""The marker of unclean stops: complete or not believed, whatever happens to its file."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from quorate.adapters.storage import marker as marker_module
from quorate.adapters.storage.marker import MARKER_NAME, Marker, read_marker, write_marker

OPEN = Marker("open", "boot-1", 7, suspect=False)
CLOSED = Marker("closed", "boot-1", 12, suspect=True)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    assert read_marker(tmp_path) is None
    for marker in (OPEN, CLOSED):
        write_marker(tmp_path, marker)
        assert read_marker(tmp_path) == marker
    assert [file.name for file in tmp_path.iterdir()] == [MARKER_NAME]


def test_no_flipped_byte_and_no_truncation_is_believed(tmp_path: Path) -> None:
    """Hard case 25."""
    write_marker(tmp_path, CLOSED)
    file = tmp_path / MARKER_NAME
    pristine = file.read_bytes()
    for position in range(len(pristine)):
        for mask in (0x01, 0x80):
            content = bytearray(pristine)
            content[position] ^= mask
            file.write_bytes(content)
            assert read_marker(tmp_path) is None, f"byte {position} flipped by {mask:#x}"
        file.write_bytes(pristine[:position])
        assert read_marker(tmp_path) is None, f"cut at {position}"
    file.write_bytes(pristine + b"more")
    assert read_marker(tmp_path) is None
    file.write_bytes(bytes(10_000_000))
    assert read_marker(tmp_path) is None


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_full_disk_leaves_the_old_marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """Hard case 26: ENOSPC at every step before the rename."""
    write_marker(tmp_path, OPEN)

    def full(*_arguments: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(marker_module.os, call, full)
    with pytest.raises(OSError, match="No space left"):
        write_marker(tmp_path, CLOSED)
    monkeypatch.undo()
    assert read_marker(tmp_path) == OPEN
    assert [file.name for file in tmp_path.iterdir()] == [MARKER_NAME]


def test_the_content_is_synced_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    real_sync, real_replace = os.fsync, Path.replace

    def fsync(descriptor: int) -> None:
        events.append(f"sync {Path(f'/proc/self/fd/{descriptor}').readlink().name}")
        real_sync(descriptor)

    def replace(path: Path, target: Path) -> Path:
        events.append("rename")
        return real_replace(path, target)

    monkeypatch.setattr(marker_module.os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replace)
    write_marker(tmp_path, OPEN)
    assert events == [f"sync {MARKER_NAME}.new", "rename", f"sync {tmp_path.name}"]


def test_short_writes_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_write = os.write
    monkeypatch.setattr(marker_module.os, "write", lambda descriptor, content: real_write(descriptor, content[:5]))
    write_marker(tmp_path, CLOSED)
    assert read_marker(tmp_path) == CLOSED
