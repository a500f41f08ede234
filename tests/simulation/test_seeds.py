"""Whole clusters under faults, on fixed seeds: nothing acknowledged is lost, all replicas agree in the end.

The command `quorate sim --runs 300` runs the same at length. What a seed once showed is retold in
`test_scenarios.py`: any change to the code makes every seed another schedule, and a scenario stays.
"""

from __future__ import annotations

import msgspec
import pytest

from quorate.core.ring.joint import JointPlacements
from quorate.core.ring.transition import staged
from quorate.sim import placement_check
from quorate.sim.batch import replay_command
from quorate.sim.cluster import Layout, add_counts, make_ring
from quorate.sim.faults import KINDS, ONE_DOWN
from quorate.sim.placement_check import check_placement
from quorate.sim.random_streams import Streams
from quorate.sim.run import SimOptions, Simulation, run
from quorate.sim.swarm import PARTITIONS, choose
from quorate.sim.workload import LARGE_MIN_BYTES

OPTIONS = SimOptions(seconds=20)
STATES = {
    "exchanges",
    "records_received_in_repair",
    "records_collected",
    "records_damaged",
    "hints_expired",
    "fenced by their disks",
}
"""What nodes count, and some of these seeds must bring them to."""


@pytest.mark.parametrize("seed", range(30))
def test_seed(seed: int) -> None:
    outcome = run(seed, OPTIONS)
    assert outcome.violations == [], replay_command(seed, OPTIONS)
    assert outcome.operations["put ok"] > 20, "the clients got something done"


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("nodes", [1, 2, 3, 9])
def test_other_cluster_sizes(nodes: int, seed: int) -> None:
    options = SimOptions(nodes=nodes, seconds=10, faults=KINDS if nodes > 2 else ("kill", "restart", "pause"))
    outcome = run(seed, options)
    assert outcome.violations == [], replay_command(seed, options)


@pytest.mark.parametrize("seed", range(3))
def test_without_faults_nothing_fails(seed: int) -> None:
    outcome = run(seed, SimOptions(seconds=10, clients=5, faults=()))
    assert outcome.violations == []
    assert set(outcome.operations) <= {"get ok", "list ok", "put ok", "put repeated"}
    assert outcome.operations["get ok"] > 40 and outcome.operations["put ok"] > 60


@pytest.mark.parametrize("seed", range(3))
def test_with_one_node_out_at_a_time_nobody_is_refused(seed: int) -> None:
    """Check A: the promise that sloppy quorums are for (SOSP 2007, §4.6)."""
    outcome = run(seed, SimOptions(seconds=20, clients=5, faults=(ONE_DOWN,)))
    assert outcome.violations == []
    assert outcome.faults[ONE_DOWN] >= 1 and outcome.operations["put ok"] > 100


def test_the_seeds_see_every_kind_of_fault_and_of_outcome() -> None:
    faults: dict[str, int] = {}
    reached: dict[str, int] = {}
    operations: dict[str, int] = {}
    durabilities = set()
    for seed in range(20):
        outcome = run(seed, OPTIONS)
        durabilities.add(outcome.durability)
        add_counts(faults, outcome.faults)
        add_counts(operations, outcome.operations)
        add_counts(reached, outcome.reached)
    assert set(KINDS) <= set(faults) and "days passed" in faults
    assert set(reached) >= STATES, STATES - set(reached)
    outcomes = {"get ok", "get unanswered", "list ok", "list unanswered"}
    assert set(operations) == outcomes | {"put ok", "put not done", "put repeated", "put unknown"}
    assert durabilities == {"os", "fsync"}


def test_seeds_choose_other_clusters_and_clients() -> None:
    choices = [choose(Streams(seed), SimOptions()) for seed in range(100)]
    assert {choice.layout.partitions for choice in choices} == {*PARTITIONS}
    assert {choice.layout.members_on_host for choice in choices} == {1, 2}
    assert {choice.layout.zones for choice in choices} == {1, 2, 3}
    assert {choice.clients for choice in choices} == {3, 4, 5, 6, 7, 8}
    assert {choice.skewed for choice in choices} == {choice.large_values for choice in choices} == {True, False}
    assert choose(Streams(1), SimOptions(clients=2)).clients == 2, "what the options name is not drawn"


def test_members_share_hosts_and_replicas_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check P, on replicas as they are and on those that somebody would choose who does not look at hosts."""
    ring = staged(make_ring(6, 3, Layout(members_on_host=2, zones=2)))
    assert len({member.host for member in ring.members}) == 3
    assert check_placement(ring, 3) == []
    apart = [msgspec.structs.replace(member, host=member.name) for member in ring.members]
    blind = JointPlacements(msgspec.structs.replace(ring, members=apart))
    monkeypatch.setattr(placement_check, "JointPlacements", lambda ring: blind)
    assert {violation.check for violation in check_placement(ring, 3)} == {"P"}


def test_large_values_are_written_and_read() -> None:
    """Larger than a frame takes together with others; repeated attempts of a put have the same value."""
    seed = next(seed for seed in range(50) if choose(Streams(seed), SimOptions()).large_values)
    simulation = Simulation(seed, SimOptions(seconds=10, faults=("kill",)))
    assert simulation.run().violations == []
    writes = simulation.workload.history.writes
    assert any(write.acks and len(write.value) > LARGE_MIN_BYTES for write in writes)
    values = [write.value for write in writes if not write.delete]
    assert len({*values}) == len(values)
