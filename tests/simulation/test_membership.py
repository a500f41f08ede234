"""Memberships that change under faults, by fixed seeds. For planted bugs see `test_mutants`."""

from __future__ import annotations

from quorate.sim.batch import replay_command
from quorate.sim.cluster import add_counts
from quorate.sim.faults import MEMBERSHIP
from quorate.sim.run import SimOptions, run

CALM = SimOptions(seconds=20, faults=(MEMBERSHIP,))
ROUGH = SimOptions(
    seconds=20, faults=(MEMBERSHIP, "kill", "power", "wipe", "partition", "isolate", "pause", "restart", "slow disk")
)


def test_memberships_change_and_nothing_is_lost() -> None:
    reached: dict[str, int] = {}
    for options, seeds in ((CALM, 20), (ROUGH, 8)):
        for seed in range(seeds):
            outcome = run(seed, options)
            assert outcome.violations == [], replay_command(seed, options)
            add_counts(reached, outcome.reached)
    for kind in ("join", "leave", "replace", "weight"):
        assert reached[f"membership: {kind} finished"] > 0, reached
    assert reached["membership: departure in good order"] > 0
    assert reached["requests_begun_again"] > 0 and reached["requests_parked"] > 0
