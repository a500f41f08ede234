"""Candidates: who may wait to join, who is refused with which words, and how many are remembered for how long."""

from __future__ import annotations

from typing import Any

import pytest

from quorate.core.messages import Candidacy, CandidacyReply
from quorate.core.store import Failure, Wish
from quorate.node.candidates import CANDIDATES_MAX, SILENT_AFTER_MS
from tests.unit.membership_cluster import MembershipCluster


def candidacy(index: int = 7, **changes: Any) -> Candidacy:
    fields: dict[str, Any] = {
        "id": f"{index:032x}",
        "name": f"n{index}",
        "host": f"h{index}",
        "zone": "z",
        "weight": 1,
        "peer_address": f"127.0.0.1:{7600 + index}",
        "client_address": f"127.0.0.1:{7400 + index}",
        "http_address": f"127.0.0.1:{7500 + index}",
        "software": "1",
        "engine": "dict",
    }
    return Candidacy(**{**fields, **changes})


def ask(cluster: MembershipCluster, message: Candidacy) -> CandidacyReply:
    replies: list[CandidacyReply] = []
    cluster.nodes[1].on_candidacy(message, replies.append)
    assert len(replies) == 1
    return replies[0]


def waiting(cluster: MembershipCluster) -> list[str]:
    return [row["name"] for row in cluster.call(cluster.nodes[1].members).document["candidates"]]


def refusal(cluster: MembershipCluster, wish: Wish) -> str:
    result = cluster.call(lambda reply: cluster.nodes[1].plan(wish, reply))
    assert isinstance(result, Failure) and result.kind == "caller"
    return result.message


def test_a_candidate_is_noted_and_told_where_it_stands() -> None:
    cluster = MembershipCluster(3)
    reply = ask(cluster, candidacy())
    assert (reply.refused, reply.ring) == ("", cluster.founding)
    assert reply.grace_s == cluster.options.grace_ms // 1000
    assert waiting(cluster) == ["n7"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"id": "7"}, "malformed"),
        ({"name": ""}, "malformed"),
        ({"name": "x" * 261}, "malformed"),
        ({"host": "x" * 261}, "malformed"),
        ({"software": "x" * 261}, "malformed"),
        ({"weight": 0}, "weight is from 1"),
        ({"weight": 1_001}, "weight is from 1"),
        ({"peer_address": "nowhere"}, "address"),
        ({"client_address": "127.0.0.1:99999"}, "address"),
        ({"http_address": ""}, "address"),
        ({"peer_address": "h" * 256 + ":7601"}, "more than 260 characters"),
        ({"client_address": "h" * 256 + ":7401"}, "more than 260 characters"),
        ({"http_address": "h" * 256 + ":7501"}, "more than 260 characters"),
        ({"name": "n2"}, "a member called 'n2' exists"),
    ],
)
def test_what_cannot_become_a_member_is_told_why(changes: dict[str, Any], reason: str) -> None:
    cluster = MembershipCluster(3)
    assert reason in ask(cluster, candidacy(**changes)).refused
    assert waiting(cluster) == []


def test_bounds_themselves_are_let_in() -> None:
    cluster = MembershipCluster(3)
    address = "h" * 255 + ":7601"
    bounds: list[dict[str, Any]] = [
        {"weight": 1_000},
        {"host": "x" * 260},
        {"name": "y" * 260},
        {"peer_address": address},
    ]
    for index, changes in enumerate(bounds, 10):
        assert ask(cluster, candidacy(index, **changes)).refused == ""
    assert len(waiting(cluster)) == 4


def test_a_member_that_still_asks_is_told_the_ring_and_not_noted() -> None:
    cluster = MembershipCluster(3)
    assert ask(cluster, candidacy(2)).refused == ""
    assert waiting(cluster) == []


def test_a_node_that_was_removed_is_refused_for_ever() -> None:
    cluster = MembershipCluster(4)
    cluster.begin(1, Wish("leave", "n4"))
    cluster.until_steady()
    assert "was removed" in ask(cluster, candidacy(4)).refused
    assert "was removed" in ask(cluster, candidacy(4, name="other")).refused
    assert "no node called 'n4' waits" in refusal(cluster, Wish("join", "n4"))
    assert ask(cluster, candidacy(8, name="n4")).refused == "", "its name is free again"


def test_who_falls_silent_is_forgotten() -> None:
    cluster = MembershipCluster(3)
    ask(cluster, candidacy())
    cluster.world.run(SILENT_AFTER_MS - 100)
    assert waiting(cluster) == ["n7"]
    cluster.world.run(200)
    assert waiting(cluster) == []
    assert "candidates: none" in refusal(cluster, Wish("join", "n7"))


def test_no_more_are_remembered_than_the_bound_and_those_who_are_stay() -> None:
    cluster = MembershipCluster(3)
    for index in range(10, 10 + CANDIDATES_MAX + 5):
        ask(cluster, candidacy(index))
    assert len(waiting(cluster)) == CANDIDATES_MAX
    cluster.world.run(SILENT_AFTER_MS - 100)
    ask(cluster, candidacy(10))
    cluster.world.run(200)
    assert waiting(cluster) == ["n10"], "who was noted is heard although there is no room"


def test_of_two_with_one_name_the_id_says_which() -> None:
    cluster = MembershipCluster(3)
    ask(cluster, candidacy(7))
    ask(cluster, candidacy(8, name="n7"))
    assert "2 candidates are called 'n7'" in refusal(cluster, Wish("join", "n7"))
    assert cluster.plan(1, Wish("join", f"{8:032x}"))["kind"] == "join"


def test_a_wish_for_somebody_who_is_not_there_says_what_to_do() -> None:
    cluster = MembershipCluster(3)
    message = refusal(cluster, Wish("join", "n9"))
    assert "quorate start --name n9" in message and "127.0.0.1:7601" in message
    assert "there is no member 'n9'; there are: n1, n2, n3" in refusal(cluster, Wish("leave", "n9"))
