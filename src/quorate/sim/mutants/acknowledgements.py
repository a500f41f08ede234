"""Planted bugs in what an acknowledgement says: that W nodes hold the write, as durably as the bucket asks."""

from __future__ import annotations

import inspect
from typing import Any

from quorate.core.messages import Status
from quorate.core.quorum.put_tally import FAIL, WAIT
from quorate.node import coordinator
from quorate.node.commit_queue import CommitQueue
from quorate.node.node import Node
from quorate.node.put_operation import JointPutOperation, PutOperation
from quorate.node.records import RecordStore
from quorate.node.replica import Replica
from quorate.node.requests import RequestTable
from quorate.sim.faults import ONE_DOWN
from quorate.sim.mutants.patches import Patches
from quorate.sim.mutants.registry import mutant
from quorate.sim.options import SimOptions


@mutant("A put is acknowledged at W-1 replicas.", ("W", "R", "D"), hard_cases=(11,))
def acknowledge_one_replica_early(patches: Patches) -> None:
    place = list(inspect.signature(PutOperation.__init__).parameters).index("w") - 1

    def init(self: Any, *arguments: Any) -> None:
        genuine(self, *arguments[:place], max(1, arguments[place] - 1), *arguments[place + 1 :])

    genuine = patches.replace(PutOperation, "__init__", init)


@mutant("Whoever waits for an fsync is told at once that it is done.", ("W", "D"), hard_cases=(27,))
def fsync_is_skipped(patches: Patches) -> None:
    def sync(self: Any, waiters: Any) -> None:
        for callback, argument in waiters:
            callback(argument, True)

    patches.replace(CommitQueue, "_sync", sync)


@mutant("A put is answered, and sent on, before its own commit is with the operating system.", ("W", "D", "dot"))
def reply_before_the_commit(patches: Patches) -> None:
    def write(self: Any, key: Any, body: Any, marker: Any, synced: Any, callback: Any, argument: Any, old: Any) -> None:
        callback(argument, True)
        genuine(self, key, body, marker, synced, _nobody, argument, old)

    genuine = patches.replace(RecordStore, "write", write)


@mutant("Replicas acknowledge what they have not stored.", ("W", "D"))
def replicas_acknowledge_and_store_nothing(patches: Patches) -> None:
    def merge(self: Any, key: Any, body: Any, lww: Any, synced: Any, callback: Any, argument: Any, *rest: Any) -> None:
        callback(argument, True)

    patches.replace(RecordStore, "merge", merge)


@mutant("Stand-ins count in buckets whose writes only homes may acknowledge.", ("W", "R"))
def fallbacks_count_although_the_bucket_is_strict(patches: Patches) -> None:
    def plan(node: Any, placement: Any, strict: bool) -> Any:
        return genuine(node, placement, False)

    genuine = patches.replace(coordinator, "plan_put", plan)


@mutant(
    "A slow home and the one that stands in for it count as two, also when the hint has gone home since.",
    ("W",),
    SimOptions(seconds=30, nodes=5, durability="fsync", faults=("pause", "slow disk", "slow node")),
    "a home must be slow and acknowledge late, its hint be faster, and the put still wait for its own disk",
    (11,),
)
def a_fallback_counts_beside_its_home(patches: Patches) -> None:
    def held_by(self: Any, member: int, home: int) -> Any:
        self.covered.clear()
        return genuine(self, member, home)

    genuine = patches.replace(PutOperation, "_held_by", held_by)


@mutant(
    "A replica whose acknowledgement comes twice counts twice.",
    ("W",),
    SimOptions(seconds=20, faults=("duplication", "slow link", "slow disk")),
    "a message must come twice, and the put still be undecided",
    (11,),
)
def an_acknowledgement_that_comes_twice_counts_twice(patches: Patches) -> None:
    def on_reply(self: Any, member: int, message: Any) -> None:
        if message.status == Status.OK and member not in self.awaited and not self.decided:
            self.awaited.append(member)
            self.covered.clear()
        genuine(self, member, message)

    genuine = patches.replace(PutOperation, "on_reply", on_reply)


@mutant("A put that may have been done is reported as not done.", ("F",), hard_cases=(31,))
def unknown_is_called_not_done(patches: Patches) -> None:
    def settle(self: Any, verdict: int, silent: Any = None) -> None:
        if verdict == FAIL:
            self.reply(self.node.failure("unavailable", "not done", []))
            verdict = WAIT
        genuine(self, verdict, silent)

    genuine = patches.replace(PutOperation, "_settle", settle)


@mutant("Deadlines of requests are not looked at.", ("reply",))
def nobody_looks_at_the_clock(patches: Patches) -> None:
    patches.replace(RequestTable, "remind", lambda self, number, delay_ms: None)


@mutant("A put is answered a second time when the local commit comes late.", ("reply",))
def answers_come_twice(patches: Patches) -> None:
    def on_committed(self: Any, durable: bool) -> None:
        genuine(self, durable)
        if self.decided:
            self.reply(self.result)

    genuine = patches.replace(PutOperation, "on_committed", on_committed)


@mutant(
    "A sloppy put does without stand-ins.",
    ("A",),
    SimOptions(seconds=20, faults=(ONE_DOWN,)),
    "check A is asked only where nothing else than one node at a time is down",
    (13,),
)
def nobody_stands_in(patches: Patches) -> None:
    def plan(node: Any, placement: Any, strict: bool) -> Any:
        return genuine(node, placement, True)

    genuine = patches.replace(coordinator, "plan_put", plan)


@mutant(
    "A copy of a forwarded put is judged anew, after the first was refused.",
    ("F",),
    hard_cases=(31,),
    unseen_because="between a forward and its copy the reason for the refusal must go; one seed of the swarm has shown"
    " it (227, as the code was then), and hard case 31 is told by hand",
)
def a_forward_that_comes_twice_is_done_twice(patches: Patches) -> None:
    patches.replace(Node, "_first_of", lambda self, member, number: True)


@mutant(
    "Requests whose time was up on the way are carried out.",
    ("F", "Z", "D", "R", "W"),
    hard_cases=(31, 32),
    unseen_because="records merge in any order and at any time, and whoever asked was told that the outcome is unknown:"
    " it costs capacity under overload, which no check counts",
)
def expired_requests_are_done(patches: Patches) -> None:
    def without_age(target: Any, name: str) -> None:
        genuine = getattr(target, name)
        patches.replace(target, name, lambda self, member, message, age_ms: genuine(self, member, message, 0.0))

    for name in ("on_write", "on_hinted_write"):
        without_age(Replica, name)
    without_age(Node, "_on_forward")


@mutant(
    "What makes W of one of a partition's two sides is acknowledged.",
    ("W", "Q", "R", "D"),
    SimOptions(seconds=20, faults=("membership", "kill", "partition", "isolate", "pause", "slow link")),
    "two sides exist only while memberships change",
    (11, 12),
)
def one_side_is_enough(patches: Patches) -> None:
    def init(self: Any, node: Any, bucket: Any, placement: Any, *rest: Any) -> None:
        genuine(self, node, bucket, placement, *rest)
        self._joint.sides = placement.sides[1:]

    genuine = patches.replace(JointPutOperation, "__init__", init)


def _nobody(argument: object, durable: bool) -> None:
    pass
