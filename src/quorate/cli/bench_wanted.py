"""What a person asked of `quorate bench`: the options, completed by what is usual, refused where they contradict."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click
import msgspec

from quorate.bench.job import PLAIN, Job
from quorate.bench.runner import Load
from quorate.cli.options import bucket_bytes
from quorate.core.buckets import Conflicts
from quorate.core.limits import VALUE_BYTES_MAX_DEFAULT

PLAIN_BUCKET: Final = "bench"
YCSB_BUCKET: Final = "ycsb"
VALUE_BYTES_DEFAULT: Final = 1000
FIELDS_DEFAULT: Final = 10
FIELD_BYTES_DEFAULT: Final = 100
OUTPUT_WINDOW_S: Final = 1.0
"""A file of results has windows, also if nobody asked for their lines."""
WINDOWS_MAX: Final = 10_000
"""Each takes some 4 KB of a process that reports them, and of the file."""
YCSB_ONLY: Final = ("phases", "fields", "field_bytes", "conflicts")


class Wanted(msgspec.Struct, frozen=True):
    """A run that makes sense."""

    job: Job
    workloads: tuple[str, ...]
    phases: tuple[str, ...]
    """Of YCSB: "load", "run" or both."""
    processes: int
    conflicts: Conflicts | None
    """What the bucket is to declare; None: what it does."""
    output: Path | None
    show_windows: bool
    as_json: bool
    options: dict[str, Any]
    """As they were given or left, for the file."""


def wanted_of(options: dict[str, Any]) -> Wanted:
    """Raises `click.UsageError` for options that contradict each other, `CallerError` for a wrong bucket."""
    workloads: tuple[str, ...] = options["workload"]
    ycsb = not set(workloads) & set(PLAIN)
    _refuse_contradictions(options, workloads, ycsb)
    name = options["bucket"] or (YCSB_BUCKET if ycsb else PLAIN_BUCKET)
    # The tool's own bucket is its own to declare; of any other it says only what it was told to say.
    conflicts: Conflicts | None = options["conflicts"] or ("lww" if ycsb and options["bucket"] is None else None)
    load = _load(options, ycsb)
    job = Job(
        options["node"],
        options["password"],
        options["timeout_ms"],
        bucket_bytes(name),
        load,
        "ycsb" if ycsb else "checked" if options["check"] else "plain",
    )
    return Wanted(
        job,
        workloads,
        options["phases"] or ("load", "run"),
        options["processes"],
        conflicts,
        options["output"],
        options["windows"] is not None,
        options["as_json"],
        _told(options, name, load),
    )


def _load(options: dict[str, Any], ycsb: bool) -> Load:
    pieces = not ycsb or options["value_bytes"] is not None
    return Load(
        options["concurrency"],
        options["seconds"],
        VALUE_BYTES_DEFAULT if options["value_bytes"] is None else options["value_bytes"],
        options["keys"],
        options["warm_up"],
        options["rate"] or 0.0,
        options["windows"] or (OUTPUT_WINDOW_S if options["output"] else 0.0),
        0 if pieces else options["fields"] or FIELDS_DEFAULT,
        FIELD_BYTES_DEFAULT if options["field_bytes"] is None else options["field_bytes"],
    )


def _refuse_contradictions(options: dict[str, Any], workloads: tuple[str, ...], ycsb: bool) -> None:
    given = {name for name in YCSB_ONLY if options[name] is not None}
    if not ycsb and set(workloads) - set(PLAIN):
        raise click.UsageError("workloads a to f have other keys than put, get and mixed: run them apart")
    if not ycsb and given:
        raise click.UsageError(f"{_option(min(given))} belongs to the workloads a to f")
    if ycsb and options["check"]:
        raise click.UsageError("--check belongs to put, get and mixed: of their keys each has one writer")
    if options["value_bytes"] is not None and given & {"fields", "field_bytes"}:
        raise click.UsageError("a value is either one piece (--value-bytes) or a record (--fields, --field-bytes)")
    if (options["fields"] or FIELDS_DEFAULT) * ((options["field_bytes"] or 0) + 16) > VALUE_BYTES_MAX_DEFAULT:
        raise click.UsageError(f"a record of so many fields is larger than a value may be, {VALUE_BYTES_MAX_DEFAULT}")
    for name in ("concurrency", "keys"):
        if options[name] < options["processes"]:
            raise click.UsageError(f"--processes share --{name}, so there can be no more than {options[name]} of them")
    if options["windows"] is not None and options["seconds"] / options["windows"] > WINDOWS_MAX:
        raise click.UsageError(f"--windows would be more than {WINDOWS_MAX}: make them longer")
    output: Path | None = options["output"]
    if output is not None and not output.parent.is_dir():
        raise click.UsageError(f"--output: there is no folder {output.parent}")


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _told(options: dict[str, Any], bucket: str, load: Load) -> dict[str, Any]:
    """The options for the file of results: as they were in force, and nothing that is secret."""
    left_out = ("node", "password", "as_json", "output")
    told = {name: value for name, value in options.items() if name not in left_out}
    layout = (
        {"fields": load.fields, "field_bytes": load.field_bytes} if load.fields else {"value_bytes": load.value_bytes}
    )
    told |= {"value_bytes": None, "fields": None, "field_bytes": None, **layout}
    return told | {
        "bucket": bucket,
        "windows": load.window_s or None,
        "concurrency": None if load.rate_per_s else load.concurrency,
    }
