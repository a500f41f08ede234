"""Does adding nodes scale? How evenly requests spread, and what one costs, by nodes, by keys and by partitions.

    PYTHONPATH=. python benchmarks/scaling.py [--parts simulated,real,keys,partitions] [--json FILE] [--svg FILE]

Four parts:

  simulated    3 to 32 production nodes on virtual time in one process: how far each is from its fair share of what is
               coordinated and of the replicas' reads and writes, beside what chance alone would do with so many keys;
               and CPU time of a request (all nodes, and the simulation itself). About a minute of one core.
  real         3 to 8 processes under load, as far as the cores of this machine allow: shares as the nodes count them,
               CPU time of all nodes and of the load generator for each operation, operations per second.
  keys         CPU time of an operation on three nodes that hold few or many keys.
  partitions   the same by the number of partitions.

Where all nodes and the load share a few cores, more nodes cannot give more operations per second; what shows that a
cluster scales is that the nodes' work is even and that CPU time for an operation does not grow. The requests in flight
are as many for each node in clusters of all sizes, for a node that has more to do at once does it cheaper.

Figures go to --json after every step. Parts that are not run are kept as they are in that file, so that they can be run
one by one; with --parts none it is only shown and drawn. Real clusters keep their data in the folder for temporary
files (TMPDIR) while they run: with the most keys some gigabytes.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
from scaling_figures import ALLOWED_PERCENT, Figures, Real, Simulated, Spread
from scaling_plot import draw
from scaling_real import Load, measure_real
from scaling_simulated import measure_simulated

PARTS = ("simulated", "real", "keys", "partitions")
Save = Callable[[], None]


def main() -> None:
    options = parse()
    figures = Figures()
    if options.json and options.json.exists():
        figures = msgspec.json.decode(options.json.read_bytes(), type=Figures)

    def save() -> None:
        if options.json:
            options.json.write_bytes(msgspec.json.format(msgspec.json.encode(figures), indent=1) + b"\n")

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    run_parts(options, figures, save)
    write_simulated(figures.simulated)
    write_real("Real processes by nodes", figures.real)
    write_real("By keys", figures.keys)
    write_real("By partitions", figures.partitions)
    draw(figures, options.svg)


def end(number: int, _frame: object) -> None:
    """Take the processes down, which is bounded, and let no second signal interrupt that."""
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    sys.exit(128 + number)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", type=parts, default=list(PARTS), help="some of the four, or none")
    parser.add_argument("--sizes", type=numbers, default=[3, 5, 8, 12, 16, 24, 32], help="of simulated clusters")
    parser.add_argument("--nodes", type=numbers, default=[3, 4, 6, 8], help="of real clusters")
    parser.add_argument("--keys", type=numbers, default=[1_000, 10_000, 100_000, 500_000], help="of the part keys")
    parser.add_argument("--partitions", type=numbers, default=[64, 1024, 4096, 16384], help="of the part partitions")
    parser.add_argument("--usual-keys", type=int, default=20_000, help="of real clusters in the other parts")
    parser.add_argument("--usual-partitions", type=int, default=1024, help="of all clusters in the other parts")
    parser.add_argument("--noise", type=float, default=0.9, help="percent of a simulated node's share")
    parser.add_argument("--budget", type=float, default=80, help="CPU seconds of the part simulated")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5, help="of gets, and of puts, in every real cluster")
    parser.add_argument("--value-bytes", type=int, default=1000, help="of real clusters")
    parser.add_argument("--in-flight", type=int, default=20, help="requests for each real node")
    parser.add_argument("--engine", default="rocksdb", choices=("rocksdb", "memory"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--svg", type=Path, default=Path("docs/images/scaling.svg"))
    return parser.parse_args()


def parts(text: str) -> list[str]:
    named = [] if text == "none" else text.split(",")
    if unknown := set(named) - set(PARTS):
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    return named


def numbers(text: str) -> list[int]:
    return [int(number) for number in text.replace("_", "").split(",")]


def run_parts(options: argparse.Namespace, figures: Figures, save: Save) -> None:
    load = Load(options.seconds, options.value_bytes, options.in_flight, options.engine)
    keys, partitions = options.usual_keys, options.usual_partitions
    clusters = {
        "real": [(nodes, keys, partitions) for nodes in options.nodes],
        "keys": [(3, count, partitions) for count in options.keys],
        "partitions": [(3, keys, count) for count in options.partitions],
    }
    for part in options.parts:
        if part == "simulated":
            figures.simulated = []
            for found in simulated(options):
                figures.simulated.append(found)
                save()
            continue
        measured: list[Real] = []
        setattr(figures, part, measured)
        for nodes, key_count, partition_count in clusters[part]:
            began_s = time.monotonic()
            measured.append(measure_real(nodes, key_count, partition_count, load))
            save()
            say(f"{part}: {nodes} nodes, {key_count:,} keys, {partition_count} partitions took "
                f"{time.monotonic() - began_s:.0f} s")  # fmt: skip


def simulated(options: argparse.Namespace) -> Iterator[Simulated]:
    """Each size has as much of the budget as it has of all nodes, from what the ones before it left."""
    sizes, left_s = options.sizes, options.budget
    for place, nodes in enumerate(sizes):
        began_s = time.process_time()
        share_s = left_s * nodes / sum(sizes[place:])
        yield measure_simulated(nodes, options.usual_partitions, options.noise, share_s, options.seed)
        used_s = time.process_time() - began_s
        left_s -= used_s
        say(f"simulated: {nodes} nodes took {used_s:.0f} s of CPU time")


def write_simulated(found: list[Simulated]) -> None:
    if not found:
        return
    say("\nSimulated: percent from the fair share, least … most, root mean square (of chance alone).")
    say("CPU time is that of all nodes and of the simulation itself.\n")
    say("| nodes | keys | partitions owned | coordinated | replica work | µs a put | µs a get |")
    say("|---|---|---|---|---|---|---|")
    for one in found:
        say(
            f"| {one.nodes} | {one.keys:,} | {percents(one.ring)} | {percents(one.coordinated)} "
            f"| {percents(one.replica_work)} | {one.put_us:.1f} | {one.get_us:.1f} |"
        )
    farthest = max(max(one.coordinated.farthest, one.replica_work.farthest) for one in found)
    required("farthest from the fair share", farthest)


def write_real(title: str, found: list[Real]) -> None:
    if not found:
        return
    say(f"\n{title}: CPU µs of all nodes for an operation, and of the load generator.")
    say("Chance would be at most so much: if the client chose among a key's replicas at random.\n")
    say("| nodes | keys | partitions | coordinated (chance) | put | get | load: put | load: get | puts/s | gets/s |")
    say("|---|---|---|---|---|---|---|---|---|---|")
    for one in found:
        say(
            f"| {one.nodes} | {one.keys:,} | {one.partitions:,} | {percents(one.spread)} "
            f"| {one.put_us:.1f} | {one.get_us:.1f} | {one.load_put_us:.1f} | {one.load_get_us:.1f} "
            f"| {one.put_ops_per_s:,} | {one.get_ops_per_s:,} |"
        )
    for one in found:
        if one.errors:
            say(f"errors with {one.nodes} nodes, {one.keys:,} keys, {one.partitions} partitions: {one.errors}")
    required("farthest from the fair share", max(one.spread.farthest for one in found))


def percents(found: Spread) -> str:
    by_chance = f", rms {found.rms:.2f} ({found.noise:.2f})" if found.noise else ""
    return f"{found.lowest:+.2f} … {found.highest:+.2f}{by_chance}"


def required(what: str, percent: float) -> None:
    say(f"{'ok  ' if percent <= ALLOWED_PERCENT else 'MISS'} {what}: {percent:.2f}% (required: ≤ {ALLOWED_PERCENT:g}%)")


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
