"""What the tests of `sim/workers.py` have done: in a module of its own, which new processes load quickly."""

from __future__ import annotations

import os
import threading


def work(task: int) -> tuple[int, int, int]:
    """(the task, the process, how it hashes a string). 13 dies, 99 never ends, 7 is a bug."""
    if task == 13:
        os._exit(3)
    if task == 7:
        raise ValueError("a bug of the task")
    if task == 99:
        threading.Event().wait()
    return task, os.getpid(), hash("a string")
