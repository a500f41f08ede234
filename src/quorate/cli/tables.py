"""Tables for people: the one place that knows rich, which is imported only when a table is really printed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

_STATE_STYLES = {"up": "green", "fenced": "red", "silent": "yellow", "unreachable": "red", "down": "red"}


def table_of(*columns: str) -> Table:
    """An empty table with these columns."""
    from rich import box  # noqa: PLC0415 - costs more than all the rest of a command, so only tables pay for it
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def show_table(table: Table) -> None:
    """Print it on stdout."""
    from rich.console import Console  # noqa: PLC0415

    console = Console()
    # Piped output is for tools, which must not lose columns to an imagined terminal of 80 characters.
    if not console.is_terminal:
        console = Console(width=200)
    console.print(table)


def coloured_state(state: str) -> str:
    """A node's state, in the colour of how bad it is."""
    return f"[{_STATE_STYLES.get(state, 'yellow')}]{state}[/]"


def shown(value: object) -> str:
    """A field of a document; a dash if there is nothing in it."""
    return "–" if value is None or value == "" else str(value)


def size_text(size_bytes: int) -> str:
    """1536 → "1.5 KiB"."""
    size = float(size_bytes)
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def duration_text(seconds: float) -> str:
    """90 → "1.5 min"."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
