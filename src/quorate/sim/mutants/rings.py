"""Planted bugs in how rings are decided: promises, votes, and what a disk must remember of them."""

from __future__ import annotations

from typing import Any, Final

from msgspec.structs import replace

from quorate.core.membership import ring_proposer
from quorate.core.membership.ring_acceptor import Acceptor
from quorate.core.membership.ring_consensus import NO_BALLOT, majority
from quorate.node.ring_keeper import RingKeeper
from quorate.sim.faults import MEMBERSHIP
from quorate.sim.mutants.patches import Patches
from quorate.sim.mutants.registry import mutant
from quorate.sim.options import SimOptions

RIVALS: Final = SimOptions(
    nodes=3,
    seconds=60,
    clients=1,
    faults=(MEMBERSHIP, "partition", "slow link", "pause", "isolate"),
)
"""Few voters, of whom one more or less decides; many chances for two proposers to meet; hardly any other load."""
_UNSEEN: Final = (
    "a ring is decided within milliseconds, and everybody in reach is told: within these a voter would have to end,"
    " come back, and be asked by a rival whom nobody told (tests/property has a model of it)"
)
_WHY: Final = "two proposals must be under way at once, and one of them be cut off half-way"


@mutant(
    "A voter forgets at a restart what it has promised and voted for.",
    ("ring", "plan"),
    RIVALS,
    _WHY,
    (16, 19),
    _UNSEEN,
)
def a_voter_forgets_at_a_restart(patches: Patches) -> None:
    def load(self: Any) -> Any:
        state = genuine(self)
        return None if state is None else replace(state, promised=NO_BALLOT, accepted=None)

    genuine = patches.replace(RingKeeper, "_load", load)


@mutant("A proposer has its own ring decided, whatever the voters have voted for.", ("ring", "plan"), RIVALS, _WHY)
def a_proposer_ignores_earlier_votes(patches: Patches) -> None:
    patches.replace(ring_proposer, "chosen", lambda promises, own: own)


@mutant("A voter does not note what it has voted for.", ("ring", "plan"), RIVALS, _WHY, (19,))
def a_voter_does_not_note_its_vote(patches: Patches) -> None:
    def on_accept(self: Any, sender: int, message: Any) -> Any:
        reply = genuine(self, sender, message)
        self._ledger.now = replace(self._ledger.now, accepted=None)
        return reply

    genuine = patches.replace(Acceptor, "on_accept", on_accept)


@mutant("A voter votes under a ballot that is below the one it has promised.", ("ring", "plan"), RIVALS, _WHY)
def a_voter_breaks_its_promise(patches: Patches) -> None:
    def on_accept(self: Any, sender: int, message: Any) -> Any:
        state = self._ledger.now
        if message.base == state.ring.id and message.ballot < state.promised:
            self._ledger.now = replace(state, promised=message.ballot)
        return genuine(self, sender, message)

    genuine = patches.replace(Acceptor, "on_accept", on_accept)


@mutant("Half of the voters are enough, so that two halves may decide differently.", ("ring", "plan"), RIVALS, _WHY)
def half_of_the_voters_decide(patches: Patches) -> None:
    patches.replace(ring_proposer, "majority", lambda voters: max(1, majority(voters) - 1))


@mutant(
    "A member whose disk was lost votes as if it remembered everything.",
    ("ring", "plan", "Q", "R", "D"),
    SimOptions(seconds=40, clients=1, faults=(MEMBERSHIP, "wipe", "kill", "isolate", "partition", "pause")),
    "a disk must be lost while a ring is being decided",
    (16, 19),
    _UNSEEN,
)
def a_voter_without_memory_votes(patches: Patches) -> None:
    def init(self: Any, node: Any, founding: Any, newborn: bool, on_failure: Any) -> None:
        genuine(self, node, founding, True, on_failure)

    genuine = patches.replace(RingKeeper, "__init__", init)
