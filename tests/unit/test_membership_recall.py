"""A member that lost its disk serves nothing until it is told how the cluster stands, and then by the newest ring."""

from __future__ import annotations

from typing import Any

import pytest

from quorate.core.errors import StorageError
from quorate.core.membership.ring_ledger import Memory
from quorate.core.messages import Offer, OfferReply, Read, ReadReply, Status, Write, WriteReply
from quorate.core.store import Admin, Failure, KeysRequest, Wish
from quorate.node.coordinator import NOT_TOLD
from quorate.node.recall import PATIENCE_MS
from tests.unit.exchange_cluster import stored_key
from tests.unit.membership_cluster import KEYS, MembershipCluster

WIPED = 2


def told(cluster: MembershipCluster, number: int = WIPED) -> bool:
    return cluster.nodes[number]._shared.view.told


def memory(cluster: MembershipCluster, number: int = WIPED) -> Memory:
    return cluster.nodes[number]._shared.rings.chain.memory


def stocked(size: int = 3) -> MembershipCluster:
    cluster = MembershipCluster(size)
    cluster.stock()
    return cluster


def alone(cluster: MembershipCluster) -> None:
    """The wiped member is back, and nobody can be reached."""
    cluster.wipe(WIPED)
    cluster._cut |= {pair for number in cluster.nodes if number != WIPED for pair in ((number, WIPED), (WIPED, number))}
    cluster.join(WIPED)


def set_ttl(cluster: MembershipCluster, node: int, ttl: int) -> Admin | Failure:
    result: Admin | Failure = cluster.call(lambda reply: cluster.nodes[node].set_bucket(b"b", {"ttl": f"{ttl}"}, reply))
    return result


def test_until_it_is_told_it_serves_nothing() -> None:
    cluster = stocked()
    alone(cluster)
    node = cluster.nodes[WIPED]
    plan = Wish("leave", "n1")
    calls: list[Any] = [
        cluster.get(WIPED, KEYS[0], 1),
        cluster.put(WIPED, KEYS[0], b"new", w=1),
        cluster.call(lambda reply: node.keys(KeysRequest(b"b"), reply)),
        set_ttl(cluster, WIPED, 9),
        cluster.call(lambda reply: node.commit(plan, "0" * 16, reply)),
        cluster.call(node.abort),
    ]
    for result in calls:
        assert isinstance(result, Failure) and result.kind == "unavailable", result
    assert sum(result.message == NOT_TOLD for result in calls) >= 5
    cluster._cut.clear()
    cluster.muted = {1, 3}  # It hears requests, and no answers.
    cluster.sent.clear()
    key = stored_key(cluster, KEYS[0])
    body = next(value for (_, place), value in cluster.engines[1].data.items() if place == key)
    node.on_message(1, Write(5, 1_000, 1, key, body, 0), 0.0)
    node.on_message(1, Read(6, 1_000, 1, key, True), 0.0)
    node.on_message(1, Offer(7, 1_000, 1, [(key, 1)]), 0.0)
    replies = [message for sender, _, message in cluster.sent if sender == WIPED]
    assert WriteReply(5, Status.FENCED) in replies
    assert ReadReply(6, Status.NOT_READY) in replies
    assert OfferReply(7, Status.FENCED, []) in replies
    cluster.world.run(2 * PATIENCE_MS)
    assert not told(cluster)


def test_it_serves_by_the_newest_ring_once_all_have_told_it() -> None:
    cluster = stocked()
    cluster.wipe(WIPED)
    for ttl in (7, 8):
        assert isinstance(set_ttl(cluster, 1, ttl), Admin)
    cluster.join(WIPED)
    assert cluster.nodes[WIPED].ring().version == 1 and not told(cluster)
    seen: list[tuple[bool, int]] = []
    for _ in range(100):
        seen.append((told(cluster), cluster.nodes[WIPED].ring().version))
        cluster.world.run(1)
    assert not any(served and version < 3 for served, version in seen), "never by an older one"
    assert seen[-1] == (True, 3)
    assert cluster.nodes[WIPED].bucket_properties(b"b").ttl == 8
    assert memory(cluster) is Memory.RECALLED
    assert isinstance(set_ttl(cluster, WIPED, 9), Admin)
    cluster.world.run(20_000)
    cluster.check_agreement()


def test_when_one_stays_out_of_reach_patience_ends_and_it_serves_and_does_not_vote() -> None:
    cluster = stocked()
    cluster.wipe(WIPED)
    cluster.kill(3)
    cluster.join(WIPED)
    cluster.world.run(PATIENCE_MS - 500)
    assert not told(cluster)
    cluster.world.run(1_000)
    assert told(cluster) and memory(cluster) is Memory.LOST
    assert not isinstance(cluster.put(WIPED, b"new", b"v", w=2), Failure)
    refused = set_ttl(cluster, WIPED, 9)
    assert isinstance(refused, Failure) and "no vote" in refused.message
    answers: list[Admin | Failure] = []
    cluster.nodes[1].set_bucket(b"b", {"ttl": "9"}, answers.append)
    cluster.world.run(20_000)
    assert answers == [], "one vote of three decides nothing"
    cluster.join(3)
    cluster.run_until(lambda: bool(answers), "the third one's vote decides it", 120_000)
    assert isinstance(answers[0], Admin)
    cluster.run_until(lambda: memory(cluster) is not Memory.LOST, "and the wiped one votes again")
    assert isinstance(set_ttl(cluster, WIPED, 10), Admin)
    cluster.check_agreement()


def test_a_minority_is_not_enough_whatever_the_patience() -> None:
    cluster = stocked(5)
    cluster.wipe(WIPED)
    for number in (3, 4, 5):
        cluster.kill(number)
    cluster.join(WIPED)
    cluster.world.run(10 * PATIENCE_MS)
    assert not told(cluster)
    cluster.join(3)
    cluster.run_until(lambda: told(cluster), "one more makes a majority")


def test_a_restart_makes_nothing_known() -> None:
    cluster = stocked()
    alone(cluster)
    for _ in range(2):
        cluster.world.run(1_000)
        cluster.kill(WIPED)
        cluster.join(WIPED)
        assert not told(cluster) and memory(cluster) is Memory.LOST
    cluster._cut.clear()
    cluster.kill(WIPED)
    cluster.join(WIPED)
    cluster.run_until(lambda: told(cluster), "it is told")


@pytest.mark.parametrize("where", ["write", "sync"])
def test_what_it_was_told_is_durable_before_it_serves(where: str) -> None:
    cluster = stocked()
    cluster.wipe(WIPED)
    cluster.join(WIPED)
    engine = cluster.engines[WIPED]
    engine.held_syncs = []
    if where == "write":
        engine.failure = StorageError("EIO: input/output error")
    cluster.world.run(500)
    assert not told(cluster)
    for done in engine.held_syncs:
        done(StorageError("EIO: input/output error"))
    cluster.world.run(2 * PATIENCE_MS)
    assert not told(cluster) and "EIO" in cluster.nodes[WIPED]._shared.fenced_because
