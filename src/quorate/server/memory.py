"""How much memory a node's caches may fill: a share of what the machine has, or of what its control group may use.

Two caches hold what is stored: records as the node uses them (`node.record_cache`), which are the fastest and take the
most bytes for a record, and blocks of the engine's tables, which hold many more small ones. What is in neither is read
from the page cache of the operating system, five to ten microseconds later. Both caches grow only as far as there is
something to hold.

A cache of records that does not hold what is in use costs half of the rate: 100,000 records of 1000 bytes take 130 MB.

Rejected: one size for all machines (too much for a container of half a gigabyte, too little for everything else), and
sizes that change while the node runs.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from quorate.core.limits import MIB

CACHE_BYTES_MIN: Final = 24 * MIB
CACHE_BYTES_DEFAULT_MIN: Final = 96 * MIB
CACHE_BYTES_DEFAULT_MAX: Final = 768 * MIB
SHARE: Final = 24
"""Of the memory, that is: three nodes on one machine fill an eighth of it with their caches."""
CONTROL_GROUP_LIMITS: Final = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


class CacheBytes(NamedTuple):
    """What each cache may hold at most."""

    records: int
    blocks: int


def cache_bytes(wanted: int, memory: int) -> CacheBytes:
    """How `wanted` bytes are shared out; 0: as many as suit a machine with `memory` bytes."""
    total = wanted or min(CACHE_BYTES_DEFAULT_MAX, max(CACHE_BYTES_DEFAULT_MIN, memory // SHARE))
    return CacheBytes(records=total // 3, blocks=total - total // 3)


def memory_bytes(limits: Iterable[Path] = CONTROL_GROUP_LIMITS) -> int:
    """Bytes of the machine's memory, or what the control group of this process may use, if that is less."""
    found = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for limit in limits:
        try:
            found = min(found, int(limit.read_text()))
        except (OSError, ValueError):
            continue  # There is no such group, or no limit ("max").
    return found
