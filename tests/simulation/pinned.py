"""Seeds that once failed, each with what it showed: they are run for ever.

Any change to the code makes a seed another schedule, so a pinned seed is no proof that its bug stays away; the scenario
in `test_scenarios.py` or the regression test that its last words name is. It costs a second.
To pin one: its seed and options as the replay command prints them, and what it showed.
"""

from __future__ import annotations

from typing import NamedTuple

from quorate.sim.options import SimOptions


class Pinned(NamedTuple):
    """A seed, the options that it failed with, and what it showed."""

    seed: int
    options: SimOptions
    showed: str


PINNED = (
    Pinned(227, SimOptions(seconds=60), "a forward that arrived twice made a refusal untrue"),
    Pinned(
        101232,
        SimOptions(seconds=25),
        "a coordinator that is a fallback, and the home that its own copy is for, were counted as two",
    ),
    Pinned(
        200332,
        SimOptions(seconds=20),
        "a replica acknowledged once more what it had, while its disk had damaged it unnoticed: the judge's mistake",
    ),
    Pinned(
        400047,
        SimOptions(seconds=20),
        "two values of a last-write-wins bucket, which a fallback had merged, must not both stay for ever: the judge's",
    ),
    Pinned(15043, SimOptions(seconds=60), "a write with less than the bucket's w may be on nobody who is read"),
    Pinned(
        1000819,
        SimOptions(seconds=120),
        "a commit was called refused that another proposer had decided, while a slow disk did not hold the ring yet",
    ),
)
