"""Who is sent a put: the sloppy quorum (SOSP 2007, §4.6).

Each home replica that can be used is written to directly. For each that cannot, the next usable node clockwise takes
the record with a hint that names the home. Homes for which no such node is left are *orphans*: the coordinator keeps
their hints itself, which makes the write reach them later and adds nothing to W, since it is no further copy.

Where a strict write is asked for, only homes count, and nobody stands in: all homes out of reach are orphans.

A coordinator that is no replica itself is a fallback: the first orphan is the home that its own copy is for.
"""

from __future__ import annotations

from collections.abc import Sequence

from quorate.node.cluster_view import Placement
from quorate.node.context import NodeContext


class PutPlan:
    """Targets of one put. `copies` is how many distinct nodes would hold it, the coordinator included; where the
    partition has two sides, for the side that has fewer.

    The plan of a healthy partition is one object for all its puts: not to be changed.
    """

    __slots__ = ("copies", "direct", "hinted", "orphans", "targets", "unusable")

    def __init__(
        self, direct: tuple[int, ...], hinted: dict[int, int], orphans: list[int], unusable: list[int], copies: int
    ) -> None:
        self.direct = direct
        self.targets = (*direct, *hinted)
        self.hinted = hinted
        """Fallback → home."""
        self.orphans = orphans
        self.unusable = unusable
        self.copies = copies


def plan_put(node: NodeContext, placement: Placement, strict: bool) -> PutPlan:
    """The plan for a put that this node coordinates, as a replica or, with no replica in reach, as a fallback."""
    if not placement.coordinates:
        return _plan(node, placement, strict, (), as_fallback=not strict)
    if node.disconnected or node.detector.suspects:
        return _plan(node, placement, strict, (node.self_number,))
    healthy: PutPlan | None = placement.healthy_plan
    if healthy is None:
        others = placement.other_homes
        copies = _copies(placement, [node.self_number, *others], ())
        healthy = placement.healthy_plan = PutPlan(others, {}, [], [], copies)
    return healthy


def plan_again(node: NodeContext, placement: Placement, strict: bool) -> PutPlan:
    """The plan for a put whose record this node has written already, when the ring was another one."""
    return _plan(node, placement, strict, (node.self_number,) if placement.stores else ())


def _plan(
    node: NodeContext, placement: Placement, strict: bool, own: tuple[int, ...], as_fallback: bool = False
) -> PutPlan:
    """`own`: the home that this node's own copy is for, if it is one. `as_fallback`: it is for one out of reach."""
    others = placement.other_homes
    connected = node.transport.connected
    direct = tuple(member for member in others if node.usable(member))
    unusable = [member for member in others if member not in direct]
    if strict:
        # A suspect may still answer, and nobody may stand in for it.
        direct = tuple(member for member in others if connected(member))
        out_of_reach = [member for member in others if member not in direct]
        return PutPlan(direct, {}, out_of_reach, unusable, _copies(placement, [*own, *direct], ()))
    hinted: dict[int, int] = {}
    orphans: list[int] = []
    homes = unusable.copy()
    if as_fallback:
        orphans.append(homes.pop(0) if homes else placement.replicas[0])
        own = (orphans[0],)
    fallbacks = [member for member in placement.fallbacks if member != node.self_number and node.usable(member)]
    for home in homes:
        if fallbacks:
            hinted[fallbacks.pop(0)] = home
        elif connected(home):
            direct = (*direct, home)
        else:
            orphans.append(home)
    gone = orphans[1:] if as_fallback else orphans
    copies = _copies(placement, [*own, *direct, *hinted.values()], gone)
    return PutPlan(direct, hinted, orphans, unusable, copies)


def _copies(placement: Placement, homes: list[int], gone: Sequence[int]) -> int:
    """How many copies each side would count at least, if one node held the record for each of `homes`; a side borrows
    for homes that are `gone` (see `core.quorum.joint_put_tally`)."""
    if not placement.sides:
        return len(homes)
    counts = []
    for side in placement.sides:
        own = sum(home in side for home in homes)
        counts.append(own + min(len(homes) - own, sum(home in side for home in gone)))
    return min(counts)


def stand_in(node: NodeContext, placement: Placement, taken: list[int]) -> int:
    """The next usable fallback that is not `taken` yet, or 0."""
    for member in placement.fallbacks:
        if member != node.self_number and member not in taken and node.usable(member):
            return member
    return 0
