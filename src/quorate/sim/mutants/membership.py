"""Planted bugs in how data follow the ring: filling, stages, fencing, and what a node keeps no more."""

from __future__ import annotations

from typing import Any, Final

from msgspec.structs import replace

from quorate.core.ports import Space
from quorate.core.ring import advance
from quorate.core.ring.transition import Stage
from quorate.node import steward
from quorate.node.collector import Collector
from quorate.node.exchange_responder import ExchangeResponder
from quorate.node.node import Node
from quorate.node.plan_filling import PlanFilling
from quorate.node.replica import Replica
from quorate.node.ring_keeper import RingKeeper
from quorate.node.sweep import Sweep
from quorate.sim.faults import MEMBERSHIP
from quorate.sim.mutants.patches import Patches
from quorate.sim.mutants.registry import mutant
from quorate.sim.options import SimOptions

CALM: Final = SimOptions(seconds=20, faults=(MEMBERSHIP,))
ROUGH: Final = SimOptions(
    seconds=20, faults=(MEMBERSHIP, "kill", "power", "wipe", "partition", "isolate", "pause", "restart", "slow disk")
)
LAGGING: Final = SimOptions(
    seconds=30, faults=(MEMBERSHIP, "isolate", "partition", "one way", "slow link", "slow node", "flap", "pause")
)
_UNSEEN: Final = (
    "whoever connects, and whoever is refused, is told of a newer ring within milliseconds, so hardly anybody acts by"
    " an older one when it matters; hard cases 11 and 12 are told by hand, with nodes that hear nothing, and see it"
)
_WHY: Final = "it takes changes of the membership, which few seeds of the plain swarm have"


@mutant("A stage begins although newcomers are not filled.", ("Q", "R", "D"), CALM, _WHY, (11, 12))
def stages_do_not_wait_for_newcomers(patches: Patches) -> None:
    def may_advance(placements: Any, confirmed: Any, filled: Any, quorums: Any) -> Any:
        began = placements.transition.began
        every = {member.number: began for member in placements.ring.members}
        return genuine(placements, confirmed, every, quorums)

    genuine = patches.replace(steward, "may_advance", may_advance)


@mutant(
    "A stage begins although the replicas before have not confirmed the one under way.",
    ("Q", "R", "D", "W"),
    LAGGING,
    "a replica must miss the change of the ring while others go on",
    (11, 12),
    _UNSEEN,
)
def stages_do_not_wait_for_confirmations(patches: Patches) -> None:
    patches.replace(advance, "_unconfirmed", lambda placements, confirmed, quorums: None)


@mutant("A newcomer says that it is filled, and serves, before it is.", ("Q", "R", "D"), CALM, _WHY, (11,))
def newcomers_serve_before_they_are_filled(patches: Patches) -> None:
    def on_ring(self: Any) -> None:
        genuine(self)
        self.waiting = {}

    genuine = patches.replace(PlanFilling, "on_ring", on_ring)


@mutant(
    "Replicas do as requests of an older ring say, as if nothing had changed.",
    ("Q", "R", "W", "D", "stray"),
    LAGGING,
    "a coordinator must miss a change of the ring while its requests arrive",
    (11, 12),
    _UNSEEN,
)
def the_ring_version_is_ignored(patches: Patches) -> None:
    ignore_ring_versions(patches)


@mutant(
    "Replicas ignore the ring version of requests, and stages do not wait for confirmations.",
    ("Q", "R", "W", "D", "stray"),
    LAGGING,
    "a coordinator must miss two changes of the ring while its requests arrive",
    (11, 12),
    _UNSEEN,
)
def neither_ring_versions_nor_confirmations(patches: Patches) -> None:
    ignore_ring_versions(patches)
    stages_do_not_wait_for_confirmations(patches)


def ignore_ring_versions(patches: Patches) -> None:
    """Every handler takes a request of an older ring for one of its own."""

    def as_of_now(target: Any, name: str, keeper: Any) -> None:
        def handle(self: Any, member: int, message: Any, age_ms: float) -> Any:
            view = keeper(self)
            if message.ring_version < view.version:
                message = replace(message, ring_version=view.version)
            return genuine(self, member, message, age_ms)

        genuine = patches.replace(target, name, handle)

    for name in ("on_write", "on_hinted_write", "on_hinted_read", "on_read", "on_scan"):
        as_of_now(Replica, name, lambda self: self._view)
    as_of_now(Node, "_on_forward", lambda self: self._shared.view)
    for name in ("on_ask", "on_collect"):
        as_of_now(Collector, name, lambda self: self._node.view)
    for name in ("on_tree_roots", "on_tree_sums", "on_leaf_keys"):
        as_of_now(ExchangeResponder, name, lambda self: self._node.view)


@mutant(
    "A node goes by a ring before that is on its disk.",
    ("ring",),
    SimOptions(seconds=20, faults=(MEMBERSHIP, "power")),
    "the power must fail in the moment in which a ring is written",
    (19,),
)
def a_ring_is_gone_by_before_it_is_durable(patches: Patches) -> None:
    def settle(self: Any, held: Any, then: Any, failed: Any = None) -> None:
        state = held.take()
        if state is not None:
            self._write(state)
        reply = held.saved()
        self._go_by_newest()
        then(reply)

    patches.replace(RingKeeper, "settle", settle)


@mutant(
    "What a member is to lose is dropped when it is read no more.", ("stray", "W", "D", "R", "G"), CALM, _WHY, (11,)
)
def what_goes_is_dropped_as_soon_as_it_is_not_read(patches: Patches) -> None:
    def on_ring(self: Any) -> None:
        genuine(self)
        node = self._node
        transition = node.view.ring.transition
        if transition is None or transition.stage != Stage.READ_NEW:
            return
        for key, _ in list(node.engine.scan(Space.DATA, b"", b"\xff\xff\xff")):
            sides = self._placed(key)[1].sides
            stored = node.records.read(key)
            if sides and node.self_number not in sides[1] and stored is not None:
                node.records.remove(key, stored[0], _nobody, None)

    genuine = patches.replace(Sweep, "on_ring", on_ring)


@mutant("A member deletes what it keeps no more without handing it over.", ("stray", "D", "W"), ROUGH, _WHY, (10, 11))
def the_source_deletes_without_handing_over(patches: Patches) -> None:
    async def offer(self: Any, homes: Any, batch: Any, version: int) -> None:
        for key, digest in batch:
            self._node.records.remove(key, digest, _nobody, None)

    patches.replace(Sweep, "_offer", offer)


@mutant("A member keeps for ever what it is no replica of any more.", ("C",), CALM, _WHY, (10,))
def what_is_kept_no_more_stays(patches: Patches) -> None:
    patches.replace(Sweep, "_drops", lambda self, key: False)


def _nobody(argument: object, durable: bool) -> None:
    pass
