"""What the metrics are made of: everything that one scrape reads of a node, gathered once for all series."""

from __future__ import annotations

from typing import Any

import msgspec

from quorate.core.measures import LatencyHistogram, Measures


class Facts(msgspec.Struct, frozen=True):
    """A node at one moment."""

    report: dict[str, Any]
    """What it says about itself (as in `status`)."""
    measures: Measures
    loop_lag: LatencyHistogram
    connections: dict[str, int]
    """Clients, by interface."""
    partitions_owned: int
    members: int
    build: dict[str, str]
    """`version`, `engine`, `node`, `cluster_id`."""
