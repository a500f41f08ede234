"""What this node knows of the cluster: the ring, the buckets' properties, and per partition who is asked for what.

The view is rebuilt when the ring or a bucket's properties change, and only looked up on the hot path. It is persisted
in the META space, each document with a checksum, so that a torn or damaged one is noticed, never believed (hard case
26).
"""

from __future__ import annotations

from typing import Any

import msgspec

from quorate.core import messages
from quorate.core.buckets import BucketProperties, BucketTable, merge_tables
from quorate.core.ports import Engine, Space
from quorate.core.ring.preference import PreferenceLists
from quorate.core.ring.ring import Ring
from quorate.node.documents import load, sealed

RING_KEY = b"ring"
BUCKETS_KEY = b"buckets"


class Placement:
    """One partition as this node sees it: who replicates it, and which of them are others."""

    __slots__ = ("fallbacks", "healthy_plan", "local", "others", "replicas")

    def __init__(self, replicas: tuple[int, ...], fallbacks: tuple[int, ...], self_number: int) -> None:
        self.replicas = replicas
        self.fallbacks = fallbacks
        self.healthy_plan: Any = None
        """Kept here by `put_plan`."""
        self.local = self_number in replicas
        self.others = tuple(number for number in replicas if number != self_number)


class BucketView:
    """A bucket's properties, as the hot path wants them."""

    __slots__ = ("flags", "last_write_wins", "placements", "properties", "r", "synced", "ttl_ms", "w")

    def __init__(self, properties: BucketProperties, placements: list[Placement]) -> None:
        self.properties = properties
        self.placements = placements
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

    def __init__(self, *, self_number: int, ring: Ring, defaults: BucketProperties, engine: Engine) -> None:
        self._engine = engine
        self._self_number = self_number
        self._defaults = defaults
        self.table: BucketTable = {}
        self.told = len(ring.members) == 1
        """Has anybody told this store the buckets' properties, if only that none were set? A new disk knows nothing."""
        raw_ring = load(engine, RING_KEY)
        raw_table = load(engine, BUCKETS_KEY)
        self.ring = msgspec.msgpack.decode(raw_ring, type=Ring) if raw_ring is not None else ring
        if raw_table is not None:
            self.table = msgspec.msgpack.decode(raw_table, type=BucketTable)
            self.told = True
        self._rebuild()
        if raw_ring is None:
            self._engine.write([(Space.META, RING_KEY, sealed(msgspec.msgpack.encode(self.ring)))])

    def bucket(self, bucket: bytes) -> BucketView:
        """The view of a bucket: its own properties if they were set, else the cluster's defaults."""
        view = self._views.get(bucket)
        return self._default_view if view is None else view

    def placements_of(self, n: int) -> list[Placement]:
        """The placement of every partition for the buckets with this n; empty if there is no such bucket here."""
        return self._placements.get(n, [])

    def merge_buckets(self, theirs: BucketTable, told: bool = True) -> bool:
        """Take over what is newer in a peer's table, and persist it; True if anything was. Raises `StorageError`.

        `told`: after this the store knows what there is to know, even if that is nothing.
        """
        merged = merge_tables(self.table, theirs)
        if merged == self.table and (self.told or not told):
            return False
        self._engine.write([(Space.META, BUCKETS_KEY, sealed(msgspec.msgpack.encode(merged)))])
        self.table = merged
        self.told = True
        self._rebuild()
        return True

    def _rebuild(self) -> None:
        self.preference_lists = PreferenceLists(self.ring)
        self.names = {member.number: member.name for member in self.ring.members}
        self.other_numbers = tuple(member.number for member in self.ring.members if member.number != self._self_number)
        self._placements: dict[int, list[Placement]] = {}
        self._default_view = self._view(self._defaults)
        self._views = {bucket: self._view(entry.properties) for bucket, entry in self.table.items()}

    def _view(self, properties: BucketProperties) -> BucketView:
        placements = self._placements.get(properties.n)
        if placements is None:
            lists = [self.preference_lists.of(p, properties.n) for p in range(self.ring.partitions)]
            placements = [Placement(found.replicas, found.fallbacks, self._self_number) for found in lists]
            self._placements[properties.n] = placements
        return BucketView(properties, placements)
