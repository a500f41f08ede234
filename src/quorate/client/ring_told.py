"""The ring as a node tells its clients. A file of its own, since an extension module carries no structs."""

from __future__ import annotations

from quorate.core.ring.transition import StagedRing


class RingTold(StagedRing, frozen=True):
    """A reply to KV.RING."""

    default_n: int = 0
    """Replicas of a key whose bucket was not set; 0: the node does not say."""
