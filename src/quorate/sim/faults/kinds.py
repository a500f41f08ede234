"""The names of all kinds of faults, without any of the code behind them: options and commands need only these."""

from __future__ import annotations

from typing import Final

ONE_DOWN: Final = "one down"
DAYS: Final = "days"
BIT_FLIP: Final = "bit flip"
DISK_FULL: Final = "disk full"
DISK_ERROR: Final = "disk error"
READ_ONLY: Final = "read only"
MEMBERSHIP: Final = "membership"

KINDS: Final = (
    "kill",
    "power",
    "crash loop",
    "restart",
    "wipe",
    "partition",
    "one way",
    "isolate",
    "reset",
    "slow link",
    "slow node",
    "loss",
    "duplication",
    "reordering",
    "pause",
    "clock jump",
    "slow disk",
    "ring",
    "bridge",
    "flap",
    ONE_DOWN,
    DAYS,
    BIT_FLIP,
    DISK_FULL,
    DISK_ERROR,
    READ_ONLY,
    MEMBERSHIP,
)
