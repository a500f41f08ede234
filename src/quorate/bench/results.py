"""The file of a run: everything that was asked, where it ran, and all that was recorded.

It is JSON, so that any tool can read its figures, and holds the histograms in the encoding that all HDR libraries read,
so that any percentile can be had later. It names no host and no user: it is meant to be passed on.
"""

from __future__ import annotations

import os
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import msgspec

from quorate.bench.histogram import Latencies, decoded
from quorate.bench.report import PhaseResult, Report, Window, report_of, windows_of
from quorate.core.errors import CallerError

FORMAT: Final = 1
FILE_BYTES_MAX: Final = 512 * 1024 * 1024


class Host(msgspec.Struct):
    """The machine that the load ran on."""

    cpus: int
    """That this process may use."""
    cpu: str
    memory_bytes: int
    system: str
    python: str
    load_average: float
    """Of the minute before the run: how busy the machine was with other things."""


class Phase(msgspec.Struct):
    """One phase: in figures, and everything that these were made of."""

    report: Report
    windows: list[Window]
    recorded: PhaseResult

    def latencies(self) -> Latencies:
        """Of all its operations."""
        return decoded(tally.histogram for tally in self.recorded.kinds.values())


class NotApplicable(msgspec.Struct, omit_defaults=False):
    """A workload that was asked for and cannot be run."""

    phase: str
    reason: str
    applicable: bool = False


class Results(msgspec.Struct):
    """A run."""

    format: int
    quorate: str
    """The version of the load generator."""
    began_unix_ms: int
    host: Host
    options: dict[str, Any]
    bucket: dict[str, Any]
    """Its properties."""
    phases: list[Phase] = []
    not_applicable: list[NotApplicable] = []


def begin_results(options: dict[str, Any], bucket: dict[str, Any]) -> Results:
    return Results(FORMAT, version("quorate"), int(time.time() * 1000), this_host(), options, bucket)


def phase_of(recorded: PhaseResult) -> Phase:
    return Phase(report_of(recorded), windows_of(recorded) if recorded.window_s else [], recorded)


def this_host() -> Host:
    return Host(
        len(os.sched_getaffinity(0)),
        _cpu(),
        os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        f"{platform.system()} {platform.release()}",
        platform.python_version(),
        round(os.getloadavg()[0], 2),
    )


def write_results(path: Path, results: Results) -> None:
    """Raises `CallerError` if the file cannot be written."""
    try:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n")
    except OSError as error:
        raise CallerError(f"cannot write {path}: {error.strerror}; name another file with --output") from None


def read_results(path: Path) -> Results:
    """Raises `CallerError` if it is no file of results that this version reads."""
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise CallerError(f"{path} is larger than {FILE_BYTES_MAX} bytes; it is no result of quorate bench")
        results = msgspec.json.decode(path.read_bytes(), type=Results)
        for phase in results.phases:
            phase.latencies()
    except OSError as error:
        raise CallerError(f"cannot read {path}: {error.strerror}") from None
    except (msgspec.DecodeError, ValueError) as error:
        raise CallerError(f"{path} is no result of quorate bench --output: {error}") from None
    if results.format != FORMAT:
        raise CallerError(f"{path} has format {results.format}; this version reads format {FORMAT}")
    return results


def _cpu() -> str:
    """Its name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
