"""What the trials come to, as a document: for every R and W, how fresh reads are and how long requests wait.

`fresh` is of a read that any of the replicas coordinates, each as likely as the other: one in N is the coordinator of
the write, whose own copy shows it for certain. `fresh_elsewhere` leaves that one out: a read by another replica than
the one that took the write, which is the worst that clients can do.

A share that was measured says no more than the measurements can: of k of them without an exception, less than 3/k may
still be otherwise (at 95%). That is the document's `resolution`; shares above 1 - resolution are to be read as "more
than". Where R + W > N reads are `certain` to be fresh, by the overlap of quorums and not by measurement.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from quorate.core.limits import STALENESS_PEER_SAMPLES_MIN
from quorate.core.measures import QUANTILES
from quorate.core.staleness.legs import LOWER_MS, Draw, Leg, Measured, joined
from quorate.core.staleness.trials import TIMES_MS, Cell, Link, Trials

FRESH_SHARES = {"p99": 0.99, "p999": 0.999, "p9999": 0.9999}
RULE_OF_THREE = 3.0
_NO_WAIT = dict.fromkeys(QUANTILES, 0.0)
"""A get with r=1 waits for no other replica."""


def links_of(measured: Measured, peers: Sequence[int]) -> dict[int, Link]:
    """The links to `peers`. Those of which little was measured are taken to be like all others together; without
    reads, or without enough of them, nothing is said of reads. There must be writes."""
    writes = _draws(measured.writes, peers)
    reads = (
        _draws(measured.reads, peers)
        if sum(leg.count for leg in measured.reads.values()) >= STALENESS_PEER_SAMPLES_MIN
        else {}
    )
    return {peer: Link(*writes[peer], *reads.get(peer, ())) for peer in peers}


def _draws(legs: dict[int, Leg], peers: Sequence[int]) -> dict[int, tuple[Draw, Draw]]:
    own = {peer: legs[peer] for peer in peers if peer in legs and legs[peer].count >= STALENESS_PEER_SAMPLES_MIN}
    found = {peer: leg.draws() for peer, leg in own.items()}
    if len(found) < len(peers):
        together = joined(legs.values()).draws()
        found |= {peer: together for peer in peers if peer not in found}
    return found


def configurations(trials: Trials, r: int, w: int) -> list[dict[str, Any]]:
    """Every R and W of these replicas, the present one marked; `r` and `w` are the bucket's."""
    n = trials.replicas
    read_waits = [_NO_WAIT, *(_quantiles(waits) for waits in trials.read_waits[1:])]
    write_waits = [_quantiles(waits) for waits in trials.write_waits]
    return [
        {
            "r": other_r,
            "w": other_w,
            "current": (other_r, other_w) == (r, w),
            **_freshness(trials.cells.get((other_r, other_w)), n, trials.done),
            "read_wait_ms": read_waits[other_r - 1],
            "write_wait_ms": write_waits[other_w - 1],
        }
        for other_r in range(1, n + 1)
        for other_w in range(1, n + 1)
    ]


def resolution(trials: Trials, measurements: int) -> float:
    """The share below which nothing can be told apart from nothing."""
    return round(RULE_OF_THREE / max(1, min(trials.done, measurements)), 6)


def _freshness(cell: Cell | None, n: int, trials: int) -> dict[str, Any]:
    """`cell`: None where quorums overlap."""
    if cell is None:
        sure = [1.0] * len(TIMES_MS)
        return {
            "certain": True,
            "fresh": sure,
            "fresh_elsewhere": sure,
            "fresh_within_ms": dict.fromkeys(FRESH_SHARES, 0.0),
        }
    elsewhere = [seen / trials for seen in list(accumulate(cell.by_time))[: len(TIMES_MS)]]
    # One read in n comes to the coordinator of the write, and sees it.
    within = {name: _time_of(cell.lags, 1.0 - (1.0 - share) * n / (n - 1)) for name, share in FRESH_SHARES.items()}
    return {
        "certain": False,
        "fresh": [round((1.0 + (n - 1) * share) / n, 6) for share in elsewhere],
        "fresh_elsewhere": [round(share, 6) for share in elsewhere],
        "fresh_within_ms": within,
    }


def _time_of(lags: Sequence[int], share: float) -> float:
    """The time within which this share of the lags is over, rounded up to the end of its bucket."""
    left = share * sum(lags)
    for index, count in enumerate(lags):
        left -= count
        if left <= 1e-9:
            return LOWER_MS[index]
    return LOWER_MS[-1]


def _quantiles(counts: Sequence[int]) -> dict[str, float] | None:
    """As `measures.QUANTILES`, up to the width of a bucket; None if nothing was measured."""
    total = sum(counts)
    if not total:
        return None
    return {name: _time_of([0, *counts], share) for name, share in QUANTILES.items()}
