"""The picture of `scaling.py`: shares and cost by nodes, cost by keys and by partitions.

Equal figures give equal files: no date, no random names.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scaling_figures import ALLOWED_PERCENT, Figures, Real, Simulated, noise_farthest

PUT, GET, GREY = "#1f6feb", "#d1242f", "#8c959f"


def draw(figures: Figures, path: Path) -> None:
    panels = []
    if figures.simulated or figures.real:
        panels += [draw_shares, draw_cost_by_nodes]
    if figures.keys:
        panels.append(draw_cost_by_keys)
    if figures.partitions:
        panels.append(draw_cost_by_partitions)
    if not panels:
        return
    with mpl.rc_context({"svg.hashsalt": "quorate", "svg.fonttype": "none"}):
        rows = (len(panels) + 1) // 2
        figure = Figure(figsize=(9.5, 3.6 * rows), layout="constrained")
        places = figure.subplots(rows, 2, squeeze=False).flatten()
        for panel, axes in zip(panels, places, strict=False):
            panel(axes, figures)
            finish(axes)
        for axes in places[len(panels) :]:
            axes.set_axis_off()
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None})


def draw_shares(axes: Axes, figures: Figures) -> None:
    simulated, real = figures.simulated, figures.real
    if simulated:
        sizes = [one.nodes for one in simulated]
        axes.plot(sizes, [one.coordinated.farthest for one in simulated], color=PUT, marker="o", label="coordinated")
        axes.plot(sizes, [one.replica_work.farthest for one in simulated], color=GET, marker="s", label="replica work")
        axes.plot(sizes, [one.ring.farthest for one in simulated], color=GREY, label="partitions owned")
        by_chance = [noise_farthest(one.nodes, one.coordinated.noise) for one in simulated]
        axes.plot(sizes, by_chance, color=GREY, linestyle=":", label="chance alone")
    if real:
        farthest = [one.spread.farthest for one in real]
        axes.plot([one.nodes for one in real], farthest, "k^", label="coordinated, real processes")
    axes.axhline(ALLOWED_PERCENT, color=GREY, linestyle="--", linewidth=1)
    axes.annotate("required: at most", (0.99, ALLOWED_PERCENT), xycoords=("axes fraction", "data"), ha="right",
                  va="bottom", fontsize="small", color=GREY)  # fmt: skip
    axes.set(title="Farthest node from its fair share", xlabel="nodes", ylabel="percent")
    axes.set_xticks(sorted({one.nodes for one in [*simulated, *real]}))


def draw_cost_by_nodes(axes: Axes, figures: Figures) -> None:
    draw_costs(axes, [one.nodes for one in figures.real], figures.real, "real processes")
    draw_costs(axes, [one.nodes for one in figures.simulated], figures.simulated, "simulated", "--")
    axes.set(title="CPU time of all nodes for a request", xlabel="nodes", ylabel="µs")
    axes.set_xticks(sorted({one.nodes for one in [*figures.simulated, *figures.real]}))


def draw_cost_by_keys(axes: Axes, figures: Figures) -> None:
    keys = [one.keys for one in figures.keys]
    draw_costs(axes, keys, figures.keys, "")
    axes.set(title="The same by keys, 3 nodes", xlabel="keys", ylabel="µs", xscale="log")
    axes.set_xticks(keys, [f"{count:,}" for count in keys])
    axes.minorticks_off()


def draw_cost_by_partitions(axes: Axes, figures: Figures) -> None:
    partitions = [one.partitions for one in figures.partitions]
    draw_costs(axes, partitions, figures.partitions, "")
    axes.set(title="The same by partitions, 3 nodes", xlabel="partitions", ylabel="µs", xscale="log")
    axes.set_xticks(partitions, [f"{count:,}" for count in partitions])
    axes.minorticks_off()


def draw_costs(axes: Axes, across: list[int], found: Sequence[Real | Simulated], where: str, style: str = "-") -> None:
    if found:
        ending = f", {where}" if where else ""
        axes.plot(across, [one.put_us for one in found], style, color=PUT, marker="o", label=f"put{ending}")
        axes.plot(across, [one.get_us for one in found], style, color=GET, marker="s", label=f"get{ending}")


def finish(axes: Axes) -> None:
    axes.set_ylim(0, axes.get_ylim()[1] * 1.15)
    axes.grid(visible=True, color="#d8dee4", linewidth=0.6)
    axes.legend(fontsize="small", frameon=False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
