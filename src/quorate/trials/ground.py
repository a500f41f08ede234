"""What a trial stands on: the loopback or namespaces, the machine's disk or a small one; and what it could not have.

A trial that needs what this machine or this user does not allow is skipped, with the reason (`Skipped`). Whatever was
made is taken away again, however the trial ends.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from quorate.core.errors import QuorateError
from quorate.core.limits import MIB

COMMAND_TIMEOUT_S: Final = 20.0
DISK_BYTES: Final = 96 * MIB
_BLOCK_BYTES: Final = 64 * 1024


class Skipped(QuorateError):
    """This trial, or a part of it, is not possible here; the message says why."""


class CommandFailed(QuorateError):
    """A program of the system could not do what a trial needs; the message has its own words."""


def command(*arguments: str) -> str:
    """Run a program of the system, and give what it prints; raises `CommandFailed`."""
    if shutil.which(arguments[0]) is None:
        raise CommandFailed(f"there is no program `{arguments[0]}` on this machine")
    try:
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise CommandFailed(f"`{' '.join(arguments)}` did not end within {COMMAND_TIMEOUT_S:g} s") from None
    if done.returncode != 0:
        raise CommandFailed(f"`{' '.join(arguments)}`: {done.stderr.strip() or f'exit code {done.returncode}'}")
    return done.stdout


def need(*arguments: str) -> None:
    """Run a program whose failure says that this machine or user is not fit for a trial; raises `Skipped`."""
    try:
        command(*arguments)
    except CommandFailed as error:
        raise Skipped(str(error)) from None


def need_root(what: str) -> None:
    if os.geteuid() != 0:
        raise Skipped(f"{what} needs root")


class SmallDisk:
    """A file system of its own for one node, small enough to be filled."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    def fill(self) -> int:
        """Write until the disk is full; gives the number of bytes that it took."""
        written = 0
        file = os.open(self._filler, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            for block in (bytes(_BLOCK_BYTES), b"\0"):
                try:
                    while written <= DISK_BYTES:
                        written += os.write(file, block)
                except OSError:
                    continue
        finally:
            os.close(file)
        return written

    def free(self) -> None:
        self._filler.unlink(missing_ok=True)


@contextmanager
def small_disk(path: Path) -> Iterator[SmallDisk]:
    """A tmpfs on `path`, unmounted at the end."""
    need_root("mounting a small file system")
    path.mkdir()
    need("mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=700", "tmpfs", str(path))
    try:
        yield SmallDisk(path)
    finally:
        command("umount", "--lazy", str(path))


def run_in(namespace: str) -> Sequence[str]:
    """What stands before a command that is to run in a network namespace; the process keeps its id."""
    return ("ip", "netns", "exec", namespace)
