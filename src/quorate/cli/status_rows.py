"""Rows of `quorate status`: a node by itself, or all workers of a host as one.

What workers own, do and keep is summed, since that is the host's. Of what is good or bad, the worst of them counts:
whoever looks at one line must not miss the worker that is behind. Quantiles cannot be added up, so theirs are the worst
as well, which is at least as much as those of all requests together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from quorate.cli.hosts import addresses_text
from quorate.cli.tables import coloured_state, duration_text
from quorate.core.ring.workers import by_host

Document = dict[str, Any]


def hosts_of(members: list[Document], each: bool) -> list[tuple[str, list[Document]]]:
    """(name, its workers) of every host that has several, and of every other node; `each`: of every node."""
    if each:
        return [(member["name"], [member]) for member in members]
    return by_host(members, lambda member: (member["name"], member["host"]))


def status_row(name: str, members: list[Document], opinions: Mapping[str, Document], partitions: int) -> list[str]:
    """What `members` say about themselves, and what the asked node thinks of them (no opinion: of itself)."""
    reports = [member["report"] for member in members]
    rates = _told(reports, "background_rate_per_s")
    hints = [sum(home["hints"] for home in kept["homes"].values()) for kept in _told(reports, "hints")]
    free = _told(reports, "disk_free_fraction")
    uptimes = _told(reports, "uptime_s")
    return [
        name,
        _state(reports),
        _seen_as([opinions.get(member["name"]) for member in members]),
        addresses_text([member["client_address"] for member in members]),
        f"{sum(member['tokens'] for member in members) / partitions:.1%}",
        duration_text(min(uptimes)) if uptimes else "–",
        _in_flight(reports),
        f"{sum(rates)}/s" if rates else "–",
        str(sum(hints)) if hints else "–",
        _compared(_told(reports, "anti_entropy")),
        f"{min(free):.0%}" if free else "–",
    ]


def requests_row(name: str, reports: list[Document]) -> list[str]:
    """How the requests ended that these nodes coordinated, and how long they took lately."""
    row = [name]
    for kind in ("get", "put"):
        results = [report["requests"][kind] for report in reports]
        done = sum(found.get(result, 0) for found in results for result in ("ok", "siblings", "not_found"))
        asked = sum(sum(found.values()) for found in results)
        worst = [_worst(report["latency_ms"][kind][quantile] for report in reports) for quantile in _QUANTILES]
        found = " / ".join(f"{quantile:.3g}" for quantile in worst if quantile is not None)
        row += [str(done), str(asked - done), found or "–"]
    return row


_QUANTILES = ("p50", "p99", "p999")


def _told(reports: list[Document], field: str) -> list[Any]:
    """What those say about `field` that say anything."""
    return [report[field] for report in reports if report.get(field) is not None]


def _worst(figures: Iterable[float | None]) -> float | None:
    return max((figure for figure in figures if figure is not None), default=None)


def _state(reports: list[Document]) -> str:
    if len(reports) == 1:
        return coloured_state(reports[0]["state"])
    other = [report["state"] for report in reports if report["state"] != "up"]
    up = len(reports) - len(other)
    if not other:
        return coloured_state("up") + f" ({up} of {up})"
    return coloured_state(other[0]) + f" ({up} of {len(reports)} up)"


def _seen_as(opinions: list[Document | None]) -> str:
    """The worst that the asked node thinks of them, and how fast the slowest answers; of itself it thinks nothing."""
    others = [opinion for opinion in opinions if opinion is not None]
    itself = ["itself"] if len(others) < len(opinions) else []
    if not others:
        return "itself"
    state = next((opinion["state"] for opinion in others if opinion["state"] != "up"), "up")
    latency_ms = max(opinion["latency_ms"] for opinion in others)
    return ", ".join([*itself, coloured_state(state), *([f"{latency_ms:.1f} ms"] if latency_ms else [])])


def _in_flight(reports: list[Document]) -> str:
    running, limits = _told(reports, "in_flight_requests"), _told(reports, "requests_in_flight_max")
    if not running:
        return "–"
    return f"{sum(running)} of {sum(limits)}" if len(limits) == len(running) else str(sum(running))


def _compared(found: list[Document]) -> str:
    """How far these nodes' comparisons with others reach back."""
    if not found:
        return "–"
    oldest = [one["all_compared_within_s"] for one in found]
    if None in oldest:
        return f"{sum(one['compared'] for one in found)} of {sum(one['partitions'] for one in found)}"
    return f"all within {duration_text(max(oldest))}"
