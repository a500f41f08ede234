"""When nodes compare by themselves, what they say of it, and `repair` on one node."""

from __future__ import annotations

import json

import pytest

from quorate.core.errors import StorageError
from quorate.core.membership.gossip import GossipSyn
from quorate.core.messages import TreeRoots
from quorate.core.store import Failure
from quorate.node.anti_entropy import MUCH_MOVED, ranges_text
from quorate.node.options import NodeOptions
from quorate.node.steps import Wait, admission, pause, run, together
from tests.unit.exchange_cluster import ROOTS, damage, held, plant, record_of, sent
from tests.unit.small_cluster import SmallCluster
from tests.unit.test_exchange import names


def alike(cluster: SmallCluster) -> bool:
    return all(held(cluster, number) == held(cluster, 1) for number in cluster.nodes)


def test_replicas_become_alike_by_themselves_and_then_only_roots_move_now_and_then() -> None:
    cluster = SmallCluster(anti_entropy=True)
    for index, key in enumerate(names(300)):
        plant(cluster, 1 + index % 3, key, record_of(b"v"))
    cluster.world.run(30_000)
    assert alike(cluster)
    cluster.world.run(30_000)
    cluster.sent.clear()
    cluster.world.run(100_000)
    assert {type(message) for _, _, message in cluster.sent} == {*ROOTS, GossipSyn}
    assert 3 * 6 <= len(sent(cluster, TreeRoots)) <= 3 * 21, "one in an interval of 10 s, jittered, on each node"


def test_each_peer_has_its_turn_and_one_that_returns_comes_first() -> None:
    cluster = SmallCluster(size=4, anti_entropy=True)
    cluster.world.run(120_000)
    asked = [target for sender, target, message in cluster.sent if sender == 1 and isinstance(message, TreeRoots)]
    assert all(sorted(asked[place : place + 3]) == [2, 3, 4] for place in range(len(asked) - 2))
    cluster.kill(3)
    cluster.world.run(5_000)
    cluster.sent.clear()
    cluster.join(3)
    cluster.world.run(2_500)
    asked = [target for sender, target, message in cluster.sent if sender == 1 and isinstance(message, TreeRoots)]
    assert asked[:1] == [3]


def test_a_peer_that_cannot_be_used_is_left_out() -> None:
    cluster = SmallCluster(anti_entropy=True)
    cluster.kill(2)
    cluster.kill(3)
    cluster.world.run(20_000)
    before = cluster.counter("exchanges")
    cluster.world.run(60_000)
    assert cluster.counter("exchanges") == before


def test_much_that_differs_is_followed_up_at_once() -> None:
    cluster = SmallCluster(options=NodeOptions(anti_entropy_interval_ms=1_000_000), anti_entropy=True)
    cluster.world.run(10_000)
    for index, key in enumerate(names(6 * MUCH_MOVED)):
        plant(cluster, 1 + index % 2, key, record_of(b"v"))
    cluster.nodes[3]._anti_entropy._due_ms = 0.0
    cluster.world.run(30_000)
    assert alike(cluster)


def test_a_stopped_or_fenced_node_begins_nothing() -> None:
    cluster = SmallCluster(anti_entropy=True)
    cluster.nodes[1].fence(StorageError("Input/output error"))
    cluster.nodes[2]._anti_entropy.stop()
    cluster.nodes[3].stop()
    cluster.sent.clear()
    cluster.world.run(60_000)
    assert not sent(cluster, TreeRoots)


def test_the_report_tells_when_each_partition_was_compared_and_what_differed() -> None:
    cluster = SmallCluster(partitions=16, anti_entropy=True)
    for number in (1, 2, 3):
        cluster.kill(number)
    cluster.boot(1)
    report = cluster.nodes[1]._inspection.report()["anti_entropy"]
    assert (report["partitions"], report["compared"], report["all_compared_within_s"]) == (16, 0, None)
    cluster.join(2)
    cluster.join(3)
    for key in names(3):
        plant(cluster, 2, key, record_of(b"v"))
    cluster.world.run(60_000)
    report = json.loads(json.dumps(cluster.nodes[1]._inspection.report()["anti_entropy"]))
    assert (report["partitions"], report["compared"], report["unready_trees"]) == (16, 16, 0)
    assert report["all_compared_within_s"] < 30
    (comparisons,) = report["comparisons"].values()
    moved: dict[int, int] = {}
    for entry in comparisons:
        for part in entry["partitions"].split():
            first, _, last = part.partition("-")
            for partition in range(int(first), int(last or first) + 1):
                moved[partition] = entry["received"] + entry["sent"]
        assert (entry["differed_unix_s"] is not None) == (entry["received"] + entry["sent"] > 0)
    assert sorted(moved) == list(range(16))
    assert sum(moved.values()) == report["received"] + report["sent"] > 0


@pytest.mark.parametrize(
    ("numbers", "text"), [([], ""), ([4], "4"), ([1, 2, 3, 7], "1-3 7"), ([0, 2, 3, 5], "0 2-3 5"), ([1, 2], "1-2")]
)
def test_ranges_of_partitions(numbers: list[int], text: str) -> None:
    assert ranges_text(numbers) == text


# --- repair ---


