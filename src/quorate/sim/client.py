"""One simulated client: a loop of thinking and asking, with a memory for contexts.

It picks a key, an operation and any node, and waits for the answer. It puts with the last context that it has read,
with an old one, with none, or lets the coordinator overwrite what it sees. Some writes carry an operation id and are
then repeated through another node when their outcome is unknown. Every value is unique, so that a value names its
write.

Most requests go to a few keys, so that clients meet; the others to many that are written once or a few times and
seldom read, which only repair in the background brings home. Some values expire, by themselves or by their bucket.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from quorate.core.record import Context
from quorate.core.store import Failure, GetRequest, GetResult, KeysPage, KeysRequest, PutRequest, PutResult
from quorate.sim.history import Ack, ListEntry, ReadEntry, Source, WriteEntry
from quorate.sim.random_streams import SeededRng

if TYPE_CHECKING:
    from quorate.sim.workload import Attempt, Workload

ATTEMPTS_MAX = 4
CONTEXTS_REMEMBERED = 4
LISTED_MAX: Final = 1_000
COLD_SHARE = 0.2
LIST_SHARE = 0.01
TTL_MAX_MS = 6_000

Request = GetRequest | PutRequest | KeysRequest
Result = GetResult | PutResult | KeysPage | Failure


class Client:
    """One client: a loop of thinking and asking, with a memory for contexts."""

    def __init__(self, number: int, workload: Workload, rng: SeededRng, pace: float) -> None:
        self.number = number
        self.rng = rng
        self._workload = workload
        self._contexts: dict[bytes, list[tuple[Context, Source]]] = {}
        self._written = 0
        self._attempts = 0
        self.resting = False
        self._think_min_ms = 20.0 * pace
        self._think_mean_ms = rng.uniform(60.0, 180.0) * pace

    def think(self) -> None:
        delay_ms = self._think_min_ms + self.rng.exponential(self._think_mean_ms)
        self._workload.cluster.loop.after_ms(delay_ms, self._act)

    def _act(self) -> None:
        workload = self._workload
        self.resting = workload.resting
        if not workload.issuing or self.resting:
            return
        rng = self.rng
        self._attempts = 1
        bucket = rng.choice(workload.buckets)
        cold = bool(workload.cold_keys) and rng.chance(COLD_SHARE)
        key = rng.choice(workload.cold_keys if cold else workload.keys)
        timeout_ms = 300 + rng.below(700)
        node = self._any_node()
        kind = rng.random()
        if kind < LIST_SHARE:
            workload.send(self, node, KeysRequest(bucket, b"", LISTED_MAX, "", timeout_ms), None)
            return
        if kind < (0.2 if cold else 0.4):
            r = rng.choice((0, 0, 0, 0, 0, 0, 0, 1, 2, 3))
            request = GetRequest(bucket, key, r, timeout_ms)
            self._workload.send(self, node, request, None)
            return
        put, entry = self._make_write(bucket, key, timeout_ms, 0.3 if cold else 0.15)
        self._workload.history.writes.append(entry)
        self._workload.send(self, node, put, entry)

    def _make_write(self, bucket: bytes, key: bytes, timeout_ms: int, deletes: float) -> tuple[PutRequest, WriteEntry]:
        rng = self.rng
        cluster = self._workload.cluster
        self._written += 1
        stored_key = cluster.locate(bucket, key)
        style = rng.random()
        delete = rng.chance(deletes)
        operation = self.number << 32 | self._written if delete or rng.chance(0.5) else 0
        context, source = self._recalled(stored_key, style)
        overwrite_seen = context is None and style < 0.80
        w = rng.choice((0, 0, 0, 0, 0, 0, 1, 1, 2, 3))
        strict = rng.chance(0.1)
        lifetime = rng.random()
        ttl_ms = 200 + rng.below(TTL_MAX_MS) if lifetime < 0.1 else 0 if lifetime < 0.15 else -1
        value = b"" if delete else b"c%d-%d" % (self.number, self._written)
        put = PutRequest(
            bucket=bucket,
            key=key,
            value=value,
            context=context,
            w=w,
            ttl_ms=ttl_ms,
            operation=operation,
            timeout_ms=timeout_ms,
            delete=delete,
            overwrite_seen=overwrite_seen,
            strict=strict,
        )
        entry = WriteEntry(
            number=len(self._workload.history.writes),
            storage_key=stored_key,
            value=value,
            delete=delete,
            operation=operation,
            context=context.clock if context is not None else None,
            overwrite_seen=overwrite_seen,
            w=w or cluster.defaults.w,
            strict=strict or bucket in self._workload.strict_buckets,
            invoked_us=cluster.loop.now_us,
            session=self.number,
            context_source=source,
        )
        return put, entry

    def _recalled(self, stored_key: bytes, style: float) -> tuple[Context | None, Source]:
        """The last context of the key, an old one, or none; and where it came from."""
        contexts = self._contexts.get(stored_key, [])
        if style < 0.55 and contexts:
            return contexts[-1]
        if style < 0.65 and contexts:
            return self.rng.choice(contexts)
        return None, ""

    def on_answer(
        self,
        attempt: Attempt | None,
        request: Request,
        entry: WriteEntry | None,
        result: Result | None,
        invoked_us: int,
    ) -> None:
        """`attempt` None: the request never left. `result` None: nobody will ever tell."""
        now_us = self._workload.cluster.loop.now_us
        if isinstance(request, GetRequest):
            if isinstance(result, GetResult) and attempt is not None:
                self._on_read(request, result, attempt, now_us)
            self._workload.count("get ok" if isinstance(result, GetResult) else "get unanswered")
            self.think()
            return
        if isinstance(request, KeysRequest):
            if isinstance(result, KeysPage) and attempt is not None:
                self._on_listed(request, result, attempt, now_us)
            self._workload.count("list ok" if isinstance(result, KeysPage) else "list unanswered")
            self.think()
            return
        assert entry is not None
        unknown = result is None or (isinstance(result, Failure) and result.kind == "unknown")
        if isinstance(result, PutResult):
            self._workload.count("put ok")
            entry.acks.append(Ack(invoked_us, now_us, result.context.clock))
            self._workload.acknowledged(entry, result.context.clock, invoked_us)
            if result.siblings == 1 and self.rng.chance(0.5):
                self._remember(entry.storage_key, result.context, "put")
        elif unknown:
            self._workload.count("put unknown")
            entry.attempts_unknown += 1
        else:
            self._workload.count("put not done")
        repeatable = not unknown or request.operation != 0
        wanted = not isinstance(result, PutResult) or (request.operation != 0 and self.rng.chance(0.05))
        if wanted and repeatable and self._attempts < ATTEMPTS_MAX and self.rng.chance(0.7):
            self._attempts += 1
            self._workload.count("put repeated")
            self._workload.cluster.loop.after_ms(
                10 + self.rng.below(200), lambda: self._workload.send(self, self._any_node(), request, entry)
            )
        else:
            self.think()

    def _on_listed(self, request: KeysRequest, result: KeysPage, attempt: Attempt, now_us: int) -> None:
        """Only what a strict bucket lists is kept: fallbacks are not listed."""
        if request.bucket in self._workload.strict_buckets and not result.cursor:
            wall_ms = self._workload.wall_before(attempt)
            self._workload.history.listings.append(
                ListEntry(request.bucket, attempt.invoked_us, now_us, result.keys, wall_ms)
            )

    def _on_read(self, request: GetRequest, result: GetResult, attempt: Attempt, now_us: int) -> None:
        stored_key = self._workload.cluster.locate(request.bucket, request.key)
        r = request.r or self._workload.cluster.defaults.r
        self._workload.history.reads.append(
            ReadEntry(
                stored_key,
                r,
                attempt.invoked_us,
                now_us,
                result.context.clock,
                result.siblings,
                strict=request.bucket in self._workload.strict_buckets,
                wall_ms=self._workload.wall_before(attempt),
                session=self.number,
            )
        )
        self._remember(stored_key, result.context, "read")

    def _remember(self, stored_key: bytes, context: Context, source: Source) -> None:
        contexts = self._contexts.setdefault(stored_key, [])
        contexts.append((context, source))
        del contexts[:-CONTEXTS_REMEMBERED]

    def _any_node(self) -> int:
        """Mostly one that takes requests; now and then one that may be down."""
        machines = self._workload.cluster.machines
        numbers = list(machines)
        ready = [number for number in numbers if machines[number].ready]
        return self.rng.choice(ready) if ready and self.rng.chance(0.9) else self.rng.choice(numbers)
