"""The threads in which RocksDB flushes and merges give way to the loop."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from quorate.adapters.storage.background_threads import NICENESS, lower_background_priority
from quorate.adapters.storage.rocksdb import RocksDbEngine

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are listed by Linux's /proc")


def nicenesses() -> dict[str, set[int]]:
    """The niceness of RocksDB's threads, and of the others."""
    found: dict[str, set[int]] = {"rocksdb": set(), "others": set()}
    for thread in Path("/proc/self/task").iterdir():
        kind = "rocksdb" if (thread / "comm").read_text().startswith("rocksdb") else "others"
        found[kind].add(os.getpriority(os.PRIO_PROCESS, int(thread.name)))
    return found


def test_they_are_nicer_than_the_loop(tmp_path: Path) -> None:
    before = nicenesses()["others"]
    engine = RocksDbEngine(tmp_path, lambda callback: callback())
    try:
        assert lower_background_priority() >= 2, "one flushes, one merges"
        assert nicenesses() == {"rocksdb": {NICENESS}, "others": before}
    finally:
        engine.close()


def test_an_engine_lowers_them_as_it_opens(tmp_path: Path) -> None:
    engine = RocksDbEngine(tmp_path, lambda callback: callback())
    try:
        assert nicenesses()["rocksdb"] == {NICENESS}
    finally:
        engine.close()
