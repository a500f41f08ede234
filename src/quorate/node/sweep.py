"""The sweep: a slow walk over everything that this node stores, again and again.

It does three things with each record that it comes by.
- It checks it against its checksum, on the disk and not in the cache (hard cases 25, 28). A damaged one is reported and
  counts as lost, in the hash trees too, so that the next exchange with a peer brings it back.
- If this node is the first of the key's replicas and the record holds something dead since before the horizon, it
  proposes it to the `Collector`.
- If this node is no replica of the key any more, since the bucket's n was lowered, it hands the record to all that are
  and forgets it. Otherwise it would sleep here, and bring back what was deleted once n is raised again.

A pass takes as long as it takes: chunks bounded in records and bytes, a turn of the loop and a pause between them, and
never more than background work is admitted. It begins at a partition drawn by lot, so that nodes that are often
restarted do not always look at the same ones.

Invariants: nothing that is stored can end it, neither a record that cannot be read (hard case 28) nor a failing disk;
it reads no record into the cache, where it would push out what clients use.
Rejected: a queue of what was deleted, to be looked at when its time has come (to be kept on the disk, through crashes
and repairs that bring tombstones in; and the records have to be read now and then in any case, for their checksums).
"""

from __future__ import annotations

import logging
from typing import Any

import msgspec

from quorate.core.collection import collectable
from quorate.core.envelope import unpack
from quorate.core.errors import DamagedRecord, StorageError
from quorate.core.keyspace import split_storage_key
from quorate.core.limits import (
    COLLECT_BATCH_ENTRIES,
    COLLECT_TIMEOUT_MS,
    SCAN_CHUNK_BYTES,
    SCAN_CHUNK_RECORDS,
    SWEEP_INTERVAL_MIN_MS,
    SWEEP_PAUSE_MS,
)
from quorate.core.messages import Status, Write
from quorate.core.ports import Space
from quorate.core.record import decode_record
from quorate.node.cluster_view import BucketView, Placement
from quorate.node.collector import Collector, Entry
from quorate.node.context import NodeContext
from quorate.node.gather import Answers, GatherOperation
from quorate.node.steps import Wait, admission, pause, run

log = logging.getLogger(__name__)

RECORDS_PER_OPERATION = 64
"""Records looked at that cost as much as one record moved, for admission."""


