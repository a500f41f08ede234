"""The simulated clients: a few, on a few keys, so that they meet.

Each client thinks, picks a key, an operation and any node, and waits for the answer. It remembers the contexts that
it has read and puts with the last one, with an old one, with none, or lets the coordinator overwrite what it sees. Some
writes carry an operation id and are then repeated through another node when their outcome is unknown. Every value is
unique, so that a value names its write.

A client believes its node: an answer counts at the moment at which the node gives it. A process that dies with the
request is an unknown outcome; one that is not there refuses the connection, and nothing was done. A node that neither
dies nor pauses and does not answer within the request's own time limit breaks its contract (check "reply"). And at
the moment of an acknowledgement, W nodes must hold the write, as replicas or (unless it was strict) in hints, as
durably as the bucket says (check "W").
"""

from __future__ import annotations

from typing import Final

import msgspec

from quorate.core.record import Clock, Context
from quorate.core.store import Failure, GetRequest, GetResult, PutRequest, PutResult
from quorate.sim.availability import Availability
from quorate.sim.cluster import Cluster
from quorate.sim.history import Ack, History, ReadEntry, Violation, WriteEntry
from quorate.sim.loop import Process, Timer
from quorate.sim.random_streams import SeededRng, Streams
from quorate.sim.trace import KIND_INVOKE, KIND_RESULT, Trace

BUCKET_SIBLINGS: Final = b"carts"
BUCKET_LAST_WRITE_WINS: Final = b"profiles"
BUCKETS: Final = (BUCKET_SIBLINGS, BUCKET_LAST_WRITE_WINS)

PACES: Final = (0.2, 0.5, 1.0, 1.0)
"""Some seeds have hurried clients, so that requests meet within one turn and within one sync."""
ATTEMPTS_MAX = 4
CONTEXTS_REMEMBERED = 4
PATIENCE_MS = 500
"""How much longer than its request's time limit a client waits before it calls the node mute."""

_encode = msgspec.msgpack.Encoder().encode


class Attempt:
    """One request at one node, until it is answered, broken off, or given up."""

    __slots__ = ("done", "entry", "invoked_us", "number", "patience", "process", "request", "sound")

    def __init__(
        self, number: int, process: Process, request: GetRequest | PutRequest, entry: WriteEntry | None
    ) -> None:
        self.number = number
        self.process = process
        self.request = request
        self.entry = entry
        self.invoked_us = 0
        self.patience: Timer | None = None
        self.sound = True
        """No fault was upon its node when it was sent (check A)."""
        self.done = False


