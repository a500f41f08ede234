"""The sweep: a slow walk over everything that this node stores, again and again.

It does three things with each record that it comes by.
- It checks it against its checksum, on the disk and not in the cache (hard cases 25, 28). A damaged one is reported and
  counts as lost, in the hash trees too, so that the next exchange with a peer brings it back.
- If this node is the first of the key's replicas and the record holds something dead since before the horizon, it
  proposes it to the `Collector`.
- If this node is no replica of the key any more, since the ring has changed or the bucket's n was lowered, it forgets
  the record once all who are hold it. Otherwise it would sleep here, and bring back what was deleted once this node is
  a replica again. After a change of the ring that begins at once, for whole partitions.

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
    OFFER_ENTRIES_MAX,
    SCAN_CHUNK_BYTES,
    SCAN_CHUNK_RECORDS,
    SCAN_RECORDS_PER_OPERATION,
    SWEEP_INTERVAL_MIN_MS,
    SWEEP_PAUSE_MS,
)
from quorate.core.messages import FLAG_HINTED, Message, Offer, Status, Write
from quorate.core.ports import Space
from quorate.core.record import decode_record
from quorate.node.cluster_view import BucketView, Placement
from quorate.node.collector import Collector, Entry
from quorate.node.context import NodeContext
from quorate.node.steps import admission, answers, pause, run

log = logging.getLogger(__name__)

CLEAR_INTERVAL_MS = 2_000.0
"""Between two tries to clear out what is not kept any more."""


class Sweep:
    """One node's walk, begun once."""

    def __init__(self, node: NodeContext, collector: Collector) -> None:
        self._node = node
        self._collector = collector
        self._batches: dict[tuple[int, ...], list[Entry]] = {}
        """Replicas → what to propose to them."""
        self._strays: list[Entry] = []
        self._clearing = False
        self._stopped = False
        self.passes = 0
        self.pass_ended_ms = 0
        """Unix milliseconds; 0: there was none yet."""
        self.records = 0
        """Looked at in the pass that is under way."""
        self.records_of_last_pass = 0

    def start(self) -> None:
        """Sweep for as long as the node runs."""
        run(self._for_ever(), lambda _: None)

    def stop(self) -> None:
        """Touch the store no more."""
        self._stopped = True

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
        while not self._stopped:
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
        while not self._stopped:
            count, last = self._chunk(start, end)
            self.records += count
            await admission(self._node, 1 + count // SCAN_RECORDS_PER_OPERATION)
            for replicas in [found for found, batch in self._batches.items() if len(batch) >= COLLECT_BATCH_ENTRIES]:
                await self._collector.prove(replicas, self._batches.pop(replicas))
            strays, self._strays = self._strays, []
            if strays:
                await self._hand_over(strays)
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
            if self._drops(key):
                node.records.remove_damaged(key)  # No exchange looks at this partition any more.
            return False
        try:
            _, placement = self._placed(key)
            if not placement.stores:
                if not self._drops(key):
                    return False
                self._strays.append((key, digest))
                return len(self._strays) >= COLLECT_BATCH_ENTRIES
            if node.view.ring.transition is not None and placement.sides:
                return False
            if placement.replicas[0] != node.self_number or not collectable(decode_record(body), horizon_ms):
                return False
        except (msgspec.DecodeError, IndexError):
            # Whole by its checksum, so it was stored like this: reported, left as it is, and passed over.
            node.count("records_unreadable")
            log.error("a stored record is whole and cannot be read (key %r)", key)
            return False
        batch = self._batches.setdefault(placement.homes, [])
        batch.append((key, digest))
        return len(batch) >= COLLECT_BATCH_ENTRIES

    def _drops(self, key: bytes) -> bool:
        """May this node forget what it holds under `key`, by rule D of `core.ring.advance`?"""
        view = self._node.view
        if not view.told or view.ring.transition is not None:
            return False
        try:
            return not self._placed(key)[1].stores
        except IndexError:
            return False

    def _placed(self, key: bytes) -> tuple[BucketView, Placement]:
        """Where a storage key belongs. Raises `IndexError` if that is nowhere."""
        partition, bucket, _ = split_storage_key(key)
        view = self._node.view.bucket(bucket)
        return view, view.placements[partition]

    # --- what this node keeps no more ---

    def on_ring(self) -> None:
        """This node goes by a newer ring: what it does not keep any more goes, without waiting for the next pass."""
        if self._node.view.ring.transition is None and not self._clearing:
            self._clearing = True
            run(self._clear_out(), lambda _: None)

    async def _clear_out(self) -> None:
        """Hand over and forget, until nothing is left, or a plan is under way again."""
        node = self._node
        left = self.kept_no_more()
        if left:
            log.info("%d partitions are not kept here any more, and are cleared out", len(left))
        while left and node.view.ring.transition is None and not self._stopped:
            for partition in left:
                if node.fenced_because or node.view.ring.transition is not None:
                    break
                try:
                    await self._walk(partition.to_bytes(2, "big"), (partition + 1).to_bytes(2, "big"))
                except StorageError as error:
                    log.error("partition %d could not be cleared out: %s", partition, error)
            await pause(node, CLEAR_INTERVAL_MS)
            left = self.kept_no_more()
        self._clearing = False

    def kept_no_more(self) -> list[int]:
        """Partitions that hold something, and none of whose keys this node keeps."""
        node = self._node
        placements = [node.view.placements_of(n) for n in node.trees.n_values()]
        return [
            partition
            for partition in range(node.view.ring.partitions)
            if not any(found[partition].stores for found in placements) and not node.trees.holds_nothing(partition)
        ]

    async def _hand_over(self, entries: list[Entry]) -> None:
        """Forget records that this node is no replica of, each when all who are hold it, or have taken it in.

        All by one ring: by the next one this node may keep them, and may count as filled with them.
        """
        node = self._node
        version = node.view.version
        groups: dict[tuple[int, ...], list[Entry]] = {}
        for entry in filter(lambda found: self._drops(found[0]), entries):
            groups.setdefault(self._placed(entry[0])[1].homes, []).append(entry)
        for homes, group in groups.items():
            for first in range(0, len(group), OFFER_ENTRIES_MAX):
                batch = group[first : first + OFFER_ENTRIES_MAX]
                await admission(node, 1 + len(batch) // SCAN_RECORDS_PER_OPERATION)
                if node.view.version != version:
                    return
                await self._offer(homes, batch, version)

    async def _offer(self, homes: tuple[int, ...], batch: list[Entry], version: int) -> None:
        node = self._node

        def offer(number: int) -> Message:
            return Offer(number, COLLECT_TIMEOUT_MS, version, batch)

        replies = await answers(node, homes, offer, COLLECT_TIMEOUT_MS)
        held = {home: frozenset(found.places) for home, found in replies.items() if found.status == Status.OK}
        for place, (key, digest) in enumerate(batch):
            lacking = [home for home, places in held.items() if place not in places]
            if node.view.version != version:
                return
            given = not lacking or await self._give(lacking, key, digest)
            if given and len(held) == len(homes) and node.view.version == version:
                node.records.remove(key, digest, _ignore, None)
                node.count("strays_handed_over")

    async def _give(self, homes: list[int], key: bytes, digest: int) -> bool:
        """Send a record to `homes`: did all take note of it?

        As with a hint, what is beyond the horizon is not taken in: it may have been deleted and collected where this
        node was not asked any more (hard case 15).
        """
        node = self._node
        await admission(node, 1)
        bucket, placement = self._placed(key)
        try:
            stored = node.records.read_written(key, remember=False)
        except DamagedRecord:
            return False
        if placement.stores or stored is None or stored[0] != digest:
            return False
        body, version = stored[2], node.view.version

        def question(number: int) -> Message:
            return Write(number, COLLECT_TIMEOUT_MS, version, key, body, bucket.flags | FLAG_HINTED)

        replies = await answers(node, homes, question, COLLECT_TIMEOUT_MS)
        return all(home in replies and replies[home].status == Status.OK for home in homes)


def _ignore(argument: object, durable: bool) -> None:
    pass
