"""Compare Quorate with another program, in turns, so that both see the same machine in the same minutes.

    python benchmarks/compare.py --against "python floor.py --seconds 10" [--rounds 5] [--seconds 10]

Each round runs `quorate bench` against a fresh three-node cluster (rocksdb, durability os, free ports) and then the
other command, which prints JSON lines with the same fields: phase, ops_per_s, p50_ms, p99_ms, p999_ms. At the end: the
medians of each phase, and the ratios. Ratios are what carries over from one machine to another.
"""

from __future__ import annotations

import argparse
import json
import shlex
import socket
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

FIELDS = ("ops_per_s", "p50_ms", "p99_ms", "p999_ms")
Rounds = dict[str, list[dict[str, Any]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", required=True, help="the other command; prints a JSON line per phase")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--value-bytes", type=int, default=1000)
    parser.add_argument("--keys", type=int, default=20_000)
    parser.add_argument("--engine", default="rocksdb")
    options = parser.parse_args()
    ours: Rounds = {}
    theirs: Rounds = {}
    for number in range(1, options.rounds + 1):
        collect(ours, run_quorate(options), f"round {number} quorate")
        collect(theirs, run(shlex.split(options.against)), f"round {number} other  ")
    report(ours, theirs)


def run_quorate(options: argparse.Namespace) -> list[dict[str, Any]]:
    """One round against a cluster of its own."""
    port = free_base_port()
    with tempfile.TemporaryDirectory(prefix="quorate-compare-") as folder:
        command = [sys.executable, "-m", "quorate.cli.main", "up", "--json", "--port", str(port)]
        command += ["--data", str(Path(folder) / "data"), "--engine", options.engine]
        # To a file: a pipe that nobody reads would fill up.
        with (Path(folder) / "log").open("wb") as log:
            cluster = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        assert cluster.stdout is not None
        try:
            for line in cluster.stdout:
                if json.loads(line)["event"] == "ready":
                    break
            else:
                raise SystemExit("the cluster did not start; see: " + " ".join(command))
            bench = [sys.executable, "-m", "quorate.cli.main", "bench", "--json", "--node", f"127.0.0.1:{port + 1}"]
            for name in ("seconds", "concurrency", "value_bytes", "keys"):
                bench += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
            return run(bench)
        finally:
            cluster.terminate()
            cluster.communicate()


def run(command: list[str]) -> list[dict[str, Any]]:
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def collect(rounds: Rounds, phases: list[dict[str, Any]], title: str) -> None:
    for phase in phases:
        rounds.setdefault(phase["phase"], []).append(phase)
        say(f"{title}  {phase['phase']:4} " + "  ".join(f"{field} {phase[field]}" for field in FIELDS))
        if phase.get("errors"):
            say(f"{title}  errors: {phase['errors']}")


def report(ours: Rounds, theirs: Rounds) -> None:
    say("\nmedians and ratios (quorate / other)")
    for phase in ours:
        if phase not in theirs:
            continue
        for field in FIELDS:
            mine = statistics.median(result[field] for result in ours[phase])
            other = statistics.median(result[field] for result in theirs[phase])
            say(f"{phase:4} {field:9} {mine:>10.2f} {other:>10.2f}   ratio {mine / other if other else 0:.3f}")


def free_base_port(nodes: int = 3) -> int:
    """A base port whose client, HTTP and peer ports for `nodes` nodes are free now."""
    for base in range(20_000, 30_000, 300):
        if all(is_free(base + offset + node) for offset in (0, 100, 200) for node in range(1, nodes + 1)):
            return base
    raise SystemExit("no free ports between 20000 and 30000")


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