class Workload:
    """All clients and the history that they make."""

    def __init__(
        self,
        cluster: Cluster,
        streams: Streams,
        trace: Trace,
        *,
        clients: int,
        keys: int,
        strict_bucket: bytes,
        availability: Availability | None,
    ) -> None:
        self.cluster = cluster
        self.strict_bucket = strict_bucket
        self._availability = availability
        self.trace = trace
        self.history = History()
        self.violations: list[Violation] = []
        self.counts: dict[str, int] = {}
        self.issuing = False
        self.keys = [b"key%d" % number for number in range(keys)]
        pace = streams.stream("workload").choice(PACES)
        self._clients = [
            Client(number, self, streams.stream("client", number), pace) for number in range(1, clients + 1)
        ]
        self._pending: dict[int, dict[int, tuple[Client, Attempt]]] = {number: {} for number in cluster.machines}
        self._attempts = 0
        cluster.on_death = self._on_death

    def start(self) -> None:
        self.issuing = True
        for client in self._clients:
            client.think()

    def stop(self) -> None:
        """Issue nothing new; what is under way is still waited for."""
        self.issuing = False

    def count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    def send(self, client: Client, node: int, request: GetRequest | PutRequest, entry: WriteEntry | None) -> None:
        """Hand `request` to `node`; the client's `on_answer` is called once, with None for a broken connection."""
        machine = self.cluster.machines[node]
        loop = self.cluster.loop
        process = machine.process
        if process is None or not machine.ready:
            client.on_answer(None, request, entry, Failure("unavailable", "connection refused"), loop.now_us)
            return
        self._attempts += 1
        attempt = Attempt(self._attempts, process, request, entry)
        attempt.invoked_us = loop.now_us
        attempt.sound = self._availability is None or self._availability.sound(node)
        self._pending[node][attempt.number] = (client, attempt)
        if entry is not None:
            entry.attempts_open += 1
        self.trace.event(
            loop.now_us, -client.number, KIND_INVOKE, _encode(request), lambda: f"c{client.number} → n{node}  {request}"
        )

        def deliver() -> None:
            store = machine.node
            assert store is not None, "the callbacks of a dead process do not run"

            def reply(result: GetResult | PutResult | Failure) -> None:
                self._answered(client, node, attempt, result)

            if isinstance(request, GetRequest):
                store.get(request, reply)
            else:
                store.put(request, reply)

        process.at_true_time(loop.now_us + 50 + client.rng.below(200), deliver)
        patience_ms = request.timeout_ms + PATIENCE_MS
        attempt.patience = loop.after_ms(patience_ms, lambda: self._given_up(client, node, attempt))

    def acknowledged(self, entry: WriteEntry, clock: Clock, invoked_us: int) -> None:
        """A node said that W replicas have it. Do they, at this moment (check W)?"""
        observer = self.cluster.observer
        observer.acknowledged(entry, clock)
        dots = observer.acked_dots(entry, clock)
        losses = self.history.losses_us
        if dots and not (losses and losses[-1] >= invoked_us):
            copies = max(self.cluster.copies.count(entry.storage_key, dot, entry.strict) for dot in dots)
            if copies < entry.w:
                message = f"write #{entry.number} of {entry.storage_key!r} is acknowledged with w={entry.w} and has"
                self.violations.append(Violation("W", f"{message} {copies} durable copies of its dots {dots}"))

    def _answered(self, client: Client, node: int, attempt: Attempt, result: GetResult | PutResult | Failure) -> None:
        if attempt.done:
            if self._pending[node].get(attempt.number) is None and attempt.patience is None:
                self.violations.append(Violation("reply", f"n{node} answered twice: {attempt.request}"))
            return
        self.trace.event(
            self.cluster.loop.now_us,
            -client.number,
            KIND_RESULT,
            _encode(result),
            lambda: f"n{node} → c{client.number}  {result}",
        )
        if attempt.patience is not None:
            attempt.patience.cancel()
            attempt.patience = None
        if self._availability is not None and isinstance(attempt.request, PutRequest) and isinstance(result, Failure):
            strict = attempt.request.strict or attempt.request.bucket == self.strict_bucket
            w = attempt.request.w or self.cluster.defaults.w
            if not strict:
                self.violations += self._availability.judge(node, w, attempt.sound, result)
        self._finish(client, node, attempt, result)

    def _given_up(self, client: Client, node: int, attempt: Attempt) -> None:
        if attempt.process.paused_until_us < attempt.invoked_us:
            message = f"n{node} did not answer within {attempt.request.timeout_ms} ms: {attempt.request}"
            self.violations.append(Violation("reply", message))
        self._finish(client, node, attempt, None)

    def _on_death(self, node: int) -> None:
        pending, self._pending[node] = self._pending[node], {}
        for client, attempt in pending.values():
            if attempt.patience is not None:
                attempt.patience.cancel()
            self._finish(client, node, attempt, None)

    def _finish(
        self, client: Client, node: int, attempt: Attempt, result: GetResult | PutResult | Failure | None
    ) -> None:
        attempt.done = True
        self._pending[node].pop(attempt.number, None)
        if attempt.entry is not None:
            attempt.entry.attempts_open -= 1
        client.on_answer(attempt, attempt.request, attempt.entry, result, attempt.invoked_us)


