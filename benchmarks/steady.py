"""Five minutes of half of what the cluster can do, on a schedule, while everything else goes on: tails under way.

    python benchmarks/steady.py [--seconds 300] [--keys 50000] [--hints 20000]

Three real nodes (rocksdb), half puts and half gets of 1000 bytes in an open loop: latency counts from the scheduled
time, so a stall is seen by everybody who arrived in it. One node was stopped before, and the others keep hints for it;
it is started at the moment at which the load begins, so hints go home, its replicas are compared, and at this rate of
puts memtables are flushed and merged all the time. Prints the figures of the whole run and the worst of its seconds.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from local_nodes import Load, running, say, wait_for_no_hints

PEAK_SECONDS = "10"
SHARE_OF_PEAK = 0.5
OFFERED_SHARE_MIN = 0.8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--keys", type=int, default=50_000)
    parser.add_argument("--hints", type=int, default=20_000, help="keys that are written while one node is away")
    parser.add_argument("--rate", type=int, default=0, help="operations a second; default: half of the peak")
    options = parser.parse_args()
    keys = ["--keys", str(options.keys)]
    with (
        tempfile.TemporaryDirectory(prefix="quorate-steady-") as folder,
        running(Path(folder) / "data", 3, "rocksdb") as nodes,
    ):
        peak, _ = Load(nodes.address(), "--workload", "mixed", "--seconds", PEAK_SECONDS, *keys).finish()
        rate = options.rate or int(peak["ops_per_s"] * SHARE_OF_PEAK)
        say(f"peak {peak['ops_per_s']} ops/s; offered: {rate} ops/s for {options.seconds:.0f} s")
        nodes.stop(3)
        Load(nodes.address(), "--workload", "put", "--seconds", "1", "--keys", str(options.hints)).finish()
        say(f"{nodes.hints()} hints are kept for the node that was stopped; it is started now")
        nodes.start(3)
        open_loop = ["--workload", "mixed", "--rate", str(rate), "--seconds", str(options.seconds), "--windows", "1"]
        load = Load(nodes.address(), *open_loop, *keys)
        say(f"hints were home after {wait_for_no_hints(nodes, options.seconds):.0f} s")
        whole, seconds = load.finish()
    say("  ".join(f"{field} {whole[field]}" for field in ("ops_per_s", "p50_ms", "p99_ms", "p999_ms", "success")))
    tails = sorted((second["p99_ms"] for second in seconds), reverse=True)
    say(f"p99 of a second: median {tails[len(tails) // 2]} ms, the worst {tails[:10]} ms")
    worst = min(seconds, key=lambda second: second["ops_per_s"])
    slow = [second for second in seconds if second["ops_per_s"] < OFFERED_SHARE_MIN * rate]
    say(f"worst second: {worst['ops_per_s']} ops/s ({worst['ops_per_s'] / rate:.0%} of what was offered)")
    say(f"seconds below {OFFERED_SHARE_MIN:.0%}: {len(slow)} of {len(seconds)}; errors: {whole['errors']}")


if __name__ == "__main__":
    main()
