"""What this node knows of the cluster: the ring, the buckets' properties, and per partition who is asked for what.

The view is made anew when a newer ring has been adopted (`ring_keeper`), and only looked up on the hot path.

While a plan is under way a partition may have two sides (`core.ring.joint`): those that are read coordinate, and all
homes of both sides keep what is written. In a steady ring the two are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from quorate.core import messages
from quorate.core.buckets import BucketProperties
from quorate.core.ring.joint import JointPlacement, JointPlacements
from quorate.core.ring.metadata import ClusterMetadata, quorums, read_ring


class Placement:
    """One partition as this node sees it: who replicates it, and which of them are others."""

    __slots__ = (
        "coordinates",
        "fallbacks",
        "healthy_plan",
        "homes",
        "other_homes",
        "others",
        "replicas",
        "sides",
        "stores",
    )

    def __init__(self, joint: JointPlacement, self_number: int) -> None:
        self.replicas = joint.replicas
        """Those that are read, and coordinate."""
        self.homes = joint.homes
        """Those that are written: the replicas, and during a plan those of its other side."""
        self.sides = joint.sides if joint.changing else ()
        """(before, after) while they differ; W of each make a write."""
        self.fallbacks = joint.fallbacks
        self.healthy_plan: Any = None
        """Kept here by `put_plan`."""
        self.coordinates = joint.coordinates(self_number)
        self.stores = joint.stores(self_number)
        self.others = tuple(number for number in joint.replicas if number != self_number)
        self.other_homes = tuple(number for number in joint.homes if number != self_number)


class BucketView:
    """A bucket's properties, as the hot path wants them."""

    __slots__ = ("flags", "last_write_wins", "n", "placements", "properties", "r", "strict", "synced", "ttl_ms", "w")

    def __init__(self, properties: BucketProperties, placements: list[Placement]) -> None:
        self.properties = properties
        self.placements = placements
        self.n = properties.n
        self.strict = properties.strict
        self.r = properties.r
        self.w = properties.w
        self.ttl_ms = properties.ttl * 1000
        self.synced = properties.durability == "fsync"
        self.last_write_wins = properties.conflicts == "lww"
        self.flags = (messages.FLAG_FSYNC if self.synced else 0) | (
            messages.FLAG_LAST_WRITE_WINS if self.last_write_wins else 0
        )


class ClusterView:
    """Ring and buckets, with their tables; `names` maps numbers to names for messages to people."""

    def __init__(self, self_number: int, metadata: ClusterMetadata) -> None:
        self._self_number = self_number
        self.told = False
        """Does this store know how the cluster stands? One that was wiped has to be told first (`recall`)."""
        self.on_told: Callable[[], None] = lambda: None
        """Called when it has been told."""
        self.take_over(metadata)

    def take_over(self, metadata: ClusterMetadata) -> None:
        """Go by `metadata` from now on."""
        self.metadata = metadata
        self.ring = ring = metadata.ring
        self.version = ring.version
        """What requests between nodes carry."""
        self.read_ring = read_ring(ring)
        self.joint = JointPlacements(ring)
        self.quorums = quorums(metadata)
        self.names = {member.number: member.name for member in ring.members}
        self.is_member = self._self_number in self.names
        """Not any more once this node has left the cluster."""
        self.other_numbers = tuple(member.number for member in ring.members if member.number != self._self_number)
        self._placements: dict[int, list[Placement]] = {}
        self._default_view = self._view(metadata.defaults)
        self._views = {bucket: self._view(found) for bucket, found in metadata.buckets.items()}

    def be_told(self) -> None:
        """From now on this node serves by what it knows."""
        if not self.told:
            self.told = True
            self.on_told()

    def bucket(self, bucket: bytes) -> BucketView:
        """The view of a bucket: its own properties if they were set, else the cluster's defaults."""
        view = self._views.get(bucket)
        return self._default_view if view is None else view

    def placements_of(self, n: int) -> list[Placement]:
        """The placement of every partition for the buckets with this n; empty if there is no such bucket here."""
        return self._placements.get(n, [])

    def _view(self, properties: BucketProperties) -> BucketView:
        placements = self._placements.get(properties.n)
        if placements is None:
            joint, number = self.joint, self._self_number
            placements = [Placement(joint.of(p, properties.n), number) for p in range(self.ring.partitions)]
            self._placements[properties.n] = placements
        return BucketView(properties, placements)
