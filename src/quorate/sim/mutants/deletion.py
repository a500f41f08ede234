"""Planted bugs in how what is dead is forgotten: tombstones, expiry, collection, and long absences."""

from __future__ import annotations

from typing import Any

from quorate.core.limits import COLLECT_ENTRIES_MAX
from quorate.core.record import TOMBSTONE, Record, decode_record, encode_record
from quorate.node import collector, records
from quorate.node.absence import Absence
from quorate.node.collector import Collector
from quorate.node.get_operation import GetOperation
from quorate.node.records import RecordStore
from quorate.sim.faults import DAYS
from quorate.sim.mutants.patches import Patches
from quorate.sim.mutants.registry import mutant
from quorate.sim.mutants.trees import stop_comparing
from quorate.sim.options import SimOptions

_DAYS = SimOptions(seconds=30, faults=(DAYS,))
_WHY = "nothing is collected unless days pass"


@mutant("Tombstones are left out when records are merged.", ("D",), hard_cases=(3, 10))
def sync_forgets_tombstones(patches: Patches) -> None:
    def sync(left: Record, right: Record) -> Record:
        return _without_tombstones(genuine(left, right))

    genuine = patches.replace(records, "sync", sync)


@mutant(
    "A read repairs replicas that are behind with the values, and leaves out the tombstones.",
    ("D", "Z", "C"),
    SimOptions(
        seconds=20,
        clients=10,
        keys=2,
        cold_keys=5,
        faults=("partition", "one way", "bridge", "ring", "isolate", "loss"),
    ),
    "a read must find a replica that lacks a delete, before its hint or an exchange does",
    (3, 10),
)
def read_repair_drops_tombstones(patches: Patches) -> None:
    def repair(self: Any, behind: Any) -> None:
        self.merged = encode_record(_without_tombstones(decode_record(self.merged)))
        genuine(self, behind)

    genuine = patches.replace(GetOperation, "_repair", repair)


@mutant(
    "What is dead is collected without asking whether all replicas hold the same; nor do they compare by themselves.",
    ("G", "Z"),
    _DAYS,
    _WHY,
    (15, 22, 23),
)
def collection_without_proof(patches: Patches) -> None:
    patches.replace(collector, "_confirmed", lambda answers, member: frozenset(range(COLLECT_ENTRIES_MAX)))
    stop_comparing(patches)  # So that what differs does so for long enough to be met.


@mutant("What is dead is collected after half of grace.", ("G",), _DAYS, _WHY, (15, 22))
def collection_before_grace_is_over(patches: Patches) -> None:
    def horizon_ms(self: Any) -> int:
        return int(self._node.clock.wall_ms() - self._node.options.grace_ms // 2)

    patches.replace(Collector, "horizon_ms", horizon_ms)


@mutant("A collection removes a key also if it was written again since the proof.", ("G", "D"), _DAYS, _WHY, (23,))
def a_record_written_since_the_proof_is_removed_too(patches: Patches) -> None:
    def read(self: Any, key: bytes, digest: int) -> Record | None:
        stored = self._node.records.read(key)
        return None if stored is None else decode_record(stored[2])

    def remove(self: Any, key: bytes, digest: int, callback: Any, argument: Any) -> Any:
        return genuine(self, key, self.read(key)[0], callback, argument)

    patches.replace(Collector, "_read", read)
    genuine = patches.replace(RecordStore, "remove", remove)
    patches.replace(collector, "collected", lambda record, horizon_ms: None)


@mutant(
    "A store that was away for longer than grace keeps what it has, although others have collected meanwhile.",
    ("G", "Z"),
    _DAYS,
    "a node must be away while days pass",
    (16, 22),
    "nothing is collected that the absent store has a replica of, since all must prove what they hold; it takes a disk"
    " that was set back to an older day, which no fault does (tests/regressions have that story)",
)
def a_store_away_for_longer_than_grace_keeps_all(patches: Patches) -> None:
    def settle(self: Any, collected_by: str) -> None:
        genuine(self, "")

    genuine = patches.replace(Absence, "_settle", settle)


def _without_tombstones(record: Record) -> Record:
    return Record(record.clock, [sibling for sibling in record.siblings if sibling.kind != TOMBSTONE])
