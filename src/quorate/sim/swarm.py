"""What each seed chooses by itself: the size of its cluster, the options of its nodes, the properties of its buckets.

Swarm testing: a run with one fixed configuration, or with everything switched on, hides what other mixtures would show.
So every seed draws its own, from a stream of its own; what `SimOptions` names is not drawn. Which faults occur, and how
often, is drawn in `faults`; who asks what, and how hurried, in `workload` and `client`.
"""

from __future__ import annotations

import msgspec

from quorate.core.buckets import BucketProperties, Durability
from quorate.core.limits import KIB, MIB
from quorate.node.options import NodeOptions
from quorate.sim.cluster import Layout
from quorate.sim.options import SimOptions
from quorate.sim.random_streams import SeededRng, Streams
from quorate.sim.workload import BUCKET_EXPIRING, BUCKET_LAST_WRITE_WINS, BUCKET_SIBLINGS

CLIENTS_MIN, CLIENTS_MAX = 3, 8
PARTITIONS: tuple[int, ...] = (16, 32, 32, 64)
MEMBERS_ON_SHARED_HOSTS_MIN = 5
"""With fewer members, two on each host, there were not as many hosts as replicas."""
NODES: tuple[int, ...] = (3, 4, 5, 5, 5, 6, 7)
CALM_MS = 3_000
HOURS_MS = 3_600_000
GRACES_MS = (HOURS_MS // 6, 24 * HOURS_MS)
EXCHANGE_INTERVALS_MS = (2_000, 10_000)
SWEEP_INTERVAL_MS = 6_000
COLLECT_QUIET_MS = 8_000
"""Longer than the deadlines of the simulated clients and of hints: no message is under way for longer."""
CACHES_BYTES = (64 * MIB, 64 * MIB, 16 * KIB)
"""In some seeds nodes read nearly everything from their disks."""


class Choices(msgspec.Struct, frozen=True):
    """One seed's configuration."""

    nodes: int
    defaults: BucketProperties
    options_of_nodes: NodeOptions
    next_day: bool
    """Does `grace` pass once after everything has healed?"""
    calm_ms: int
    """How long clients go on after the faults have stopped."""
    strict_buckets: tuple[bytes, ...]
    last_write_wins: tuple[bytes, ...]
    """The buckets with that resolution; the others keep siblings."""
    clients: int
    skewed: bool
    """Are some keys used more often than others?"""
    large_values: bool
    layout: Layout


def choose(streams: Streams, options: SimOptions) -> Choices:
    """The configuration of the seed that `streams` belong to."""
    rng = streams.stream("options")
    durability: Durability = options.durability or ("fsync" if rng.chance(0.5) else "os")
    options_of_nodes = _options_of_nodes(rng)
    next_day = rng.chance(0.3)
    calm_ms = CALM_MS if rng.chance(0.5) else 0
    strict: tuple[bytes, ...] = (rng.choice((BUCKET_SIBLINGS, BUCKET_LAST_WRITE_WINS)),)
    if rng.chance(0.5):
        strict += (BUCKET_EXPIRING,)
    last_write_wins = (BUCKET_LAST_WRITE_WINS, BUCKET_EXPIRING)[: 1 + rng.chance(0.5)]
    nodes = options.nodes or rng.choice(NODES)
    layout = _layout(streams.stream("options", "layout"), nodes)
    of_clients = streams.stream("options", "clients")
    clients = CLIENTS_MIN + of_clients.below(CLIENTS_MAX - CLIENTS_MIN + 1)
    n = min(3, nodes)
    quorum = n // 2 + 1
    return Choices(
        nodes=nodes,
        defaults=BucketProperties(n=n, r=quorum, w=quorum, durability=durability),
        options_of_nodes=options_of_nodes,
        next_day=next_day,
        calm_ms=calm_ms,
        strict_buckets=strict,
        last_write_wins=last_write_wins,
        clients=options.clients or clients,
        skewed=of_clients.chance(0.3),
        large_values=of_clients.chance(0.25),
        layout=layout,
    )


def _layout(rng: SeededRng, nodes: int) -> Layout:
    shared = rng.chance(0.3) and nodes >= MEMBERS_ON_SHARED_HOSTS_MIN
    return Layout(rng.choice(PARTITIONS), members_on_host=2 if shared else 1, zones=rng.choice((1, 1, 2, 3)))


def _options_of_nodes(rng: SeededRng) -> NodeOptions:
    return NodeOptions(
        grace_ms=rng.choice(GRACES_MS),
        record_cache_bytes=rng.choice(CACHES_BYTES),
        anti_entropy_interval_ms=rng.choice(EXCHANGE_INTERVALS_MS),
        sweep_interval_ms=SWEEP_INTERVAL_MS,
        collect_quiet_ms=COLLECT_QUIET_MS,
    )
