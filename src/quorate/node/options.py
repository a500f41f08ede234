"""What an operator may set of a node's behaviour. Every value has a unit in its name and a sensible default."""

from __future__ import annotations

import msgspec

from quorate.core import limits


class NodeOptions(msgspec.Struct, frozen=True):
    value_bytes_max: int = limits.VALUE_BYTES_MAX_DEFAULT
    clock_skew_max_ms: int = limits.CLOCK_SKEW_MAX_MS
    request_timeout_ms: int = limits.REQUEST_TIMEOUT_DEFAULT_MS
    in_flight_requests_max: int = limits.IN_FLIGHT_REQUESTS_MAX
    in_flight_bytes_max: int = limits.IN_FLIGHT_BYTES_MAX
    record_cache_bytes: int = 64 * limits.MIB
    disk_free_fraction_min: float = 0.02
    """Below this share of free disk the node stops accepting writes, and says so."""
    retry_ms: float = 100.0
    """A replica that has not answered by then is taken for slow, and another node is asked, within the budget."""
    hints_bytes_max: int = limits.HINTS_BYTES_MAX
    grace_ms: int = limits.GRACE_DEFAULT_MS
    """The horizon for everything that could bring back what was deleted; hints live for half of it."""
    anti_entropy_interval_ms: int = limits.ANTI_ENTROPY_INTERVAL_MS
    """How often this node compares with a peer when nothing differs; 0: only when it is told to (`quorate repair`)."""
    sweep_interval_ms: int = 0
    """How often all that is stored is looked at for damage and for what may be collected; 0: eight times in `grace`."""
    collect_quiet_ms: int = limits.COLLECT_QUIET_MS
    """How long after its proof a collection waits: longer than a message may be under way (see `core.collection`)."""
