"""The records of this node: reading, merging and writing them, with what makes a dot trustworthy.

Every stored record carries a local marker: the actor under which this store last coordinated a put of the key, or 0.
The marker never travels. A put may go on with the marked actor only while the store can vouch for its own memory of
the key; otherwise it mints a new epoch (hard cases 1 and 2):
- there is no local record, or it could not be read, or it came by replication (marker 0);
- the marker is from before an unclean stop that may have lost writes (below the floor);
- a peer or a context knows more of the marked actor's events than this store does.

Invariants: a merge never loses a sibling or a clock entry; a merge mints no versions; a damaged record is reported and
treated as not there, never returned; the hash trees know of every change.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

import msgspec

from quorate.core.causality.actor import vouches
from quorate.core.causality.dotted_version_vectors import (
    context_of,
    has_operation,
    resolve_last_write_wins,
    sync,
    update,
)
from quorate.core.causality.hybrid_logical_clock import HybridLogicalClock
from quorate.core.causality.version_vectors import descends
from quorate.core.envelope import digest_of, pack, unpack
from quorate.core.errors import CallerError, DamagedRecord, PeerError
from quorate.core.limits import SIBLINGS_MAX
from quorate.core.messages import NO_BASE
from quorate.core.ports import Clock
from quorate.core.quorum.get_tally import ABSENT_DIGEST
from quorate.core.record import EMPTY_CONTEXT, TOMBSTONE, VALUE, Record, decode_record, encode_record
from quorate.core.store import PutRequest
from quorate.node.commit_queue import CommitQueue
from quorate.node.epochs import Epochs
from quorate.node.record_cache import RecordCache, Stored
from quorate.node.trees import Trees

log: Final = logging.getLogger(__name__)


Base = tuple[Record | None, int, int]
"""What a node holds of a key before a put: the record, its marker, and its digest (or `NO_BASE`)."""

Coordinated = tuple[Record, bytes, int, int]
"""What a put leads to: the new record, its bytes, its marker, and the digest it was built on (or `NO_BASE`)."""

CommitCallback = Callable[[Any, bool], None]


class RecordStore:
    """Records by storage key, through the commit queue."""

    __slots__ = ("_cache", "_clock", "_commits", "_count", "_epochs", "_hybrid_clock", "_member", "_trees")

    def __init__(
        self,
        *,
        member: int,
        commits: CommitQueue,
        cache: RecordCache,
        trees: Trees,
        epochs: Epochs,
        hybrid_clock: HybridLogicalClock,
        clock: Clock,
        count: Callable[[str], None],
    ) -> None:
        self._member = member
        self._commits = commits
        self._cache = cache
        self._trees = trees
        self._epochs = epochs
        self._hybrid_clock = hybrid_clock
        self._clock = clock
        self._count = count

    def read(self, key: bytes, remember: bool = True) -> Stored | None:
        """What is stored under `key`, checked. Raises `DamagedRecord`, `StorageError`.

        `remember` false: do not let it push out of the cache what clients use.
        """
        found = self._cache.get(key)
        if found is not None:
            return found
        stored = self._commits.get(key)
        if stored is None:
            return None
        try:
            found = unpack(key, stored)
        except DamagedRecord:
            self.on_damaged(key)
            raise
        if self._trees.counts_as_absent(key):
            self._trees.found_whole(key)
        if remember:
            self._cache.put(key, found)
        return found

    def read_written(self, key: bytes, remember: bool = True) -> Stored | None:
        """As `read`, for whoever shows it to somebody else: a kill does not take it back any more (hard case 1)."""
        self._commits.settle(key)
        return self.read(key, remember)

    def on_damaged(self, key: bytes) -> None:
        """What is stored under `key` does not match its checksum: it counts as lost, in the hash trees too."""
        self._count("records_damaged")
        self._cache.forget(key)
        if self._trees.found_damaged(key):
            log.error("a stored record does not match its checksum and counts as lost (key %r)", key)

    def base(self, key: bytes) -> Base:
        """What a put of `key` builds on here: nothing if it is absent or damaged. Raises `StorageError`."""
        try:
            stored = self.read(key)
        except DamagedRecord:
            return None, 0, NO_BASE
        if stored is None:
            return None, 0, ABSENT_DIGEST
        return decode_record(stored[2]), stored[1], stored[0]

    def coordinate(self, found: Base, request: PutRequest, ttl_ms: int, last_write_wins: bool) -> Coordinated:
        """Make the record that `request` leads to. Nothing is written yet.

        Raises `CallerError` if the key would get too many siblings, `Overloaded` if no epoch is at hand.
        """
        record, marker, digest = found
        operation, delete = request.operation, request.delete
        if operation and record is not None and has_operation(record, operation) is not None:
            # A retry of what this store has done already: the same event, not a second one.
            return record, encode_record(record), marker, NO_BASE
        context = context_of(record) if request.overwrite_seen else request.context or EMPTY_CONTEXT
        nothing_unseen = descends(record.clock if record is not None else {}, context.clock)
        if record is None or not nothing_unseen or not vouches(marker, self._epochs.floor, self._member):
            marker = self._epochs.mint()
        wall_ms = self._clock.wall_ms()
        new = update(
            record,
            context,
            marker,
            self._hybrid_clock.tick(wall_ms, context.time),
            b"" if delete else request.value,
            request.content_type,
            TOMBSTONE if delete else VALUE,
            wall_ms + ttl_ms if ttl_ms > 0 and not delete else 0,
            operation,
        )
        if last_write_wins:
            new = resolve_last_write_wins(new)
        siblings = len(new.siblings)
        if siblings > SIBLINGS_MAX and (record is None or siblings > len(record.siblings)):
            raise CallerError(
                f"this key already has {siblings - 1} siblings; read it and put with the context of what was read"
            )
        return new, encode_record(new), marker, digest if nothing_unseen else NO_BASE

    def write(
        self,
        key: bytes,
        body: bytes,
        marker: int,
        synced: bool,
        callback: CommitCallback,
        argument: Any,
        replaced: int,
    ) -> None:
        """Queue the write of a record that `coordinate` or `merge` made.

        `replaced`: the digest of what `read` or `base` has just found under `key`; `ABSENT_DIGEST` or `NO_BASE` if
        that was nothing or damaged.
        """
        digest = digest_of(key, body)
        self._trees.update(key, digest ^ replaced if replaced != NO_BASE else digest)
        self._cache.put(key, (digest, marker, body))
        self._commits.put(key, pack(digest, marker, body), synced, callback, argument)

    def merge(
        self,
        key: bytes,
        body: bytes,
        last_write_wins: bool,
        synced: bool,
        callback: CommitCallback,
        argument: Any,
        base: int = NO_BASE,
    ) -> None:
        """Sync a peer's record into the local one; `callback(argument, durable)` follows. Raises `PeerError`.

        `base`: see `messages.Write`.
        """
        if not body:
            raise PeerError("a peer sent an empty record")
        try:
            stored = self.read(key)
        except DamagedRecord:
            stored, base = None, NO_BASE
        if base == (stored[0] if stored is not None else ABSENT_DIGEST):
            self.write(key, body, stored[1] if stored is not None else 0, synced, callback, argument, base)
            return
        try:
            theirs = decode_record(body)
        except msgspec.DecodeError as error:
            raise PeerError(f"a peer sent a record that cannot be read: {error}") from error
        if stored is None:
            self.write(key, body, 0, synced, callback, argument, ABSENT_DIGEST)
            return
        replaced, marker, mine_body = stored
        if mine_body == body:
            self._commits.wait(synced, callback, argument)
            return
        mine = decode_record(mine_body)
        merged = sync(mine, theirs)
        if last_write_wins:
            merged = resolve_last_write_wins(merged)
        if merged is mine:
            self._commits.wait(synced, callback, argument)
            return
        if marker and merged.clock.get(marker, 0) > mine.clock.get(marker, 0):
            # A peer remembers an event of ours that we do not: this store cannot vouch for the actor any more.
            self._count("actors_disowned")
            marker = 0
        merged_body = body if merged is theirs else encode_record(merged)
        self.write(key, merged_body, marker, synced, callback, argument, replaced)

    def remove(self, key: bytes, digest: int, callback: CommitCallback, argument: Any) -> bool:
        """Remove the stored record if it is whole and exactly the one with `digest`; `callback(argument, durable)`.

        False if it is not: then nothing is done, and nobody called. Raises `StorageError`.
        """
        try:
            stored = self.read(key)
        except DamagedRecord:
            return False
        if stored is None or stored[0] != digest:
            return False
        self._trees.update(key, digest)
        self._cache.forget(key)
        self._commits.put(key, None, False, callback, argument)
        return True

    def remove_damaged(self, key: bytes) -> None:
        """Remove the bytes of a record that is known to be damaged (see `damage`); any other stays."""
        if self._trees.counts_as_absent(key):
            self._trees.update(key, 0)
            self._cache.forget(key)
            self._commits.put(key, None, False, lambda argument, durable: None, None)

    def replace_collected(self, key: bytes, digest: int, body: bytes, callback: CommitCallback, argument: Any) -> bool:
        """Put `body`, which `core.collection` made of it, in the place of the stored record if that is whole and
        exactly the one with `digest`. As `remove` otherwise.

        Its marker stays: the clock is the same, so this store still remembers every event of its own.
        """
        try:
            stored = self.read(key)
        except DamagedRecord:
            return False
        if stored is None or stored[0] != digest:
            return False
        self.write(key, body, stored[1], False, callback, argument, digest)
        return True

    def observe(self, record: Record) -> None:
        """Let the hybrid clock follow the times of a peer's record, if they are not too far ahead."""
        for sibling in record.siblings:
            if not self._hybrid_clock.observe(sibling.time, self._clock.wall_ms()):
                self._count("clock_skew_refused")
