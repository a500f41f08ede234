"""Every seed that once failed passes, with the options that it failed with."""

from __future__ import annotations

import pytest

from quorate.sim.replay import replay_command
from quorate.sim.run import run
from tests.simulation.pinned import PINNED, Pinned


@pytest.mark.parametrize("pinned", PINNED, ids=lambda pinned: str(pinned.seed))
def test_a_seed_that_once_failed_passes(pinned: Pinned) -> None:
    outcome = run(pinned.seed, pinned.options)
    assert outcome.violations == [], f"{pinned.showed}: {replay_command(pinned.seed, pinned.options)}"


def test_nothing_is_pinned_twice() -> None:
    assert len({(pinned.seed, pinned.options) for pinned in PINNED}) == len(PINNED)
