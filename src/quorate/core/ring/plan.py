"""Plans: what a join, a leave, a replacement or another weight would do to the ring, before anybody decides it.

A plan is worked out from one version of the ring and holds for no other: `start` refuses it if the ring has changed in
between. Equal rings and equal wishes give equal plans on every member, id included, so one that was shown by a node
can be committed at another.

What is checked here, once for all that comes after: the ring after it is balanced and puts no two replicas on a host
if it can (`placement.py`, hard case 17); it is not short of members or hosts where the ring before was not; nobody
comes back that was removed (hard case 16); and the tokens that move are the fewest possible plus 5%.

A plan may be about several members, so that a host with all its workers (`workers.py`) comes, goes or is replaced at
once: what it holds is copied once, and not first to a sibling that goes next. The proof in `advance.py` counts
newcomers by partitions and does not care how many a plan has.

Rejected: to start a plan that makes replicas fewer than a bucket's n. The proof in `advance.py` needs as many after as
before, and an operator who means it can lower the bucket's n first.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from quorate.core.errors import CallerError
from quorate.core.limits import REPLICAS_MAX
from quorate.core.ring.advance import Quorum
from quorate.core.ring.claim import EXTRA_MOVES_PER_CENT, claim
from quorate.core.ring.joint import JointPlacements
from quorate.core.ring.placement import check_members, check_ring
from quorate.core.ring.ring import Member, Ring
from quorate.core.ring.transition import Side, Stage, StagedRing, begin, check_steady, forced, settle

Kind = Literal["join", "leave", "replace", "weight", "force"]
PLAN_ID_DIGITS = 16


class Move(msgspec.Struct, frozen=True, array_like=True):
    """One partition that gets another owner; members by their numbers."""

    partition: int
    source: int
    target: int


class Share(msgspec.Struct, frozen=True):
    """What one member owns and holds, before and after."""

    number: int
    owned_before: int
    owned_after: int
    copies: dict[int, tuple[int, int]]
    """For each n in use: (partitions that it replicates before, after)."""


class Plan(msgspec.Struct, frozen=True):
    """A change of the ring that can be started. `copied` tells what it costs: multiply by a partition's bytes."""

    id: str
    kind: Kind
    version: int
    """Of the ring that it is made for."""
    after: Side
    stopped: list[int]
    moves: list[Move]
    fewest_moves: int
    """How many tokens would have to move at least."""
    copied: dict[int, int]
    """For each n in use: partition copies that are made, that is (partition, new replica) pairs."""
    shares: list[Share]
    warnings: list[str]
    """What the operator should know before saying yes."""

    def flows(self) -> dict[tuple[int, int], int]:
        """(from, to) → how many tokens go from one member to the other, in the order of their numbers."""
        counted = Counter((move.source, move.target) for move in self.moves)
        return {flow: counted[flow] for flow in sorted(counted)}


def plan_join(ring: StagedRing, joiners: Sequence[Member], quorums: Sequence[Quorum]) -> Plan:
    """`joiners` become members. Their numbers must be new: above `ring.last_number`. Raises `CallerError`."""
    check_steady(ring)
    _check_newcomers(ring, joiners)
    return _plan(ring, "join", [*ring.members, *joiners], quorums, [])


def plan_leave(ring: StagedRing, numbers: Sequence[int], quorums: Sequence[Quorum], stopped: bool = False) -> Plan:
    """These members go. `stopped`: they are gone already and will not come back. Raises `CallerError`."""
    check_steady(ring)
    leavers = _members(ring, numbers)
    staying = [member for member in ring.members if member not in leavers]
    if not staying:
        if len(leavers) > 1:
            raise CallerError("these are all members that there are; a cluster cannot be left empty")
        raise CallerError(f"'{leavers[0].name}' is the only member; a cluster cannot be left empty")
    return _plan(ring, "leave", staying, quorums, list(numbers) if stopped else [])


def plan_replace(
    ring: StagedRing,
    numbers: Sequence[int],
    newcomers: Sequence[Member],
    quorums: Sequence[Quorum],
    stopped: bool = False,
) -> Plan:
    """`newcomers` take the place, and if they weigh as much together the tokens, of these members.

    `stopped`: those have stopped for good, and what only they hold is given up. Raises `CallerError`.
    """
    check_steady(ring)
    places = {member.number: index for index, member in enumerate(_members(ring, numbers))}
    _check_newcomers(ring, newcomers)
    members: list[Member] = []
    for member in ring.members:
        if member.number not in places:
            members.append(member)
        elif places[member.number] < len(newcomers):
            members.append(newcomers[places[member.number]])
    members += newcomers[len(places) :]
    return _plan(ring, "replace", members, quorums, list(numbers) if stopped else [])


