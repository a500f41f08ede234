"""The commands that change who belongs to the cluster, and what Redis clients see of it meanwhile."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import msgspec
import pytest

from quorate.api.resp.commands.membership import NAME_BYTES_MAX, WISH_BYTES_MAX
from quorate.core.buckets import BucketProperties
from quorate.core.ring.metadata import read_ring
from quorate.core.ring.ring import Member
from quorate.core.ring.transition import Side, StagedRing, abort, begin, next_stage, staged
from quorate.core.store import Failure, Wish
from tests.unit.fake_store import members_of
from tests.unit.resp_session import Session

JOIN = {"kind": "join", "node": "n4"}


def changing(session: Session) -> StagedRing:
    """A ring in which n4 comes and n1 goes: n4 takes over what n1 owns."""
    ring = staged(session.store.ring())
    *_, newcomer = members_of([7401, 7402, 7403, 7404])
    owners = [4 if owner == 1 else owner for owner in ring.owners]
    return begin(ring, "plan", Side([*ring.members[1:], newcomer], owners), [])


def ports(session: Session) -> set[int]:
    """The client ports of all that CLUSTER SLOTS names."""
    return {node[1] for _, _, node in session.call("CLUSTER", "SLOTS")}


def test_a_plan_is_shown_begun_and_taken_back() -> None:
    session = Session()
    session.store.data.candidates.append("n4")
    planned = json.loads(session.call("KV.PLAN", json.dumps(JOIN)))
    assert session.store.requests == [Wish("join", "n4")]
    assert json.loads(session.call("KV.TRANSFERS"))["plan"] is None
    begun = json.loads(session.call("KV.COMMIT", planned["id"], json.dumps(JOIN)))
    assert begun["plan"] == planned["id"]
    assert json.loads(session.call("KV.TRANSFERS")) == begun
    assert json.loads(session.call("KV.ABORT"))["plan"] is None
    assert "nothing to abort" in session.error("KV.ABORT")


def test_every_field_of_a_wish_arrives() -> None:
    session = Session()
    wish = Wish("replace", "n1", by="n5", stopped=True)
    session.call("KV.PLAN", msgspec.json.encode(wish))
    session.call("KV.PLAN", msgspec.json.encode(Wish("weight", "n1", weight=3)))
    session.call("KV.COMMIT", "abc", msgspec.json.encode(wish))
    assert session.store.requests == [wish, Wish("weight", "n1", weight=3), (wish, "abc")]


def test_members_and_lost_ones() -> None:
    session = Session()
    assert [member["name"] for member in json.loads(session.call("KV.MEMBERS"))["members"]] == ["n1", "n2", "n3"]
    assert json.loads(session.call("KV.FORCE", '["n1", "n2"]'))["forced"]
    assert session.store.data.lost == ["n1", "n2"]


@pytest.mark.parametrize(
    "command", [["KV.PLAN", json.dumps(JOIN)], ["KV.ABORT"], ["KV.FORCE", '["n1"]'], ["KV.MEMBERS"]]
)
def test_failures_of_the_store_are_told(command: list[str]) -> None:
    session = Session()
    session.store.fail_next.append(Failure("unavailable", "no majority answers", ["n2", "n3"]))
    assert session.error(*command) == "UNAVAILABLE no majority answers (no answer from n2, n3)"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["KV.PLAN", "{"], "a wish, such as"),
        (["KV.PLAN", "[" * 900], "a wish, such as"),
        (["KV.PLAN", '{"kind": "join"}'], "missing required field `node`"),
        (["KV.PLAN", '{"kind": "jion", "node": "n4"}'], "Invalid enum value 'jion'"),
        (["KV.PLAN", '{"kind": "join", "node": "n4", "wieght": 2}'], "unknown field `wieght`"),
        (["KV.PLAN", '{"kind": "weight", "node": "n4", "weight": "2"}'], "Expected `int`"),
        (["KV.PLAN", '{"kind": "leave", "node": "n4", "stopped": 1}'], "Expected `bool`"),
        (["KV.PLAN", '{"kind": "join", "node": ""}'], "'node' has to be the name"),
        (["KV.PLAN", '{"kind": "replace", "node": "n4"}'], "'by' has to be the name"),
        (["KV.PLAN", json.dumps({"kind": "join", "node": "n" * (NAME_BYTES_MAX + 1)})], "'node' has to be the name"),
        (["KV.PLAN", " " * (WISH_BYTES_MAX + 1)], f"at most {WISH_BYTES_MAX} bytes"),
        (["KV.COMMIT", "", json.dumps(JOIN)], "the id that KV.PLAN gave"),
        (["KV.COMMIT", "x" * 65, json.dumps(JOIN)], "the id that KV.PLAN gave"),
        (["KV.COMMIT", "abc"], "wrong number of arguments"),
        (["KV.FORCE", "n1"], "the lost members, such as"),
        (["KV.FORCE", "[]"], "which members are lost"),
        (["KV.FORCE", '["n1", ""]'], "a lost member has to be the name"),
        (["KV.FORCE", "[1]"], "Expected `str`"),
        (["KV.TRANSFERS", "x"], "wrong number of arguments"),
    ],
)
def test_wrong_input_is_named_and_reaches_no_store(arguments: list[str], message: str) -> None:
    session = Session()
    error = session.error(*arguments)
    assert error.startswith("ERR ")
    assert message in error
    assert session.store.requests == []
    assert session.call("PING") == b"PONG"


def test_redis_clients_see_the_side_that_is_read() -> None:
    session = Session()
    ring = changing(session)
    session.store.data.ring = ring
    assert len(ring.members) == 4
    assert ports(session) == {7401, 7402, 7403}, "n4 is being filled, and nobody reads from it"
    assert session.call("CLUSTER", "NODES").count(b"\n") == 3
    session.store.data.ring = next_stage(ring)
    assert ports(session) == {7402, 7403, 7404}
    session.store.data.ring = next_stage(next_stage(ring))
    assert ports(session) == {7402, 7403, 7404}
    session.store.data.ring = abort(ring)
    assert ports(session) == {7401, 7402, 7403}


def test_slots_follow_the_owners_of_the_side_that_is_read() -> None:
    session = Session()
    for ring in (changing(session), next_stage(changing(session))):
        session.store.data.ring = ring
        slots: Counter[int] = Counter()
        for first, last, node in session.call("CLUSTER", "SLOTS"):
            slots[node[1] - 7400] += last - first + 1
        owned = Counter(read_ring(ring).owners)
        assert {number: count * 256 for number, count in owned.items()} == slots


@pytest.mark.parametrize("number", [1, 4])
def test_a_node_knows_its_own_id_before_it_is_read_and_after_it_has_left(number: int) -> None:
    session = Session()
    session.store.number = number
    ring = changing(session)
    for stage in (ring, next_stage(ring), next_stage(next_stage(ring))):
        session.store.data.ring = stage
        assert session.call("CLUSTER", "MYID") == f"{number:032x}".encode().ljust(40, b"0")


def test_the_ring_is_told_with_the_plan_and_the_defaults() -> None:
    session = Session()
    session.store.data.ring = changing(session)
    session.store.data.buckets[b"default"] = BucketProperties(n=1, r=1, w=1)
    told: dict[str, Any] = json.loads(session.call("KV.RING"))
    assert told["transition"]["plan"] == "plan"
    assert len(told["members"]) == 4
    assert len(told["transition"]["after"]["members"]) == 3
    assert told["default_n"] == 3, "of buckets that were not set, and not of the bucket 'default'"
    member = msgspec.convert(told["members"][3], Member)
    assert member.name == "n4"
