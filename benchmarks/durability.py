"""What it costs to have a put on the disks before it is acknowledged: durability=fsync beside durability=os.

    python benchmarks/durability.py [--rounds 5] [--seconds 6] [--concurrency 64]

One cluster of three nodes (rocksdb), two buckets that differ in nothing else, put to in turns, so that both see the
same machine in the same minutes. Prints each round, the medians and their ratio.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

from local_nodes import Load, running, say

from quorate.cli.link import Link

FIELDS = ("ops_per_s", "p50_ms", "p99_ms", "p999_ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--data", type=Path, help="where the nodes' directories are made, and so on which disk")
    options = parser.parse_args()
    found: dict[str, list[dict[str, Any]]] = {"os": [], "fsync": []}
    with (
        tempfile.TemporaryDirectory(prefix="quorate-durability-", dir=options.data) as folder,
        running(Path(folder) / "data", 3, "rocksdb") as nodes,
    ):
        with Link(nodes.address()) as link:
            link.document("KV.BUCKET", b"fsync", b"durability=fsync")
        for number in range(1, options.rounds + 1):
            for bucket, phases in found.items():
                load = ["--workload", "put", "--bucket", bucket, "--seconds", str(options.seconds)]
                phase, _ = Load(nodes.address(), *load, "--concurrency", str(options.concurrency)).finish()
                phases.append(phase)
                say(f"round {number} {bucket:5}  " + "  ".join(f"{field} {phase[field]}" for field in FIELDS))
    say("\nmedians and ratios (fsync / os)")
    for field in FIELDS:
        by_bucket = {bucket: statistics.median(phase[field] for phase in phases) for bucket, phases in found.items()}
        ratio = by_bucket["fsync"] / by_bucket["os"]
        say(f"{field:9} fsync {by_bucket['fsync']:>10.2f}   os {by_bucket['os']:>10.2f}   ratio {ratio:.3f}")


if __name__ == "__main__":
    main()