def plan_weight(ring: StagedRing, numbers: Sequence[int], weight: int, quorums: Sequence[Quorum]) -> Plan:
    """Each of these members shall carry `weight` times as much as a member of weight 1. Raises `CallerError`."""
    check_steady(ring)
    changed = _members(ring, numbers)
    members = [
        msgspec.structs.replace(member, weight=weight) if member in changed else member for member in ring.members
    ]
    return _plan(ring, "weight", members, quorums, [])


def plan_force(ring: StagedRing, lost: Sequence[int], quorums: Sequence[Quorum]) -> tuple[StagedRing, list[str]]:
    """(the ring to be forced, what is lost with it): the members `lost` are gone for good, and a majority with them.

    A plan under way ends with the side that is read; whom it names as stopped counts as lost. Then, at a version far
    above, READ_OLD of a plan to the survivors begins. Fewer replicas than n do not keep it from that: there is no
    better choice. Raises `CallerError` if `lost` are no members, or nobody would be left.
    """
    if not lost:
        raise CallerError("name the members that are lost for good")
    known = {member.number: True for member in ring.members}
    if any(number not in known for number in lost):
        raise CallerError(f"no member has the number {next(number for number in lost if number not in known)}")
    steady, given_up = ring, list(lost)
    if ring.transition is not None:
        given_up += ring.transition.stopped
        read = ring.transition.before if ring.transition.stage == Stage.READ_OLD else ring.transition.after
        # Its version is not one of the chain: `forced` counts from the ring that is known.
        steady = msgspec.structs.replace(settle(ring, read), version=ring.version)
    survivors = [member for member in steady.members if member.number not in given_up]
    if not survivors:
        raise CallerError("all members would be lost: name only those that will never come back")
    counts = sorted({quorum.n for quorum in quorums})
    after = Side(survivors, claim(steady.owners, survivors, ring.partitions, counts[-1]))
    stopped = sorted(member.number for member in steady.members if member.number in given_up)
    joint = forced(steady, _plan_id(ring, "force", after, stopped), after, stopped)
    found = _warnings(JointPlacements(joint), joint, counts, stopped)
    for quorum in quorums:
        if max(quorum.r, quorum.w) > len(survivors):
            found.append(
                f"buckets with n={quorum.n}, r={quorum.r}, w={quorum.w} ask for more replicas than there are members"
                " left: lower r and w, or add members"
            )
    return joint, found


def start(ring: StagedRing, plan: Plan) -> StagedRing:
    """The version that begins `plan`: READ_OLD, or the finished ring if nobody's replicas change.

    Raises `CallerError` if the ring is not the one that the plan was made for.
    """
    check_steady(ring)
    if ring.version != plan.version:
        raise CallerError(
            f"plan {plan.id} was made for ring version {plan.version}, and it is {ring.version} now: plan again"
        )
    joint = begin(ring, plan.id, plan.after, plan.stopped)
    # For every n that a bucket may ever have: this must not depend on what buckets one node knows.
    placements = JointPlacements(joint)
    if any(placements.changes(n) for n in range(1, min(REPLICAS_MAX, len(joint.members)) + 1)):
        return joint
    return msgspec.structs.replace(settle(ring, plan.after), last_number=joint.last_number)


def _plan(ring: StagedRing, kind: Kind, members: list[Member], quorums: Sequence[Quorum], stopped: list[int]) -> Plan:
    counts = sorted({quorum.n for quorum in quorums})
    assert counts, "a cluster has default properties, so some n is in use"
    check_members(members)
    _check_room(ring, members, counts)
    owners = claim(ring.owners, members, ring.partitions, counts[-1])
    after = Side(members, owners)
    for n in counts:
        check_ring(Ring(ring.cluster_id, ring.version + 1, members, owners), n)
    both = enumerate(zip(ring.owners, owners, strict=True))
    moves = [Move(partition, old, new) for partition, (old, new) in both if old != new]
    fewest = fewest_moves(Counter(ring.owners), members, ring.partitions)
    assert len(moves) * 100 <= fewest * (100 + EXTRA_MOVES_PER_CENT), "claim moves too much"
    joint = begin(ring, "", after, stopped)
    placements = JointPlacements(joint)
    copied = {
        n: sum(
            count * sum(number not in before for number in new)
            for (before, new), count in placements.changes(n).items()
        )
        for n in counts
    }
    return Plan(
        _plan_id(ring, kind, after, stopped),
        kind,
        ring.version,
        after,
        stopped,
        moves,
        fewest,
        copied,
        _shares(placements, joint, counts),
        _warnings(placements, joint, counts, stopped),
    )


