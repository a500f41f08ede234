"""The simulated clients together (`client.py` is one of them), on a few keys, so that they meet, and on many others.

A client believes its node: an answer counts at the moment at which the node gives it. A process that dies with the
request is an unknown outcome; one that is not there refuses the connection, and nothing was done. A node that neither
dies nor pauses and does not answer within the request's own time limit breaks its contract (check "reply"). And at
the moment of an acknowledgement, W nodes must hold the write, as replicas or (unless it was strict) in hints, as
durably as the bucket says (check "W").
"""

from __future__ import annotations

from typing import Final

import msgspec

from quorate.core.record import Clock
from quorate.core.store import Failure, GetRequest, KeysRequest, PutRequest
from quorate.sim.availability import Availability
from quorate.sim.client import Client, Request, Result
from quorate.sim.cluster import Cluster
from quorate.sim.history import History, Violation, WriteEntry
from quorate.sim.loop import Process, Timer
from quorate.sim.random_streams import Streams
from quorate.sim.trace import KIND_INVOKE, KIND_RESULT, Trace
from quorate.sim.wording import describe_request, describe_result

BUCKET_SIBLINGS: Final = b"carts"
BUCKET_LAST_WRITE_WINS: Final = b"profiles"
BUCKET_EXPIRING: Final = b"sessions"
"""Its values expire after a few seconds, unless their put says otherwise."""
BUCKETS: Final = (BUCKET_SIBLINGS, BUCKET_LAST_WRITE_WINS, BUCKET_EXPIRING)

PACES: Final = (0.3, 0.8, 1.5, 2.0)
"""Some seeds have hurried clients, so that requests meet within one turn and within one sync; others leave time between
faults for little but these, and cost little."""
LARGE_MIN_BYTES, LARGE_MAX_BYTES = 10_000, 60_000
LARGE_SHARE = 0.03
"""Of the puts of a seed that has large values."""
SKEW = (8, 4, 2, 1)
"""How often the first keys of each bucket are used, where some are used more often than others."""
PATIENCE_MS = 150
"""How much longer than its request's time limit a client waits before it calls the node mute."""

_encode = msgspec.msgpack.Encoder().encode