class Client:
    """One client: a loop of thinking and asking, with a memory for contexts."""

    def __init__(self, number: int, workload: Workload, rng: SeededRng, pace: float) -> None:
        self.number = number
        self.rng = rng
        self._workload = workload
        self._contexts: dict[bytes, list[Context]] = {}
        self._written = 0
        self._attempts = 0
        self._think_min_ms = 20.0 * pace
        self._think_mean_ms = rng.uniform(60.0, 180.0) * pace

    def think(self) -> None:
        delay_ms = self._think_min_ms + self.rng.exponential(self._think_mean_ms)
        self._workload.cluster.loop.after_ms(delay_ms, self._act)

    def _act(self) -> None:
        if not self._workload.issuing:
            return
        rng = self.rng
        self._attempts = 1
        bucket = rng.choice(BUCKETS)
        key = rng.choice(self._workload.keys)
        timeout_ms = 300 + rng.below(700)
        node = self._any_node()
        if rng.chance(0.4):
            r = rng.choice((0, 0, 0, 0, 0, 0, 0, 1, 2, 3))
            request = GetRequest(bucket, key, r, timeout_ms)
            self._workload.send(self, node, request, None)
            return
        put, entry = self._make_write(bucket, key, timeout_ms)
        self._workload.history.writes.append(entry)
        self._workload.send(self, node, put, entry)

    def _make_write(self, bucket: bytes, key: bytes, timeout_ms: int) -> tuple[PutRequest, WriteEntry]:
        rng = self.rng
        cluster = self._workload.cluster
        self._written += 1
        stored_key = cluster.locate(bucket, key)
        style = rng.random()
        delete = rng.chance(0.15)
        operation = self.number << 32 | self._written if delete or rng.chance(0.5) else 0
        contexts = self._contexts.get(stored_key, [])
        context = None
        overwrite_seen = False
        if style < 0.55 and contexts:
            context = contexts[-1]
        elif style < 0.65 and contexts:
            context = rng.choice(contexts)
        elif style < 0.80:
            overwrite_seen = True
        w = rng.choice((0, 0, 0, 0, 0, 0, 1, 1, 2, 3))
        strict = rng.chance(0.1)
        value = b"" if delete else b"c%d-%d" % (self.number, self._written)
        put = PutRequest(
            bucket=bucket,
            key=key,
            value=value,
            context=context,
            w=w,
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
            strict=strict or bucket == self._workload.strict_bucket,
        )
        return put, entry

    def on_answer(
        self,
        attempt: Attempt | None,
        request: GetRequest | PutRequest,
        entry: WriteEntry | None,
        result: GetResult | PutResult | Failure | None,
        invoked_us: int,
    ) -> None:
        """`attempt` None: the request never left. `result` None: nobody will ever tell."""
        now_us = self._workload.cluster.loop.now_us
        if isinstance(request, GetRequest):
            if isinstance(result, GetResult):
                self._on_read(request, result, invoked_us, now_us)
            self._workload.count("get ok" if isinstance(result, GetResult) else "get unanswered")
            self.think()
            return
        assert entry is not None
        unknown = result is None or (isinstance(result, Failure) and result.kind == "unknown")
        if isinstance(result, PutResult):
            self._workload.count("put ok")
            entry.acks.append(Ack(invoked_us, now_us, result.context.clock))
            self._workload.acknowledged(entry, result.context.clock, invoked_us)
            if result.siblings == 1 and self.rng.chance(0.5):
                self._remember(entry.storage_key, result.context)
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

    def _on_read(self, request: GetRequest, result: GetResult, invoked_us: int, now_us: int) -> None:
        stored_key = self._workload.cluster.locate(request.bucket, request.key)
        r = request.r or self._workload.cluster.defaults.r
        self._workload.history.reads.append(
            ReadEntry(
                stored_key,
                r,
                invoked_us,
                now_us,
                result.context.clock,
                result.siblings,
                strict=request.bucket == self._workload.strict_bucket,
            )
        )
        self._remember(stored_key, result.context)

    def _remember(self, stored_key: bytes, context: Context) -> None:
        contexts = self._contexts.setdefault(stored_key, [])
        contexts.append(context)
        del contexts[:-CONTEXTS_REMEMBERED]

    def _any_node(self) -> int:
        """Mostly one that takes requests; now and then one that may be down."""
        machines = self._workload.cluster.machines
        numbers = list(machines)
        ready = [number for number in numbers if machines[number].ready]
        return self.rng.choice(ready) if ready and self.rng.chance(0.9) else self.rng.choice(numbers)
