"""Clients of a real cluster, and the history of what they did and were told.

They use the client library's own calls, with its retries, and believe its outcomes: done, not done, or unknown (hard
case 31). About half of the requests go where the library routes them, the others to any node, which forwards them.
Puts take the context of the last read, an old one, or none; deletes too, and a delete without one replaces what its
coordinator sees. Every value is unique, so that a value names its write.

Most requests go to a few hot keys, so that clients meet; the others to many cold ones that little but repair in the
background ever touches again. After `GENERATION_REQUESTS` requests all keys are new ones: what a checker does with the
history of one key grows with its square.

What an answer shows is kept as it came, since its dots are not known before the side files are read (`judgement.py`).
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

import msgspec
from xxhash import xxh3_64_intdigest

from quorate.client import commands
from quorate.client.asynchronous_calls import AsyncCalls
from quorate.client.protocol import Command
from quorate.core.causality.context import decode_context
from quorate.core.errors import CallerError, OutcomeUnknown, QuorateError, Unavailable
from quorate.core.limits import REQUEST_TIMEOUT_DEFAULT_MS
from quorate.core.record import Clock
from quorate.sim.history import Ack, Source, WriteEntry
from quorate.sim.random_streams import SeededRng, Streams
from quorate.trials.cluster import RealCluster, TrialError
from quorate.trials.link import ask

BUCKETS: Final = {
    b"carts": {},
    b"profiles": {"conflicts": "lww"},
    b"ledgers": {"strict": "true"},
}
"""Bucket → how it differs from the defaults (n=3, r=2, w=2, siblings, fallbacks allowed)."""
STRICT: Final = (b"ledgers",)
LAST_WRITE_WINS: Final = (b"profiles",)
QUORUM: Final = 2

CLIENTS_DEFAULT: Final = 12
THINK_MEAN_S: Final = 0.04
HOT_KEYS: Final = 4
COLD_KEYS: Final = 150
COLD_SHARE: Final = 0.25
GENERATION_REQUESTS: Final = 2_500
CONTEXTS_KEPT: Final = 3
READ_SHARE: Final = 0.4
DELETE_SHARE: Final = 0.12
TTL_S_MAX: Final = 5
REQUESTS_MAX: Final = 2_000_000
"""Of one trial: its history is kept in memory."""


class Answer(msgspec.Struct):
    """A get that was answered. Times as in `sim.history`, on CLOCK_MONOTONIC."""

    bucket: bytes
    key: bytes
    r: int
    invoked_us: int
    completed_us: int
    clock: Clock
    rows: list[tuple[bytes, int]]
    """(value, Unix milliseconds of its HLC time) of each sibling."""
    wall_ms: int
    session: int
    """The number of the client."""


class Workload:
    """All clients, and what they did."""

    def __init__(self, cluster: RealCluster, streams: Streams, clients: int, wall_is_true: bool) -> None:
        """`wall_is_true`: no node's clock is set wrong, so what has expired by this machine's clock has expired."""
        self.cluster = cluster
        self.wall_is_true = wall_is_true
        self.writes: list[WriteEntry] = []
        self.answers: list[Answer] = []
        self.counts: dict[str, int] = {}
        self.keys: dict[tuple[bytes, bytes], None] = {}
        """(bucket, key) of all that was ever asked for, in this order."""
        self.requests = 0
        self._issuing = False
        self._failure: BaseException | None = None
        self._clients = [Client(number, self, streams.stream("client", number)) for number in range(1, clients + 1)]
        self._tasks: list[asyncio.Task[None]] = []

    async def declare_buckets(self) -> None:
        """Set the buckets' properties; the cluster is whole."""
        for bucket, properties in BUCKETS.items():
            if properties:
                changes = [f"{name}={value}" for name, value in properties.items()]
                await ask(self.cluster.addresses()[0], self.cluster.password, "KV.BUCKET", bucket.decode(), *changes)

    async def start(self) -> None:
        self._issuing = True
        for client in self._clients:
            await client.connect()
        self._tasks = [asyncio.create_task(self._run(client)) for client in self._clients]

    async def stop(self) -> None:
        """Issue nothing new, and wait for what is under way. Raises what ended a client."""
        self._issuing = False
        for client in self._clients:
            client.stopped.set()
        await asyncio.gather(*self._tasks)
        await self.close()
        if self._failure is not None:
            raise self._failure

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        for client in self._clients:
            await client.close()

    def count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    @property
    def acknowledged(self) -> int:
        """Writes that were acknowledged so far."""
        return self.counts.get("put ok", 0) + self.counts.get("delete ok", 0)

    @property
    def generation(self) -> int:
        return self.requests // GENERATION_REQUESTS

    def check(self) -> None:
        """Raise what ended a client, if one has ended."""
        if self._failure is not None:
            raise self._failure

    async def _run(self, client: Client) -> None:
        try:
            while self._issuing and self.requests < REQUESTS_MAX:
                await client.act()
        except Exception as error:
            self._failure = self._failure or error
            self._issuing = False

    async def read_all(self) -> None:
        """Read every key from all its replicas, once more. Raises `TrialError` if one cannot be read."""
        calls = AsyncCalls(self.cluster.addresses(), self.cluster.password, 5_000.0)
        await calls.start()
        try:
            for bucket, key in self.keys:
                command = commands.get_command(bucket, key, 3)
                invoked_us = now_us()
                try:
                    reply = await calls.execute(command, bucket, None)
                except Unavailable as error:
                    raise TrialError(f"a read of all replicas failed after healing: {error}") from error
                self.note_answer(bucket, key, 3, invoked_us, reply)
        finally:
            await calls.close()

    def note_answer(
        self, bucket: bytes, key: bytes, r: int, invoked_us: int, reply: list[Any], session: int = 0
    ) -> str:
        """Keep an answer to KV.GET, to the client `session` if it was one; gives its context."""
        token, rows = reply
        wall_ms = time.time_ns() // 1_000_000 - (now_us() - invoked_us) // 1000 - 1 if self.wall_is_true else 0
        self.answers.append(
            Answer(
                bucket,
                key,
                r,
                invoked_us,
                now_us(),
                decode_context(token).clock,
                [(value, time_ms) for value, _, time_ms in rows],
                wall_ms,
                session,
            )
        )
        return str(token, "ascii")


