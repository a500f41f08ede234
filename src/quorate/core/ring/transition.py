"""Transitions: how a change of the ring goes through versions, so that no request ever falls between two rings.

A change of topology is a plan (`plan.py`) with two *sides*: who owned what before it, and who shall own what after it.
It takes three versions of the ring, each decided by the members of the version before:

    steady      reads and writes: before            the ring as it was
    READ_OLD    reads: before, writes: both         the new replicas are filled
    READ_NEW    reads: after,  writes: both         nobody is waited for but lagging readers
    steady      reads and writes: after             who owns no longer drops what it holds

When a stage may follow is said, and proven, in `advance.py`; who is asked for a key in each of them in `joint.py`.
From READ_OLD a plan can be aborted: one version, back to the side before. From READ_NEW it only goes forward, since
what was read from the side after must stay readable; to undo it, make the opposite plan.

Invariants: one plan at a time; `owners` is always the side that is read, and `members` everybody who takes part; a
change that leaves all preference lists as they are (a name, an address) is one version and no transition.

Rejected: a stage for each partition (thousands of decisions for what three do; partitions whose replicas stay the same
are not affected anyway), and one joint stage instead of two (then a reader of the side after and a writer to the side
before could be one version apart, and miss each other).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

import msgspec

from quorate.core.errors import CallerError
from quorate.core.ring.ring import Member, Ring

FORCED_VERSIONS = 1 << 20
"""How far a forced ring's version is above the last one that is known, so that no other ring has it, whatever a lost
majority may have decided: a change of the ring a minute would take two years to get there."""


class Stage(IntEnum):
    """Which side is read; writes go to both in either."""

    READ_OLD = 1
    READ_NEW = 2


class Side(msgspec.Struct, frozen=True):
    """One of the two rings between which a plan moves. `owners[p]` is the number of the member that owns p."""

    members: list[Member]
    owners: list[int]


class Transition(msgspec.Struct, frozen=True):
    """A plan that is under way; what is in a ring between two steady ones."""

    plan: str
    """The plan's id."""
    stage: Stage
    began: int
    """The version that was the first of READ_OLD. A replica is filled *for* this version, and for no other plan."""
    since: int
    """The version that was the first of this stage. Who has confirmed it, or a later one, acts by the stage."""
    before: Side
    after: Side
    stopped: list[int] = []
    """Members of the side before of which the operator says that they have stopped for good, and that what only they
    hold is given up. They answer nobody, so nobody waits for them."""

    @property
    def joining(self) -> list[int]:
        """Those who are on the side after alone: their numbers, ascending."""
        return _only(self.after, self.before)

    @property
    def leaving(self) -> list[int]:
        """Those who are on the side before alone: their numbers, ascending."""
        return _only(self.before, self.after)


class Departed(msgspec.Struct, frozen=True):
    """A member that was removed: it never comes back under this id (hard case 16)."""

    number: int
    id: str


class StagedRing(Ring, frozen=True):
    """A ring with what it must remember to be changed: the plan under way, and who has been a member."""

    transition: Transition | None = None
    departed: list[Departed] = []
    last_number: int = 0
    """The highest number that a member was ever given, whether its plan was finished or not."""

    @property
    def stopped(self) -> list[int]:
        """Of the plan under way (see `Transition`); nobody if there is none."""
        return self.transition.stopped if self.transition is not None else []


def staged(ring: Ring) -> StagedRing:
    """`ring` as one that can be changed; the same object if it is one already."""
    if isinstance(ring, StagedRing):
        return ring
    last = max(member.number for member in ring.members)
    return StagedRing(ring.cluster_id, ring.version, ring.members, ring.owners, last_number=last)


def check_steady(ring: StagedRing) -> None:
    """Raise `CallerError` if a plan is under way."""
    if ring.transition is not None:
        raise CallerError(f"plan {ring.transition.plan} is under way: wait until it has finished, or abort it first")


def begin(ring: StagedRing, plan: str, after: Side, stopped: Sequence[int]) -> StagedRing:
    """The first version of a plan: READ_OLD. Raises `CallerError` if another one is under way."""
    check_steady(ring)
    version = ring.version + 1
    before = Side(ring.members, ring.owners)
    transition = Transition(plan, Stage.READ_OLD, version, version, before, after, list(stopped))
    return msgspec.structs.replace(
        ring,
        version=version,
        members=_everybody(before.members, after.members),
        transition=transition,
        last_number=max(ring.last_number, *(member.number for member in after.members)),
    )


