"""A majority is lost for good, and the survivors are members that once had no memory: of a new cluster, or wiped.

With two survivors the one that forces and the other make a majority of themselves; from three on the others have to
vote as well, or the forced plan stays in its first stage for ever.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from quorate.core.membership.ring_ledger import LedgerState, Memory
from quorate.core.ports import Space
from quorate.core.ring.transition import FORCED_VERSIONS, Stage
from quorate.core.store import Admin
from quorate.node.documents import sealed
from quorate.node.ring_keeper import LEDGER_KEY
from tests.unit.membership_cluster import MembershipCluster


def chain_of(cluster: MembershipCluster, number: int) -> Any:
    return cluster.nodes[number]._shared.rings.chain


def memories(cluster: MembershipCluster) -> set[Memory]:
    return {chain_of(cluster, number).memory for number in cluster.running()}


def change(cluster: MembershipCluster, ttl: int) -> None:
    """A decision, by which the ring gets its next version."""
    answer = cluster.call(lambda reply: cluster.nodes[1].set_bucket(b"b", {"ttl": f"{ttl}"}, reply))
    assert isinstance(answer, Admin)
    version = cluster.nodes[1].ring().version
    cluster.run_until(
        lambda: all(cluster.nodes[number].ring().version == version for number in cluster.running()), "all hear of it"
    )


def force(cluster: MembershipCluster, lost: tuple[int, ...]) -> None:
    """1 forces the ring without those who are `lost`, which are killed, and it comes to its end."""
    for number in lost:
        cluster.kill(number)
    names = [f"n{number}" for number in lost]
    assert isinstance(cluster.call(lambda reply: cluster.nodes[1].force(names, reply)), Admin)
    cluster.until_steady()
    left = [number for number in cluster.nodes if cluster.ports[number].alive]
    assert [member.number for member in cluster.ring_now().members] == left
    assert Memory.LOST not in memories(cluster)


@pytest.mark.parametrize(("size", "lost"), [(5, (4, 5)), (7, (4, 5, 6, 7))])
@pytest.mark.parametrize("decisions", [0, 1, 2])
def test_a_cluster_that_was_never_wiped_survives_a_force(size: int, lost: tuple[int, ...], decisions: int) -> None:
    """Its members were founded without a memory, which is the same as wiped."""
    cluster = MembershipCluster(size)
    for ttl in range(1, 1 + decisions):
        change(cluster, ttl)
    cluster.world.run(100)
    assert memories(cluster) == {Memory.RECALLED if decisions else Memory.FOUNDING}
    force(cluster, lost)
    change(cluster, 9)


@pytest.mark.parametrize("decisions_after", [0, 1])
def test_survivors_that_were_wiped_once_survive_a_force(decisions_after: int) -> None:
    cluster = MembershipCluster(7)
    change(cluster, 1)
    for number in (2, 3):
        cluster.wipe(number)
        cluster.join(number)
        cluster.run_until(lambda number=number: chain_of(cluster, number).memory is Memory.RECALLED, "it votes again")  # type: ignore[misc]
    for ttl in range(2, 2 + decisions_after):
        change(cluster, ttl)
    force(cluster, (4, 5, 6, 7))
    change(cluster, 9)


def test_several_forces_one_after_the_other() -> None:
    cluster = MembershipCluster(9)
    change(cluster, 1)
    force(cluster, (8, 9))
    force(cluster, (6, 7))
    change(cluster, 2)
    force(cluster, (4, 5))
    change(cluster, 3)
    assert cluster.ring_now().version > 3 * FORCED_VERSIONS


def test_two_forces_of_which_the_others_hear_at_once() -> None:
    cluster = MembershipCluster(5)
    change(cluster, 1)
    for number in (4, 5):
        cluster.kill(number)
    for number in (2, 3):
        cluster.cut(1, number)
    for _ in range(2):
        assert isinstance(cluster.call(lambda reply: cluster.nodes[1].force(["n4", "n5"], reply)), Admin)
    cluster.heal()
    cluster.until_steady()
    assert [member.number for member in cluster.ring_now().members] == [1, 2, 3]
    assert cluster.ring_now().version > 2 * FORCED_VERSIONS


def written_by_an_earlier_release(cluster: MembershipCluster, number: int) -> None:
    """Restart the node upon its ledger without the fields that say when its memory came back."""
    cluster.kill(number)
    state = LedgerState(chain_of(cluster, number).ring, Memory.RECALLED)
    fields = msgspec.msgpack.decode(msgspec.msgpack.encode(state))[:4]
    cluster.engines[number].data[(Space.META, LEDGER_KEY)] = sealed(msgspec.msgpack.encode(fields))
    cluster.join(number)


def test_a_force_that_is_stuck_is_mended_by_another_one() -> None:
    cluster = MembershipCluster(5)
    change(cluster, 1)
    for number in (2, 3):
        written_by_an_earlier_release(cluster, number)
    for number in (4, 5):
        cluster.kill(number)
    assert isinstance(cluster.call(lambda reply: cluster.nodes[1].force(["n4", "n5"], reply)), Admin)
    cluster.world.run(60_000)
    assert [chain_of(cluster, number).memory for number in (2, 3)] == [Memory.LOST, Memory.LOST]
    assert cluster.stage(1) is Stage.READ_OLD
    force(cluster, (4, 5))
    change(cluster, 9)


def test_a_ledger_of_an_earlier_release_is_good_for_a_force_after_the_next_decision() -> None:
    cluster = MembershipCluster(5)
    change(cluster, 1)
    for number in (2, 3):
        written_by_an_earlier_release(cluster, number)
    change(cluster, 2)
    force(cluster, (4, 5))
