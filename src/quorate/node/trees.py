"""The hash trees of this node: kept exact on every write, saved by a clean stop, made anew when that is needed.

`update` is called with every record that is written or removed. A partition whose tree is not known to be exact (after
an unclean stop, after damage, after a bucket's n has changed) is not *ready*: its trees are emptied and filled again by
a walk over its records, in bounded steps admitted as background work. What is written meanwhile goes into the trees if
the walk has passed its key, and is left to the walk if it has not.

A damaged record counts as absent. Where it is found out, its digest is in the tree and cannot be known any more, so the
partition is rebuilt; and until something is written over the record, this node remembers that the tree does not hold
it. The memory is bounded: a record forgotten and found again only costs one more rebuild.

Invariants: a tree that is ready equals what a scan would give, this turn's queued writes included and damaged records
excluded; a tree is never saved unless it is ready, and never loaded after anything was written without it.
Rejected: a rebuild on the side while the old tree stays in use (an inexact tree sends peers looking for differences
that do not exist, again and again); flushing the queued writes before each step (it calls back whoever waits, in the
middle of something else; the step looks into the queue instead).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import islice
from typing import Any, Final

from quorate.core.admission.background import BackgroundAdmission
from quorate.core.envelope import unpack
from quorate.core.errors import DamagedRecord, StorageError
from quorate.core.limits import DAMAGED_KEYS_MAX, MIB, SCAN_RECORDS_PER_OPERATION
from quorate.core.merkle.trees import Forest, HashTree, Update, leaves_per_partition
from quorate.core.ports import Clock, Engine, Scheduler, Space
from quorate.node.cluster_view import ClusterView
from quorate.node.commit_queue import CommitQueue
from quorate.node.tree_documents import Shape, load_trees, remove_trees, save_trees

log: Final = logging.getLogger(__name__)

TOKENS_PER_STEP_MAX: Final = 4
STEP_BYTES_MAX: Final = 4 * MIB
"""A step of the rebuild ends above this, after at least one record."""
STEP_PARTITIONS_MAX: Final = 16
FENCED_RETRY_MS: Final = 1_000.0


class Trees:
    """One `Forest` for each n that some bucket has."""

    __slots__ = (
        "_background",
        "_clock",
        "_commits",
        "_count",
        "_damaged",
        "_default",
        "_default_n",
        "_engine",
        "_fenced",
        "_forests",
        "_forget",
        "_partitions",
        "_scheduler",
        "_special",
        "_unready",
        "_view",
        "_walking",
        "leaf_count",
        "update",
    )

    def __init__(
        self,
        *,
        engine: Engine,
        commits: CommitQueue,
        view: ClusterView,
        background: BackgroundAdmission,
        clock: Clock,
        scheduler: Scheduler,
        fenced: Callable[[], Any],
        forget: Callable[[bytes], None],
        count: Callable[[str], None],
    ) -> None:
        """`fenced()` is true while this node's disk has failed; `forget(key)` drops a record from the cache."""
        self._engine = engine
        self._commits = commits
        self._view = view
        self._background = background
        self._clock = clock
        self._scheduler = scheduler
        self._fenced = fenced
        self._forget = forget
        self._count = count
        self._partitions = view.ring.partitions
        self.leaf_count = leaves_per_partition(self._partitions)
        self._unready: dict[int, bytes] = dict.fromkeys(range(self._partitions), b"")
        """Partition → up to which storage key the walk has come, in the order in which they are walked."""
        self._damaged: dict[bytes, None] = {}
        """Storage keys of damaged records that no tree holds any more, the oldest find first."""
        self._walking = False
        self._forests: dict[int, Forest] = {}
        self.update: Update
        """update(key, delta): a record has changed; `delta` = old digest XOR new digest (0: none, or a damaged one)."""
        self._take_shape()

    # --- what the trees say ---

    def ready(self, partition: int, n: int) -> bool:
        """Is the tree exact now?"""
        return partition not in self._unready and n in self._forests and not self._fenced()

    def tree(self, partition: int, n: int) -> HashTree:
        """A copy of the tree as it is now. Only if it is `ready`."""
        assert self.ready(partition, n), "asked for a tree that is not ready"
        return self._forests[n].tree(partition)

    def root(self, partition: int, n: int) -> int:
        """The root of `tree(partition, n)`, at once. Only if it is `ready`."""
        assert self.ready(partition, n), "asked for the root of a tree that is not ready"
        return self._forests[n].roots[partition]

    def empty(self) -> bool:
        """Is it certain that there is no record at all?"""
        return not self._unready and not any(any(forest.roots) for forest in self._forests.values())

    def n_values(self) -> list[int]:
        """Every n that some bucket has, the default first."""
        return list(self._forests)

    def n_of(self, key: bytes) -> int:
        """The n of the bucket of a storage key."""
        return self._special.get(key[3 : 3 + key[2]], self._default_n)

    def counts_as_absent(self, key: bytes) -> bool:
        """Is the record under `key` known to be damaged, and in no tree?"""
        return key in self._damaged

    def damaged_keys(self) -> list[bytes]:
        """Storage keys of the records that are known to be damaged, and in no tree."""
        return list(self._damaged)

    def holds_nothing(self, partition: int) -> bool:
        """Is it certain that there is no record in it?"""
        return partition not in self._unready and all(forest.empty(partition) for forest in self._forests.values())

    def report(self) -> dict[str, Any]:
        """For people."""
        return {
            "partitions": self._partitions,
            "ready": 0 if self._fenced() else self._partitions - len(self._unready),
            "damaged_records": len(self._damaged),
        }

    # --- making them exact ---

    def start(self) -> None:
        """Load what a clean stop has saved, and remove it from the disk before anything else is written.

        What cannot be loaded is rebuilt in the background. Raises `StorageError`; then nothing may be written.
        """
        report = self._engine.report
        unready: list[int] | None = None
        if report.fresh:
            unready = []
        elif report.clean:
            unready = load_trees(self._engine, self._shape(), self._forests)
        remove_trees(self._engine)
        if unready is None:
            self.rebuild_all()
            return
        self._unready = dict.fromkeys(unready, b"")
        self._choose_update()
        self._walk_soon()

    def save(self) -> None:
        """Write the trees at a clean stop. Nothing may be written after it."""
        if self._fenced() or self._commits.failed or self._commits.queued_between(b"", b"\xff\xff"):
            log.info("the hash trees are not saved, and will be made anew at the next start")
            return
        # Which damaged records the trees lack is not saved; what the next start finds of them may be whole again.
        damaged = dict.fromkeys(key[0] << 8 | key[1] for key in self._damaged)
        try:
            save_trees(self._engine, self._shape(), self._forests, list({**self._unready, **damaged}))
        except StorageError as error:
            log.warning("the hash trees could not be saved, and will be made anew at the next start: %s", error)
            return
        self.update = _refuse

    def rebuild(self, partition: int) -> None:
        """Make the trees of a partition anew from its records, in the background."""
        self._discard(partition)
        self._choose_update()
        self._walk_soon()

    def rebuild_all(self) -> None:
        for partition in range(self._partitions):
            self._discard(partition)
        self._choose_update()
        self._walk_soon()

    def found_damaged(self, key: bytes) -> bool:
        """The record under `key` turned out to be damaged; false if that was known."""
        if key in self._damaged:
            return False
        self._remember_damaged(key)
        partition = key[0] << 8 | key[1]
        walked = self._unready.get(partition)
        if walked is None or key <= walked:
            self._discard(partition)
            self._walk_soon()
        self._choose_update()
        return True

    def found_whole(self, key: bytes) -> None:
        """A record that was read as damaged can be read after all: the disk or the way from it is to be mistrusted."""
        del self._damaged[key]
        partition = key[0] << 8 | key[1]
        walked = self._unready.get(partition)
        if walked is None or key <= walked:
            self._discard(partition)
            self._walk_soon()
        self._choose_update()

    def buckets_changed(self) -> None:
        """The buckets' properties have changed: if the n of one has, its records belong into another tree."""
        if self._special_n() == self._special:
            return
        held = [
            partition
            for partition in range(self._partitions)
            if partition not in self._unready and not all(tree.empty(partition) for tree in self._forests.values())
        ]
        self._take_shape()
        for partition in [*held, *self._unready]:
            self._discard(partition)
        self._choose_update()
        self._walk_soon()

    # --- inside ---

    def _shape(self) -> Shape:
        return Shape(self._partitions, self.leaf_count, self._default_n, self._special)

    def _special_n(self) -> dict[bytes, int]:
        default_n = self._view.bucket(b"").properties.n
        table = self._view.metadata.buckets
        return {bucket: table[bucket].n for bucket in sorted(table) if table[bucket].n != default_n}

    def _take_shape(self) -> None:
        """One forest for each n; those that were there stay as they are."""
        self._default_n = self._view.bucket(b"").properties.n
        self._special: dict[bytes, int] = self._special_n()
        before = self._forests
        self._forests = {}
        for n in [self._default_n, *sorted(set(self._special.values()))]:
            self._forests[n] = before.get(n) or Forest(self._partitions, self.leaf_count)
        self._default = self._forests[self._default_n]
        self._choose_update()

    def _choose_update(self) -> None:
        """In the usual case a write costs no more than its two places in the arrays."""
        usual = not self._special and not self._unready and not self._damaged
        self.update = self._default.update if usual else self._update_with_care

    def _update_with_care(self, key: bytes, delta: int) -> None:
        if self._damaged and key in self._damaged:
            del self._damaged[key]
            self._choose_update()
        walked = self._unready.get(key[0] << 8 | key[1])
        if walked is None or key <= walked:
            self._forests[self.n_of(key)].update(key, delta)

    def _remember_damaged(self, key: bytes) -> None:
        self._damaged[key] = None
        if len(self._damaged) > DAMAGED_KEYS_MAX:
            del self._damaged[next(iter(self._damaged))]

    def _discard(self, partition: int) -> None:
        """Empty the trees of a partition, for the walk to fill them from its beginning."""
        for forest in self._forests.values():
            forest.clear(partition)
        self._unready[partition] = b""

    # --- the walk ---

    def _walk_soon(self) -> None:
        if self._unready and not self._walking:
            self._walking = True
            self._scheduler.call_soon(self._walk)

    def _walk(self) -> None:
        """One step: as many records as are admitted, of one partition or of several small ones."""
        if self._fenced():
            self._scheduler.call_later(FENCED_RETRY_MS, self._walk)
            return
        granted = self._background.take(TOKENS_PER_STEP_MAX, self._clock.monotonic_ms())
        if granted == 0:
            self._scheduler.call_later(self._background.delay_ms(), self._walk)
            return
        left = granted * SCAN_RECORDS_PER_OPERATION
        try:
            for partition in list(islice(self._unready, STEP_PARTITIONS_MAX)):
                left -= self._walk_on(partition, left)
                if left <= 0:
                    break
        except StorageError as error:
            log.error("the hash trees cannot be made anew: %s", error)
            self._scheduler.call_later(FENCED_RETRY_MS, self._walk)
            return
        self._choose_update()
        self._walking = False
        self._walk_soon()

    def _walk_on(self, partition: int, limit: int) -> int:
        """Take in up to `limit` more records of a partition; returns how many there were, `limit` if more follow."""
        walked = self._unready[partition]
        begin = walked + b"\x00" if walked else partition.to_bytes(2, "big")
        end = (partition + 1).to_bytes(2, "big")
        digests: dict[bytes, int] = {}
        size_bytes = 0
        complete = True
        for key, stored in self._engine.scan(Space.DATA, begin, end):
            if len(digests) >= limit or size_bytes >= STEP_BYTES_MAX:
                complete = False
                break
            digests[key] = self._digest(key, stored)
            size_bytes += len(stored)
            walked = key
        upto = end if complete else walked + b"\x00"
        # What this turn has queued is not in the engine yet, and is what the record is now.
        for key, queued in self._commits.queued_between(begin, upto):
            digests[key] = self._digest(key, queued) if queued is not None else 0
        for key, digest in digests.items():
            self._forests[self.n_of(key)].update(key, digest)
        if not complete:
            self._unready[partition] = walked
            return limit
        del self._unready[partition]
        return len(digests)

    def _digest(self, key: bytes, stored: bytes) -> int:
        """The digest of a record that the walk meets, 0 if it is damaged."""
        try:
            digest: int = unpack(key, stored)[0]
        except DamagedRecord as error:
            if key not in self._damaged:
                self._count("records_damaged")
                log.error("%s", error)
            self._remember_damaged(key)
            self._forget(key)
            return 0
        self._damaged.pop(key, None)
        return digest


def _refuse(key: bytes, delta: int) -> None:
    raise AssertionError("nothing is written after the hash trees were saved")
