"""Requests across two versions of the ring: nobody sees an error, and nobody acts by a ring that it may forget."""

from __future__ import annotations

from typing import Any

import pytest

from quorate.core.errors import StorageError
from quorate.core.membership.ring_consensus import Assent, Prepare, Promise
from quorate.core.messages import ForwardReply, Message, ReadReply, Status, Write, WriteReply
from quorate.core.ring.transition import Stage
from quorate.core.store import Admin, Failure, GetRequest, GetResult, PutRequest, PutResult, Wish
from quorate.node import ring_keeper
from tests.unit.exchange_cluster import stored_key
from tests.unit.membership_cluster import KEYS, MembershipCluster

LAGGARD = 3
LEAVE = Wish("leave", "n5")
BROKEN = StorageError("EIO: input/output error")


def behind(wish: Wish = LEAVE, finished: bool = False) -> MembershipCluster:
    """A plan has begun, or passed, and `LAGGARD` has not heard of it: it connects again this moment."""
    cluster = MembershipCluster(5)
    cluster.stock()
    if wish.by:
        cluster.wait_to_join(6)
        cluster._cut |= {(LAGGARD, 6), (6, LAGGARD)}
    for number in cluster.nodes:
        if number != LAGGARD:
            cluster.cut(LAGGARD, number)
    cluster.begin(1, wish)
    cluster.until_stage(Stage.READ_OLD)
    if finished:
        cluster.until_stage(None)
        cluster.run_until(lambda: cluster.stage(1) is None, "the others finish without it")
    cluster.world.run(20)
    cluster.sent.clear()
    cluster.heal()
    assert [cluster.nodes[number].ring().version for number in (LAGGARD, 1)] == [1, 4 if finished else 2]
    return cluster


def said_by(cluster: MembershipCluster, number: int, kind: type[Any]) -> list[Any]:
    return [message for sender, _, message in cluster.sent if sender == number and isinstance(message, kind)]


@pytest.mark.parametrize("coordinates", [True, False])
@pytest.mark.parametrize("what", ["get", "put"])
def test_a_coordinator_that_is_behind_does_what_it_was_asked_without_an_error(what: str, coordinates: bool) -> None:
    cluster = behind()
    keys = [key for key in KEYS if (LAGGARD in cluster.preference_list(key)[0]) == coordinates]
    answers: list[Any] = []
    for key in keys:
        if what == "get":
            cluster.nodes[LAGGARD].get(GetRequest(b"b", key, 3), answers.append)
        else:
            request = PutRequest(b"b", key, b"new", w=3, overwrite_seen=True)
            cluster.nodes[LAGGARD].put(request, answers.append)
    cluster.world.run(1_000)
    assert len(answers) == len(keys) > 3
    for answer in answers:
        assert isinstance(answer, GetResult if what == "get" else PutResult), answer
    if coordinates:
        assert cluster.counter("requests_begun_again") > 0
        assert cluster.counter("requests_of_an_older_ring") > 0
    cluster.check_agreement()
    for key in KEYS:
        expected = [b"new"] if what == "put" and key in keys else [b"v-" + key]
        assert cluster.read(LAGGARD, key, 2) == expected


@pytest.mark.parametrize("what", ["get", "put"])
def test_a_forward_to_a_node_that_coordinates_no_more_is_placed_anew(what: str) -> None:
    """The sender has missed a whole plan, and hands requests to replicas that have been relieved."""
    cluster = behind(wish=Wish("replace", "n5", by="n6"), finished=True)
    answers: list[Any] = []
    for key in KEYS:
        if what == "get":
            cluster.nodes[LAGGARD].get(GetRequest(b"b", key, 2), answers.append)
        else:
            cluster.nodes[LAGGARD].put(PutRequest(b"b", key, b"new", w=2, overwrite_seen=True), answers.append)
    cluster.world.run(1_000)
    replies = [message.result for _, _, message in cluster.sent if isinstance(message, ForwardReply)]
    assert any(isinstance(result, Failure) and result.kind == "stale" for result in replies)
    assert len(answers) == len(KEYS)
    for answer in answers:
        assert isinstance(answer, GetResult if what == "get" else PutResult), answer
    cluster.run_until(lambda: cluster.ended == [5], "the one that was replaced ends")
    cluster.check_agreement()
    cluster.check_data(KEYS, lambda key: b"new" if what == "put" else b"v-" + key)
    cluster.check_places()


