"""Two hundred fixed seeds and fifty fresh ones, in every run of the tests.

The fixed ones tell a change that breaks something from bad luck; the fresh ones are luck, and in a year of test runs
they are more than anybody would run on purpose. A fresh seed that fails is printed with its replay command and belongs
in `pinned.py`.

Each fixed seed is a test of its own: a file with so many tests is begun first where files are spread over workers, so
it does not hold up the end.
"""

from __future__ import annotations

import secrets

import pytest

from quorate.sim.options import SimOptions
from quorate.sim.replay import replay_command
from quorate.sim.run import run

FIXED_FIRST = 1_000_000
FIXED = 200
FRESH = 50
FRESH_PER_TEST = 5
OPTIONS = SimOptions(seconds=12)


@pytest.mark.parametrize("seed", range(FIXED_FIRST, FIXED_FIRST + FIXED))
def test_fixed(seed: int) -> None:
    outcome = run(seed, OPTIONS)
    assert outcome.violations == [], replay_command(seed, OPTIONS)
    assert outcome.operations.get("put ok", 0) > 5, "the clients got something done"


@pytest.mark.parametrize("part", range(FRESH // FRESH_PER_TEST))
def test_fresh(part: int) -> None:
    first = secrets.randbelow(1 << 32)
    for seed in range(first, first + FRESH_PER_TEST):
        outcome = run(seed, OPTIONS)
        assert outcome.violations == [], f"part {part} from seed {first}: {replay_command(seed, OPTIONS)}"
