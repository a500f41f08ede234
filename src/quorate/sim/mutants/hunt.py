"""Hunting a mutant: how many seeds does it take until a check sees it?

One number says little, as luck is in it; so a hunt may be begun at several seeds, far apart, and the median counts.
A violation counts only if its check is one that the mutant names: a bug that shows as something else is one that the
checks do not understand.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Final

import msgspec
from msgspec.structs import replace

from quorate.sim.batch import run_batch
from quorate.sim.history import Violation
from quorate.sim.mutants.registry import Mutant
from quorate.sim.options import Outcome, SimOptions

SEEDS_MAX: Final = 200
"""A mutant that hides in so many seeds counts as not found."""
RANGES_APART: Final = 100_000
"""From the first seed of one hunt to that of the next."""


class Hunt(msgspec.Struct, frozen=True):
    """What came of one hunt."""

    name: str
    caught_at: int | None
    """The number of seeds that were needed, from 1; None: it was not caught."""
    check: str
    message: str
    """Of the first violation that counts; empty if it was not caught."""
    seed: int
    """That shows it; the last one tried if none did."""
    options: SimOptions
    """To run `seed` with again; the mutant is among them."""


def hunt(
    mutant: Mutant,
    seeds: Sequence[int],
    jobs: int = 1,
    on_progress: Callable[[int], None] = lambda tried: None,
    options: SimOptions | None = None,
) -> Hunt:
    """Run `seeds` (at least one) in order until a check sees `mutant`; `on_progress(seeds tried)` after each.

    `options` None: the mutant's own. Never raises for what the planted bug does.
    """
    assert seeds
    chosen = replace(options or mutant.options, mutant=mutant.name)
    with closing(run_batch(seeds, chosen, jobs)) as outcomes:  # type: ignore[type-var]
        for tried, outcome in enumerate(outcomes, 1):
            on_progress(tried)
            found = seen_by(mutant, outcome)
            if found is not None:
                return Hunt(mutant.name, tried, found.check, found.message, outcome.seed, chosen)
    return Hunt(mutant.name, None, "", "", seeds[-1], chosen)


def seen_by(mutant: Mutant, outcome: Outcome) -> Violation | None:
    """The first violation of a run that counts as finding `mutant`."""
    return next((found for found in outcome.violations if found.check in mutant.checks), None)


def hunt_ranges(
    mutant: Mutant,
    ranges: int,
    seeds_max: int = SEEDS_MAX,
    jobs: int = 1,
    first_seed: int = 1,
    on_progress: Callable[[int], None] = lambda tried: None,
) -> list[Hunt]:
    """`ranges` hunts (at least one), each over seeds of its own."""
    starts = [first_seed + place * RANGES_APART for place in range(ranges)]
    return [hunt(mutant, range(start, start + seeds_max), jobs, on_progress) for start in starts]


def median_seeds(hunts: Sequence[Hunt]) -> float | None:
    """The median of the seeds that were needed, where not found counts as more than any; None if that is its rank."""
    needed = [float("inf") if one.caught_at is None else float(one.caught_at) for one in hunts]
    median = statistics.median(needed)
    return None if median == float("inf") else median
