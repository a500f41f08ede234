"""What a process of ours does to itself, whichever it is: a node, a command, a load generator."""

from __future__ import annotations

import gc
import os
import sys
from typing import Final

_GC_THRESHOLDS: Final = (50_000, 50, 100)
"""What requests allocate dies by reference counting; the collector only has to find the rare cycle."""


def settle_garbage_collector() -> None:
    """Everything made so far lives as long as the process: the collector need never look at it again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)


def turn_stdout_to_nowhere() -> None:
    """Nobody reads it any more: what is left in it would be written once more at exit, and fail loudly.

    Raises `OSError`, and `ValueError` if there is no stdout.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
