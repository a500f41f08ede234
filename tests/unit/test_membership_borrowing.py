"""A newcomer and one member are down: where nobody is left to stand in, one side of a plan borrows from the other
(`core.quorum.joint_put_tally`; hard case 13 with three members instead of five).
"""

from __future__ import annotations

import pytest

from quorate.core.ring.transition import Stage
from quorate.core.store import GetResult, PutResult, Wish
from tests.unit.membership_cluster import KEYS, MembershipCluster


def joining(size: int, stage: Stage) -> tuple[MembershipCluster, int]:
    """A cluster in which one more node joins, and (the newcomer's number) is dead in this stage."""
    cluster = MembershipCluster(size)
    cluster.stock()
    newcomer = size + 1
    cluster.wait_to_join(newcomer)
    cluster.begin(1, Wish("join", f"n{newcomer}"))
    cluster.until_stage(stage)
    cluster.run_until(lambda: newcomer in cluster.nodes, "it enters", step_ms=1)
    cluster.kill(newcomer)
    return cluster, newcomer


def write_and_read_all(cluster: MembershipCluster, through: list[int]) -> None:
    for key in KEYS:
        for number in through:
            put = cluster.put(number, key, b"%d " % number + key, w=2, overwrite_seen=True)
            assert isinstance(put, PutResult), (number, key, put)
            got = cluster.get(number, key, 2)
            assert isinstance(got, GetResult), (number, key, got)
            assert b"%d " % number + key in [sibling.value for sibling in got.siblings]


@pytest.mark.parametrize("stage", [Stage.READ_OLD, Stage.READ_NEW])
def test_writes_and_reads_of_every_partition_go_on_without_the_newcomer(stage: Stage) -> None:
    cluster, _ = joining(3, stage)
    write_and_read_all(cluster, [1, 2, 3])


@pytest.mark.parametrize("dead", [1, 2, 3])
@pytest.mark.parametrize("size", [3, 5])
def test_so_they_do_without_the_newcomer_and_one_member(size: int, dead: int) -> None:
    """Before its data is there; with three members and R=W=2 that is all that may fail, as without a plan."""
    cluster, newcomer = joining(size, Stage.READ_OLD)
    cluster.kill(dead)
    write_and_read_all(cluster, [number for number in range(1, size + 1) if number != dead])
    cluster.join(dead)
    cluster.join(newcomer)
    cluster.until_steady()
    cluster.check_agreement()
    for key in KEYS:
        values = {number: cluster.values(number, key, r=3) for number in cluster.running()}
        assert len(set(map(tuple, values.values()))) == 1 and values[1], key


def test_what_was_written_while_both_were_away_is_on_two_nodes_when_they_come_back_empty_handed() -> None:
    """The write counts as on W nodes for both sides: it must be, also if the plan is then taken back."""
    cluster, _ = joining(3, Stage.READ_OLD)
    cluster.kill(3)
    for key in KEYS:
        assert isinstance(cluster.put(1, key, b"late " + key, w=2, overwrite_seen=True), PutResult)
    for key in KEYS:
        assert cluster.values(2, key, r=1) == [b"late " + key]
    cluster.abort(1)
    cluster.join(3)
    cluster.until_steady()
    cluster.check_data(KEYS, lambda key: b"late " + key)