def test_a_replica_that_is_behind_takes_the_ring_over_before_it_answers() -> None:
    cluster = behind()
    key = next(key for key in KEYS if cluster.preference_list(key)[0][:2] == [1, LAGGARD])
    engine = cluster.engines[LAGGARD]
    engine.held_syncs = []
    answers: list[Any] = []
    cluster.nodes[1].put(PutRequest(b"b", key, b"new", w=3, overwrite_seen=True), answers.append)
    cluster.nodes[1].get(GetRequest(b"b", key, 3), answers.append)
    cluster.world.run(50)
    node = cluster.nodes[LAGGARD]
    assert node.ring().version == 1 and engine.held_syncs, "the ring is there, and not durable"
    assert said_by(cluster, LAGGARD, WriteReply) == said_by(cluster, LAGGARD, ReadReply) == []
    assert cluster.counter("requests_parked") > 0
    held, engine.held_syncs = engine.held_syncs, None
    for done in held:
        done(None)
    cluster.world.run(50)
    assert node.ring().version == 2
    assert {type(answer) for answer in answers} == {PutResult, GetResult}
    assert all(reply.status == Status.OK for reply in said_by(cluster, LAGGARD, WriteReply))


@pytest.mark.parametrize("where", ["write", "sync"])
def test_a_disk_that_fails_at_the_ledger_fences_the_node(where: str) -> None:
    cluster = behind()
    engine = cluster.engines[LAGGARD]
    if where == "write":
        engine.failure = BROKEN
    else:
        engine.held_syncs = []
    key = next(key for key in KEYS if LAGGARD in cluster.preference_list(key)[0][1:])
    answers: list[Any] = []
    cluster.nodes[1].put(PutRequest(b"b", key, b"new", w=3, overwrite_seen=True), answers.append)
    cluster.world.run(20)
    for done in engine.held_syncs or []:
        done(BROKEN)
    cluster.world.run(20)
    node = cluster.nodes[LAGGARD]
    assert "EIO" in node._shared.fenced_because
    assert node.ring().version == 1, "it goes by what it could write down"
    assert said_by(cluster, LAGGARD, WriteReply) == []
    engine.failure, engine.held_syncs = None, None
    cluster.kill(LAGGARD)
    cluster.join(LAGGARD)
    cluster.check_agreement()


@pytest.mark.parametrize("number", [1, 2])
def test_no_vote_leaves_a_node_before_it_is_durable(number: int) -> None:
    """Neither the proposer's own nor another's."""
    cluster = MembershipCluster(3)
    cluster.kill(3)
    engine = cluster.engines[number]
    engine.held_syncs = []
    answers: list[Admin | Failure] = []
    cluster.nodes[1].set_bucket(b"b", {"ttl": "9"}, answers.append)
    cluster.world.run(50)
    assert engine.held_syncs
    assert [said_by(cluster, number, kind) for kind in (Promise, Assent, Prepare)] == [[], [], []]
    released = 0
    while not answers:
        held, engine.held_syncs = engine.held_syncs, []
        for done in held:
            released += 1
            done(None)
        cluster.world.run(50)
    assert isinstance(answers[0], Admin) and released >= 2


def write_of(cluster: MembershipCluster, number: int, remaining_ms: int = 1_000) -> Message:
    return Write(number, remaining_ms, 99, stored_key(cluster, b"k1"), b"x" * 100, 0)


def test_what_is_parked_is_bounded_in_number_and_bytes_and_time(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = MembershipCluster(3)
    counters = cluster.nodes[2]._shared.counters
    monkeypatch.setattr(ring_keeper, "PARKED_MESSAGES_MAX", 5)
    for number in range(8):
        cluster.nodes[2].on_message(1, write_of(cluster, number), 0.0)
    assert (counters["requests_parked"], counters["requests_not_parked"]) == (5, 3)
    cluster.world.run(ring_keeper.PARKED_MAX_MS + 10)
    monkeypatch.setattr(ring_keeper, "PARKED_MESSAGES_MAX", 50)
    monkeypatch.setattr(ring_keeper, "PARKED_BYTES_MAX", 250)
    for number in range(8):
        cluster.nodes[2].on_message(1, write_of(cluster, number), 0.0)
    assert (counters["requests_parked"], counters["requests_not_parked"]) == (7, 9), "the old ones are gone"


def test_what_was_parked_past_its_deadline_is_dropped() -> None:
    cluster = behind()
    key = stored_key(cluster, KEYS[0])
    engine = cluster.engines[LAGGARD]
    engine.held_syncs = []
    stored = cluster.engines[1].data
    body = next(value for (_, place), value in stored.items() if place == key)
    cluster.nodes[LAGGARD].on_message(1, Write(5, 100, 2, key, body, 0), 0.0)
    cluster.world.run(150)
    for done in engine.held_syncs:
        done(None)
    cluster.world.run(5)
    assert cluster.nodes[LAGGARD].ring().version == 2
    assert cluster.nodes[LAGGARD]._shared.counters["expired_requests_dropped"] == 1
    assert said_by(cluster, LAGGARD, WriteReply) == []
