"""Which states runs have reached: a proof that passed without the cluster ever being in trouble proves nothing.

Nodes and the simulator count what happens to them (`Outcome.reached`, `.faults`). A *state* is something that a store
of this kind must survive, named as a person would, with the counters that tell of it. A long batch that never reached
one of them is told so in red: then the workload, the faults or the counter are wrong, and so is the trust in the
result. A single run that did next to nothing is *idle*, which is told with its seed and the reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from quorate.sim.faults import KINDS
from quorate.sim.options import Outcome, SimOptions

LONG_BATCH_RUNS = 100
"""In so many runs with every kind of fault each expected state occurs."""
RARE_BATCH_RUNS = 500
"""In so many also those of `RARE`."""
OPERATIONS_MIN = 50
"""A run that acknowledged less was no load."""

EXPECTED: dict[str, tuple[str, ...]] = {
    "a hint is kept": ("hints_kept",),
    "a hint goes home": ("hints_delivered",),
    "a hint expires": ("hints_expired",),
    "a hint is too old to be taken": ("hints_refused_as_too_old",),
    "a fallback stands in for a replica": ("writes_stood_in",),
    "a read is hedged": ("reads_hedged",),
    "a read goes around a silent replica": ("reads_around_silence",),
    "a read repairs a replica": ("read_repairs",),
    "a forward is taken over or repeated": ("forwards_taken_over", "forwards_repeated"),
    "expired work is dropped": ("expired_requests_dropped",),
    "a request waits for its node": ("requests_parked",),
    "a request begins again": ("requests_begun_again",),
    "a request of an older ring is answered": ("requests_of_an_older_ring",),
    "a peer falls silent": ("peers_silent",),
    "a node notices that it stood still": ("own_stalls",),
    "trees differ": ("partitions_differing",),
    "anti-entropy repairs a record": ("records_received_in_repair",),
    "an exchange is given up": ("exchanges_given_up",),
    "a record is collected": ("records_collected",),
    "a collection lacks its proof": ("collections_without_proof", "collections_missed"),
    "a damaged record is found": ("records_damaged",),
    "a clock too far ahead is refused": ("clock_skew_refused",),
    "an actor is disowned": ("actors_disowned",),
    "a former life is found": ("former_lives_found",),
    "a failing disk fences its node": ("fenced by their disks",),
    "a hint is lost, and counted": ("hints_lost",),
    "power takes unsynced writes": ("power lost",),
    "a wipe takes a store": ("wipe",),
    "days pass": ("days passed",),
    "a plan begins": (
        "membership: join begun",
        "membership: leave begun",
        "membership: replace begun",
        "membership: weight begun",
    ),
    "a join comes to its end": ("membership: join finished",),
    "a leave comes to its end": ("membership: leave finished",),
    "a replacement comes to its end": ("membership: replace finished",),
    "a stopped member is given up": ("membership: stopped finished",),
    "a weight changes": ("membership: weight finished",),
    "a plan is aborted": ("membership: abort decided",),
    "a record is handed to its keeper": ("strays_handed_over",),
}
"""State → the counters of which one, above zero, shows that a run was there."""

RARE = frozenset({"a former life is found"})
"""States that only a few runs in a hundred come to."""
PLAIN = frozenset({"forwards", "exchanges", "exchange_bytes", "partitions_compared", "probes"})
"""What every healthy cluster counts by itself."""
ACKNOWLEDGED = ("get ok", "put ok", "list ok")


def states_of(outcome: Outcome) -> dict[str, int]:
    """State → how often this run was in it; only those above zero."""
    return {state: times for state in EXPECTED if (times := _times(EXPECTED[state], outcome.reached, outcome.faults))}


def _times(names: Iterable[str], *counts: Mapping[str, int]) -> int:
    return sum(one.get(name, 0) for name in names for one in counts)


def injected(faults: Mapping[str, int]) -> int:
    """How many faults have happened: without those that were withheld, and what only tells of one."""
    return _times(KINDS, faults)


def unreached(states: Iterable[str], runs: int, options: SimOptions) -> list[str]:
    """The expected states that a long batch with every kind of fault never came to; none if it was not such a one."""
    if runs < LONG_BATCH_RUNS or set(options.faults) != set(KINDS):
        return []
    reached = set(states)
    rare_too = runs >= RARE_BATCH_RUNS
    return [state for state in EXPECTED if state not in reached and (rare_too or state not in RARE)]


def idle_reason(outcome: Outcome, options: SimOptions) -> str:
    """Why this run shows nothing; "" if it does."""
    acknowledged = _times(ACKNOWLEDGED, outcome.operations)
    if acknowledged < OPERATIONS_MIN:
        return f"only {acknowledged} operations were acknowledged"
    if options.faults and not injected(outcome.faults):
        return "no fault happened although faults were enabled"
    if options.faults and not any(times for name, times in outcome.reached.items() if name not in PLAIN):
        return "no node counted anything but plain requests"
    return ""
