"""Who is sent a put: the sloppy quorum (SOSP 2007, §4.6).

Each home replica that can be used is written to directly. For each that cannot, the next usable node clockwise takes
the record with a hint that names the home. Homes for which no such node is left are *orphans*: the coordinator keeps
their hints itself, which makes the write reach them later and adds nothing to W, since it is no further copy.

Where a strict write is asked for, only homes count, and nobody stands in: all homes out of reach are orphans.

A coordinator that is no replica itself is a fallback: the first orphan is the home that its own copy is for.
"""

from __future__ import annotations

import msgspec

from quorate.node.cluster_view import Placement
from quorate.node.context import NodeContext


class PutPlan(msgspec.Struct, gc=False):
    """Targets of one put. `copies` is how many distinct nodes would hold it, the coordinator included.

    The plan of a healthy partition is one object for all its puts: not to be changed.
    """

    direct: tuple[int, ...]
    hinted: dict[int, int]
    """Fallback → home."""
    orphans: list[int]
    unusable: list[int]
    copies: int


def plan_put(node: NodeContext, placement: Placement, strict: bool) -> PutPlan:
    """The plan for a put that this node coordinates, as a replica or, with no replica in reach, as a fallback."""
    others = placement.others
    if placement.local and not node.disconnected and not node.detector.suspects:
        healthy: PutPlan | None = placement.healthy_plan
        if healthy is None:
            healthy = placement.healthy_plan = PutPlan(others, {}, [], [], 1 + len(others))
        return healthy
    connected = node.transport.connected
    direct = tuple(member for member in others if node.usable(member))
    unusable = [member for member in others if member not in direct]
    if strict:
        # A suspect may still answer, and nobody may stand in for it.
        direct = tuple(member for member in others if connected(member))
        out_of_reach = [member for member in others if member not in direct]
        return PutPlan(direct, {}, out_of_reach, unusable, int(placement.local) + len(direct))
    hinted: dict[int, int] = {}
    orphans: list[int] = []
    homes = unusable.copy()
    if not placement.local:
        orphans.append(homes.pop(0) if homes else placement.replicas[0])
    fallbacks = [member for member in placement.fallbacks if member != node.self_number and node.usable(member)]
    for home in homes:
        if fallbacks:
            hinted[fallbacks.pop(0)] = home
        elif connected(home):
            direct = (*direct, home)
        else:
            orphans.append(home)
    return PutPlan(direct, hinted, orphans, unusable, 1 + len(direct) + len(hinted))


def stand_in(node: NodeContext, placement: Placement, taken: list[int]) -> int:
    """The next usable fallback that is not `taken` yet, or 0."""
    for member in placement.fallbacks:
        if member != node.self_number and member not in taken and node.usable(member):
            return member
    return 0
