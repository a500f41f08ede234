"""One get at its coordinator: ask R replicas, merge, answer, then repair whoever is behind (SOSP 2007, §5, §6.4).

The coordinator gives its own record in full and asks the others for digests. When they agree, which is nearly always,
one value was read and none was moved. Only a digest that differs is followed by the full record.

When an answer takes longer than most do, or who is to give it falls silent, one more replica is asked, and the first R
answers count: a hedge, paid from a budget of a twentieth of all reads. Replicas out of reach are replaced by fallbacks,
which may hold hints for them.

The answer leaves before any repair. Repair sends the merged record and mints no version.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from quorate.core.causality.dotted_version_vectors import (
    context_of,
    live_siblings,
    resolve_last_write_wins,
    sync,
)
from quorate.core.collection import beyond_horizon
from quorate.core.envelope import digest_of
from quorate.core.errors import DamagedRecord, PeerError, StorageError
from quorate.core.keyspace import split_storage_key
from quorate.core.messages import HintedRead, Read, ReadReply, Status, Write
from quorate.core.quorum.get_tally import ABSENT_DIGEST, ASK_ANOTHER, DONE, FAIL, FETCH, WAIT, GetTally
from quorate.core.record import EMPTY_CONTEXT, Record, decode_record, encode_record
from quorate.core.store import Failure, GetRequest, GetResult
from quorate.node.cluster_view import BucketView, Placement
from quorate.node.context import NodeContext
from quorate.node.evidence import Evidence

_OK: Final = int(Status.OK)
_ABSENT: Final = int(Status.ABSENT)
_STALE_RING: Final = int(Status.STALE_RING)

GetReply = Callable[[GetResult | Failure], None]

NOTHING: Final = GetResult(EMPTY_CONTEXT, [])


def _ignore(argument: object, durable: bool) -> None:
    pass


class GetOperation(GetTally):
    """A get in flight. Its tally is the pure base class; this adds the sending and the answering."""

    __slots__ = (
        "answered",
        "bucket",
        "digest",
        "evidence",
        "fetching",
        "id",
        "key",
        "merged",
        "node",
        "placement",
        "reply",
        "timeout_ms",
        "version",
    )

    def __init__(
        self, node: NodeContext, bucket: BucketView, placement: Placement, key: bytes, r: int, timeout_ms: int
    ) -> None:
        self.placement = placement
        self.node = node
        self.version = node.view.version
        """Of the ring that this get goes by, from its beginning to its end."""
        self.bucket = bucket
        self.key = key
        self.timeout_ms = timeout_ms
        self.evidence = Evidence(node, read=True)
        self.id = 0
        self.answered = False
        self.fetching: list[int] = []
        self.digest = ABSENT_DIGEST
        self.merged = b""
        others = placement.others
        candidates = node.nearest_first(others, node.requests.next_turn()) if others else []
        connected = len(candidates)
        suspects = node.detector.suspects
        if (suspects or connected < len(others) or not placement.coordinates) and not bucket.strict:
            candidates = self._with_fallbacks(candidates)
        super().__init__(r, [node.self_number, *candidates[: r - 1]], candidates[r - 1 :])
        if connected < len(others):
            self.failed.extend(member for member in others if member not in candidates)

    def _with_fallbacks(self, homes: list[int]) -> list[int]:
        """`homes`, and the fallbacks that puts use for those out of reach: before suspects, which may never answer."""
        node = self.node
        usable = [member for member in homes if node.usable(member)]
        if len(usable) == len(self.placement.replicas) - self.placement.coordinates:
            return homes
        fallbacks = [m for m in self.placement.fallbacks if m != node.self_number and node.usable(m)]
        return usable + fallbacks + [member for member in homes if member not in usable]

    def start(self, reply: GetReply) -> None:
        """Read locally and ask the others; `reply` is called exactly once."""
        self.reply = reply
        node = self.node
        me = node.self_number
        node.in_flight += 1
        try:
            read_here = self._read_here()
        except (DamagedRecord, StorageError):
            read_here = None
        if read_here is None:
            verdict = self.on_failed(me)
        else:
            verdict = self.on_answer(me, *read_here)
            if verdict == WAIT and len(self.answers) + len(self.awaited) + len(self.unasked) < self.needed:
                self.decided = True
                verdict = FAIL
        if verdict == DONE:
            self._finish()
            return
        if verdict == FAIL:
            self._fail()
            return
        self.id = node.requests.open(self, min(node.read_latency.estimate_ms, node.options.retry_ms, self.timeout_ms))
        awaited = list(self.awaited)
        if verdict == ASK_ANOTHER:
            self._act(ASK_ANOTHER)
        for member in awaited:
            self._ask(member, False)

    def _read_here(self) -> tuple[int, bytes] | None:
        """(digest, body) of this node's own record, or of what it keeps for the homes if it is a fallback.

        None: what it holds is no answer. Raises `StorageError`.
        """
        node = self.node
        if self.placement.coordinates:
            if node.filling.partitions and node.filling.unready(self.key):
                return None
            stored = node.records.read_written(self.key)
            return (ABSENT_DIGEST, b"") if stored is None else (stored[0], stored[2])
        record = node.hints.held_written(list(self.placement.homes), self.key)
        if record is None:
            return ABSENT_DIGEST, b""
        body = encode_record(record)
        return digest_of(self.key, body), body

    def on_reply(self, member: int, message: ReadReply) -> None:
        """A replica's answer, or its refusal."""
        status = message.status
        self.evidence.answered(member)
        if status == _OK:
            if message.body and digest_of(self.key, message.body) != message.digest:
                raise PeerError("a record's digest does not match its bytes")
            if message.body and member not in self.placement.replicas and self._too_old(message.body):
                verdict = self.on_answer(member, ABSENT_DIGEST, b"")
            else:
                verdict = self.on_answer(member, message.digest, message.body)
        elif status == _ABSENT:
            verdict = self.on_answer(member, ABSENT_DIGEST, b"")
        elif status == _STALE_RING and not self.answered:
            node = self.node
            node.rings.when_newer(self.version, self._begin_again)
            return
        else:
            if status == Status.NOT_READY:
                self.node.detector.on_not_ready(member, self.node.clock.monotonic_ms())
            verdict = self.on_failed(member)
        if self.answered:
            self._late(member)
        else:
            self._act(verdict)

    def _begin_again(self) -> None:
        """The ring has moved on: what was answered under the older one counts for nothing."""
        if self.answered or self.id not in self.node.requests.pending:
            return
        self.answered = self.decided = True
        node = self.node
        node.requests.close(self.id)
        node.in_flight -= 1
        node.count("requests_begun_again")
        _, bucket, key = split_storage_key(self.key)
        left_ms = max(1, int(self._remaining_ms()))
        node.get_again(GetRequest(bucket, key, self.needed, left_ms), self.reply)

    def _too_old(self, body: bytes) -> bool:
        """Is what a fallback keeps beyond the horizon by this node's clock (see `core.collection`)?"""
        record = self._decode(body)
        node = self.node
        return record is not None and beyond_horizon(record, node.clock.wall_ms(), node.options.grace_ms)

    def on_disconnected(self, member: int) -> None:
        if not self.answered:
            self._act(self.on_failed(member))

    def owed(self) -> Iterable[tuple[int, float]]:
        return [(member, self.evidence.asked_ms(member)) for member in self.awaited]

    def on_silent(self, member: int) -> None:
        """Ask a reserve instead of `member`, from the budget for hedges or, if that is spent, of retries."""
        if self.answered or not self.unasked or member not in self.awaited:
            return
        node = self.node
        silent = node.detector.silent
        if len(self.answers) + sum(other not in silent for other in self.awaited) >= self.needed:
            return  # A hedge is on its way already.
        self.unasked.sort(key=lambda other: other in silent)
        if self.unasked[0] not in silent and (node.hedges.take() or node.retries.take()):
            node.count("reads_around_silence")
            self._ask(self.take_unasked(), True)

    def on_time(self) -> None:
        """A reminder: hedge, retry, or give up at the deadline.

        The first comes when most reads have been answered, the next at `retry_ms` and every `retry_ms` after that,
        the last at the deadline.
        """
        node = self.node
        retry_ms = node.options.retry_ms
        now_ms = node.clock.monotonic_ms()
        waited_ms = now_ms - self.evidence.started_ms
        self.evidence.silent(self.awaited, now_ms)
        if waited_ms >= self.timeout_ms or (self.answered and waited_ms >= retry_ms):
            self._end()
            return
        hedging = waited_ms < retry_ms
        if not self.answered and self.unasked and (node.hedges if hedging else node.retries).take():
            node.count("reads_hedged" if hedging else "reads_retried")
            self._ask(self.take_unasked(), True)
        next_ms = retry_ms - waited_ms if hedging else retry_ms
        node.requests.remind(self.id, min(next_ms, self.timeout_ms - waited_ms))

    def _end(self) -> None:
        """The deadline, or long enough after the answer: nobody is waited for any more."""
        if self.on_deadline() == FAIL:
            self._fail()
        else:
            self.node.requests.close(self.id)

    def _remaining_ms(self) -> float:
        return self.timeout_ms - (self.node.clock.monotonic_ms() - self.evidence.started_ms)

    def _act(self, verdict: int) -> None:
        if verdict == DONE:
            self._finish()
        elif verdict == FETCH:
            for member in self.unexplained():
                if member not in self.fetching:
                    self.fetching.append(member)
                    self._ask(member, True)
        elif verdict == ASK_ANOTHER:
            self._ask(self.take_unasked(), True)
        elif verdict == FAIL:
            self._fail()

    def _ask(self, member: int, full: bool) -> None:
        node = self.node
        if full:
            self.evidence.asked_late(member)
        remaining_ms = max(1, int(self._remaining_ms()))
        version = self.version
        placement = self.placement
        message: Read | HintedRead = (
            Read(self.id, remaining_ms, version, self.key, full)
            if member in placement.replicas
            else HintedRead(self.id, remaining_ms, version, list(placement.homes), self.key, full)
        )
        if not node.transport.send(member, message):
            self._act(self.on_failed(member))

    def _fail(self) -> None:
        self.answered = True
        node = self.node
        if self.id:
            node.requests.close(self.id)
        message = f"{len(self.answers)} of {self.needed} replicas answered the read"
        self._note_latency()
        self.reply(node.get_failed(node.failure("unavailable", message, self.missing())))

    def _finish(self) -> None:
        """R replicas have answered and all differences are in hand: merge, answer, repair."""
        self.answered = True
        self._note_latency()
        record = self._merge()
        gets = self.node.measures.gets
        if record is None:
            gets["not_found"] += 1
            self.reply(NOTHING)
        else:
            if self.bucket.last_write_wins and len(record.siblings) > 1:
                record = resolve_last_write_wins(record)
            siblings = live_siblings(record, self.node.clock.wall_ms())
            gets["ok" if len(siblings) == 1 else "siblings" if siblings else "not_found"] += 1
            self.reply(GetResult(context_of(record), siblings))
        behind = self.behind(self.digest)
        if behind:
            self._repair(behind)
        if self.id and not self.awaited:
            self.node.requests.close(self.id)

    def _note_latency(self) -> None:
        node = self.node
        node.in_flight -= 1
        if self.evidence.weight:
            now_ms = node.clock.monotonic_ms()
            latency_ms = now_ms - self.evidence.started_ms
            node.on_answered(latency_ms, now_ms, self.awaited)
            node.measures.get_latency.record(latency_ms, self.evidence.weight)
            if self.id:
                node.read_latency.observe(latency_ms)

    def _merge(self) -> Record | None:
        """The join of all answers; sets `merged` and `digest`."""
        digests = list(dict.fromkeys(self.answers.values()))
        if len(digests) == 1:
            self.digest = digests[0]
            self.merged = self.bodies[self.digest]
            return self._decode(self.merged)
        record: Record | None = None
        for digest in digests:
            found = self._decode(self.bodies[digest])
            if found is not None:
                self.node.records.observe(found)
                record = found if record is None else sync(record, found)
        assert record is not None, "two digests differ, so one of them is of a record"
        if self.bucket.last_write_wins:
            record = resolve_last_write_wins(record)
        self.merged = encode_record(record)
        self.digest = digest_of(self.key, self.merged)
        return record

    def _decode(self, body: bytes) -> Record | None:
        if not body:
            return None
        try:
            return decode_record(body)
        except msgspec.DecodeError as error:
            raise PeerError(f"a peer sent a record that cannot be read: {error}") from error

    def _late(self, member: int) -> None:
        """A straggler's answer: repair it if it is behind, and let the operation go when it was the last."""
        answered = self.answers.get(member)
        if answered is not None and answered != self.digest and self.merged:
            self._repair([member])
        if not self.awaited:
            self.node.requests.close(self.id)

    def _repair(self, behind: list[int]) -> None:
        node = self.node
        behind = [member for member in behind if member in self.placement.replicas]  # Fallbacks hold hints, no replica.
        node.count("read_repairs", len(behind))
        timeout_ms = node.options.request_timeout_ms
        write = Write(0, timeout_ms, self.version, self.key, self.merged, self.bucket.flags)
        for member in behind:
            if member != node.self_number:
                node.transport.send(member, write)
            elif not node.fenced_because:
                node.records.merge(
                    self.key, self.merged, self.bucket.last_write_wins, self.bucket.synced, _ignore, None
                )
