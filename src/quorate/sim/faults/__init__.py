"""The faults of a run, by subject: `processes`, `links`, `hardware`, and the `schedule` that draws them.

Only the names of the kinds are to be had from here, so that whoever needs no more loads no cluster.
"""

from quorate.sim.faults.kinds import BIT_FLIP, DAYS, DISK_ERROR, DISK_FULL, KINDS, MEMBERSHIP, ONE_DOWN, READ_ONLY

__all__ = ["BIT_FLIP", "DAYS", "DISK_ERROR", "DISK_FULL", "KINDS", "MEMBERSHIP", "ONE_DOWN", "READ_ONLY"]
