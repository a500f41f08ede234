"""What a lost memory is worth at the next ring: may a member that was wiped once vote upon it?

A ring that was decided tells its own age. A wiped member comes back at a ring B of which it is certain that nothing
after it was decided before the loss (`ring_recollection.py`); so it voted in no former life on what is decided later.

A *forced* ring F does not tell its age by that: one member makes it, and no majority. It may have been made before the
loss, and the wiped member may have adopted it, and voted upon it, in its former life. Then it must be LOST there. But
to be LOST at every forced ring is no answer either: all members of a new cluster came by their memory without having
one, and of three survivors two would never vote again. The cluster would stay in the forced plan's first stage.

F's version does tell: it is `FORCED_VERSIONS` above the ring that it was forced upon, its *base* (an operator's force
is planned so, `core.ring.transition`). F is younger than the loss in two cases.

*Its base is later than B*: the ring after B was decided after the loss, and F was forced upon that or a later one.

*Its base is B itself, and all voters of B stood at B after the loss* (RECALLED or FOUNDING at B, not ABSTAINING). Who
had forced a ring would have answered with it; had it been wiped since, those that F gave up would not have answered,
as they are gone for good: that is an operator's word, as is that nobody else decides or forces meanwhile.

If F was forced upon a forced ring that the member never heard of, and so on, F's version tells the first one's base
plus the number of rings that were decided since. It still says enough: let D be the first of those that were decided.
More than half of those who were left voted for D. Before the loss that cannot have been, as then fewer than ⌈n/2⌉ would
have stood at B and remembered afterwards. So D came after the loss, and F after D. If there is no D, what is said above
is true of the first one's base, and so of F. Where F's version tells of a base before B, it was forced where B was not
known: then the member is LOST.

*By induction* a member that came to F with its memory has a whole one from F on: nothing that is forced upon F or a
later one can be older than F.

A LOST member that stays LOST, as too few remember, may still hear that all voters stand at its ring. Then a ring that
is forced upon exactly that one is younger than its loss, too. So an operator mends a forced plan that is stuck (by the
ledgers of an earlier release, or by memories of which too little is known) by forcing once more.

Rejected: to name in a forced ring the lives of those who are to vote on it (exact, but its maker would have to know
them, and what a ring says is the same for all releases); to take an operator's word for everybody's memory (it is given
for the members that are lost, and a wiped survivor is one that nobody may have thought of).
"""

from __future__ import annotations

from msgspec.structs import replace

from quorate.core.membership.ring_consensus import RingValue
from quorate.core.membership.ring_ledger import LedgerState, Memory
from quorate.core.membership.ring_recollection import Recollection
from quorate.core.ring.transition import FORCED_VERSIONS


def adopted(state: LedgerState, ring: RingValue) -> LedgerState:
    """What a member at `state` goes by once it has adopted `ring`, of a higher position: no votes, and what memory?"""
    memory, known = Memory(state.memory), state.ring
    assert ring.position > known.position
    if memory is Memory.WHOLE:
        return LedgerState(ring, memory)
    if ring.forced > known.forced:
        return recalled_by_force(ring) if _is_younger(state, ring) else LedgerState(ring, Memory.LOST)
    if memory is Memory.LOST or (memory is Memory.FOUNDING and ring.version > known.version + 1):
        return LedgerState(ring, Memory.LOST)
    return LedgerState(ring, Memory.RECALLED, younger_from=_younger_from(state))


def forced(state: LedgerState, ring: RingValue) -> LedgerState:
    """The same if this member itself forces `ring`, which it makes just now: it has voted on it in no life."""
    memory = Memory(state.memory)
    return LedgerState(ring, memory) if memory is Memory.WHOLE else recalled_by_force(ring)


def recalled_by_force(ring: RingValue) -> LedgerState:
    """At a forced ring that is younger than the loss, as is everything that will be forced upon it."""
    return LedgerState(ring, Memory.RECALLED, younger_from=ring.version)


def recollected(state: LedgerState, recollection: Recollection) -> LedgerState:
    """What a member at `state`, LOST or ABSTAINING, goes by after a `recollection` that brings something."""
    ring, memory = state.ring, recollection.memory
    assert recollection.base.id == ring.id and state.memory in (Memory.LOST, Memory.ABSTAINING)
    return replace(
        state,
        memory=state.memory if memory is None else memory,
        promised=max(state.promised, recollection.promised),
        younger_from=ring.version if recollection.all_stand else state.younger_from,
    )


def _younger_from(state: LedgerState) -> int:
    """`LedgerState.younger_from` of a member that is not LOST, also if its ledger does not say.

    Then it abstains, or an earlier release wrote the ledger: its memory came back at this ring at the latest. All
    voters answer before one becomes FOUNDING, and it is that no longer with the next ring.
    """
    return state.younger_from or state.ring.version + (state.memory != Memory.FOUNDING)


def _is_younger(state: LedgerState, ring: RingValue) -> bool:
    """Was `ring`, which was forced more often than the one that `state` knows, forced after the memory was lost?"""
    known = state.ring
    base_version = ring.version - (ring.forced - known.forced) * FORCED_VERSIONS
    if state.memory == Memory.LOST:
        return base_version == known.version == state.younger_from
    if state.memory == Memory.FOUNDING and base_version > known.version + 1:
        return False  # As with a ring that was decided: somebody remembers more.
    return base_version >= _younger_from(state)
