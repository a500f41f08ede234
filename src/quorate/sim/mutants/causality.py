"""Planted bugs in what tells which write replaced which: dots, contexts, merging, and last-write-wins."""

from __future__ import annotations

from typing import Any

from quorate.core.causality.actor import make_actor
from quorate.core.causality.hybrid_logical_clock import LOGICAL_BITS
from quorate.core.causality.version_vectors import join
from quorate.core.record import Record, encode_record
from quorate.node import records
from quorate.node.epochs import Epochs
from quorate.node.records import Coordinated, RecordStore
from quorate.sim.mutants.patches import Patches
from quorate.sim.mutants.registry import mutant
from quorate.sim.options import SimOptions


@mutant(
    "A store that has lost its data begins its counters anew under the actor that it had.",
    ("dot", "D"),
    SimOptions(seconds=20, faults=("wipe", "power")),
    "of many faults, few lose data",
    (1, 2),
)
def dots_are_reused_after_data_loss(patches: Patches) -> None:
    patches.replace(Epochs, "mint", lambda self: make_actor(self._counter._member, 1))


@mutant(
    "After a power cut that took unsynced writes, a store goes on with the actors that it had.",
    ("dot", "D"),
    SimOptions(seconds=40, durability="os", faults=("power",)),
    "of many faults, few cut the power, and with fsync nothing is lost",
    (1, 2),
)
def no_floor_after_a_lost_machine(patches: Patches) -> None:
    def init(self: Any, **parts: Any) -> None:
        genuine(self, **parts)
        self.floor = 0

    genuine = patches.replace(Epochs, "__init__", init)


@mutant("Of concurrent siblings that meet in a merge, one is kept.", ("D",), hard_cases=(8,))
def sync_drops_a_sibling(patches: Patches) -> None:
    def sync(left: Record, right: Record) -> Record:
        merged: Record = genuine(left, right)
        return Record(merged.clock, merged.siblings[:1]) if len(merged.siblings) > 1 else merged

    genuine = patches.replace(records, "sync", sync)


@mutant("A merge keeps what one of the two sides knows to be overwritten.", ("Z",), hard_cases=(8,))
def sync_keeps_what_was_overwritten(patches: Patches) -> None:
    def sync(left: Record, right: Record) -> Record:
        kept = {sibling.dot: sibling for sibling in left.siblings + right.siblings}
        return Record(join(left.clock, right.clock), [kept[dot] for dot in sorted(kept)])

    patches.replace(records, "sync", sync)


@mutant("A put does not replace what its context covers.", ("Z",), hard_cases=(6,))
def the_context_is_ignored(patches: Patches) -> None:
    def update(record: Any, context: Any, *rest: Any) -> Any:
        return genuine(record, type(context)({}, context.time), *rest)

    genuine = patches.replace(records, "update", update)


@mutant(
    "An operation that a store has done already is done again.",
    ("Z", "D", "F"),
    hard_cases=(5,),
    unseen_because="readers are shown one event of each operation, and what the second replaces it has seen: to the"
    " checks it is a write like any other",
)
def a_repeated_operation_is_done_twice(patches: Patches) -> None:
    patches.replace(records, "has_operation", lambda record, operation: None)


@mutant("Under last-write-wins the earliest write wins.", ("D",))
def the_earliest_write_wins(patches: Patches) -> None:
    def resolve(record: Record) -> Record:
        return Record(record.clock, [min(record.siblings, key=lambda sibling: sibling.time)])

    patches.replace(records, "resolve_last_write_wins", resolve)


@mutant("Under last-write-wins the wall clock decides, also between a value and what has replaced it.", ("D", "Z"))
def the_wall_clock_overrules_causality(patches: Patches) -> None:
    def coordinate(self: Any, found: Any, request: Any, ttl_ms: int, last_write_wins: bool) -> Any:
        made: Coordinated = genuine(self, found, request, ttl_ms, last_write_wins)
        before, (after, _, marker, base) = found[0], made
        if not last_write_wins or before is None or not before.siblings or after.siblings == before.siblings:
            return made
        latest = max(before.siblings, key=lambda sibling: sibling.time)
        if latest.time <= self._clock.wall_ms() << LOGICAL_BITS:
            return made
        record = Record(after.clock, [latest])
        return record, encode_record(record), marker, base

    genuine = patches.replace(RecordStore, "coordinate", coordinate)
