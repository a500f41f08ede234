"""Loopback ports for tests, which nothing else takes between the moment they are chosen and the moment they are bound.

A port that the kernel gives (by binding port 0) lies in the range of outgoing connections: once it is let go, any
process may get it before the test has bound it, or while a node is down. So tests take theirs from below that range,
in blocks of `BLOCK`, and hold a lock on each block for as long as they use it.
"""

from __future__ import annotations

import fcntl
import random
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

BLOCK = 300
BASE_PORTS = range(11_000, 31_000, BLOCK)
"""Below the ports that the kernel gives to outgoing connections."""


def locked_blocks() -> Iterator[tuple[int, BinaryIO]]:
    """Blocks that no other test process holds, in any order: the first port, and the lock, which ends when closed."""
    bases = list(BASE_PORTS)
    random.shuffle(bases)
    for base in bases:
        lock = (Path(tempfile.gettempdir()) / f"quorate-test-ports-{base}.lock").open("ab")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
        else:
            yield base, lock


def _ports() -> Iterator[int]:
    """Ports of this process's own blocks, each once; the blocks are held until it ends."""
    for base, lock in locked_blocks():
        _held.append(lock)
        for port in range(base, base + BLOCK):
            try:
                socket.create_server(("127.0.0.1", port)).close()
            except OSError:
                continue
            yield port
    raise AssertionError("no free ports")


def free_ports(count: int) -> list[int]:
    """Ports that are free now, and that no other test gets."""
    return [next(_own_ports) for _ in range(count)]


_held: list[BinaryIO] = []
_own_ports = _ports()
