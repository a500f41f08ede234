"""What may happen to a file: cut off at any offset, or one bit of any byte flipped. And stores whose files are known.

A test run tries a part of the offsets, every time the same. To try all of them (half an hour on one core):
`QUORATE_EVERY_OFFSET=1 make test ARGS="-n 0 -s --timeout 1800 -k damaged tests/regressions"`, which also shows how
many there were and what became of them.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

EVERY_OFFSET = bool(os.environ.get("QUORATE_EVERY_OFFSET"))


MEMORY = Path("/dev/shm")


def quick_folder() -> Iterator[Path]:
    """An empty folder for a test, in memory where the system has that: what is tried here is opened and synced
    thousands of times, and what a sync is good for is not the question."""
    with tempfile.TemporaryDirectory(dir=MEMORY if os.access(MEMORY, os.W_OK) else None) as folder:
        yield Path(folder)


def offsets(count: int, tried_max: int) -> range:
    """At most about `tried_max` of the first `count` offsets, evenly spread; all if every offset is wanted."""
    return range(0, count, 1 if EVERY_OFFSET else max(1, -(-count // tried_max)))


def damaged(content: bytes, tried_max: int) -> Iterator[tuple[str, bytes]]:
    """(what happened, what is left) for truncations and for single flipped bits, at `offsets`."""
    for offset in offsets(len(content), tried_max):
        yield f"cut at {offset}", content[:offset]
        bit = offset % 8
        flipped = content[offset] ^ (1 << bit)
        yield f"bit {bit} of byte {offset} flipped", content[:offset] + bytes([flipped]) + content[offset + 1 :]


def files_of(folder: Path) -> dict[str, bytes]:
    """Relative path → content of every file under `folder` that a start reads; RocksDB's reports to people are none."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith("LOG")
    }


def lay_out(folder: Path, files: dict[str, bytes]) -> Path:
    """Make `folder` hold exactly these files; returns it."""
    folder.mkdir(exist_ok=True)
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink()
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


# Stores that a process has left without closing them. `STORE` has all kinds of files: tables of a life that was closed,
# a table and the log of one that was not, and a manifest that has grown meanwhile.

WRITES = 6
STORE = f"""
import os, signal, sys
from pathlib import Path
from quorate.adapters.storage.rocksdb import RocksDbEngine
from quorate.core.ports import Space

def live(life):
    engine = RocksDbEngine(Path(sys.argv[1]), lambda callback: None)
    for number in range({WRITES}):
        if life == 2 and number == 2:
            for family in engine._families:
                family.flush()
        engine.write([(space, b"%d-%d" % (life, number), b"written") for space in Space]
                     + [(space, b"k", b"%d-%d" % (life, number)) for space in Space])
    return engine

live(1).close()
engine = live(2)
os.kill(os.getpid(), signal.SIGKILL)
"""


def run_and_be_killed(program: str, path: Path) -> None:
    """Run a program that works on the store at `path` and ends by `kill -9`."""
    ended = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