def fewest_moves(held: Mapping[int, int], members: Sequence[Member], partitions: int) -> int:
    """The tokens that must move at least until every member has its fair share, rounded up or down.

    `held`: member → the tokens that it owns now, also of those that go.
    """
    total = sum(member.weight for member in members)
    least = {member.number: partitions * member.weight // total for member in members}
    most = {member.number: -(-partitions * member.weight // total) for member in members}
    given = sum(max(0, count - most.get(number, 0)) for number, count in held.items())
    taken = sum(max(0, count - held.get(number, 0)) for number, count in least.items())
    return max(given, taken)


def _members(ring: StagedRing, numbers: Sequence[int]) -> list[Member]:
    """Those with these numbers, of which there is at least one."""
    assert numbers, "a plan is about somebody"
    found = []
    for number in numbers:
        try:
            found.append(ring.member(number))
        except KeyError:
            raise CallerError(f"no member has the number {number}") from None
    return found


def _check_newcomers(ring: StagedRing, newcomers: Sequence[Member]) -> None:
    assert newcomers, "a plan is about somebody"
    for newcomer in newcomers:
        _check_newcomer(ring, newcomer)


def _check_newcomer(ring: StagedRing, newcomer: Member) -> None:
    """Raise `CallerError` unless it was never a member before. Names, hosts and weights are checked with the ring."""
    if any(gone.id == newcomer.id for gone in ring.departed):
        raise CallerError(
            f"'{newcomer.name}' ({newcomer.id}) was removed from this cluster and cannot come back:"
            " give it an empty data directory, and it will join as a new member"
        )
    if any(member.id == newcomer.id for member in ring.members):
        raise CallerError(f"'{newcomer.name}' ({newcomer.id}) is a member already")
    if newcomer.number <= ring.last_number:
        raise CallerError(f"numbers are never used twice: the next free one is {ring.last_number + 1}")
    if any(member.name == newcomer.name for member in ring.members):
        raise CallerError(f"a member called '{newcomer.name}' exists; give the new one another name")


def _check_room(ring: StagedRing, members: Sequence[Member], counts: Sequence[int]) -> None:
    """Raise `CallerError` if replicas would become fewer, or share a host, that are not and do not now."""
    hosts_before = len({member.host for member in ring.members})
    hosts_after = len({member.host for member in members})
    for n in counts:
        if min(n, len(members)) < min(n, len(ring.members)):
            raise CallerError(
                f"{len(members)} members would be left, and there are buckets with n={n}:"
                " add a member first, or lower their n"
            )
        if min(n, hosts_after) < min(n, hosts_before):
            raise CallerError(
                f"{hosts_after} hosts would be left, and replicas of buckets with n={n} would share one:"
                " add a member on another host first"
            )


def _plan_id(ring: StagedRing, kind: Kind, after: Side, stopped: Sequence[int]) -> str:
    wish = msgspec.msgpack.encode([ring.cluster_id, ring.version, kind, after, list(stopped)])
    return hashlib.sha256(wish).hexdigest()[:PLAN_ID_DIGITS]


def _shares(placements: JointPlacements, joint: StagedRing, counts: Sequence[int]) -> list[Share]:
    """Every member's part, those of the ring before first."""
    transition = joint.transition
    assert transition is not None
    owned = [Counter(side.owners) for side in (transition.before, transition.after)]
    copies = {n: placements.copies(n) for n in counts}
    return [
        Share(
            member.number,
            owned[0][member.number],
            owned[1][member.number],
            {n: (before[member.number], after[member.number]) for n, (before, after) in copies.items()},
        )
        for member in joint.members
    ]


def _warnings(
    placements: JointPlacements, joint: StagedRing, counts: Sequence[int], stopped: Sequence[int]
) -> list[str]:
    """What is lost, for certain, with those that have stopped."""
    found = []
    for n in counts:
        orphaned = sum(
            count for (before, _), count in placements.changes(n).items() if all(one in stopped for one in before)
        )
        if orphaned:
            names = ", ".join(joint.member(number).name for number in stopped)
            found.append(f"in buckets with n={n}, all that is in {orphaned} partitions is lost with {names}")
    return found
