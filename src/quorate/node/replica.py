"""The replica: answers other nodes' reads, writes and scans from its own records.

No task and no future: a write's acknowledgement leaves from the callback of its group commit. Work whose deadline has
passed on the way is dropped, not done; nobody waits for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from quorate.core import messages
from quorate.core.causality.dotted_version_vectors import live_siblings
from quorate.core.collection import beyond_horizon
from quorate.core.envelope import digest_of
from quorate.core.errors import DamagedRecord, Overloaded, PeerError, StorageError
from quorate.core.keyspace import prefix_end, split_storage_key, storage_key
from quorate.core.limits import IN_FLIGHT_REQUESTS_MAX
from quorate.core.messages import (
    FLAG_FSYNC,
    FLAG_HINTED,
    FLAG_LAST_WRITE_WINS,
    HintedRead,
    HintedWrite,
    Read,
    ReadReply,
    Scan,
    ScannedKey,
    ScannedPartition,
    Status,
    Write,
    WriteReply,
)
from quorate.core.ports import Space
from quorate.core.record import decode_record, encode_record
from quorate.node.context import NodeContext

_OK: Final = int(Status.OK)
_ABSENT: Final = int(Status.ABSENT)
_STALE_RING: Final = int(Status.STALE_RING)
_FENCED: Final = int(Status.FENCED)
fields_of: Final[Callable[[Write | Read], tuple[Any, ...]]] = msgspec.structs.astuple
"""All fields at once, which costs compiled code as much as one of them; a later version's message may have more."""