def test_repair_verifies_and_compares_everything_and_tells_how_far_it_is() -> None:
    cluster = SmallCluster(partitions=8)
    for key in names(40):
        cluster.put(1, key, b"v", w=3)
    for key in names(5, b"x"):
        plant(cluster, 1, key, record_of(b"v"))
    for key in names(7, b"y"):
        plant(cluster, 3, key, record_of(b"v"))
    damage(cluster, 1, b"k00011")
    cluster.world.run(10)
    begun = cluster.call(lambda reply: cluster.nodes[1].repair(b"", reply)).document
    assert (begun["state"], begun["complete"]) == ("verifying", False)
    states = []
    while True:
        document = cluster.call(cluster.nodes[1].repair_status).document
        states.append(document["state"])
        if document["state"] == "done":
            break
    assert set(states) <= {"verifying", "comparing", "done"}
    assert document["complete"]
    assert (document["verified"], document["damaged"]) == (8, 1)
    assert document["received"] == 1 + 7
    assert document["sent"] == 5 + 5
    assert {name: peer["state"] for name, peer in document["peers"].items()} == {"n2": "done", "n3": "done"}
    json.dumps(document)
    cluster.nodes[2].repair(b"", lambda result: None)
    cluster.world.run(10_000)
    assert alike(cluster), "what node 3 alone had came to node 1 after that had compared with node 2"


def test_repair_without_a_peer_says_that_it_is_not_complete() -> None:
    cluster = SmallCluster()
    cluster.kill(2)
    cluster.nodes[1].repair(b"", lambda result: None)
    cluster.world.run(30_000)
    document = cluster.call(cluster.nodes[1].repair_status).document
    assert (document["state"], document["complete"]) == ("done", False)
    assert {name: peer["state"] for name, peer in document["peers"].items()} == {"n2": "unreachable", "n3": "done"}


def test_repair_waits_for_a_peer_that_is_making_its_trees_anew() -> None:
    cluster = SmallCluster(size=2)
    trees = cluster.nodes[2]._shared.trees
    trees._walking = True
    trees.rebuild(3)
    cluster.nodes[1].repair(b"", lambda result: None)
    cluster.world.run(5_000)
    document = cluster.call(cluster.nodes[1].repair_status).document
    assert document["state"] == "comparing"
    trees._walking = False
    trees._walk_soon()
    cluster.world.run(5_000)
    document = cluster.call(cluster.nodes[1].repair_status).document
    assert document["complete"]


def test_repair_of_one_bucket_leaves_the_others_and_runs_once_at_a_time() -> None:
    cluster = SmallCluster(size=2, partitions=4)
    for bucket in (b"carts", b"other"):
        for key in names(20):
            plant(cluster, 2, key, record_of(b"v"), bucket)
    cluster.nodes[1].repair(b"carts", lambda result: None)
    cluster.nodes[1].repair(b"", lambda result: None)
    cluster.world.run(10_000)
    document = cluster.call(cluster.nodes[1].repair_status).document
    assert (document["bucket"], document["complete"], document["received"]) == ("carts", True, 20)


def test_repair_waits_for_the_exchange_that_is_under_way() -> None:
    cluster = SmallCluster(anti_entropy=True)
    cluster.muted = {2, 3}
    while cluster.nodes[1]._anti_entropy._exchange is None:
        cluster.world.run(100)
    cluster.muted = set()
    cluster.nodes[1].repair(b"", lambda result: None)
    cluster.world.run(2_000)
    assert cluster.call(cluster.nodes[1].repair_status).document["state"] == "verifying"
    cluster.world.run(20_000)
    assert cluster.call(cluster.nodes[1].repair_status).document["complete"]


def test_a_fenced_node_refuses_to_repair() -> None:
    cluster = SmallCluster()
    cluster.nodes[1].fence(StorageError("Input/output error"))
    found = cluster.call(lambda reply: cluster.nodes[1].repair(b"", reply))
    assert isinstance(found, Failure)
    assert "Input/output error" in found.message


def test_a_node_that_is_fenced_during_its_repair_says_so() -> None:
    cluster = SmallCluster()
    cluster.nodes[1]._shared.trees._walking = True
    cluster.nodes[1].repair(b"", lambda result: None)
    cluster.nodes[1].fence(StorageError("Input/output error"))
    cluster.world.run(1_000)
    document = cluster.call(cluster.nodes[1].repair_status).document
    assert (document["state"], document["complete"]) == ("failed", False)
    assert "Input/output error" in document["reason"]


# --- steps ---


def test_steps_run_in_order_and_a_thousand_that_end_at_once_take_no_stack() -> None:
    cluster = SmallCluster()
    shared = cluster.nodes[1]._shared
    done: list[int] = []

    async def count() -> int:
        total = 0
        for number in range(5_000):
            total += await Wait(lambda resume, number=number: resume(number))  # type: ignore[misc]
        await pause(shared, 0)
        await pause(shared, 25)
        await admission(shared, 3)
        return total

    begin_ms = cluster.world.now_ms
    run(count(), done.append)
    assert not done
    while not done:
        cluster.world.run(1)
    assert done == [sum(range(5_000))]
    assert cluster.world.now_ms - begin_ms >= 25


def test_together_waits_for_all_and_keeps_their_order() -> None:
    resumes = []
    done: list[list[int]] = []

    async def both() -> list[int]:
        return await together([Wait(resumes.append), Wait(lambda resume: resume(1)), Wait(resumes.append)])

    run(both(), done.append)
    resumes[1](2)
    assert not done
    resumes[0](0)
    assert done == [[0, 1, 2]]
    run(together_of_none(), done.append)
    assert done[1] == []


async def together_of_none() -> list[int]:
    return await together([])
