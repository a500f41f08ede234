"""The check Q: whenever the ring moves on, the replicas that are read from now on hold what was acknowledged.

A read meets a write in one replica at least, if R + W > N. Reads that fall into the short time in which a broken stage
would show are rare, so the reason why they may succeed is checked itself (`core.ring.advance`): when a ring is decided,
each write that was acknowledged with W of homes is on W of those that it has read, whichever ring it was written by.

Not asked of what was written sloppily, with less than the bucket's w, or before a disk lost anything.
"""

from __future__ import annotations

from quorate.sim.cluster import Cluster
from quorate.sim.history import History, Violation, covers


def check_quorums(cluster: Cluster, history: History) -> list[Violation]:
    """Violations at this moment, by the newest ring that any node goes by."""
    violations = []
    lost_us = max(history.losses_us, default=-1)
    for write in history.writes:
        if not write.strict or write.w < cluster.defaults.w:
            continue
        for ack in write.acks:
            if ack.invoked_us <= lost_us or history.lost_since(write.storage_key, ack.invoked_us):
                continue
            dots = cluster.observer.acked_dots(write, ack.clock)
            if len(dots) != 1 or cluster.graves.excuses(write.storage_key, dots[0], cluster.loop.now_us):
                continue
            replicas = cluster.replicas(write.storage_key)
            holders = [n for n in replicas if covers(cluster.copies.knows(n, write.storage_key), dots[0])]
            if len(holders) < min(write.w, len(replicas)):
                message = f"write #{write.number} of {write.storage_key!r} was acknowledged with w={write.w}, and of"
                version = cluster.ring.version
                message += f" {replicas}, read by ring version {version}, only {holders} hold {dots}"
                violations.append(Violation("Q", message))
    return violations
