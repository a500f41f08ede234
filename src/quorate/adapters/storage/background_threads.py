"""RocksDB's own threads, which flush memtables and merge tables, give way to the loop.

All replicas of a key take the same writes, so their memtables are full at the same moment, and on a machine that has
few cores for its nodes all of them flushed and merged at once, and the requests waited: 300 ms at the 99.9th percentile
at two fifths of the peak, every time. On Linux each thread has a niceness of its own; with `NICENESS` such a thread
gets a tenth of what the loop's gets as long as the loop wants the core, and all of it otherwise.

A thread that has a core keeps it for some milliseconds all the same, and the loops crowd on the other cores meanwhile;
therefore what these threads do is also cut into portions (`rocksdb_options`).

Rejected: the lowest priority, and the class of idle threads, which keeps the tail shorter than anything else. Under a
load that never lets up the merging would fall behind until RocksDB stops the writes, and who is not root cannot raise
a priority again.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

NICENESS: Final = 10
_THREADS: Final = Path("/proc/self/task")
_NAME: Final = "rocksdb"
"""With which the names of its threads begin."""


def lower_background_priority() -> int:
    """Lower the priority of RocksDB's threads in this process; how many there are. Harmless when repeated.

    Where threads have no priorities of their own, or cannot be listed, nothing is done.
    """
    lowered = 0
    with suppress(OSError):
        for thread in sorted(_THREADS.iterdir()):
            with suppress(OSError):  # It has ended meanwhile.
                if (thread / "comm").read_text().startswith(_NAME):
                    os.setpriority(os.PRIO_PROCESS, int(thread.name), NICENESS)
                    lowered += 1
    return lowered