class Sweep:
    """One node's walk, begun once."""

    def __init__(self, node: NodeContext, collector: Collector) -> None:
        self._node = node
        self._collector = collector
        self._batches: dict[tuple[int, ...], list[Entry]] = {}
        """Replicas → what to propose to them."""
        self._strays: list[Entry] = []
        self.passes = 0
        self.pass_ended_ms = 0
        """Unix milliseconds; 0: there was none yet."""
        self.records = 0
        """Looked at in the pass that is under way."""
        self.records_of_last_pass = 0

    def start(self) -> None:
        """Sweep for as long as the node runs."""
        run(self._for_ever(), lambda _: None)

    def report(self) -> dict[str, Any]:
        """For `status`."""
        return {
            "passes": self.passes,
            "last_pass_unix_ms": self.pass_ended_ms,
            "records_of_last_pass": self.records_of_last_pass,
            "records_of_this_pass": self.records,
            "batches_waiting": self._collector.waiting,
        }

    def interval_ms(self) -> float:
        """From the beginning of one pass to that of the next."""
        options = self._node.options
        return options.sweep_interval_ms or max(SWEEP_INTERVAL_MIN_MS, options.grace_ms // 8)

    async def _for_ever(self) -> None:
        node = self._node
        await pause(node, self.interval_ms() * (0.1 + 0.9 * node.rng.random()))
        while True:
            begun_ms = node.clock.monotonic_ms()
            if not node.fenced_because:
                await self.sweep_once()
            elapsed_ms = node.clock.monotonic_ms() - begun_ms
            await pause(node, max(SWEEP_PAUSE_MS, self.interval_ms() - elapsed_ms))

    async def sweep_once(self) -> None:
        """One pass over everything. A failing disk ends it early, and is reported."""
        node = self._node
        partitions = node.view.ring.partitions
        first = node.rng.below(partitions).to_bytes(2, "big")
        self.records = 0
        try:
            await self._walk(first, partitions.to_bytes(2, "big"))
            await self._walk(b"", first)
            for replicas in list(self._batches):
                await self._collector.prove(replicas, self._batches.pop(replicas))
        except StorageError as error:
            self._batches.clear()
            self._strays.clear()
            log.error("the stored records could not be looked through: %s", error)
            return
        self.passes += 1
        self.pass_ended_ms = node.clock.wall_ms()
        self.records_of_last_pass = self.records

    async def _walk(self, start: bytes, end: bytes) -> None:
        """Go through the storage keys start ≤ key < end."""
        while True:
            count, last = self._chunk(start, end)
            self.records += count
            await admission(self._node, 1 + count // RECORDS_PER_OPERATION)
            for replicas in [found for found, batch in self._batches.items() if len(batch) >= COLLECT_BATCH_ENTRIES]:
                await self._collector.prove(replicas, self._batches.pop(replicas))
            strays, self._strays = self._strays, []
            for key, digest in strays:
                await self._hand_over(key, digest)
            if not last:
                return
            start = last + b"\x00"
            await pause(self._node, SWEEP_PAUSE_MS)

    def _chunk(self, start: bytes, end: bytes) -> tuple[int, bytes]:
        """(records looked at, the last of them or empty if that was the end). Raises `StorageError`."""
        node = self._node
        node.commits.flush()
        horizon_ms = self._collector.horizon_ms()
        count = size_bytes = 0
        for key, stored in node.engine.scan(Space.DATA, start, end):
            count += 1
            size_bytes += len(stored)
            full = self._look_at(key, stored, horizon_ms)
            if full or count >= SCAN_CHUNK_RECORDS or size_bytes >= SCAN_CHUNK_BYTES:
                return count, key
        return count, b""

    def _look_at(self, key: bytes, stored: bytes, horizon_ms: int) -> bool:
        """Check one record and note what is to be done with it. True if a batch is full."""
        node = self._node
        try:
            digest, _, body = unpack(key, stored)
        except DamagedRecord:
            node.records.on_damaged(key)
            return False
        try:
            _, placement = self._placed(key)
            if not placement.local:
                if not node.view.told:
                    return False
                self._strays.append((key, digest))
                return len(self._strays) >= COLLECT_BATCH_ENTRIES
            if placement.replicas[0] != node.self_number or not collectable(decode_record(body), horizon_ms):
                return False
        except (msgspec.DecodeError, IndexError):
            # Whole by its checksum, so it was stored like this: reported, left as it is, and passed over.
            node.count("records_unreadable")
            log.error("a stored record is whole and cannot be read (key %r)", key)
            return False
        batch = self._batches.setdefault(placement.replicas, [])
        batch.append((key, digest))
        return len(batch) >= COLLECT_BATCH_ENTRIES

    def _placed(self, key: bytes) -> tuple[BucketView, Placement]:
        """Where a storage key belongs. Raises `IndexError` if that is nowhere."""
        partition, bucket, _ = split_storage_key(key)
        view = self._node.view.bucket(bucket)
        return view, view.placements[partition]

    async def _hand_over(self, key: bytes, digest: int) -> None:
        """Give a record that this node is no replica of to all that are, and forget it when each of them has it."""
        node = self._node
        await admission(node, 1)
        bucket, placement = self._placed(key)
        try:
            stored = node.records.read(key)
        except DamagedRecord:
            return
        if placement.local or stored is None or stored[0] != digest:
            return
        body, version = stored[2], node.view.ring.version

        def start(resume: Any) -> None:
            gather = GatherOperation(node, COLLECT_TIMEOUT_MS, resume)
            write = Write(gather.id, COLLECT_TIMEOUT_MS, version, key, body, bucket.flags)
            gather.send(dict.fromkeys(placement.replicas, write))

        answers = await Wait[Answers](start)
        taken = all(member in answers and answers[member].status == Status.OK for member in placement.replicas)
        if taken and self._placed(key)[1].replicas == placement.replicas:
            node.records.remove(key, digest, _ignore, None)
            node.count("strays_handed_over")


def _ignore(argument: object, durable: bool) -> None:
    pass
