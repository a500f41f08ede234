"""One node with ten million small keys: how fast, how large, and how long it takes to start.

    python benchmarks/large_store.py [--few 100000] [--many 10000000] [--seconds 10]

One node (rocksdb, n=1), values of 16 bytes, uniform keys, 64 requests in flight, in a bucket of the last-write-wins
kind, whose puts need not know what is there. Put and get rates are measured with a few keys, then all keys are
written, and both are measured again; then the node is stopped cleanly and killed, and each start is timed until the
node serves.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from random import Random
from typing import Any

import uvloop
from local_nodes import Nodes, running, say

import quorate.aio

WORKERS = 64
VALUE = b"sixteen bytes ok"
ROUNDS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--few", type=int, default=100_000)
    parser.add_argument("--many", type=int, default=10_000_000)
    parser.add_argument("--seconds", type=float, default=10)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="quorate-large-") as folder,
        running(Path(folder) / "data", 1, "rocksdb") as nodes,
    ):
        few, many = uvloop.run(measure(nodes, options.few, options.many, options.seconds))
        for name in ("put", "get"):
            say(f"{name}: {few[name]:.0f} ops/s at {options.few} keys, {many[name]:.0f} at {options.many}: "
                f"{many[name] / few[name]:.0%}")  # fmt: skip
        say(f"resident: {resident_bytes(nodes) / 2**20:.0f} MiB, at most {resident_bytes(nodes, 'VmHWM') / 2**20:.0f}")
        began = time.monotonic()
        nodes.stop(1)
        say(f"clean stop: {time.monotonic() - began:.1f} s")
        say(f"start after a clean stop: {timed_start(nodes):.1f} s")
        uvloop.run(write_for_a_while(nodes, options.many, options.seconds))
        nodes.kill(1)
        say(f"start after kill -9 under load: {timed_start(nodes):.1f} s")


async def measure(nodes: Nodes, few: int, many: int, seconds: float) -> tuple[dict[str, float], dict[str, float]]:
    """Operations a second by kind, with few and with many keys."""
    async with quorate.aio.connect(nodes.address()) as db:
        bucket = db.bucket("large")
        await bucket.set(conflicts="lww", n=1, r=1, w=1)
        await write_all(bucket, range(few))
        figures_few = await rates(bucket, few, seconds)
        began = time.monotonic()
        await write_all(bucket, range(few, many))
        took_s = time.monotonic() - began
        say(f"wrote {many - few} keys in {took_s:.0f} s, {(many - few) / took_s:.0f} a second")
        return figures_few, await rates(bucket, many, seconds)


async def rates(bucket: Any, keys: int, seconds: float) -> dict[str, float]:
    """The medians of a few rounds, put and get in turns."""
    random = Random(1).random

    async def put() -> None:
        await bucket.put(b"key%09d" % int(random() * keys), VALUE)

    async def get() -> None:
        if not await bucket.get(b"key%09d" % int(random() * keys)):
            raise SystemExit("a key that was written is not there")

    found: dict[str, list[float]] = {"put": [], "get": []}
    for _ in range(ROUNDS):
        for name, act in (("put", put), ("get", get)):
            found[name].append(await rate(act, seconds / ROUNDS))
    return {name: sorted(values)[ROUNDS // 2] for name, values in found.items()}


async def rate(act: Callable[[], Awaitable[None]], seconds: float) -> float:
    until = time.monotonic() + seconds
    done = 0

    async def worker() -> None:
        nonlocal done
        while time.monotonic() < until:
            await act()
            done += 1

    await asyncio.gather(*(worker() for _ in range(WORKERS)))
    return done / seconds


async def write_all(bucket: Any, numbers: Iterable[int]) -> None:
    left = iter(numbers)

    async def worker() -> None:
        for number in left:
            await bucket.put(b"key%09d" % number, VALUE)

    await asyncio.gather(*(worker() for _ in range(WORKERS)))


async def write_for_a_while(nodes: Nodes, keys: int, seconds: float) -> None:
    async with quorate.aio.connect(nodes.address()) as db:
        await rates(db.bucket("large"), keys, seconds)


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
