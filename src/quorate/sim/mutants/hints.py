"""Planted bugs in hinted handoff: what is kept for a home that is away, until it has it."""

from __future__ import annotations

from typing import Any

from quorate.node import get_operation, hints, replica
from quorate.node.handoff import Handoff
from quorate.node.hints import HintStore
from quorate.node.put_operation import PutOperation
from quorate.sim.faults import DAYS, ONE_DOWN
from quorate.sim.mutants.patches import Patches
from quorate.sim.mutants.registry import mutant
from quorate.sim.options import SimOptions


@mutant("A hint is removed when it is sent, not when its home has it.", ("hint", "D"), hard_cases=(14, 15))
def a_hint_is_dropped_as_soon_as_it_is_sent(patches: Patches) -> None:
    def hand_over(self: Any, home: Any, delivery: Any, stored_key: bytes, stored: bytes) -> None:
        self._node.hints.remove_if_unchanged(stored_key, stored)
        genuine(self, home, delivery, stored_key, stored)

    genuine = patches.replace(Handoff, "_hand_over", hand_over)


@mutant("A delivery that was refused, or not answered, counts as done.", ("hint", "D"), hard_cases=(15,))
def a_failed_delivery_counts_as_success(patches: Patches) -> None:
    def settled(self: Any, home: Any, delivery: Any, stored_key: bytes, stored: bytes, *, gone: bool) -> None:
        genuine(self, home, delivery, stored_key, stored, gone=True)

    genuine = patches.replace(Handoff, "_settled", settled)


@mutant(
    "A hint that has grown while it was on its way is removed when the older one has arrived.",
    ("hint", "D"),
    SimOptions(seconds=20, clients=12, keys=3, cold_keys=0, faults=("isolate", "kill", "partition", ONE_DOWN)),
    "another write of the same key must fall into the time in which a hint is delivered",
    (14,),
)
def a_hint_is_removed_although_it_has_changed(patches: Patches) -> None:
    def remove(self: Any, stored_key: bytes, stored: bytes) -> bool:
        present = self._commits.get_hint(stored_key)
        return present is not None and genuine(self, stored_key, present)

    genuine = patches.replace(HintStore, "remove_if_unchanged", remove)


@mutant("A node that starts does not look which hints it has.", ("hint",), hard_cases=(9,))
def hints_are_forgotten_at_a_restart(patches: Patches) -> None:
    def init(self: Any, **parts: Any) -> None:
        genuine(self, **parts)
        self.by_home = {}

    genuine = patches.replace(HintStore, "__init__", init)


@mutant("Hints are handed over when a home connects, and at no other time.", ("hint",), hard_cases=(9,))
def hints_wait_for_a_connection(patches: Patches) -> None:
    patches.replace(Handoff, "start", lambda self: None)


@mutant("A stand-in counts and is sent nothing.", ("W",), hard_cases=(14,))
def a_put_keeps_no_hint_for_whom_it_misses(patches: Patches) -> None:
    patches.replace(PutOperation, "_send_hinted", lambda self, member, home: self.on_acknowledged(member))


@mutant("A fallback that merges a newer write into a hint keeps the older one only.", ("W", "hint", "D"))
def a_second_write_for_a_home_is_not_merged_into_its_hint(patches: Patches) -> None:
    patches.replace(hints, "_merged", lambda old, new, flags: old)


@mutant(
    "Hints never grow too old, neither where they are kept nor where they are taken in.",
    ("G", "Z"),
    SimOptions(seconds=40, faults=(DAYS, "isolate", "kill")),
    "half of grace must pass while a hint waits for its home",
    (15,),
    "nothing is collected while a home is away, since all replicas must prove what they hold; and a holder that was"
    " away for so long empties itself, hints and all",
)
def hints_never_expire(patches: Patches) -> None:
    patches.replace(HintStore, "expired", lambda self, hint: False)
    patches.replace(replica, "beyond_horizon", lambda record, wall_ms, grace_ms: False)
    patches.replace(get_operation, "beyond_horizon", lambda record, wall_ms, grace_ms: False)


@mutant(
    "A hint waits for its home although that is gone or keeps the key no more.",
    ("hint", "plan"),
    SimOptions(seconds=20, faults=("membership", "kill", "power", "wipe", "partition", "isolate", "pause", "restart")),
    "homes are gone only after memberships have changed",
    (14,),
)
def hints_wait_for_homes_that_are_gone(patches: Patches) -> None:
    patches.replace(Handoff, "_targets", lambda self, home, stored_key: [home])
