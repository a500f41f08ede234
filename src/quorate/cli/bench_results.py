"""bench compare, bench plot: what to do with files that `quorate bench --output` wrote."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from quorate.bench.comparison import FIGURES, Compared, Comparison, Figure, compare
from quorate.bench.plots import plot_results
from quorate.bench.results import Results, read_results
from quorate.cli.options import json_option
from quorate.cli.tables import show_table, table_of

RESULT = click.Path(exists=True, dir_okay=False, path_type=Path)
RUNS_MAX = 16


@click.command(
    "compare",
    epilog="\b\nExamples:\n  quorate bench compare before.json after.json\n"
    "  quorate bench compare before.json after.json --json",
)
@click.argument("first", metavar="A.json", type=RESULT)
@click.argument("second", metavar="B.json", type=RESULT)
@json_option
def compare_command(first: Path, second: Path, as_json: bool) -> int:
    """Print each figure of two runs, and the ratio of the second to the first.

    --json prints a line per phase and kind of operation: phase, operation (all, or its kind), and ops_per_s, p50_ms,
    p99_ms, p999_ms and success, each with first, second and ratio; and before them a line with what the runs differ in:
    different (name to both values), only_first, only_second (phases).
    """
    comparison = compare(read_results(first), read_results(second))
    if as_json:
        found = {"different": comparison.different, "only_first": comparison.only_first}
        click.echo(msgspec.json.encode(found | {"only_second": comparison.only_second}))
        for row in comparison.rows:
            click.echo(msgspec.json.encode(row))
    else:
        _show(comparison, first.name, second.name)
    return 0


@click.command(
    "plot",
    epilog="\b\nExamples:\n  quorate bench plot today.json --output today.svg\n"
    "  quorate bench plot before.json after.json --output both.png",
)
@click.argument("results", metavar="RESULT.json…", type=RESULT, nargs=-1, required=True)
@click.option("--output", required=True, type=click.Path(dir_okay=False, path_type=Path), help="FILE.svg or FILE.png.")
@json_option
def plot_command(results: tuple[Path, ...], output: Path, as_json: bool) -> int:
    """Draw latency by percentile, and throughput over time, of all phases of some runs.

    Needs matplotlib: pip install 'quorate[plots]'.
    """
    if len(results) > RUNS_MAX:
        raise click.UsageError(f"a picture shows at most {RUNS_MAX} runs")
    runs: dict[str, Results] = {}
    for path in results:
        title = path.stem if path.stem not in runs else str(path)
        runs[title] = read_results(path)
    plot_results(runs, output)
    click.echo(msgspec.json.encode({"output": str(output)}) if as_json else f"drawn: {output}")
    return 0


def _show(comparison: Comparison, first: str, second: str) -> None:
    for name, (ours, theirs) in comparison.different.items():
        click.secho(f"not the same: {name} {_text(ours)} and {_text(theirs)}", fg="yellow")
    for names, path in ((comparison.only_first, first), (comparison.only_second, second)):
        if names:
            click.echo(f"only in {path}: {', '.join(names)}")
    if not comparison.rows:
        click.echo("the two runs have no phase in common")
        return
    table = table_of("phase", "operation", "figure", first, second, "ratio")
    for row in comparison.rows:
        for figure in FIGURES if row.success == _PERFECT else (*FIGURES, "success"):
            pair: Figure = getattr(row, figure)
            ratio = "–" if pair.ratio is None else f"{pair.ratio:.3f}"
            table.add_row(*_names(row, figure), f"{pair.first:,}", f"{pair.second:,}", ratio)
        table.add_section()
    show_table(table)


_PERFECT = Figure(1.0, 1.0, 1.0)


def _names(row: Compared, figure: str) -> tuple[str, str, str]:
    """Only beside the first figure of a row, for the eye."""
    if figure != FIGURES[0]:
        return "", "", figure
    return row.phase, row.operation.replace("_", "-"), figure


def _text(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
