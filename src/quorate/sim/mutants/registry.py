"""The list of mutants, and the one way to plant one.

A mutant is a function that takes `Patches` and replaces what it has to; `@mutant(...)` registers it under its name with
dashes. Its entry says in a sentence what the bug is, which checks may see it, and with which options it is hunted: the
plain swarm, unless its conditions are so rare there that the hunt would take too long.

Invariants: one bug at a time in a process, and nothing of it stays; names are unique.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import msgspec

from quorate.core.errors import CallerError
from quorate.sim.mutants.patches import Patches
from quorate.sim.options import SimOptions

SUBJECTS: Final = ("acknowledgements", "answers", "causality", "hints", "deletion", "trees", "membership", "rings")
PLAIN: Final = SimOptions()
"""The swarm as `quorate sim` runs it: nothing is chosen for the mutant's sake."""
SHORT: Final = SimOptions(seconds=20)
"""The same, ended as soon as a bug that shows at once has shown: cheaper, and no narrower."""

Plant = Callable[[Patches], None]


class Mutant(msgspec.Struct, frozen=True):
    """One planted bug."""

    name: str
    bug: str
    """What the code does wrong, in one sentence."""
    checks: tuple[str, ...]
    """Which checks may see it (`docs/simulation.md`); any other violation does not count as found."""
    options: SimOptions
    """What it is hunted with."""
    why_these: str
    """Why not with the plain swarm; empty if it is."""
    hard_cases: tuple[int, ...]
    """Which hard cases it stands for."""
    unseen_because: str
    """Why no seed shows it: which other safeguard covers it, or what the checks excuse. It is not hunted then; where
    two safeguards cover for each other, another mutant switches off both. Empty for all others."""
    plant: Plant


_mutants: dict[str, Mutant] = {}
_planted: list[str] = []


def mutant(
    bug: str,
    checks: tuple[str, ...],
    options: SimOptions = SHORT,
    why_these: str = "",
    hard_cases: tuple[int, ...] = (),
    unseen_because: str = "",
) -> Callable[[Plant], Plant]:
    """Register the function below under its own name, with dashes. For the arguments see `Mutant`."""

    def register(plant: Plant) -> Plant:
        name = plant.__name__.replace("_", "-")
        assert name not in _mutants, f"two mutants are called {name}"
        assert checks and (why_these or options in (PLAIN, SHORT)), f"{name}: say what sees it, and why these options"
        _mutants[name] = Mutant(name, bug, checks, options, why_these, hard_cases, unseen_because, plant)
        return plant

    return register


def mutants() -> dict[str, Mutant]:
    """All of them by name, subject by subject."""
    for subject in SUBJECTS:
        importlib.import_module(f"quorate.sim.mutants.{subject}")
    return dict(_mutants)


def hunted() -> dict[str, Mutant]:
    """Those that a hunt is to find."""
    return {name: one for name, one in mutants().items() if not one.unseen_because}


def named(name: str) -> Mutant:
    """The mutant of this name; raises `CallerError`."""
    found = mutants().get(name)
    if found is None:
        raise CallerError(f"there is no mutant '{name}'; `quorate sim --mutants` lists them: {', '.join(mutants())}")
    return found


@contextmanager
def planted(name: str) -> Iterator[None]:
    """Within this, the code has the bug `name`; "" is the code as it is. Afterwards, also after an exception, all is
    as it was. Raises `CallerError` for an unknown name. Cannot be nested: two bugs at once would hide each other."""
    if not name:
        yield
        return
    found = named(name)
    assert not _planted, f"{_planted[0]} is planted already"
    patches = Patches()
    _planted.append(name)
    try:
        found.plant(patches)
        yield
    finally:
        patches.undo()
        _planted.clear()
