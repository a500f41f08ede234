"""Check A: what must stay available while one node at a time is killed or paused.

A sloppy put with W=1 is never refused by a node that runs at all; with more fallbacks than victims, one with a larger W
is not refused either, by a node that no fault is upon (SOSP 2007, §4.6). An unknown outcome is no refusal: the node
that did the write may be the victim.
"""

from __future__ import annotations

from quorate.core.store import Failure
from quorate.sim.cluster import Cluster
from quorate.sim.history import Violation


class Availability:
    """The judge of one run in which `victim` is set to the only node that a fault is upon."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.victim = 0
        """The last victim. The next one comes only when the cluster is whole again."""

    def sound(self, node: int) -> bool:
        """Is no fault upon `node`, nor one that it has not quite come back from?"""
        return node != self.victim or self._cluster.whole()

    def judge(self, node: int, w: int, was_sound: bool, failure: Failure) -> list[Violation]:
        """The answer to a sloppy put at `node`. `was_sound`: as `sound` said when it was sent."""
        if failure.kind not in ("unavailable", "overloaded"):
            return []
        enough = len(self._cluster.machines) - 1 >= self._cluster.defaults.n + 1
        if w == 1 or (enough and was_sound and self.sound(node)):
            return [Violation("A", f"n{node} refused a put with w={w}, and only n{self.victim} was out: {failure}")]
        return []