class Attempt:
    """One request at one node, until it is answered, broken off, or given up."""

    __slots__ = (
        "clock_moves",
        "done",
        "entry",
        "invoked_us",
        "number",
        "patience",
        "process",
        "request",
        "sound",
        "wall_ms",
    )

    def __init__(self, number: int, process: Process, request: Request, entry: WriteEntry | None) -> None:
        self.number = number
        self.process = process
        self.request = request
        self.entry = entry
        self.invoked_us = 0
        self.wall_ms = 0
        """What the clock that is furthest behind said when it was sent."""
        self.clock_moves = 0
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
        cold_keys: int,
        strict_buckets: tuple[bytes, ...],
        availability: Availability | None,
        skewed: bool = False,
        large_values: bool = False,
    ) -> None:
        """`keys`, `cold_keys`: how many of each in each bucket. `skewed`: the first of them are used more often.
        `large_values`: a few are so large that they do not fit into one frame with others."""
        self.cluster = cluster
        self.buckets = BUCKETS
        self.strict_buckets = strict_buckets
        self._availability = availability
        self.trace = trace
        self.history = History()
        self.violations: list[Violation] = []
        self.counts: dict[str, int] = {}
        self.issuing = False
        self.resting = False
        self.keys = [
            b"key%d" % number
            for number in range(keys)
            for _ in range(SKEW[number] if skewed and number < len(SKEW) else 1)
        ]
        """Those in use all the time; one that stands there several times is used as many times as often."""
        self._sizes = streams.stream("workload", "sizes") if large_values else None
        self.cold_keys = [b"cold%d" % number for number in range(cold_keys)]
        pace = streams.stream("workload").choice(PACES)
        self._clients = [
            Client(number, self, streams.stream("client", number), pace) for number in range(1, clients + 1)
        ]
        self._pending: dict[int, dict[int, tuple[Client, Attempt]]] = {}
        """By the node that was asked, and the attempt's number."""
        self._attempts = 0
        cluster.on_death = self._on_death

    def start(self) -> None:
        self.issuing = True
        for client in self._clients:
            client.think()

    def stop(self) -> None:
        """Issue nothing new; what is under way is still waited for."""
        self.issuing = False

    def rest(self) -> None:
        """Issue nothing new until `resume`."""
        self.resting = True

    def quiet(self) -> bool:
        """Do all clients rest, with nothing under way that they still wait for or would repeat?"""
        return self.resting and all(client.resting for client in self._clients)

    def resume(self) -> None:
        self.resting = False
        for client in self._clients:
            if client.resting:
                client.resting = False
                client.think()

    def wall_before(self, attempt: Attempt) -> int:
        """A wall time that no clock was behind while `attempt` was answered, or 0."""
        return attempt.wall_ms if attempt.clock_moves == self.cluster.clock_moves else 0

    def count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    def send(self, client: Client, node: int, request: Request, entry: WriteEntry | None) -> None:
        """Hand `request` to `node`; the client's `on_answer` is called once, with None for a broken connection."""
        machine = self.cluster.machines[node]
        loop = self.cluster.loop
        process = machine.process
        if process is None or not machine.ready:
            client.on_answer(None, request, entry, Failure("unavailable", "connection refused"), loop.now_us)
            return
        if entry is not None and isinstance(request, PutRequest):
            request = self._sized(request, entry)
        self._attempts += 1
        attempt = Attempt(self._attempts, process, request, entry)
        attempt.invoked_us = loop.now_us
        attempt.wall_ms, attempt.clock_moves = self.cluster.earliest_wall_ms(), self.cluster.clock_moves
        attempt.sound = self._availability is None or self._availability.sound(node)
        self._pending.setdefault(node, {})[attempt.number] = (client, attempt)
        if entry is not None:
            entry.attempts_open += 1
        self.trace.event(
            loop.now_us,
            -client.number,
            KIND_INVOKE,
            _encode(request),
            lambda: f"c{client.number} → n{node}  {describe_request(request)}",
        )

        def deliver() -> None:
            store = machine.node
            assert store is not None, "the callbacks of a dead process do not run"

            def reply(result: Result) -> None:
                self._answered(client, node, attempt, result)

            if isinstance(request, GetRequest):
                store.get(request, reply)
            elif isinstance(request, KeysRequest):
                store.keys(request, reply)
            else:
                store.put(request, reply)

        process.at_true_time(loop.now_us + 50 + client.rng.below(200), deliver)
        patience_ms = request.timeout_ms + PATIENCE_MS
        attempt.patience = loop.after_ms(patience_ms, lambda: self._given_up(client, node, attempt))

    def _sized(self, request: PutRequest, entry: WriteEntry) -> PutRequest:
        """The put of `entry`, with a large value in some seeds, which all its attempts have in common."""
        first = not (entry.attempts_open or entry.attempts_unknown or entry.acks) and entry.value == request.value
        if self._sizes is not None and first and not entry.delete and self._sizes.chance(LARGE_SHARE):
            length = LARGE_MIN_BYTES + self._sizes.below(LARGE_MAX_BYTES - LARGE_MIN_BYTES)
            entry.value = request.value.ljust(length, b".")
        return request if entry.value == request.value else msgspec.structs.replace(request, value=entry.value)

    def acknowledged(self, entry: WriteEntry, clock: Clock, invoked_us: int) -> None:
        """A node said that W replicas have it. Do they, at this moment (check W)?"""
        observer = self.cluster.observer
        observer.acknowledged(entry, clock)
        dots = observer.acked_dots(entry, clock)
        if dots and not self.history.lost_since(entry.storage_key, invoked_us):
            count, quorum = self.cluster.copies.count, entry.w >= self.cluster.defaults.w
            copies = max(count(entry.storage_key, dot, entry.strict, quorum) for dot in dots)
            if copies + self.cluster.still_damaged(entry.storage_key) < entry.w:
                message = f"write #{entry.number} of {entry.storage_key!r} is acknowledged with w={entry.w} and has"
                self.violations.append(Violation("W", f"{message} {copies} durable copies of its dots {dots}"))

    def promised(self) -> dict[bytes, Clock]:
        """Storage key → a clock that covers what is acknowledged, also of writes under way: they may be so already, and
        the client not know it yet."""
        observer = self.cluster.observer
        clocks = {key: dict(clock) for key, clock in observer.acked_clocks().items()}
        for write in self.history.writes:
            for actor, counter in observer.dots_of(write) if write.attempts_open else ():
                clock = clocks.setdefault(write.storage_key, {})
                clock[actor] = max(clock.get(actor, 0), counter)
        return clocks

    def _answered(self, client: Client, node: int, attempt: Attempt, result: Result) -> None:
        if attempt.done:
            if self._pending.get(node, {}).get(attempt.number) is None and attempt.patience is None:
                self.violations.append(Violation("reply", f"n{node} answered twice: {attempt.request}"))
            return
        self.trace.event(
            self.cluster.loop.now_us,
            -client.number,
            KIND_RESULT,
            _encode(result),
            lambda: f"n{node} → c{client.number}  {describe_result(result)}",
        )
        if attempt.patience is not None:
            attempt.patience.cancel()
            attempt.patience = None
        if self._availability is not None and isinstance(attempt.request, PutRequest) and isinstance(result, Failure):
            strict = attempt.request.strict or attempt.request.bucket in self.strict_buckets
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
        pending = self._pending.pop(node, {})
        for client, attempt in pending.values():
            if attempt.patience is not None:
                attempt.patience.cancel()
            self._finish(client, node, attempt, None)

    def _finish(self, client: Client, node: int, attempt: Attempt, result: Result | None) -> None:
        attempt.done = True
        self._pending.get(node, {}).pop(attempt.number, None)
        if attempt.entry is not None:
            attempt.entry.attempts_open -= 1
        client.on_answer(attempt, attempt.request, attempt.entry, result, attempt.invoked_us)
