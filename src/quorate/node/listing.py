"""Listing the keys of a bucket: a merged, paged walk over the partitions.

A page goes partition by partition in ring order, some at a time. For each of them R replicas list what they hold, and
the lists are merged. Replicas that agree on a key (equal digests) decide whether it is live; a key on which they differ
is read with a quorum. So a page is as true as a get of each of its keys, and costs little more than R scans.

Keys are in order within a partition, partitions in ring order; the cursor is a place in that walk, so a listing may
be continued through any node and after any restart.
Rejected: one globally sorted listing. Each page would have to visit all partitions.
"""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable

from quorate.core.errors import CallerError, StorageError
from quorate.core.limits import KEY_BYTES_MAX, LIST_PAGE_KEYS_MAX
from quorate.core.messages import Message, Scan, ScannedKey, ScannedPartition, ScanPosition, ScanReply, Status
from quorate.core.store import Failure, GetRequest, GetResult, KeysPage, KeysRequest
from quorate.node.context import NodeContext
from quorate.node.coordinator import Coordinator
from quorate.node.gather import Answers, GatherOperation
from quorate.node.replica import Replica

PARTITIONS_PER_WINDOW = 64

KeysReply = Callable[[KeysPage | Failure], None]


def encode_cursor(partition: int, after: bytes) -> str:
    return urlsafe_b64encode(partition.to_bytes(2, "big") + after).decode().rstrip("=")


def decode_cursor(cursor: str, partitions: int) -> tuple[int, bytes]:
    """(partition, the key after which to go on); raises `CallerError`."""
    if not cursor:
        return 0, b""
    problem = CallerError("the cursor is malformed; pass the one that the previous page returned, unchanged")
    if len(cursor) > 2 * KEY_BYTES_MAX:
        raise problem
    try:
        raw = urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))
    except (binascii.Error, UnicodeEncodeError, ValueError):
        raise problem from None
    if len(raw) < 2 or int.from_bytes(raw[:2], "big") >= partitions:
        raise problem
    return int.from_bytes(raw[:2], "big"), raw[2:]


