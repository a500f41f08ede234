"""Failing and damaged disks, directories in use: the adapter says what is wrong, and never acknowledges falsely."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rocksdict import Rdict, WriteBatch

from quorate.adapters.storage.marker import MARKER_NAME, read_marker
from quorate.adapters.storage.rocksdb import RocksDbEngine
from quorate.core.errors import DamagedRecord, StartupError, StorageError
from quorate.core.ports import OpenReport, Space

END = b"\xff" * 64


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB of its own."""
    mount_point = tmp_path / "small"
    mount_point.mkdir()
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    mounted = subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(mount_point)], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount a tmpfs here: {mounted.stderr.strip()}")
    yield mount_point
    subprocess.run(["umount", "-l", str(mount_point)], check=True)


def opened(path: Path, loop: asyncio.AbstractEventLoop, **sizes: int) -> RocksDbEngine:
    return RocksDbEngine(path, loop.call_soon_threadsafe, **sizes)


def sync(engine: RocksDbEngine, loop: asyncio.AbstractEventLoop) -> StorageError | None:
    future: asyncio.Future[StorageError | None] = loop.create_future()
    engine.sync(future.set_result)
    return loop.run_until_complete(asyncio.wait_for(future, 20))


def test_a_full_disk_fences_and_loses_nothing_acknowledged(small_disk: Path, loop: asyncio.AbstractEventLoop) -> None:
    """Hard cases 26 and 27: ENOSPC by name, no later write or sync succeeds, and what was written before is there."""
    path = small_disk / "n1"
    engine = opened(path, loop)
    written = 0
    with pytest.raises(StorageError, match=r"ENOSPC.*free some space") as caught:
        for number in range(10_000):
            engine.write([(Space.DATA, b"%05d" % number, os.urandom(10_000))])
            written += 1
    assert 100 < written < 10_000
    with pytest.raises(StorageError, match="ENOSPC"):
        engine.write([(Space.DATA, b"later", b"v")])
    with pytest.raises(StorageError, match="ENOSPC"):
        engine.delete_range(Space.DATA, b"", END)
    assert sync(engine, loop) is caught.value, "a sync would claim what is not known"
    assert engine.get(Space.DATA, b"00000") is not None, "reads go on"
    engine.close()
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    again = opened(path, loop)
    assert not again.report.clean
    found = [key for key, _ in again.scan(Space.DATA, b"", END)]
    assert found[:written] == [b"%05d" % number for number in range(written)]
    again.close()


def test_a_disk_that_is_full_at_the_start_leaves_the_marker_alone(
    small_disk: Path, loop: asyncio.AbstractEventLoop
) -> None:
    path = small_disk / "n1"
    engine = opened(path, loop)
    engine.write([(Space.DATA, b"k", b"v")])
    engine.close()
    before = (path / MARKER_NAME).read_bytes()
    filler = small_disk / "filler"
    with pytest.raises(OSError, match="No space"), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    with pytest.raises(StartupError, match="ENOSPC"):
        opened(path, loop)
    assert (path / MARKER_NAME).read_bytes() == before
    filler.unlink()
    again = opened(path, loop)
    assert again.report == OpenReport(fresh=False, clean=True, may_have_lost_writes=False)
    assert again.get(Space.DATA, b"k") == b"v"
    again.close()


def test_a_failed_write_is_final_even_if_the_disk_recovers(tmp_path: Path, loop: asyncio.AbstractEventLoop) -> None:
    """RocksDB resumes by itself when there is space again; the node must not, before someone has looked."""
    engine = opened(tmp_path / "n1", loop)

    def fail(_batch: WriteBatch) -> None:
        engine._commit = engine._database.write
        raise OSError("IO error: No space left on device: While appending to file: 000004.log")

    engine._commit = fail
    for _ in range(2):
        with pytest.raises(StorageError, match="ENOSPC"):
            engine.write([(Space.DATA, b"k", b"v")])
    assert sync(engine, loop) is not None
    assert engine.get(Space.DATA, b"k") is None
    engine.close()
    again = opened(tmp_path / "n1", loop)
    assert again.report == OpenReport(fresh=True, clean=True, may_have_lost_writes=True)
    again.close()


class FailingOnce:
    """A database whose first sync of the log fails, and whose later ones claim success."""

    def __init__(self, database: Rdict) -> None:
        self._database = database
        self.tries = 0

    def flush_wal(self, sync: bool) -> None:
        self.tries += 1
        if self.tries == 1:
            raise OSError("IO error: Input/output error: While fsync: 000004.log")
        self._database.flush_wal(sync)

    def latest_sequence_number(self) -> int:
        return self._database.latest_sequence_number()

    def close(self) -> None:
        self._database.close()


