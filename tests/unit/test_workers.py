"""Workers of a host: how they are called, and where replicas lie among them."""

from __future__ import annotations

import msgspec
import pytest

from quorate.core.errors import CallerError
from quorate.core.ring.advance import Quorum
from quorate.core.ring.create import create_ring
from quorate.core.ring.plan import plan_join, plan_leave, plan_replace, plan_weight, start
from quorate.core.ring.preference import PreferenceLists
from quorate.core.ring.ring import Member
from quorate.core.ring.transition import StagedRing, next_stage, staged
from quorate.core.ring.workers import by_host, called, split_worker_name, worker_name
from tests.unit.small_cluster import member

DEFAULT = Quorum(3, 2, 2)


def worker(number: int, host: str, index: int) -> Member:
    return msgspec.structs.replace(member(number), name=worker_name(host, index), host=host)


def workers_of(hosts: int, each: int) -> list[Member]:
    return [
        worker((host - 1) * each + index, f"n{host}", index)
        for host in range(1, hosts + 1)
        for index in range(1, each + 1)
    ]


def hosts_of(ring: StagedRing, n: int = 3) -> set[int]:
    """On how many hosts the replicas of a partition lie, for all partitions."""
    lists, host = PreferenceLists(ring), {one.number: one.host for one in ring.members}
    return {len({host[number] for number in lists.replicas(partition, n)}) for partition in range(ring.partitions)}


def through(ring: StagedRing) -> StagedRing:
    while ring.transition is not None:
        ring = next_stage(ring)
    return ring


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("n4.2", ("n4", 2)),
        ("a.b.10", ("a.b", 10)),
        *((name, None) for name in ("n4", "n4.", ".2", "n4.02", "n4.0", "n4.x", "n4.²", "n4.-1", "")),
    ],
)
def test_names_of_workers_are_told_from_others(name: str, parts: tuple[str, int] | None) -> None:
    assert split_worker_name(name) == parts
    assert parts is None or worker_name(*parts) == name


def test_a_host_is_meant_by_the_name_that_its_workers_begin_with() -> None:
    everybody = [worker(1, "n1", 10), worker(2, "n1", 2), worker(3, "n2", 1), member(4)]
    assert [one.number for one in called(everybody, "n1")] == [2, 1], "in the order of their indices"
    assert [one.number for one in called(everybody, "n1.10")] == [1]
    assert [one.number for one in called(everybody, "n4")] == [4]
    assert [one.number for one in called(everybody, member(3).id)] == [3]
    assert called(everybody, "n3") == []
    same = msgspec.structs.replace(member(5), name="n1")
    assert called([*everybody, same], "n1") == [same], "a node's own name comes first"


def test_members_on_different_hosts_are_never_taken_for_workers_of_one() -> None:
    strangers = [worker(1, "10.0.0", 1), msgspec.structs.replace(worker(2, "10.0.0", 2), host="elsewhere")]
    with pytest.raises(CallerError, match=r"10\.0\.0\.1, 10\.0\.0\.2 are on different hosts"):
        called(strangers, "10.0.0")
    assert [name for name, _ in by_host(strangers, lambda one: (one.name, one.host))] == ["10.0.0.1", "10.0.0.2"]


def test_hosts_are_told_apart_from_nodes_that_share_a_machine() -> None:
    everybody = [member(7), worker(2, "n1", 2), worker(3, "n2", 1), worker(1, "n1", 1)]
    everybody.append(msgspec.structs.replace(member(8), host=member(7).host))
    found = by_host(everybody, lambda one: (one.name, one.host))
    assert [(name, [one.number for one in those]) for name, those in found] == [
        ("n7", [7]), ("n1", [1, 2]), ("n2.1", [3]), ("n8", [8])
    ]  # fmt: skip


def test_replicas_lie_on_different_hosts_whatever_workers_those_have() -> None:
    for each in (1, 2, 4):
        ring = staged(create_ring("c" * 32, workers_of(3, each), 128))
        assert hosts_of(ring) == {3}
        used = {number for partition in range(128) for number in PreferenceLists(ring).replicas(partition, 3)}
        assert len(used) == 3 * each, "and all workers are used"


def test_on_one_host_replicas_lie_on_different_workers() -> None:
    ring = staged(create_ring("c" * 32, workers_of(1, 3), 16))
    lists = PreferenceLists(ring)
    assert all(len(set(lists.replicas(partition, 3))) == 3 for partition in range(16))


def test_a_host_joins_leaves_and_is_replaced_with_all_its_workers_by_one_plan() -> None:
    ring = staged(create_ring("c" * 32, workers_of(3, 2), 128))
    first = start(ring, plan_join(ring, [worker(7, "n4", 1), worker(8, "n4", 2)], [DEFAULT]))
    assert first.transition is not None and first.transition.joining == [7, 8]
    ring = through(first)
    assert hosts_of(ring) == {3} and len(ring.members) == 8

    plan = plan_replace(ring, [3, 4], [worker(9, "n5", 1), worker(10, "n5", 2)], [DEFAULT])
    owned = [place for place, owner in enumerate(ring.owners) if owner in (3, 4)]
    assert [move.partition for move in plan.moves] == owned, "the place and the tokens, and nothing else moves"
    assert [one.number for one in plan.after.members] == [1, 2, 9, 10, 5, 6, 7, 8]
    ring = through(start(ring, plan))
    assert hosts_of(ring) == {3}

    ring = through(start(ring, plan_leave(ring, [7, 8], [DEFAULT])))
    assert [one.name for one in ring.members] == ["n1.1", "n1.2", "n5.1", "n5.2", "n3.1", "n3.2"]
    assert hosts_of(ring) == {3} and {gone.number for gone in ring.departed} == {3, 4, 7, 8}


def test_a_host_is_replaced_by_one_with_another_number_of_workers() -> None:
    ring = staged(create_ring("c" * 32, workers_of(3, 2), 128))
    grown = plan_replace(ring, [3, 4], [worker(number, "n5", number - 6) for number in (7, 8, 9)], [DEFAULT])
    assert [one.number for one in grown.after.members] == [1, 2, 7, 8, 5, 6, 9]
    shrunk = plan_replace(ring, [3, 4], [worker(7, "n5", 1)], [DEFAULT], stopped=True)
    assert [one.number for one in shrunk.after.members] == [1, 2, 7, 5, 6]
    assert shrunk.stopped == [3, 4]


def test_a_weight_is_given_to_all_workers_of_a_host() -> None:
    ring = staged(create_ring("c" * 32, workers_of(3, 2), 128))
    after = plan_weight(ring, [1, 2], 2, [DEFAULT]).after
    assert [one.weight for one in after.members] == [2, 2, 1, 1, 1, 1]


def test_a_host_that_is_all_there_is_cannot_leave() -> None:
    ring = staged(create_ring("c" * 32, workers_of(1, 2), 16))
    with pytest.raises(CallerError, match="these are all members that there are"):
        plan_leave(ring, [1, 2], [Quorum(1, 1, 1)])
