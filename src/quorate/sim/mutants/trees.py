"""Planted bugs in what makes replicas equal without any read: hash trees and exchanges."""

from __future__ import annotations

from typing import Any

from quorate.node.anti_entropy import AntiEntropy
from quorate.node.exchange import Exchange
from quorate.node.records import RecordStore
from quorate.node.tree_documents import load_trees
from quorate.node.trees import Trees
from quorate.sim.faults import DAYS, MEMBERSHIP
from quorate.sim.mutants.patches import Patches
from quorate.sim.mutants.registry import mutant
from quorate.sim.options import SimOptions


def stop_comparing(patches: Patches) -> None:
    """No node begins an exchange."""
    patches.replace(AntiEntropy, "start", lambda self: None)
    patches.replace(AntiEntropy, "wake", lambda self, peer: None)


@mutant("Replicas compare nothing by themselves.", ("C",), hard_cases=(28,))
def replicas_never_compare(patches: Patches) -> None:
    stop_comparing(patches)


@mutant(
    "An exchange finds what differs, moves nothing, and counts the two as equal.",
    ("C", "Q", "R", "D"),
    SimOptions(seconds=20, faults=(MEMBERSHIP,)),
    "a newcomer that counts as filled is missed at once, and other replicas have hints to make them equal",
    (28,),
)
def an_exchange_moves_nothing(patches: Patches) -> None:
    async def move(self: Any, *what: Any) -> None:
        pass

    patches.replace(Exchange, "_take", move)
    patches.replace(Exchange, "_give", move)


@mutant(
    "An exchange goes one way only: who begins it gives nothing; and only nodes with a higher number begin any.",
    ("C", "G"),
    hard_cases=(28,),
)
def exchanges_go_one_way(patches: Patches) -> None:
    async def give(self: Any, *rest: Any) -> None:
        pass

    async def run(self: Any) -> Any:
        return await genuine(self) if self._node.self_number > self._peer else self.figures

    patches.replace(Exchange, "_give", give)
    genuine = patches.replace(Exchange, "run", run)


@mutant(
    "The hash trees are not told of removals.",
    ("T", "C"),
    SimOptions(seconds=30, faults=(DAYS, MEMBERSHIP)),
    "records are removed only where something is collected, or not kept any more",
)
def trees_do_not_hear_of_removals(patches: Patches) -> None:
    def remove(self: Any, key: bytes, digest: int, callback: Any, argument: Any) -> bool:
        stored = self.read(key)
        if stored is None or stored[0] != digest:
            return False
        self._cache.forget(key)
        self._commits.put(key, None, False, callback, argument)
        return True

    patches.replace(RecordStore, "remove", remove)


@mutant(
    "While a tree is made anew, what is written behind the walk is counted by the write and again by the walk.",
    ("T",),
    SimOptions(seconds=20, faults=("kill", "power")),
    "trees are made anew after unclean stops",
    (28,),
)
def the_walk_counts_again_what_writes_have_counted(patches: Patches) -> None:
    def update(self: Any, key: bytes, delta: int) -> None:
        self._forests[self.n_of(key)].update(key, delta)

    patches.replace(Trees, "_update_with_care", update)


@mutant(
    "Hash trees that a clean stop has saved are loaded after an unclean one, too.",
    ("T",),
    SimOptions(seconds=20, faults=("kill", "restart")),
    "a clean stop must come before an unclean one",
    (28,),
)
def trees_on_the_disk_are_always_believed(patches: Patches) -> None:
    def start(self: Any) -> None:
        self._unready = dict.fromkeys(load_trees(self._engine, self._shape(), self._forests) or [], b"")
        self._choose_update()
        self._walk_soon()

    patches.replace(Trees, "start", start)
