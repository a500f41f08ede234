"""What a run depends on, and what came of it: the two documents that pass between processes.

A run is a function of its seed and of its `SimOptions`, and of nothing else. What the options leave open, the seed
chooses (`swarm.py`).
"""

from __future__ import annotations

import msgspec

from quorate.core.buckets import Durability
from quorate.sim.faults import KINDS
from quorate.sim.history import Violation


class SimOptions(msgspec.Struct, frozen=True):
    """What a run depends on besides its seed."""

    nodes: int = 0
    """Founding members; 0: the seed chooses."""
    seconds: float = 60.0
    """Virtual seconds of load, in half of the seeds the last three of them without faults."""
    clients: int = 0
    """0: the seed chooses."""
    keys: int = 5
    """In each of the three buckets, used all the time."""
    durability: Durability | None = None
    """None: the seed chooses."""
    faults: tuple[str, ...] = KINDS
    """Kinds that may occur; the seed chooses among them."""
    cold_keys: int = 40
    """In each bucket, used seldom."""
    skipped: tuple[str, ...] = ()
    """Names of faults, as the transcript shows them (`f12`), that do not happen: how a failing run is made smaller."""
    mutant: str = ""
    """A bug that is planted on purpose (`mutants`); "" is the code as it is."""


class Outcome(msgspec.Struct, frozen=True):
    """What came of a run. `trace_hash` covers every delivered frame, operation and fault."""

    seed: int
    trace_hash: str
    events: int
    virtual_ms: int
    durability: str
    operations: dict[str, int]
    faults: dict[str, int]
    violations: list[Violation]
    reached: dict[str, int] = {}
    """Event → how often nodes, or the simulator, counted it."""
    nodes: int = 0
    """How many members founded the cluster."""
    occurred: list[str] = []
    """Names of the faults that happened, in their order: what `SimOptions.skipped` can leave out."""

    @property
    def ok(self) -> bool:
        return not self.violations