def test_a_failed_sync_is_final_and_remembered(
    tmp_path: Path, loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that failed to sync once may claim success later; nobody is told so (hard case 27)."""
    engine = opened(tmp_path / "n1", loop)
    engine.write([(Space.DATA, b"k", b"v")])
    disk = FailingOnce(engine._database)
    monkeypatch.setattr(engine, "_database", disk)
    first, second = sync(engine, loop), sync(engine, loop)
    assert first is not None
    assert first is second
    assert "EIO" in str(first)
    with pytest.raises(StorageError, match="EIO"):
        engine.write([(Space.DATA, b"k", b"w")])
    engine.close()
    marker = read_marker(tmp_path / "n1")
    assert marker is not None
    assert marker.state == "failed"
    assert disk.tries == 1
    del disk
    monkeypatch.undo()
    again = opened(tmp_path / "n1", loop)
    assert again.report == OpenReport(fresh=False, clean=False, may_have_lost_writes=True)
    again.close()


def test_a_directory_in_use_is_refused_by_name(tmp_path: Path, loop: asyncio.AbstractEventLoop) -> None:
    engine = opened(tmp_path / "n1", loop)
    marker = (tmp_path / "n1" / MARKER_NAME).read_bytes()
    with pytest.raises(StartupError, match=r"n1 is in use"):
        opened(tmp_path / "n1", loop)
    other = (
        "import sys; from pathlib import Path; from quorate.adapters.storage.rocksdb import RocksDbEngine;"
        "RocksDbEngine(Path(sys.argv[1]), lambda callback: None)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", other, str(tmp_path / "n1")], capture_output=True, text=True, check=False
    )
    assert ended.returncode != 0
    assert "n1 is in use by another process" in ended.stderr
    assert (tmp_path / "n1" / MARKER_NAME).read_bytes() == marker
    engine.write([(Space.DATA, b"k", b"v")])
    engine.close()


def test_a_path_that_is_a_file_is_refused(tmp_path: Path, loop: asyncio.AbstractEventLoop) -> None:
    (tmp_path / "n1").write_text("not a directory")
    with pytest.raises(StartupError, match=r"ENOTDIR|EEXIST"):
        opened(tmp_path / "n1", loop)


def test_a_damaged_block_is_never_returned(tmp_path: Path, loop: asyncio.AbstractEventLoop) -> None:
    """Hard case 25: whatever byte of the table file is flipped, no get and no scan shows a wrong value."""
    path = tmp_path / "n1"
    engine = opened(path, loop)
    expected = {b"%03d" % number: os.urandom(200) for number in range(100)}
    engine.write([(Space.DATA, key, value) for key, value in expected.items()])
    engine.close()
    (table,) = (path / "rocksdb").glob("*.sst")
    pristine = table.read_bytes()
    damaged_gets = damaged_scans = 0
    for position in range(0, len(pristine), len(pristine) // 20):
        content = bytearray(pristine)
        content[position] ^= 0x20
        table.write_bytes(content)
        try:
            engine = opened(path, loop)
        except StartupError as error:
            assert "damaged" in str(error)
            continue
        for key, value in expected.items():
            try:
                assert engine.get(Space.DATA, key) == value
            except DamagedRecord:
                damaged_gets += 1
        try:
            assert dict(engine.scan(Space.DATA, b"", END)) == expected
        except DamagedRecord:
            damaged_scans += 1
        engine.close()
    assert damaged_gets > 0
    assert damaged_scans > 0


@pytest.mark.parametrize("lost", ["CURRENT", "MANIFEST-*", "*.sst"])
def test_a_database_that_lost_a_file_is_not_opened_as_an_empty_one(
    tmp_path: Path, loop: asyncio.AbstractEventLoop, lost: str
) -> None:
    path = tmp_path / "n1"
    engine = opened(path, loop)
    engine.write([(Space.DATA, b"k", b"v")])
    engine.close()
    for file in sorted((path / "rocksdb").glob(lost)):
        file.unlink()
    tables = sorted((path / "rocksdb").glob("*.sst"))
    with pytest.raises(StartupError, match="n1"):
        opened(path, loop)
    assert sorted((path / "rocksdb").glob("*.sst")) == tables, "nothing was erased"


def test_free_fraction_follows_the_file_system(small_disk: Path, loop: asyncio.AbstractEventLoop) -> None:
    engine = opened(small_disk / "n1", loop)
    engine._free_measured = (float("-inf"), 1.0)
    before = engine.free_fraction()
    (small_disk / "filler").write_bytes(bytes(4_000_000))
    assert engine.free_fraction() == before, "a measurement is good for a second"
    engine._free_measured = (float("-inf"), 1.0)
    assert engine.free_fraction() < before - 0.3
    engine.close()