class Client:
    """One client: a loop of thinking and asking, with a memory for contexts."""

    def __init__(self, number: int, workload: Workload, rng: SeededRng) -> None:
        self.stopped = asyncio.Event()
        self._number = number
        self._workload = workload
        self._rng = rng
        self._calls: AsyncCalls | None = None
        self._contexts: dict[tuple[bytes, bytes], list[tuple[str, Source]]] = {}
        self._generation = 0
        self._written = 0
        self._operation = commands.OPERATION_ID_MIN + number * 10**12
        """Its ids count up from here. Unlike a real client's they are not random: no two of a trial are equal."""

    async def connect(self) -> None:
        cluster = self._workload.cluster
        self._calls = AsyncCalls(cluster.addresses(), cluster.password, float(REQUEST_TIMEOUT_DEFAULT_MS))
        await self._calls.start()

    async def close(self) -> None:
        if self._calls is not None:
            await self._calls.close()

    async def act(self) -> None:
        """Think, and make one request."""
        with_patience = asyncio.wait_for(self.stopped.wait(), self._rng.exponential(THINK_MEAN_S))
        try:
            await with_patience
            return
        except TimeoutError:
            pass
        bucket, key = self._pick()
        self._workload.requests += 1
        self._workload.keys[bucket, key] = None
        if self._rng.chance(READ_SHARE):
            await self._get(bucket, key)
        else:
            await self._write(bucket, key)

    def _pick(self) -> tuple[bytes, bytes]:
        generation = self._workload.generation
        if generation != self._generation:
            self._generation = generation
            self._contexts.clear()
        bucket = self._rng.choice(list(BUCKETS))
        if self._rng.chance(COLD_SHARE):
            return bucket, b"cold%d-%d" % (generation, self._rng.below(COLD_KEYS))
        return bucket, b"hot%d-%d" % (generation, self._rng.below(HOT_KEYS))

    async def _get(self, bucket: bytes, key: bytes) -> None:
        r = self._rng.choice((None, None, None, None, 1, 2, 3))
        invoked_us = now_us()
        try:
            reply = await self._execute(commands.get_command(bucket, key, r), bucket)
        except QuorateError:
            self._workload.count("get unanswered")
            return
        self._workload.count("get ok")
        context = self._workload.note_answer(bucket, key, r or QUORUM, invoked_us, reply, self._number)
        self._remember(bucket, key, context, "read")

    async def _write(self, bucket: bytes, key: bytes) -> None:
        rng, workload = self._rng, self._workload
        delete = rng.chance(DELETE_SHARE)
        context, source = self._choose_context(bucket, key)
        w = rng.choice((None, None, None, None, 1, 2, 3))
        strict = rng.chance(0.1)
        self._written += 1
        self._operation += 1
        value = b"" if delete else b"c%d-%d" % (self._number, self._written)
        if delete:
            command = commands.delete_command(bucket, key, self._operation, context, w, strict)
        else:
            ttl = 1 + rng.below(TTL_S_MAX) if rng.chance(0.05) else None
            command = commands.put_command(bucket, key, value, self._operation, context, w, ttl, None, None, strict)
        entry = WriteEntry(
            number=len(workload.writes),
            storage_key=workload.cluster.locate(bucket, key),
            value=value,
            delete=delete,
            operation=stored_operation(self._operation),
            context=None if context is None else decode_context(context).clock,
            overwrite_seen=delete and context is None,
            w=w or QUORUM,
            strict=strict or bucket in STRICT,
            invoked_us=now_us(),
            acks=[],
            session=self._number,
            context_source=source,
        )
        workload.writes.append(entry)
        await self._await_outcome(entry, command, bucket, key)

    async def _await_outcome(self, entry: WriteEntry, command: Command, bucket: bytes, key: bytes) -> None:
        workload = self._workload
        kind = "delete" if entry.delete else "put"
        entry.attempts_open = 1
        try:
            token = await self._execute(command, bucket)
        except OutcomeUnknown:
            entry.attempts_unknown = 1
            workload.count(f"{kind} unknown")
        except CallerError as error:
            # The one mistake that these clients make: too many siblings without a context (hard case 6).
            assert "sibling" in str(error), error
            workload.count(f"{kind} refused")
        except Unavailable:
            workload.count(f"{kind} not done")
        else:
            workload.count(f"{kind} ok")
            entry.acks.append(Ack(entry.invoked_us, now_us(), decode_context(token).clock))
            if self._rng.chance(0.3):
                self._remember(bucket, key, str(token, "ascii"), "put")
        entry.attempts_open = 0

    async def _execute(self, command: Command, bucket: bytes) -> Any:
        assert self._calls is not None, "it is connected first"
        if self._rng.chance(0.5):
            command = command.to_any_node()
        return await self._calls.execute(command, bucket, None)

    def _choose_context(self, bucket: bytes, key: bytes) -> tuple[str | None, Source]:
        contexts = self._contexts.get((bucket, key), [])
        style = self._rng.random()
        if not contexts or style > 0.8:
            return None, ""
        return contexts[-1] if style < 0.65 else self._rng.choice(contexts)

    def _remember(self, bucket: bytes, key: bytes, context: str, source: Source) -> None:
        if context:
            contexts = self._contexts.setdefault((bucket, key), [])
            contexts.append((context, source))
            del contexts[:-CONTEXTS_KEPT]


def stored_operation(operation: int) -> int:
    """An operation id as records keep it (`api.resp.commands.kv`)."""
    return xxh3_64_intdigest(b"%d" % operation) or 1


def now_us() -> int:
    return time.monotonic_ns() // 1000