class Listing:
    """One page in the making."""

    def __init__(
        self, node: NodeContext, coordinator: Coordinator, replica: Replica, request: KeysRequest, reply: KeysReply
    ) -> None:
        self._node = node
        self._coordinator = coordinator
        self._replica = replica
        self._request = request
        self._reply = reply
        self._limit = min(request.limit, LIST_PAGE_KEYS_MAX)
        self._timeout_ms = request.timeout_ms or node.options.request_timeout_ms
        self._deadline_ms = node.clock.monotonic_ms() + self._timeout_ms
        self._found: list[bytes] = []
        self._partition = 0
        self._after = b""
        self._asked: dict[int, list[int]] = {}
        self._silent: dict[int, bool] = {}
        """Members that did not answer, or could not: they are not asked again for this page."""

    def start(self) -> None:
        try:
            if self._limit < 1:
                raise CallerError("limit must be at least 1")
            partitions = self._node.view.ring.partitions
            self._partition, self._after = decode_cursor(self._request.cursor, partitions)
        except CallerError as error:
            self._reply(Failure("caller", str(error)))
            return
        self._next_window()

    def _next_window(self) -> None:
        """Ask R replicas of each of the next partitions."""
        node = self._node
        bucket = node.view.bucket(self._request.bucket)
        end = min(self._partition + PARTITIONS_PER_WINDOW, len(bucket.placements))
        positions: dict[int, list[ScanPosition]] = {}
        self._asked = {}
        for partition in range(self._partition, end):
            placement = bucket.placements[partition]
            readable = placement.coordinates and not node.filling.holds_back(partition, bucket.properties.n)
            chosen = [node.self_number] if readable else []
            chosen += node.nearest_first(placement.others, 0)
            chosen = [member for member in chosen if member not in self._silent]
            if len(chosen) < bucket.r:
                missing = [number for number in placement.replicas if number not in chosen]
                self._reply(node.failure("unavailable", f"partition {partition} cannot be listed", missing))
                return
            self._asked[partition] = chosen[: bucket.r]
            position = ScanPosition(partition, self._after if partition == self._partition else b"")
            for member in chosen[: bucket.r]:
                positions.setdefault(member, []).append(position)
        self._ask(positions)

    def _ask(self, positions: dict[int, list[ScanPosition]]) -> None:
        node = self._node
        # Half of the time at most for those who may turn out to be silent.
        remaining_ms = int(min(self._deadline_ms - node.clock.monotonic_ms(), self._timeout_ms / 2))
        if remaining_ms <= 0:
            self._reply(node.failure("unavailable", "the keys could not be listed in time", list(self._silent)))
            return
        gather = GatherOperation(node, remaining_ms, self._merge)
        questions: dict[int, Message] = {}
        for member, wanted in positions.items():
            message = Scan(
                gather.id,
                remaining_ms,
                node.view.version,
                self._request.bucket,
                self._request.prefix,
                wanted,
                self._limit - len(self._found) + 1,
                node.clock.wall_ms(),
            )
            if member == node.self_number:
                try:
                    gather.answers[member] = ScanReply(gather.id, Status.OK, self._replica.scan(message))
                except StorageError:
                    node.count("scans_failed")
            else:
                questions[member] = message
        gather.send(questions)

    def _merge(self, answers: Answers) -> None:
        """Merge what the replicas listed, partition by partition, as far as R of them got."""
        asked_members = {member: True for asked in self._asked.values() for member in asked}
        silent = [member for member in asked_members if member not in answers or answers[member].status != Status.OK]
        if silent:
            # Each time there are fewer to ask, so this comes to an end.
            self._silent.update(dict.fromkeys(silent, True))
            self._next_window()
            return
        listed: dict[int, dict[int, ScannedPartition]] = {}
        for member, message in answers.items():
            if message.status == Status.OK:
                for scanned in message.partitions:
                    listed.setdefault(scanned.partition, {})[member] = scanned
        room = self._limit - len(self._found)
        candidates: list[tuple[int, bytes, bool | None]] = []
        progressed = False
        for partition, asked in self._asked.items():
            found = [listed.get(partition, {}).get(member) for member in asked]
            whole = [scanned for scanned in found if scanned is not None]
            if len(whole) < len(asked):
                break
            merged, complete = merge_partition(whole)
            candidates += [(partition, key, live) for key, live in merged]
            progressed = True
            self._partition, self._after = (partition + 1, b"") if complete else (partition, merged[-1][0])
            if not complete or len(candidates) > room:
                break
        assert progressed, "every replica lists at least the first partition that it was asked for"
        self._decide(candidates)

    def _decide(self, candidates: list[tuple[int, bytes, bool | None]]) -> None:
        """Read with a quorum the keys on which replicas differ; then take what fits into the page."""
        verdicts = {key: live for _, key, live in candidates if live is not None}
        doubtful = [key for _, key, live in candidates if live is None]
        left = len(doubtful)
        if not left:
            self._take(candidates, verdicts)
            return
        failures: list[Failure] = []

        def decided(key: bytes, result: GetResult | Failure) -> None:
            nonlocal left
            left -= 1
            if isinstance(result, Failure):
                failures.append(result)
            else:
                verdicts[key] = bool(result.siblings)
            if not left:
                if failures:
                    self._reply(failures[0])
                else:
                    self._take(candidates, verdicts)

        remaining_ms = max(1, int(self._deadline_ms - self._node.clock.monotonic_ms()))
        for key in doubtful:
            request = GetRequest(self._request.bucket, key, 0, remaining_ms)
            self._coordinator.get(request, lambda result, key=key: decided(key, result))  # type: ignore[misc]

    def _take(self, candidates: list[tuple[int, bytes, bool | None]], verdicts: dict[bytes, bool]) -> None:
        for index, (partition, key, _) in enumerate(candidates):
            if not verdicts[key]:
                continue
            self._found.append(key)
            if len(self._found) == self._limit:
                last = index + 1 == len(candidates)
                if not last:
                    self._partition, self._after = partition, key
                break
        if self._partition >= self._node.view.ring.partitions:
            self._reply(KeysPage(self._found, ""))
        elif len(self._found) >= self._limit:
            self._reply(KeysPage(self._found, encode_cursor(self._partition, self._after)))
        else:
            self._node.scheduler.call_soon(self._next_window)


def merge_partition(lists: list[ScannedPartition]) -> tuple[list[tuple[bytes, bool | None]], bool]:
    """Merge what several replicas list of one partition: ((key, live or None if they differ) …, all of it?).

    If a list is incomplete, nothing can be said of keys after its end; the merge stops at the earliest such end.
    """
    ends = [scanned.keys[-1].key for scanned in lists if not scanned.complete]
    end = min(ends) if ends else None
    by_key: dict[bytes, list[ScannedKey]] = {}
    for scanned in lists:
        for item in scanned.keys:
            if end is None or item.key <= end:
                by_key.setdefault(item.key, []).append(item)
    merged: list[tuple[bytes, bool | None]] = []
    for key in sorted(by_key):
        items = by_key[key]
        agreed = len(items) == len(lists) and all(item.digest == items[0].digest for item in items)
        merged.append((key, items[0].live if agreed else None))
    return merged, end is None
