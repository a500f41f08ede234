"""Every random choice of a simulation, derived from one seed and nothing else.

Each subsystem draws from a stream of its own, named by a path such as ("link", 1, 3). A stream's numbers depend on the
seed and on its path only, so one more draw in the network does not change what the clients or the faults do: a
failing seed stays comparable while the code is being mended, and a shrunk run resembles the long one.

Rejected: one shared generator (any added draw makes every later choice another one) and `hash()` of names (it differs
from process to process, so equal seeds would give different traces).
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from typing import TypeVar

Item = TypeVar("Item")


class SeededRng:
    """The `Rng` port on a seeded generator, with the few distributions that the simulator needs besides."""

    __slots__ = ("_generator", "random")

    def __init__(self, seed: int) -> None:
        self._generator = random.Random(seed)
        self.random = self._generator.random
        """A float in [0, 1)."""

    def below(self, bound: int) -> int:
        """An integer in [0, bound)."""
        assert bound >= 1, bound
        return int(self.random() * bound) if bound < 1 << 32 else self._generator.randrange(bound)

    def token_bytes(self, size: int) -> bytes:
        return self._generator.randbytes(size)

    def chance(self, probability: float) -> bool:
        """True with this probability. Draws once, whatever the probability is."""
        return self.random() < probability

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * self.random()

    def exponential(self, mean: float) -> float:
        return self._generator.expovariate(1.0 / mean)

    def choice(self, items: Sequence[Item]) -> Item:
        return items[self.below(len(items))]

    def sample(self, items: Sequence[Item], count: int) -> list[Item]:
        """`count` different items, in drawing order."""
        return self._generator.sample(list(items), count)


class Streams:
    """The tree of streams of one seed."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def stream(self, *path: str | int) -> SeededRng:
        """A new generator for this path; asking twice gives two generators with the same numbers."""
        name = "/".join([str(self._seed), *(str(part) for part in path)])
        digest = hashlib.sha256(name.encode()).digest()
        return SeededRng(int.from_bytes(digest[:16], "big"))
