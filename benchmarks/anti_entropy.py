"""What anti-entropy costs: three real nodes with many small keys each, some of which differ on one of them.

    python benchmarks/anti_entropy.py [--keys 1000000] [--differing 0.001,0.01] [--value-bytes 50]

Every node holds all keys (N=3). They are written into the stopped nodes' stores directly, with the nodes' own engine.
For each share in `--differing`, that many keys are changed on node 2 while it is stopped: half of them are gone, half
are older. Then all nodes are started, and the time runs from when node 2 is ready to take requests and has its hash
trees made anew to when it has got as many records as had been changed. Last, all nodes are stopped cleanly and started
again, and compare until each has had both others.

"bytes" are the sums, keys, digests and records of all exchanges on all nodes, whoever began them; "roots alone" is
what moves while nothing differs. All nodes share the machine: proportions carry over to another, seconds do not.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any

from local_nodes import Nodes

from quorate.adapters.storage.rocksdb import RocksDbEngine
from quorate.core.causality.actor import make_actor
from quorate.core.envelope import digest_of, pack
from quorate.core.errors import QuorateError
from quorate.core.keyspace import canonical_name, slot_of_name, storage_key
from quorate.core.ports import Space, WriteOperation
from quorate.core.record import Record, Sibling, encode_record
from quorate.node.tree_documents import remove_trees

BATCH = 5_000
BUCKET = b"bench"
VICTIM = 2
LIMIT_S = 600.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--differing", default="0.001,0.01")
    parser.add_argument("--value-bytes", type=int, default=50)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="quorate-anti-entropy-") as folder:
        nodes = Nodes(Path(folder) / "data", 3, "rocksdb")
        try:
            nodes.start()
            nodes.wait_connected()
            nodes.stop()
            measure(nodes, options)
        finally:
            nodes.close()


def measure(nodes: Nodes, options: argparse.Namespace) -> None:
    began = time.monotonic()
    for member in nodes.members:
        with store_of(nodes, member.number) as engine:
            fill(engine, stored_records(nodes, range(options.keys), 2, options.value_bytes))
    say(f"{options.keys} keys written into each of three stores in {time.monotonic() - began:.0f} s")
    began = time.monotonic()
    nodes.start()
    wait(lambda: settled(nodes))
    say(f"trees made anew and everything compared after {time.monotonic() - began:.0f} s")
    nodes.stop()
    for share in map(float, options.differing.split(",")):
        one_share(nodes, options, share)
    began = time.monotonic()
    nodes.start()
    wait(lambda: settled(nodes))
    found = totals(nodes)
    say(
        f"clean restart, nothing differs: {found['exchange_bytes']} bytes in {found['exchanges']} exchanges, "
        f"{found['partitions_differing']} partitions looked into, {time.monotonic() - began:.1f} s to compare all"
    )


def one_share(nodes: Nodes, options: argparse.Namespace, share: float) -> None:
    count = int(options.keys * share)
    step = options.keys // count
    chosen = range(0, count * step, step)
    with store_of(nodes, VICTIM) as engine:
        older = stored_records(nodes, chosen[::2], 1, options.value_bytes)
        gone: Iterator[WriteOperation] = (
            (space, key, None) for space, key, _ in stored_records(nodes, chosen[1::2], 1, 0)
        )
        fill(engine, older)
        fill(engine, gone)
    began = time.monotonic()
    nodes.start()
    wait(lambda: trees_ready(nodes))
    ready_s = time.monotonic() - began
    began = time.monotonic()
    wait(lambda: repaired(nodes) >= count)
    seconds = time.monotonic() - began
    wait(lambda: settled(nodes))
    found = totals(nodes)
    say(
        f"{share:.2%} differ ({count} keys): repaired {seconds:.1f} s after the trees were ready (which took "
        f"{ready_s:.1f} s); {found['exchange_bytes']} bytes in {found['exchanges']} exchanges, "
        f"{found['exchange_bytes'] / count:.0f} a key, {repaired(nodes)} records got"
    )
    nodes.stop()


# --- stores ---


@contextmanager
def store_of(nodes: Nodes, number: int) -> Iterator[RocksDbEngine]:
    """The store of a stopped node, without the hash trees of what was there."""
    path = nodes.plan.path / nodes.members[number - 1].name / "store"
    engine = RocksDbEngine(path, lambda callback: None)
    try:
        remove_trees(engine)
        yield engine
    finally:
        engine.close()


def stored_records(nodes: Nodes, numbers: Iterable[int], counter: int, value_bytes: int) -> Iterator[WriteOperation]:
    """Keys by number, each with the `counter`-th put of one actor, as every replica stores it."""
    ring = nodes.plan.cluster.ring
    actor = make_actor(1, 1)
    value = b"v" * value_bytes
    body = encode_record(
        Record({actor: counter}, [Sibling(actor, counter, (1_700_000_000_000 + counter) << 16, value)])
    )
    for number in numbers:
        name = b"key%09d" % number
        key = storage_key(ring.partition_of_slot(slot_of_name(canonical_name(BUCKET, name))), BUCKET, name)
        yield Space.DATA, key, pack(digest_of(key, body), 0, body)


def fill(engine: RocksDbEngine, operations: Iterator[WriteOperation]) -> None:
    while batch := list(islice(operations, BATCH)):
        engine.write(batch)


# --- what the nodes say ---


def reports(nodes: Nodes) -> list[dict[str, Any]]:
    return [member["report"] for member in nodes.status(1)["members"]]


def totals(nodes: Nodes) -> dict[str, int]:
    """The counters of all nodes together."""
    found: dict[str, int] = {}
    for report in reports(nodes):
        for name, count in report["counters"].items():
            found[name] = found.get(name, 0) + count
    for name in ("exchange_bytes", "exchanges", "partitions_differing"):
        found.setdefault(name, 0)
    return found


def repaired(nodes: Nodes) -> int:
    """Records that the node that differs has got, from its own exchanges and the others'."""
    return sum(
        report["anti_entropy"]["received" if number == VICTIM else "sent"]
        for number, report in enumerate(reports(nodes), 1)
    )


def trees_ready(nodes: Nodes) -> bool:
    return all(report["trees"]["ready"] == report["trees"]["partitions"] for report in reports(nodes))


def settled(nodes: Nodes) -> bool:
    """Has each node compared everything, in at least as many exchanges as it has peers?"""
    return trees_ready(nodes) and all(
        report["anti_entropy"]["compared"] == report["anti_entropy"]["partitions"]
        and report["counters"].get("exchanges", 0) >= 2
        for report in reports(nodes)
    )


def wait(condition: Callable[[], bool]) -> None:
    began = time.monotonic()
    while time.monotonic() - began < LIMIT_S:
        with suppress(QuorateError, KeyError):
            if condition():
                return
        time.sleep(0.1)
    raise SystemExit(f"not within {LIMIT_S:.0f} s")


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
