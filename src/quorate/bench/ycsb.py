"""The core workloads of YCSB, the Yahoo! Cloud Serving Benchmark, A to F, with the proportions that define them.

| | operations | keys |
|---|---|---|
| A | 50% read, 50% update | zipfian |
| B | 95% read, 5% update | zipfian |
| C | 100% read | zipfian |
| D | 95% read, 5% insert | latest |
| E | 95% scan, 5% insert | zipfian, 1 to 100 keys at a time |
| F | 50% read, 50% read-modify-write | zipfian |

The load phase inserts all keys: "user" and the hash of a number, so numbers that follow each other lie far apart. An
update is blind, as YCSB's is: it overwrites, and has not read. In a store of causal versions that is what a bucket with
`conflicts=lww` does with a put that has no context. In a bucket that keeps siblings such puts would pile up, so there
an update passes the newest context that this process has seen of the key, and reads it first if it has seen none;
concurrent updates of a popular key still leave siblings until the next one that has read them.

E is not run: see `not_applicable`.

Rejected: letting two updates of one key wait for each other. The most popular key gets a twenty-sixth of all requests;
with a lock on it the load generator would measure its own queue.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import Random
from time import perf_counter
from typing import Final, Literal, NamedTuple

from quorate.bench.arrivals import Operation
from quorate.bench.distributions import fnv_64, latest, scrambled_zipfian
from quorate.bench.records import Values, pieces, records
from quorate.bench.report import Kind, PhaseResult, Recorder
from quorate.bench.runner import Load, MissingValue, Runner, Target
from quorate.core.errors import QuorateError

LOAD: Final = "load"
Act = Callable[[], Awaitable[None]]


class Workload(NamedTuple):
    """What each operation of a workload is, and of which keys."""

    common: Kind
    rare: Kind
    common_share: float
    keys: Literal["zipfian", "latest"]


WORKLOADS: Final[dict[str, Workload]] = {
    "a": Workload("read", "update", 0.5, "zipfian"),
    "b": Workload("read", "update", 0.95, "zipfian"),
    "c": Workload("read", "read", 1.0, "zipfian"),
    "d": Workload("read", "insert", 0.95, "latest"),
    "e": Workload("scan", "insert", 0.95, "zipfian"),
    "f": Workload("read", "read_modify_write", 0.5, "zipfian"),
}


def not_applicable(workload: str) -> str:
    """Why a workload cannot be run; empty if it can."""
    if WORKLOADS[workload].common != "scan":
        return ""
    return (
        "its scans read the keys that follow a start key; here keys are spread over partitions by their hash, and the "
        "listing of a bucket goes partition by partition, in no order over all keys and from no start key"
    )


def key_name(number: int) -> bytes:
    """YCSB's name of a key (insertorder=hashed)."""
    return b"user%d" % fnv_64(number)


class YcsbBench(Runner):
    """Phases "a", "b", "c", "d" and "f". `blind`: the bucket settles conflicts itself (`conflicts=lww`)."""

    def __init__(self, bucket: Target, load: Load, blind: bool) -> None:
        super().__init__(bucket, load)
        self._blind = blind
        self._rng = Random()
        self._values: Values = records(load.fields, load.field_bytes) if load.fields else pieces(load.value_bytes)
        self._keys = [key_name(number) for number in range(load.keys)]
        """Of which reads choose: those that were loaded, by all processes, and those that this one inserted since."""
        self._insertions = iter(range(load.keys + load.process, 1 << 62, load.processes))
        """Numbers of keys to come; each process has its own."""
        self._contexts: dict[bytes, str] = {}
        """What is known of keys, unless updates are blind."""

    async def load(self) -> PhaseResult:
        load = self._load
        recorder = self._recorder = Recorder(LOAD, load.window_s)
        blind, bucket, new, contexts = self._blind, self._bucket, self._values.new, self._contexts
        began = perf_counter()

        async def insert(key: bytes) -> None:
            # What an earlier run left there is overwritten.
            context = None if blind else (await bucket.get(key)).context or None
            sent = perf_counter()
            wrote = await bucket.put(key, new(), context)
            recorder.succeeded(sent - began, "insert", perf_counter() - sent)
            if not blind:
                contexts[key] = wrote

        def failed(error: QuorateError) -> None:
            recorder.failed(perf_counter() - began, "insert", type(error).__name__)

        await self._each(self._keys[load.process : load.keys : load.processes], insert, failed)
        return recorder.result(perf_counter() - began)

    def operations(self, phase: str) -> Callable[[], Operation]:
        workload = WORKLOADS[phase]
        assert not not_applicable(phase)
        next_key = self._keys_of(workload)
        acts = {
            "read": self._read(next_key),
            "update": self._update(next_key),
            "insert": self._insert,
            "read_modify_write": self._read_modify_write(next_key),
        }
        common: Operation = (workload.common, acts[workload.common])
        rare: Operation = (workload.rare, acts[workload.rare])
        share, draw = workload.common_share, self._rng.random
        return lambda: common if draw() < share else rare

    def _keys_of(self, workload: Workload) -> Callable[[], bytes]:
        keys = self._keys
        if workload.keys == "latest":
            next_age = latest(keys.__len__, self._rng).__next__
            return lambda: keys[-1 - next_age()]
        next_number = scrambled_zipfian(len(keys), self._rng).__next__
        return lambda: keys[next_number()]

    # Operations are closures: they find in their cells what every call would have to look up.

    def _read(self, next_key: Callable[[], bytes]) -> Act:
        get, blind, contexts = self._bucket.get, self._blind, self._contexts

        async def read() -> None:
            key = next_key()
            got = await get(key)
            if not got:
                raise MissingValue("a key that was loaded holds no value; run the load phase")
            if not blind:
                contexts[key] = got.context

        return read

    def _update(self, next_key: Callable[[], bytes]) -> Act:
        put, new, blind = self._bucket.put, self._values.new, self._blind

        async def update() -> None:
            if blind:
                await put(next_key(), new())
            else:
                await self._replace(next_key(), new())

        return update

    def _read_modify_write(self, next_key: Callable[[], bytes]) -> Act:
        get, changed = self._bucket.get, self._values.changed

        async def read_modify_write() -> None:
            key = next_key()
            got = await get(key)
            if not got:
                raise MissingValue("a key that was loaded holds no value; run the load phase")
            await self._put(key, changed(got.siblings[0].data), got.context)

        return read_modify_write

    async def _insert(self) -> None:
        key = key_name(next(self._insertions))
        if self._blind:
            await self._bucket.put(key, self._values.new())
        else:
            await self._replace(key, self._values.new())
        # Now that it is acknowledged, reads may choose it.
        self._keys.append(key)

    async def _replace(self, key: bytes, value: bytes) -> None:
        """Put with the newest context that is known; reads the key if none is."""
        context = self._contexts.get(key) or (await self._bucket.get(key)).context or None
        await self._put(key, value, context)

    async def _put(self, key: bytes, value: bytes, context: str | None) -> None:
        try:
            wrote = await self._bucket.put(key, value, context)
        except QuorateError:
            self._contexts.pop(key, None)
            raise
        if not self._blind:
            self._contexts[key] = wrote
