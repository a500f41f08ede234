"""What `scaling.py` measures, as it is kept in its file of figures, and how far from even chance alone would be.

Shares are percents from the fair share: 0 is as much as every other node, +3 is three percent more than that. A key's
home is drawn by its hash, so even a perfect ring is uneven for finitely many keys. That noise is known beforehand:

- with K keys, each on N of n nodes, the keys that a node holds vary by sqrt((n - N) / (N K)) of their number;
- if one of a key's N replicas is chosen at random for each of M requests, those that a node gets vary by another
  sqrt((N - 1) n / (N M)); if the replicas take turns, by next to nothing.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from statistics import NormalDist

import msgspec

PERCENT = 100.0
ALLOWED_PERCENT = 5.0
"""From the fair share, at most: what is required of the cluster."""


class Spread(msgspec.Struct, frozen=True):
    """Of one kind of work over the nodes, in percent from the fair share."""

    lowest: float
    highest: float
    rms: float
    """Root of the mean square of all nodes: what is to be compared with the noise."""
    noise: float
    """One standard deviation of a node's share, of chance alone; 0: nothing in it is chance."""

    @property
    def farthest(self) -> float:
        return max(-self.lowest, self.highest)


class Simulated(msgspec.Struct, frozen=True):
    """A cluster on virtual time."""

    nodes: int
    partitions: int
    keys: int
    """Each was put once, and got once."""
    ring: Spread
    """Partitions that a node is a replica of."""
    coordinated: Spread
    replica_work: Spread
    put_us: float
    """CPU time of everything: client, all replicas, network and clock of the simulation."""
    get_us: float


class Real(msgspec.Struct, frozen=True):
    """A cluster of processes."""

    nodes: int
    partitions: int
    keys: int
    coordinated: dict[str, int]
    """Node → gets and puts that it coordinated, those of the load's preparation included."""
    spread: Spread
    put_us: float
    """CPU time of all nodes together, all their threads included."""
    get_us: float
    load_put_us: float
    """CPU time of the load generator."""
    load_get_us: float
    put_ops_per_s: int
    get_ops_per_s: int
    errors: dict[str, int]


class Figures(msgspec.Struct):
    """All parts that were measured so far."""

    simulated: list[Simulated] = []
    real: list[Real] = []
    keys: list[Real] = []
    partitions: list[Real] = []


def spread(counts: Collection[int], noise: float) -> Spread:
    fair = sum(counts) / len(counts)
    off = [PERCENT * (count / fair - 1) for count in counts]
    return Spread(min(off), max(off), math.sqrt(sum(each**2 for each in off) / len(off)), noise)


def noise_of_keys(nodes: int, replicas: int, keys: int) -> float:
    """Percent by which the number of keys (of `keys`) that a node holds varies."""
    return PERCENT * math.sqrt((nodes - replicas) / (replicas * keys))


def noise_of_choice(nodes: int, replicas: int, requests: int) -> float:
    """Percent by which a random choice among each key's replicas varies what a node coordinates of `requests`."""
    return PERCENT * math.sqrt((replicas - 1) * nodes / (replicas * requests))


def noise_of_turns(nodes: int, replicas: int, requests: int, partitions: int) -> float:
    """The same if the replicas of each partition take turns: of some partitions the last round is not whole."""
    cut_off = partitions * replicas / nodes * (replicas**2 - 1) / (6 * replicas**2)
    return PERCENT * math.sqrt(cut_off) / (requests / nodes)


def noise_of_reader(nodes: int, replicas: int, keys: int) -> float:
    """Percent by which a random second reader of each get varies a node's work, if each key is put and got once.

    R = 2: a put is work for all replicas, a get for its coordinator and one of the others.
    """
    work = (replicas + 2) * keys / nodes
    return PERCENT * math.sqrt(keys / nodes * (replicas - 2) / (replicas - 1)) / work


def keys_for_noise(nodes: int, replicas: int, percent: float) -> int:
    """How many keys it takes for a noise of `percent`."""
    return math.ceil((nodes - replicas) / replicas / (percent / PERCENT) ** 2)


def noise_farthest(nodes: int, noise: float) -> float:
    """How far from fair the farthest of `nodes` is by chance alone, as the median of many trials.

    Their shares are taken for independent, though each node's surplus is the others' lack: for two or more it is close.
    """
    return noise * NormalDist().inv_cdf((1 + 0.5 ** (1 / nodes)) / 2)
