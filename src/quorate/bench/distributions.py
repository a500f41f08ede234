"""Which key comes next: uniform, zipfian or latest, with the constants of YCSB's core generators.

Each chooser is an endless generator of key numbers, because a generator is the cheapest thing that Python can ask
again and again: its state lives in locals. The load generator shares the machine with what it measures, so a choice
may cost a microsecond and no more.

*Zipfian* ranks follow Gray et al., "Quickly generating billion-record synthetic databases" (SIGMOD 1994): one random
number, and at most one power of it. It is an approximation; the ranks 0 and 1 are exact. *Scrambled* is what YCSB calls
zipfian: a rank out of 10^10, hashed (FNV-64) and folded onto the keys, so that the popular keys lie anywhere. The
popularity of the hottest key, 1/26.47, thereby hardly depends on how many keys there are. *Latest* is zipfian over the
age of a key: the newest is the most popular, and the sum over all ranks (zeta) grows by a term with each new key.

Rejected: a block of choices drawn in advance and repeated, which would make ten million keys a few hundred thousand;
tables of cumulative probabilities, which cost memory for each key and a search for each choice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cache
from random import Random
from typing import Final

THETA: Final = 0.99
"""YCSB's zipfian constant."""
SCRAMBLED_ITEMS: Final = 10_000_000_000
SCRAMBLED_ZETA: Final = 26.46902820178302
"""The sum of 1/rank^0.99 over `SCRAMBLED_ITEMS` ranks, as YCSB has it."""

_MASK: Final = (1 << 64) - 1
_BASIS: Final = 0xCBF29CE484222325
_PRIME: Final = 1_099_511_628_211
_PRIME_4: Final = pow(_PRIME, 4, 1 << 64)


def fnv_64(number: int) -> int:
    """YCSB's hash of a key number: FNV-1a with 64 bits over its eight bytes, the lowest first; without its sign."""
    value = _BASIS
    for _ in range(8):
        value = ((value ^ (number & 0xFF)) * _PRIME) & _MASK
        number >>= 8
    return min(value, (1 << 64) - value)


@cache
def _two_bytes() -> list[int]:
    """The hash after the two lowest bytes, for each value of these."""
    one = [((_BASIS ^ low) * _PRIME) & _MASK for low in range(256)]
    return [((one[number & 0xFF] ^ (number >> 8)) * _PRIME) & _MASK for number in range(1 << 16)]


def zeta(items: int, theta: float = THETA) -> float:
    """The sum of 1/rank^theta over ranks 1 to `items`."""
    return math.fsum(float(rank) ** -theta for rank in range(1, items + 1))


def _eta(items: int, zeta_items: float, theta: float = THETA) -> float:
    """Gray's slope of the tail; of no use, and so anything, below three items."""
    if items < 3:
        return 1.0
    return float((1 - (2 / items) ** (1 - theta)) / (1 - zeta(2, theta) / zeta_items))


def uniform(items: int, rng: Random) -> Iterator[int]:
    """Any of 0 to `items` - 1, each as likely."""
    draw = rng.random
    while True:
        yield int(draw() * items)


def scrambled_zipfian(
    keys: int, rng: Random, items: int = SCRAMBLED_ITEMS, zeta_items: float = SCRAMBLED_ZETA
) -> Iterator[int]:
    """Any of 0 to `keys` - 1: zipfian ranks of `items` (below 2^40), scattered over the keys by their hash."""
    assert 3 <= items < 1 << 40
    draw, table = rng.random, _two_bytes()
    eta, alpha, half = _eta(items, zeta_items), 1 / (1 - THETA), 1 + 0.5**THETA
    bend = 1 - eta
    while True:
        chance = draw()
        share = chance * zeta_items
        rank = (0 if share < 1 else 1) if share < half else int(items * (eta * chance + bend) ** alpha)
        # fnv_64(rank) in a third of its time: the products may grow, for only the 64 low bits count in the end, and the
        # three bytes that are always zero are one product with the fourth.
        value = (table[rank & 0xFFFF] ^ (rank >> 16 & 0xFF)) * _PRIME
        value = ((((value ^ (rank >> 24 & 0xFF)) * _PRIME) ^ rank >> 32) * _PRIME_4) & _MASK
        yield (value if value < 1 << 63 else (1 << 64) - value) % keys


def latest(count: Callable[[], int], rng: Random) -> Iterator[int]:
    """The age of a key, 0 the newest, zipfian over the `count()` keys that there are; these only become more."""
    draw = rng.random
    alpha, half = 1 / (1 - THETA), 1 + 0.5**THETA
    items = count()
    assert items >= 1
    zeta_items = zeta(items)
    eta = _eta(items, zeta_items)
    while True:
        now = count()
        if now != items:
            # As cheap as the keys are few that came since: in a run these are one or two.
            for rank in range(items + 1, now + 1):
                zeta_items += rank**-THETA
            items = now
            eta = _eta(items, zeta_items)
        chance = draw()
        share = chance * zeta_items
        if share < 1:
            yield 0
        elif share < half:
            yield 1
        else:
            # The power may round up to 1 for a chance just below it.
            yield min(int(items * (eta * chance + 1 - eta) ** alpha), items - 1)