class Replica:
    """Handlers of Write, Read and Scan."""

    def __init__(self, node: NodeContext) -> None:
        self._node = node
        self._rings = node.rings
        self._view = node.view
        self._records = node.records
        self._commits = node.commits
        self._hints = node.hints
        self._filling = node.filling
        self._engine = node.engine
        self._send = node.transport.send
        self._clock = node.clock
        self._grace_ms = node.options.grace_ms
        self._count = node.count

    def _refuses_writes(self) -> bool:
        return bool(self._node.fenced_because) or not self._view.told

    def on_write(self, member: int, message: Write, age_ms: float) -> None:
        number, remaining_ms, ring_version, key, body, flags, base = fields_of(message)[:7]
        if remaining_ms <= age_ms:
            self._count("expired_requests_dropped")
            return
        if ring_version != self._view.version:
            if self._rings.admits(member, message, age_ms) is False:
                self._send(member, WriteReply(number, _STALE_RING))
            return
        if self._node.fenced_because or not self._view.told:
            self._send(member, WriteReply(number, _FENCED))
            return
        if flags & FLAG_HINTED and self._too_old(body):
            # Taken note of, and not taken in: its holder's clock is behind, and may forget it (hard case 15).
            self._count("hints_refused_as_too_old")
            self._send(member, WriteReply(number, _OK))
            return
        synced = bool(flags & FLAG_FSYNC)
        if synced and self._commits.unsynced_waiters() >= IN_FLIGHT_REQUESTS_MAX:
            self._send(member, WriteReply(number, Status.OVERLOADED))
            return
        try:
            self._records.merge(
                key,
                body,
                bool(flags & FLAG_LAST_WRITE_WINS),
                synced,
                self._committed,
                (member, number),
                base,
            )
        except StorageError:
            self._send(member, WriteReply(number, _FENCED))

    def _too_old(self, body: bytes) -> bool:
        try:
            return beyond_horizon(decode_record(body), self._clock.wall_ms(), self._grace_ms)
        except msgspec.DecodeError as error:
            raise PeerError(f"a peer sent a record that cannot be read: {error}") from error

    def _committed(self, origin: tuple[int, int], durable: bool) -> None:
        member, number = origin
        if number:
            self._send(member, WriteReply(number, _OK if durable else _FENCED))

    def on_hinted_write(self, member: int, message: HintedWrite, age_ms: float) -> None:
        """Keep a record for a home that the coordinator cannot reach (SOSP 2007, §4.6)."""
        if message.remaining_ms <= age_ms:
            self._count("expired_requests_dropped")
            return
        if message.ring_version != self._view.version:
            if self._rings.admits(member, message, age_ms) is False:
                self._send(member, WriteReply(message.id, Status.STALE_RING))
            return
        if self._refuses_writes():
            self._send(member, WriteReply(message.id, Status.FENCED))
            return
        try:
            decode_record(message.body)
            self._hints.keep(
                message.home,
                message.key,
                message.body,
                message.flags,
                0,
                self._committed,
                (member, message.id),
                since_ms=message.since_ms,
            )
        except msgspec.DecodeError as error:
            raise PeerError(f"a peer sent a record that cannot be read: {error}") from error
        except Overloaded:
            self._send(member, WriteReply(message.id, Status.OVERLOADED))
        except StorageError:
            self._send(member, WriteReply(message.id, Status.FENCED))

    def on_hinted_read(self, member: int, message: HintedRead, age_ms: float) -> None:
        """What this node keeps of a key for the homes named, as if it were a replica."""
        if message.remaining_ms <= age_ms:
            self._count("expired_requests_dropped")
            return
        if message.ring_version != self._view.version:
            if self._rings.admits(member, message, age_ms) is False:
                self._send(member, ReadReply(message.id, Status.STALE_RING))
            return
        try:
            record = self._hints.held_written(message.homes, message.key)
        except StorageError:
            self._send(member, ReadReply(message.id, Status.FENCED))
            return
        if record is None:
            self._send(member, ReadReply(message.id, _ABSENT))
        else:
            body = encode_record(record)
            digest = digest_of(message.key, body)
            self._send(member, ReadReply(message.id, _OK, digest, body if message.full else b""))

    def on_read(self, member: int, message: Read, age_ms: float) -> None:
        number, remaining_ms, ring_version, key, full = fields_of(message)[:5]
        if remaining_ms <= age_ms:
            self._count("expired_requests_dropped")
            return
        if ring_version != self._view.version:
            if self._rings.admits(member, message, age_ms) is False:
                self._send(member, ReadReply(number, _STALE_RING))
            return
        if not self._view.told:
            self._send(member, ReadReply(number, Status.NOT_READY))
            return
        try:
            if self._filling.partitions and self._filling.unready(key):
                self._send(member, ReadReply(number, Status.NOT_READY))
                return
            stored = self._records.read_written(key)
        except DamagedRecord:
            # "Absent" would be an answer, and a false one: this replica did acknowledge something once.
            self._send(member, ReadReply(number, Status.DAMAGED))
            return
        except StorageError:
            self._send(member, ReadReply(number, _FENCED))
            return
        if stored is None:
            self._send(member, ReadReply(number, _ABSENT))
        else:
            self._send(member, ReadReply(number, _OK, stored[0], stored[2] if full else b""))

    def scan(self, message: Scan) -> list[ScannedPartition]:
        """The keys asked for, partition by partition, until the limit. Raises `StorageError`."""
        self._commits.flush()
        now_ms = message.now_ms or self._clock.wall_ms()
        left = message.limit
        found: list[ScannedPartition] = []
        for position in message.positions:
            if left <= 0:
                break
            keys, complete = self._scan_partition(message, position, left, now_ms)
            found.append(ScannedPartition(position.partition, keys, complete))
            left -= len(keys)
        return found

    def _scan_partition(
        self, message: Scan, position: messages.ScanPosition, limit: int, now_ms: int
    ) -> tuple[list[ScannedKey], bool]:
        begin = storage_key(position.partition, message.bucket, message.prefix)
        end = prefix_end(begin)
        if position.after:
            begin = max(begin, storage_key(position.partition, message.bucket, position.after) + b"\x00")
        keys: list[ScannedKey] = []
        for stored_key, _ in self._engine.scan(Space.DATA, begin, end):
            if len(keys) >= limit:
                return keys, False
            try:
                stored = self._records.read(stored_key)
            except DamagedRecord:
                continue
            if stored is not None:
                live = bool(live_siblings(decode_record(stored[2]), now_ms))
                keys.append(ScannedKey(split_storage_key(stored_key)[2], stored[0], live))
        return keys, True

    def on_scan(self, member: int, message: Scan, age_ms: float) -> None:
        if message.remaining_ms <= age_ms:
            self._count("expired_requests_dropped")
            return
        if not 0 < message.limit <= messages.SCAN_KEYS_MAX:
            raise PeerError(f"a scan asked for {message.limit} keys")
        if message.ring_version != self._view.version:
            if self._rings.admits(member, message, age_ms) is False:
                self._send(member, messages.ScanReply(message.id, Status.STALE_RING, []))
            return
        if self._filling.partitions:
            n = self._view.bucket(message.bucket).properties.n
            if any(self._filling.holds_back(position.partition, n) for position in message.positions):
                self._send(member, messages.ScanReply(message.id, Status.NOT_READY, []))
                return
        try:
            partitions = self.scan(message)
        except StorageError:
            self._send(member, messages.ScanReply(message.id, Status.FENCED, []))
            return
        self._send(member, messages.ScanReply(message.id, Status.OK, partitions))