def next_stage(ring: StagedRing) -> StagedRing:
    """The version that follows once `advance.may_advance` says nothing against it."""
    transition = ring.transition
    assert transition is not None, "a steady ring has no next stage"
    version = ring.version + 1
    if transition.stage == Stage.READ_OLD:
        moved_on = msgspec.structs.replace(transition, stage=Stage.READ_NEW, since=version)
        return msgspec.structs.replace(ring, version=version, owners=transition.after.owners, transition=moved_on)
    return settle(ring, transition.after)


def abort(ring: StagedRing) -> StagedRing:
    """The version that takes the plan back. Raises `CallerError` if there is none, or it has gone too far.

    It may be decided whenever READ_OLD may be left: everything acknowledged since is on the side before as well.
    """
    transition = ring.transition
    if transition is None:
        raise CallerError("no plan is under way: there is nothing to abort")
    if transition.stage != Stage.READ_OLD:
        raise CallerError(
            f"plan {transition.plan} can only go forward: the new replicas are being read already."
            " Let it finish, then make the opposite plan"
        )
    return settle(ring, transition.before)


def settle(ring: StagedRing, side: Side) -> StagedRing:
    """The next version, steady, with the members and owners of `side`.

    Those of the side before that are not among them have departed; a newcomer whose plan was aborted has not, and may
    try again, under a new number.
    """
    staying = {member.number: True for member in side.members}
    left = [Departed(member.number, member.id) for member in _before(ring) if member.number not in staying]
    return msgspec.structs.replace(
        ring,
        version=ring.version + 1,
        members=side.members,
        owners=side.owners,
        transition=None,
        departed=ring.departed + left,
    )


def forced(ring: StagedRing, plan: str, after: Side, stopped: Sequence[int]) -> StagedRing:
    """READ_OLD upon a steady ring as an operator's force begins it: at a version that nobody can have decided."""
    joint = begin(ring, plan, after, stopped)
    assert joint.transition is not None
    version = ring.version + FORCED_VERSIONS
    transition = msgspec.structs.replace(joint.transition, began=version, since=version)
    return msgspec.structs.replace(joint, version=version, transition=transition)


def move_member(ring: StagedRing, member: Member) -> StagedRing:
    """The next version, in which the member of this number has the name and the addresses of `member`.

    Nobody's replicas change, so it takes no stages, and may be decided while a plan is under way (hard case 21).
    Raises `CallerError` if anything else differs, the name is another member's, or nothing changes.
    """
    known = next((one for one in ring.members if one.number == member.number), None)
    if known is None:
        raise CallerError(f"no member has the number {member.number}")
    for field in ("id", "host", "zone", "weight"):
        if getattr(known, field) != getattr(member, field):
            raise CallerError(
                f"the {field} of '{known.name}' is {getattr(known, field)}; with another one it would be given other"
                " partitions, which takes a plan"
            )
    if any(one.name == member.name for one in ring.members if one is not known):
        raise CallerError(f"another member is called '{member.name}'; choose a name that is free")
    if known == member:
        raise CallerError(f"'{known.name}' has this name and these addresses already")
    changed = msgspec.structs.replace(ring, version=ring.version + 1, members=_moved(ring.members, member))
    transition = ring.transition
    if transition is None:
        return changed
    before = msgspec.structs.replace(transition.before, members=_moved(transition.before.members, member))
    after = msgspec.structs.replace(transition.after, members=_moved(transition.after.members, member))
    return msgspec.structs.replace(changed, transition=msgspec.structs.replace(transition, before=before, after=after))


def _moved(members: Sequence[Member], moved: Member) -> list[Member]:
    """`members` with the new name and addresses; a side keeps the weight that it gives the member."""
    return [msgspec.structs.replace(moved, weight=one.weight) if one.number == moved.number else one for one in members]


def _only(side: Side, other: Side) -> list[int]:
    there = {member.number: True for member in other.members}
    return sorted(member.number for member in side.members if member.number not in there)


def _before(ring: StagedRing) -> list[Member]:
    return ring.members if ring.transition is None else ring.transition.before.members


def _everybody(before: Sequence[Member], after: Sequence[Member]) -> list[Member]:
    """The members of both sides, each once and as the side after has it."""
    found = {member.number: member for member in before}
    found.update({member.number: member for member in after})
    return list(found.values())
