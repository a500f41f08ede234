"""Pictures of runs: latency by percentile, and throughput over time.

The percentile axis is that of HDR histograms: each nine takes as much room as the one before, so the one operation in
ten thousand is as visible as the median. Matplotlib draws; it is an extra (`pip install quorate[plots]`), for whoever
only measures should not have to install it.

Rejected: charts drawn by hand as SVG, as one page of the documents has them. Log axes, ticks, legends that stay out of
the way and PNG are a library's work.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Final

from quorate.bench.results import Phase, Results
from quorate.core.errors import CallerError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SUFFIXES: Final = (".svg", ".png")
POINTS_PER_NINE: Final = 20
NINES_MAX: Final = 6
DPI: Final = 120


class PlotsNotInstalled(CallerError):
    """Matplotlib is missing."""


def plot_results(runs: dict[str, Results], path: Path) -> None:
    """Draw all phases of `runs` (title → run) into `path`, an SVG or PNG by its suffix.

    Raises `PlotsNotInstalled`, or `CallerError` for another suffix, if there is nothing to draw or no way to write it.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise CallerError(f"cannot draw {path.name}: name a file that ends in {' or '.join(SUFFIXES)}")
    series = [
        (f"{title}: {phase.report.phase}" if len(runs) > 1 else phase.report.phase, phase)
        for title, results in runs.items()
        for phase in results.phases
    ]
    if not any(phase.latencies().count for _, phase in series):
        raise CallerError("there is nothing to draw: no operation succeeded in any phase")
    _draw(series, path)


def percentile_points(phase: Phase) -> tuple[list[float], list[float]]:
    """(nines, latencies in ms): 1 nine is the percentile 90, 2 are 99; as far as there are operations to tell it."""
    latencies = phase.latencies()
    if not latencies.count:
        return [], []
    last = min(math.log10(latencies.count), NINES_MAX) if latencies.count > 1 else 0.0
    nines = [step / POINTS_PER_NINE for step in range(int(last * POINTS_PER_NINE) + 1)]
    return nines, [latencies.percentile_ms(100 * (1 - 10**-nine)) for nine in nines]


def _draw(series: list[tuple[str, Phase]], path: Path) -> None:
    try:
        import matplotlib as mpl  # noqa: PLC0415 - an extra, and a second of start-up
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError:
        raise PlotsNotInstalled(
            "plots need matplotlib, which is not installed; install it with: pip install 'quorate[plots]'"
        ) from None
    svg = path.suffix.lower() == ".svg"
    # Equal runs give equal files: no date, no random names.
    with mpl.rc_context({"svg.hashsalt": "quorate", "svg.fonttype": "none"}):
        timed = [(title, phase) for title, phase in series if phase.windows]
        figure = Figure(figsize=(8, 8 if timed else 4.2), layout="constrained")
        panels = figure.subplots(2 if timed else 1, 1, squeeze=False)
        _draw_latencies(panels[0][0], series)
        if timed:
            _draw_throughput(panels[1][0], timed)
        try:
            figure.savefig(path, dpi=DPI, metadata={"Date": None} if svg else None)
        except OSError as error:
            raise CallerError(f"cannot write {path}: {error.strerror}; name another file with --output") from None


def _draw_latencies(axes: Axes, series: list[tuple[str, Phase]]) -> None:
    most = 1.0
    for title, phase in series:
        nines, latencies_ms = percentile_points(phase)
        if nines:
            axes.plot(nines, latencies_ms, label=title, linewidth=1.5)
            most = max(most, nines[-1])
    ticks = list(range(math.ceil(most) + 1))
    axes.set_xticks(ticks, [_percentile_text(tick) for tick in ticks])
    axes.set(title="Latency by percentile", xlabel="percentile", ylabel="ms", yscale="log")
    axes.yaxis.set_major_formatter("{x:g}")
    _finish(axes)


def _draw_throughput(axes: Axes, series: list[tuple[str, Phase]]) -> None:
    for title, phase in series:
        # A window that the phase ended in would look like a collapse.
        whole = int(phase.recorded.seconds / phase.recorded.window_s + 0.01)
        windows = phase.windows[: max(1, whole)]
        axes.plot(
            [window.at_s for window in windows],
            [window.ops_per_s for window in windows],
            label=title,
            linewidth=1.5,
            marker="." if len(windows) < 3 else "",
        )
    axes.set(title="Throughput", xlabel="seconds since the phase began", ylabel="operations per second")
    axes.set_ylim(bottom=0)
    _finish(axes)


def _finish(axes: Axes) -> None:
    axes.grid(visible=True, color="#d8dee4", linewidth=0.6)
    axes.legend(fontsize="small", frameon=False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _percentile_text(nines: int) -> str:
    """0 → "0", 1 → "90", 2 → "99", 3 → "99.9"."""
    if nines == 0:
        return "0"
    return f"{100 * (1 - 10**-nines):.{max(0, nines - 2)}f}"
