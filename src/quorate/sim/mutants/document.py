"""What hunts for planted bugs have found, as a document that passes between programs."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from quorate.sim.mutants.hunt import Hunt, median_seeds
from quorate.sim.mutants.registry import Mutant
from quorate.sim.options import SimOptions


class MutantFound(msgspec.Struct, frozen=True):
    """One planted bug, hunted several times, each from another first seed."""

    name: str
    bug: str
    checks: tuple[str, ...]
    hard_cases: tuple[int, ...]
    why_these: str
    """Why it was not hunted with the plain swarm; empty if it was."""
    options: SimOptions
    unseen_because: str
    """Why it was not hunted: no seed could show it; empty if it was."""
    caught_in: list[int | None]
    """Seeds needed, hunt by hunt; None: not caught."""
    median: float | None
    seen_by: list[str]
    """The checks that saw it first."""


class MutantFacts(msgspec.Struct, frozen=True):
    """All of them. `seeds_max`: how many seeds one hunt tried at most."""

    ranges: int
    seeds_max: int
    mutants: list[MutantFound]


def found(mutant: Mutant, hunts: Sequence[Hunt]) -> MutantFound:
    """What the hunts for one mutant have given; none if it was not hunted."""
    return MutantFound(
        name=mutant.name,
        bug=mutant.bug,
        checks=mutant.checks,
        hard_cases=mutant.hard_cases,
        why_these=mutant.why_these,
        options=mutant.options,
        unseen_because=mutant.unseen_because,
        caught_in=[one.caught_at for one in hunts],
        median=median_seeds(hunts) if hunts else None,
        seen_by=sorted({one.check for one in hunts if one.check}),
    )
