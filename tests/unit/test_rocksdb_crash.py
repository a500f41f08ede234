"""What RocksDB's adapter finds after its process, or its machine, went down."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from quorate.adapters.storage import marker as marker_module
from quorate.adapters.storage.marker import read_marker
from quorate.adapters.storage.rocksdb import RocksDbEngine
from quorate.core.errors import StorageError
from quorate.core.ports import OpenReport, Space

END = b"\xff" * 64
BATCHES = 50
WRITER = f"""
import os, signal, sys
from pathlib import Path
from quorate.adapters.storage.rocksdb import RocksDbEngine
from quorate.core.ports import Space
engine = RocksDbEngine(Path(sys.argv[1]), lambda callback: None)
for number in range({BATCHES}):
    engine.write([(space, b"%03d" % number, b"v" * 100) for space in Space])
print(engine.report.fresh, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.close()


def opened(path: Path, loop: asyncio.AbstractEventLoop) -> RocksDbEngine:
    return RocksDbEngine(path, loop.call_soon_threadsafe)


def sync(engine: RocksDbEngine, loop: asyncio.AbstractEventLoop) -> None:
    future: asyncio.Future[StorageError | None] = loop.create_future()
    engine.sync(future.set_result)
    assert loop.run_until_complete(asyncio.wait_for(future, 20)) is None


def write_and_be_killed(path: Path) -> str:
    ended = subprocess.run([sys.executable, "-c", WRITER, str(path)], capture_output=True, text=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    return ended.stdout.strip()


def newest_log(path: Path) -> Path:
    return max((path / "rocksdb").glob("*.log"), key=lambda log: log.stat().st_size)


def pretend_reboot(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    boot_id = tmp_path / "boot_id"
    boot_id.write_text("11111111-2222-3333-4444-555555555555\n")
    monkeypatch.setattr(marker_module, "_BOOT_ID_PATH", boot_id)


def test_a_killed_process_loses_nothing_that_was_written(tmp_path: Path, loop: asyncio.AbstractEventLoop) -> None:
    assert write_and_be_killed(tmp_path / "n1") == "True"
    engine = opened(tmp_path / "n1", loop)
    assert engine.report == OpenReport(fresh=False, clean=False, may_have_lost_writes=False)
    for space in Space:
        assert len(list(engine.scan(space, b"", END))) == BATCHES
    engine.close()
    again = opened(tmp_path / "n1", loop)
    assert again.report == OpenReport(fresh=False, clean=True, may_have_lost_writes=False)
    again.close()


def test_an_unclean_stop_of_the_machine_may_have_lost_writes(
    tmp_path: Path, loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_and_be_killed(tmp_path / "n1")
    pretend_reboot(monkeypatch, tmp_path)
    engine = opened(tmp_path / "n1", loop)
    assert engine.report == OpenReport(fresh=False, clean=False, may_have_lost_writes=True)
    engine.close()


def test_a_reboot_after_a_clean_stop_loses_nothing(
    tmp_path: Path, loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = opened(tmp_path / "n1", loop)
    engine.write([(Space.DATA, b"k", b"v")])
    engine.close()
    pretend_reboot(monkeypatch, tmp_path)
    again = opened(tmp_path / "n1", loop)
    assert again.report == OpenReport(fresh=False, clean=True, may_have_lost_writes=False)
    again.close()


def test_an_unknown_boot_id_is_never_the_same(
    tmp_path: Path, loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(marker_module, "_BOOT_ID_PATH", tmp_path / "absent")
    engine = opened(tmp_path / "n1", loop)
    engine.write([(Space.DATA, b"k", b"v")])
    engine._syncer.stop()  # As the end of a process: no close, no marker.
    engine._release()
    again = opened(tmp_path / "n1", loop)
    assert again.report == OpenReport(fresh=False, clean=False, may_have_lost_writes=True)
    again.close()


def test_possible_loss_is_repeated_until_a_sync_is_done(
    tmp_path: Path, loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that stops before it could act on the finding, even properly, learns it again (hard case 1)."""
    write_and_be_killed(tmp_path / "n1")
    pretend_reboot(monkeypatch, tmp_path)
    opened(tmp_path / "n1", loop).close()
    engine = opened(tmp_path / "n1", loop)
    assert engine.report == OpenReport(fresh=False, clean=True, may_have_lost_writes=True)
    sync(engine, loop)
    engine.close()
    again = opened(tmp_path / "n1", loop)
    assert again.report == OpenReport(fresh=False, clean=True, may_have_lost_writes=False)
    again.close()


@pytest.mark.parametrize("damage", ["flip", "cut", "flip-last"])
def test_a_torn_log_gives_a_prefix_of_the_writes(tmp_path: Path, loop: asyncio.AbstractEventLoop, damage: str) -> None:
    """Hard case 25: no wrong value, the node starts, and is told that writes are missing, however the log looks."""
    write_and_be_killed(tmp_path / "n1")
    log = newest_log(tmp_path / "n1")
    content = bytearray(log.read_bytes())
    if damage == "cut":
        del content[len(content) // 2 :]
    else:
        content[len(content) // 2 if damage == "flip" else -1] ^= 0x10
    log.write_bytes(content)
    engine = opened(tmp_path / "n1", loop)
    assert not engine.report.clean
    assert engine.report.may_have_lost_writes
    found = [list(engine.scan(space, b"", END)) for space in Space]
    expected = [(b"%03d" % number, b"v" * 100) for number in range(len(found[0]))]
    assert found == [expected] * len(Space), "whole batches only, over all spaces, from the first on"
    assert 0 < len(expected) < BATCHES
    engine.close()


def test_a_store_that_lost_its_end_after_a_clean_stop_is_found_out(
    tmp_path: Path, loop: asyncio.AbstractEventLoop
) -> None:
    """The directory of yesterday with the marker of today: the sequence number tells."""
    engine = opened(tmp_path / "n1", loop)
    engine.write([(Space.DATA, b"k", b"v")])
    engine.close()
    marker = (tmp_path / "n1" / marker_module.MARKER_NAME).read_bytes()
    for file in sorted((tmp_path / "n1" / "rocksdb").iterdir()):
        file.unlink()
    again = opened(tmp_path / "n1", loop)
    assert again.report == OpenReport(fresh=True, clean=True, may_have_lost_writes=True)
    again.close()
    assert (tmp_path / "n1" / marker_module.MARKER_NAME).read_bytes() != marker


def test_a_store_that_never_held_anything_stays_fresh(tmp_path: Path, loop: asyncio.AbstractEventLoop) -> None:
    opened(tmp_path / "n1", loop).close()
    engine = opened(tmp_path / "n1", loop)
    assert engine.report == OpenReport(fresh=True, clean=True, may_have_lost_writes=False)
    engine.write([(Space.META, b"k", b"v")])
    engine.close()
    again = opened(tmp_path / "n1", loop)
    assert not again.report.fresh
    again.close()


def test_the_open_marker_names_this_boot(tmp_path: Path, loop: asyncio.AbstractEventLoop) -> None:
    engine = opened(tmp_path / "n1", loop)
    marker = read_marker(tmp_path / "n1")
    assert marker is not None
    assert marker.state == "open"
    assert marker.boot_id == marker_module.read_boot_id() != ""
    engine.close()
