"""What the disk's errors mean: from RocksDB's and the system's messages to typed errors that name cause and next step.

`rocksdict` raises bare `Exception`s, so their text is all there is to tell a full disk from a broken one. The texts are
those of the C library and of RocksDB's status codes, both stable for decades; an unknown text passes through unchanged.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final

from quorate.core.errors import DamagedRecord, StartupError, StorageError

_ADVICE: Final = {
    errno.ENOSPC: "free some space, then restart the node",
    errno.EDQUOT: "raise the quota or free some space, then restart the node",
    errno.EIO: "the disk is failing: replace it, then start the node with an empty data directory",
    errno.EROFS: "the file system is read-only: look into the kernel's log, repair and remount it, then restart",
    errno.EACCES: "give the user that runs the node read and write access",
    errno.EPERM: "give the user that runs the node read and write access",
    errno.EMFILE: "raise the limit on open files (ulimit -n), then restart the node",
    errno.ENFILE: "the machine ran out of file handles: raise fs.file-max, then restart the node",
    errno.ENOENT: "restore the directory, or move it away and start the node with an empty one: its peers will fill it",
    errno.ENOTDIR: "a file stands where a directory is needed: name another data directory",
}
_ADVICE_BY_TEXT: Final = {os.strerror(number): (number, advice) for number, advice in _ADVICE.items()}


def is_corruption(error: Exception) -> bool:
    """Does RocksDB say that stored bytes do not match their checksum or structure?"""
    return str(error).startswith("Corruption")


def is_lock(error: Exception) -> bool:
    """Does RocksDB say that someone else has the database open?"""
    text = str(error)
    return "lock hold by current process" in text or "While lock file" in text


def explain(error: Exception) -> str:
    """The error's text, led by the name of its system error and followed by the next step, where they are known."""
    text = str(error)
    for phrase, (number, advice) in _ADVICE_BY_TEXT.items():
        if phrase in text:
            return f"{errno.errorcode[number]}: {text}; {advice}"
    return text


def read_error(path: Path, error: Exception) -> StorageError:
    """For a failed get or scan; corruption is `DamagedRecord`, which does not mean that the disk as a whole fails."""
    if is_corruption(error):
        return DamagedRecord(
            f"a stored block in {path} is damaged and counts as missing: {error}. Repair brings back what was in it; if"
            " that keeps the node from starting, move the directory away and start the node with an empty one"
        )
    return StorageError(f"cannot read from {path}: {explain(error)}")


def write_error(path: Path, error: Exception) -> StorageError:
    """For a failed write."""
    return StorageError(f"cannot write to {path}: {explain(error)}")


def sync_error(path: Path, error: Exception) -> StorageError:
    """For a failed sync of the log, after which nobody knows which writes are on the disk."""
    return StorageError(f"cannot bring the log of {path} to the disk: {explain(error)}")


def open_error(path: Path, error: Exception) -> StartupError:
    """For a store that cannot be opened."""
    if is_lock(error):
        return StartupError(f"the data directory {path} is in use by another process; stop that one or name another")
    if is_corruption(error):
        text = " ".join(str(error).split())  # RocksDB's may have several lines.
        return StartupError(
            f"the store in {path} is damaged: {text}. Move the directory away and start the node with an empty one:"
            " its peers hold the other replicas and will fill it again"
        )
    return StartupError(f"cannot open the store in {path}: {explain(error)}")
