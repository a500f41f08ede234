"""The check P: whoever is read for a key is on as many hosts as there are replicas, if there are so many hosts.

Two copies on one machine are one copy on the day on which it burns (SOSP 2007, §6.2). It is judged of every ring that
the cluster comes to rest on; while a plan is under way, each of its sides is such a ring.
"""

from __future__ import annotations

from quorate.core.ring.joint import JointPlacements
from quorate.core.ring.transition import StagedRing
from quorate.sim.history import Violation


def check_placement(ring: StagedRing, n: int) -> list[Violation]:
    """Violations by this ring, for buckets of `n` replicas."""
    if ring.transition is not None:
        return []
    hosts = {member.number: member.host for member in ring.members}
    if len({*hosts.values()}) < n:
        return []
    placements = JointPlacements(ring)
    violations = []
    for partition in range(len(ring.owners)):
        replicas = placements.of(partition, n).replicas
        if len({hosts[number] for number in replicas}) < n:
            message = f"partition {partition} is on {replicas}, of which some share a host ({ring.version})"
            violations.append(Violation("P", message))
    return violations
