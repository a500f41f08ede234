"""Planted bugs in what a read, or a listing, answers."""

from __future__ import annotations

import inspect
from copy import copy
from typing import Any

from quorate.core.envelope import HEADER_BYTES, digest_of
from quorate.core.errors import DamagedRecord
from quorate.core.quorum.get_tally import GetTally
from quorate.node import get_operation, records, replica, sweep
from quorate.node.filling import Filling
from quorate.node.get_operation import GetOperation
from quorate.node.records import RecordStore
from quorate.sim.faults import BIT_FLIP, MEMBERSHIP
from quorate.sim.mutants.patches import Patches
from quorate.sim.mutants.registry import mutant
from quorate.sim.options import SimOptions


@mutant("A read is answered when R-1 replicas have.", ("R", "Q"), hard_cases=(12,))
def read_stops_one_replica_early(patches: Patches) -> None:
    place = list(inspect.signature(GetOperation.__init__).parameters).index("r") - 1

    def init(self: Any, *arguments: Any) -> None:
        genuine(self, *arguments[:place], max(1, arguments[place] - 1), *arguments[place + 1 :])

    genuine = patches.replace(GetOperation, "__init__", init)


@mutant(
    "Fallbacks answer for homes also where only homes count.",
    ("R",),
    SimOptions(seconds=20, faults=("partition", "isolate", "kill", "one way", "bridge", "ring")),
    "homes must be out of reach of some, and in reach of others",
    (12,),
)
def fallbacks_answer_although_the_bucket_is_strict(patches: Patches) -> None:
    def init(self: Any, node: Any, bucket: Any, *rest: Any) -> None:
        lenient = copy(bucket)
        lenient.strict = False
        genuine(self, node, lenient, *rest)

    genuine = patches.replace(GetOperation, "__init__", init)


@mutant(
    "A replica that is asked instead of another, or as a hedge, counts twice.",
    ("R", "Q"),
    SimOptions(seconds=40, faults=("slow link", "pause", "slow disk", "partition", "isolate")),
    "reads are hedged where some replica is slow",
    (33,),
)
def a_hedge_counts_twice(patches: Patches) -> None:
    def take_unasked(self: Any) -> Any:
        self.needed = max(1, self.needed - 1)
        return genuine(self)

    genuine = patches.replace(GetTally, "take_unasked", take_unasked)


@mutant("The first full record is the answer, whatever the other digests say.", ("R", "Q"))
def digests_that_differ_are_not_looked_into(patches: Patches) -> None:
    def verdict(self: Any) -> Any:
        for member, digest in self.answers.items():
            if digest not in self.bodies:
                self.answers[member] = next(iter(self.answers.values()))
        return genuine(self)

    genuine = patches.replace(GetTally, "_verdict", verdict)


@mutant("Values are read although they have expired.", ("Z",), hard_cases=(24,))
def expired_values_are_answered(patches: Patches) -> None:
    def live(record: Any, now_ms: int) -> Any:
        return genuine(record, 0)

    genuine = patches.replace(get_operation, "live_siblings", live)


@mutant("Listings name keys that are deleted or have expired.", ("L",))
def what_is_dead_is_listed(patches: Patches) -> None:
    patches.replace(replica, "live_siblings", lambda record, now_ms: record.siblings)


@mutant(
    "What is stored is believed without its checksum.",
    ("F", "C", "record", "exception"),
    SimOptions(seconds=20, faults=(BIT_FLIP,)),
    "of many faults, few flip a bit",
    (25,),
)
def damaged_records_are_returned(patches: Patches) -> None:
    def unpack(key: bytes, stored: bytes) -> tuple[int, int, bytes]:
        body = stored[HEADER_BYTES:]
        return digest_of(key, body), int.from_bytes(stored[HEADER_BYTES - 8 : HEADER_BYTES], "big"), body

    patches.replace(records, "unpack", unpack)
    patches.replace(sweep, "unpack", unpack)


@mutant(
    "A damaged record is answered as if there were none, and is left as it is.",
    ("C", "T", "R", "D", "Q"),
    SimOptions(seconds=20, faults=(BIT_FLIP,)),
    "of many faults, few flip a bit",
    (25, 28),
)
def damage_reads_as_nothing(patches: Patches) -> None:
    def read(self: Any, key: bytes, remember: bool = True) -> Any:
        try:
            return genuine(self, key, remember)
        except DamagedRecord:
            return None

    genuine = patches.replace(RecordStore, "read", read)
    patches.replace(RecordStore, "on_damaged", lambda self, key: None)


@mutant(
    "A store whose disk was lost answers reads before it is filled.",
    ("R", "Q"),
    SimOptions(seconds=40, faults=("wipe", "kill", "isolate", "partition", "slow link", MEMBERSHIP)),
    "of many faults, few lose a disk, and a third replica must have missed the write as well",
    (1, 22),
    "the checks R and Q excuse whatever was acknowledged before a disk was lost; so it has a story of its own",
)
def an_empty_store_answers_as_if_it_were_filled(patches: Patches) -> None:
    patches.replace(Filling, "holds_back", lambda self, partition, n: False)
