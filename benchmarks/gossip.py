"""What gossip costs and how fast it is, against the number of nodes: the figures and the plot in docs/membership.md.

    PYTHONPATH=. python benchmarks/gossip.py [--changes 20] [--svg docs/images/gossip.svg]

No sockets and no clocks: the production code for gossip, rounds in a seeded order, every message encoded and counted.
In a round each node talks with one other. The same arguments give the same figures everywhere.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace
from tests.unit.gossip_cluster import RING, GossipCluster

SIZES = (4, 8, 16, 32, 64, 128, 256)
LOSS = 0.2


class Figures(NamedTuple):
    """Means over all changes; rounds until the last node knows, bytes for each node."""

    nodes: int
    state_rounds: float
    ring_rounds: float
    ring_rounds_most: int
    quiet_bytes: float
    """Of a round in which nothing is new."""
    change_bytes: float
    """That one change costs in all, beyond what the quiet rounds would have."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--changes", type=int, default=20)
    parser.add_argument("--svg", type=Path, default=Path("docs/images/gossip.svg"))
    options = parser.parse_args()
    healthy = [measure(size, 0.0, options.changes) for size in SIZES]
    lossy = [measure(size, LOSS, options.changes) for size in SIZES]
    write_table(healthy, lossy)
    options.svg.parent.mkdir(parents=True, exist_ok=True)
    options.svg.write_text(plot(healthy, lossy))


def measure(size: int, loss: float, changes: int) -> Figures:
    cluster = GossipCluster(size, seed=size)
    cluster.rounds_until_agreed()
    cluster.bytes = 0
    cluster.round()
    quiet_bytes = cluster.bytes / size
    cluster.loss = loss
    state_rounds, ring_rounds, change_bytes = [], [], []
    for change in range(changes):
        number, rank = 1 + cluster.rng.below(size), (0, 2 + change)
        gossip = cluster.nodes[number]
        cluster.bytes = 0
        gossip.announce(replace(gossip.own.facts, confirmed=rank))
        own = gossip.own
        state_rounds.append(cluster.rounds_until(lambda other: other.state(number) == own))  # noqa: B023
        change_bytes.append(cluster.bytes / size - state_rounds[-1] * quiet_bytes)
        cluster.rings[rank] = cluster.rings[RING]
        gossip.set_ring(rank, cluster.rings[rank])
        ring_rounds.append(cluster.rounds_until(lambda other: other.ring == rank))  # noqa: B023
    return Figures(
        size, mean(state_rounds), mean(ring_rounds), max(ring_rounds), quiet_bytes, max(0.0, mean(change_bytes))
    )


def mean(values: list[int] | list[float]) -> float:
    return sum(values) / len(values)


def write_table(healthy: list[Figures], lossy: list[Figures]) -> None:
    say("| nodes | rounds: a state | a ring (most) | with 20% loss: a state | a ring (most) | quiet round | a change |")
    say("|---|---|---|---|---|---|---|")
    for well, ill in zip(healthy, lossy, strict=True):
        say(
            f"| {well.nodes} | {well.state_rounds:.1f} | {well.ring_rounds:.1f} ({well.ring_rounds_most}) "
            f"| {ill.state_rounds:.1f} | {ill.ring_rounds:.1f} ({ill.ring_rounds_most}) "
            f"| {well.quiet_bytes:.0f} B | {well.change_bytes:.0f} B |"
        )


def say(line: str) -> None:
    sys.stdout.write(line + "\n")


# --- the plot: two panels over log2(nodes), drawn by hand so that it needs nothing installed ---

WIDTH, HEIGHT, LEFT, TOP, PANEL_WIDTH, PANEL_HEIGHT = 860, 340, 60, 50, 340, 230
INKS = ("#1f6feb", "#d1242f", "#57606a")
Series = tuple[str, list[float]]


def plot(healthy: list[Figures], lossy: list[Figures]) -> str:
    rounds: list[Series] = [
        ("a newer ring", [figures.ring_rounds for figures in healthy]),
        ("a newer ring, 20% of messages lost", [figures.ring_rounds for figures in lossy]),
        ("log₂ n", [math.log2(size) for size in SIZES]),
    ]
    sizes: list[Series] = [
        ("a quiet round", [figures.quiet_bytes for figures in healthy]),
        ("one change, in all its rounds", [figures.change_bytes for figures in healthy]),
    ]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
            'font-family="system-ui, sans-serif" font-size="12" fill="#24292f">',
            "<title>Gossip against the number of nodes</title>",
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
            *panel(LEFT, "Rounds until all nodes know", rounds),
            *panel(LEFT + PANEL_WIDTH + 80, "Bytes sent by each node", sizes),
            "</svg>\n",
        ]
    )


def panel(left: float, title: str, series: list[Series]) -> list[str]:
    step = nice_step(max(value for _, values in series for value in values) / 4)
    top_value = step * math.ceil(max(value for _, values in series for value in values) / step)
    bottom = TOP + PANEL_HEIGHT

    def across(place: int) -> float:
        return left + PANEL_WIDTH * place / (len(SIZES) - 1)

    def up(value: float) -> float:
        return bottom - PANEL_HEIGHT * value / top_value

    parts = [f'<text x="{left}" y="22" font-size="14" font-weight="600">{title}</text>']
    for line in range(round(top_value / step) + 1):
        y = up(line * step)
        parts.append(f'<path d="M{left} {y:.1f}h{PANEL_WIDTH}" stroke="#d8dee4"/>')
        parts.append(f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{line * step:g}</text>')
    for place, size in enumerate(SIZES):
        parts.append(f'<text x="{across(place):.1f}" y="{bottom + 18}" text-anchor="middle">{size}</text>')
    parts.append(f'<text x="{left + PANEL_WIDTH / 2}" y="{bottom + 38}" text-anchor="middle">nodes</text>')
    for rank, (name, values) in enumerate(series):
        ink, dash = INKS[rank], ' stroke-dasharray="4 4"' if name.startswith("log") else ""
        points = " ".join(f"{across(place):.1f},{up(value):.1f}" for place, value in enumerate(values))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{ink}" stroke-width="2"{dash}/>')
        parts.append(f'<text x="{left + 10}" y="{TOP + 14 + 17 * rank}" fill="{ink}">{name}</text>')
    return parts


def nice_step(rough: float) -> float:
    """The smallest of 1, 2, 5, 10, 20, … that is not below `rough`."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)


if __name__ == "__main__":
    main()
