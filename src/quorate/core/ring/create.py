"""The first ring of a cluster: the only one that is made from nothing.

Every later version is a function of the one before it (`claim.py`), decided by the members. Two of the choices made
here hold for the life of the cluster: its id, and the number of its partitions.
"""

from __future__ import annotations

from collections.abc import Sequence

from quorate.core.ring.claim import claim
from quorate.core.ring.ring import Member, Ring


def create_ring(cluster_id: str, members: Sequence[Member], partitions: int, n: int = 3) -> Ring:
    """Version 1 of a cluster's ring. `partitions` is Q, `n` the number of replicas that the ring is laid out for.

    Raises `CallerError` with the reason if no valid ring can be made of this.
    """
    return Ring(cluster_id, 1, list(members), claim(None, members, partitions, n))
