"""One node with ten million small keys: how fast, how large, and how long it takes to start.

    python benchmarks/large_store.py [--few 100000] [--many 10000000] [--seconds 10] [--warm-up 30]

One node (rocksdb, n=1), values of 16 bytes, 64 requests in flight, in a bucket of the last-write-wins kind; keys as
YCSB chooses them by default (zipfian), and uniform ones, of which no cache knows which will be next. Put and get rates
are measured with a few keys, then all keys are written, and once the tables are merged both are measured again, and
once more after a clean stop and a start. Gets of the same kind warm the caches up each time. Starts are timed until
the node serves, also the one after `kill -9` under load.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import uvloop
from local_nodes import Nodes, cpu_s, running, say

import quorate.aio
from quorate.bench.distributions import scrambled_zipfian, uniform

WORKERS = 64
VALUE = b"sixteen bytes ok"
ROUNDS = 3
SETTLED_WITHIN_S = 300


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--few", type=int, default=100_000)
    parser.add_argument("--many", type=int, default=10_000_000)
    parser.add_argument("--seconds", type=float, default=10, help="of each operation of each kind")
    parser.add_argument("--warm-up", type=float, default=30, help="seconds of gets before each measurement")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="quorate-large-") as folder,
        running(Path(folder) / "data", 1, "rocksdb") as nodes,
    ):
        few, many = uvloop.run(measure(nodes, options.few, options.many, options.seconds, options.warm_up))
        compare(options.few, few, options.many, many)
        say(f"resident: {resident_bytes(nodes) / 2**20:.0f} MiB, at most {resident_bytes(nodes, 'VmHWM') / 2**20:.0f}")
        began = time.monotonic()
        nodes.stop(1)
        say(f"clean stop: {time.monotonic() - began:.1f} s")
        say(f"start after a clean stop: {timed_start(nodes):.1f} s")
        again = uvloop.run(measure_again(nodes, options.many, options.seconds, options.warm_up))
        compare(options.few, few, options.many, again)
        uvloop.run(write_for_a_while(nodes, options.many, options.seconds))
        nodes.kill(1)
        say(f"start after kill -9 under load: {timed_start(nodes):.1f} s")


def compare(few: int, rates_few: dict[str, float], many: int, rates_many: dict[str, float]) -> None:
    for name, rate_few in rates_few.items():
        rate_many = rates_many[name]
        say(f"{name}: {rate_few:.0f} ops/s at {few} keys, {rate_many:.0f} at {many}: {rate_many / rate_few:.0%}")


async def measure(
    nodes: Nodes, few: int, many: int, seconds: float, warm_up_s: float
) -> tuple[dict[str, float], dict[str, float]]:
    """Operations a second by kind, with few and with many keys."""
    async with quorate.aio.connect(nodes.address()) as db:
        bucket = db.bucket("large")
        await bucket.set(conflicts="lww", n=1, r=1, w=1)
        await write_all(bucket, range(few))
        figures_few = await rates(bucket, few, seconds, warm_up_s)
        began = time.monotonic()
        await write_all(bucket, range(few, many))
        took_s = time.monotonic() - began
        say(f"wrote {many - few} keys in {took_s:.0f} s, {(many - few) / took_s:.0f} a second")
        say(f"merged what was written for another {await settle(nodes):.0f} s")
        return figures_few, await rates(bucket, many, seconds, warm_up_s)


async def measure_again(nodes: Nodes, keys: int, seconds: float, warm_up_s: float) -> dict[str, float]:
    async with quorate.aio.connect(nodes.address()) as db:
        return await rates(db.bucket("large"), keys, seconds, warm_up_s)


async def rates(bucket: Any, keys: int, seconds: float, warm_up_s: float) -> dict[str, float]:
    """By distribution and operation: the medians of a few rounds, put and get in turns. `seconds` for each."""
    found: dict[str, float] = {}
    for name, numbers in (("zipfian", scrambled_zipfian(keys, Random(1))), ("uniform", uniform(keys, Random(1)))):
        for operation, rate_per_s in (await rates_of(bucket, numbers, seconds, warm_up_s)).items():
            found[f"{name} {operation}"] = rate_per_s
    return found


async def rates_of(bucket: Any, numbers: Iterator[int], seconds: float, warm_up_s: float) -> dict[str, float]:
    async def put() -> None:
        await bucket.put(b"key%09d" % next(numbers), VALUE)

    async def get() -> None:
        if not await bucket.get(b"key%09d" % next(numbers)):
            raise SystemExit("a key that was written is not there")

    await rate(get, warm_up_s)
    found: dict[str, list[float]] = {"put": [], "get": []}
    for _ in range(ROUNDS):
        for name, act in (("put", put), ("get", get)):
            found[name].append(await rate(act, seconds / ROUNDS))
    return {name: sorted(values)[ROUNDS // 2] for name, values in found.items()}


async def rate(act: Callable[[], Awaitable[None]], seconds: float) -> float:
    began = time.monotonic()
    until = began + seconds
    done = 0

    async def worker() -> None:
        nonlocal done
        while time.monotonic() < until:
            await act()
            done += 1

    await asyncio.gather(*(worker() for _ in range(WORKERS)))
    return done / (time.monotonic() - began)


async def write_all(bucket: Any, numbers: Iterable[int]) -> None:
    left = iter(numbers)

    async def worker() -> None:
        for number in left:
            await bucket.put(b"key%09d" % number, VALUE)

    await asyncio.gather(*(worker() for _ in range(WORKERS)))


async def write_for_a_while(nodes: Nodes, keys: int, seconds: float) -> None:
    async with quorate.aio.connect(nodes.address()) as db:
        await rates_of(db.bucket("large"), uniform(keys, Random(2)), seconds, 0)


async def settle(nodes: Nodes) -> float:
    """Wait until the node has merged its tables and takes next to no processor time; seconds."""
    began = time.monotonic()
    used_s = cpu_s(nodes.pid(1))
    while time.monotonic() - began < SETTLED_WITHIN_S:
        await asyncio.sleep(1)
        before_s, used_s = used_s, cpu_s(nodes.pid(1))
        if used_s - before_s < 0.1:
            return time.monotonic() - began
    raise SystemExit("the node is still busy, long after everything was written")


def resident_bytes(nodes: Nodes, field: str = "VmRSS") -> int:
    status = Path(f"/proc/{nodes.pid(1)}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def timed_start(nodes: Nodes) -> float:
    began = time.monotonic()
    nodes.start(1)
    return time.monotonic() - began


if __name__ == "__main__":
    main()
