"""Buckets, the state of the cluster, and operators' actions over HTTP."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from quorate.api.http.cluster import hints_document
from quorate.core.store import Admin, Failure, Wish
from tests.unit.http_session import KEY, Session, run


def test_buckets_are_shown_and_changed() -> None:
    async def story(http: Session) -> None:
        none = (await http.get("/v1/buckets")).json()
        assert none["buckets"] == []
        assert none["defaults"]["n"] == 3
        changed = await http.ask("PUT", "/v1/buckets/carts", b'{"n":5,"strict":true,"conflicts":"lww"}', JSON)
        assert changed.status == 200
        assert changed.json()["properties"] == {**none["defaults"], "n": 5, "strict": True, "conflicts": "lww"}
        assert (await http.get("/v1/buckets/carts")).json() == changed.json()
        await http.ask("PUT", "/v1/buckets/%ff", b'{"ttl":60}', JSON)
        listed = (await http.get("/v1/buckets")).json()["buckets"]
        assert [bucket["bucket"] for bucket in listed] == ["carts", {"base64": "/w=="}]
        assert (await http.get("/v1/buckets/other")).json()["properties"] == none["defaults"]

    run(story)


JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{}", 400),
        (b'{"n":0}', 400),
        (b'{"n":"3"}', 400),
        (b'{"n":1,"r":2}', 400),
        (b'{"conflicts":"last"}', 400),
        (b'{"m":1}', 400),
        (b"[]", 400),
        (b"", 400),
        (b"[" * 100_000, 400),
        (b" " * 300_000, 413),
    ],
)
def test_bad_properties_are_refused(body: bytes, status: int) -> None:
    async def story(http: Session) -> None:
        assert (await http.ask("PUT", "/v1/buckets/carts", body, JSON)).status == status
        assert (await http.ask("PUT", "/v1/buckets/carts", b'{"n":1}', {"Content-Type": "text/plain"})).status == 415
        assert http.store.data.buckets == {}

    run(story)


def test_keys_come_page_by_page() -> None:
    async def story(http: Session) -> None:
        for key in ("a1", "a2", "a%FF", "b", "a%2B"):
            await http.put(f"/v1/buckets/carts/keys/{key}")
        found: list[Any] = []
        cursor = ""
        for _ in range(3):
            page = (await http.get(f"/v1/buckets/carts/keys?prefix=a&limit=2{cursor}")).json()
            found += page["keys"]
            cursor = f"&cursor={page['cursor']}"
            if page["cursor"] is None:
                break
        assert found == ["a+", "a1", "a2", {"base64": "Yf8="}]
        assert (await http.get("/v1/buckets/carts/keys?prefix=a%2B")).json()["keys"] == ["a+"]
        assert (await http.get("/v1/buckets/carts/keys?prefix=%FF")).json()["keys"] == []
        for bad in ("limit=0", "limit=1001", "cursor=%FF", "prefix=" + "x" * 1025):
            assert (await http.get(f"/v1/buckets/carts/keys?{bad}")).status == 400

    run(story)


def test_a_key_that_is_named_like_a_call_is_a_key() -> None:
    async def story(http: Session) -> None:
        assert (await http.put("/v1/buckets/keys/keys/keys")).status == 204
        assert (await http.get("/v1/buckets/keys/keys")).json()["keys"] == ["keys"]

    run(story)


def test_the_state_of_the_cluster_is_shown() -> None:
    async def story(http: Session) -> None:
        ring = (await http.get("/v1/cluster/ring")).json()
        assert (ring["version"], ring["partitions"], len(ring["owners"])) == (1, 64, 64)
        assert [member["name"] for member in ring["members"]] == ["n1", "n2", "n3"]
        assert len((await http.get("/v1/cluster/members")).json()["members"]) == 3
        assert (await http.get("/v1/cluster/transfers")).json()["plan"] is None
        assert (await http.get("/v1/cluster/repair")).json() == {"state": "idle"}
        assert (await http.get("/v1/cluster/staleness")).json() == {"bucket": None, "ready": False}
        assert (await http.get("/v1/cluster/staleness?bucket=carts")).json()["bucket"] == "carts"
        assert (await http.get("/v1/cluster/staleness?bucket=a%3Ab")).status == 400
        assert (await http.get("/v1/where/carts/a%2Fb")).json() == {"bucket": "carts", "key": "a/b"}
        http.store.fail_next = [Failure("unavailable", "no majority")]
        assert (await http.get("/v1/cluster")).status == 503

    run(story)


def test_a_holder_that_does_not_answer_is_null_and_not_nothing() -> None:
    kept = {"bytes": 7, "bytes_max": 99, "homes": {"n3": {"hints": 2, "bytes": 7}}}
    status = {
        "members": [
            {"name": "n1", "report": {"hints": kept}},
            {"name": "n2", "report": {"hints": {**kept, "homes": {"n3": {"hints": 1, "bytes": 1}}}}},
            {"name": "n3", "report": {"state": "unreachable"}},
        ]
    }
    document = hints_document(status)
    assert (document["hints"], document["bytes"], document["homes"]) == (3, 8, {"n3": {"hints": 3, "bytes": 8}})
    assert document["nodes"]["n3"] is None


@pytest.mark.parametrize(
    ("kind", "fields", "wish"),
    [
        ("join", {"node": "n4"}, Wish("join", "n4")),
        ("leave", {"node": "n2"}, Wish("leave", "n2")),
        ("leave", {"node": "n2", "stopped": True}, Wish("leave", "n2", stopped=True)),
        ("replace", {"node": "n2", "by": "n4"}, Wish("replace", "n2", by="n4")),
        ("weight", {"node": "n2", "weight": 3}, Wish("weight", "n2", weight=3)),
    ],
)
def test_a_change_of_membership_is_planned_and_then_committed(kind: str, fields: dict[str, Any], wish: Wish) -> None:
    async def story(http: Session) -> None:
        http.store.data.candidates = ["n4"]
        planned = await http.post(f"/v1/cluster/{kind}", fields)
        assert planned.status == 200
        assert http.store.requests == [wish]
        assert http.store.data.plan is None, "a plan changes nothing"
        wrong = await http.post(f"/v1/cluster/{kind}", {**fields, "commit": "feedbeef"})
        assert wrong.status == 409
        begun = await http.post(f"/v1/cluster/{kind}", {**fields, "commit": planned.json()["id"]})
        assert begun.status == 202
        assert begun.json()["plan"] == http.store.data.plan == planned.json()["id"]

    run(story)


def test_what_the_cluster_cannot_do_is_409_and_what_nobody_can_read_is_400() -> None:
    async def story(http: Session) -> None:
        assert (await http.post("/v1/cluster/join", {"node": "nobody"})).status == 409
        for document in ({}, {"node": ""}, {"node": "x" * 257}, {"node": 4}, {"node": "n4", "commt": "x"}):
            assert (await http.post("/v1/cluster/join", document)).status == 400
        assert (await http.post("/v1/cluster/join", {"node": "n4", "commit": "no id!"})).status == 400
        assert (await http.post("/v1/cluster/weight", {"node": "n1", "weight": 0})).status == 400
        http.store.fail_next = [Failure("unknown", "no majority in time")]
        assert (await http.post("/v1/cluster/leave", {"node": "n1", "commit": "x"})).status == 504

    run(story)


def test_an_abort_is_planned_and_then_committed() -> None:
    async def story(http: Session) -> None:
        assert (await http.post("/v1/cluster/abort", {})).status == 409
        http.store.data.plan = "first"
        planned = (await http.post("/v1/cluster/abort", {})).json()
        assert planned["kind"] == "abort"
        assert http.store.data.plan == "first"
        http.store.data.plan = "second"
        assert (await http.post("/v1/cluster/abort", {"commit": planned["id"]})).status == 409
        assert http.store.data.plan == "second", "an abort takes back the plan that was looked at"
        http.store.data.plan = "first"
        http.store.data.ring = msgspec.structs.replace(http.store.data.ring, version=2)
        begun = await http.post("/v1/cluster/abort", {"commit": planned["id"]})
        assert begun.status == 202, "a plan under way makes new versions of the ring, and is the same plan"
        assert http.store.data.plan is None

    run(story)


def test_a_force_is_planned_and_then_committed() -> None:
    async def story(http: Session) -> None:
        planned = (await http.post("/v1/cluster/force", {"lost": ["n2", "n3"]})).json()
        assert "n1: what is left" in planned["warnings"][1]
        assert http.store.data.lost == []
        for document in ({"lost": ["n2"], "commit": planned["id"]}, {"lost": ["n9"]}):
            assert (await http.post("/v1/cluster/force", document)).status == 409
        assert (await http.post("/v1/cluster/force", {"lost": []})).status == 400
        http.store.data.ring = msgspec.structs.replace(http.store.data.ring, version=2)
        outdated = await http.post("/v1/cluster/force", {"lost": ["n2", "n3"], "commit": planned["id"]})
        assert outdated.status == 409, "the members may be others by now"
        planned = (await http.post("/v1/cluster/force", {"lost": ["n2", "n3"]})).json()
        done = await http.post("/v1/cluster/force", {"lost": ["n3", "n2"], "commit": planned["id"]})
        assert done.status == 202
        assert http.store.data.lost == ["n2", "n3"]

    run(story)


@pytest.mark.parametrize(("fields", "bucket"), [({}, b""), ({"bucket": "carts"}, b"carts")])
def test_a_repair_is_planned_and_then_committed(fields: dict[str, str], bucket: bytes) -> None:
    async def story(http: Session) -> None:
        planned = (await http.post("/v1/cluster/repair", fields)).json()
        assert http.store.repaired == []
        other = {"bucket": "other", "commit": planned["id"]}
        assert (await http.post("/v1/cluster/repair", other)).status == 409
        begun = await http.post("/v1/cluster/repair", {**fields, "commit": planned["id"]})
        assert (begun.status, begun.json()) == (202, {"state": "done"})
        assert http.store.repaired == [bucket]
        assert (await http.post("/v1/cluster/repair", {"bucket": "a:b"})).status == 400

    run(story)


def test_nothing_is_changed_by_get() -> None:
    async def story(http: Session) -> None:
        for action in ("join", "leave", "replace", "weight", "abort", "force"):
            reply = await http.get(f"/v1/cluster/{action}")
            assert (reply.status, reply.headers["Allow"]) == (405, "POST")
        assert (await http.ask("POST", KEY, b"x")).status == 405
        assert http.store.requests == []

    run(story)


def test_a_node_that_is_fenced_or_stopping_is_alive_and_not_ready() -> None:
    async def story(http: Session) -> None:
        for path in ("/healthz", "/readyz"):
            assert (await http.get(path)).json() == {"status": "ok"}
        http.store.data.down.add(1)
        assert (await http.get("/healthz")).status == 200
        fenced = await http.get("/readyz")
        assert (fenced.status, fenced.headers["Retry-After"]) == (503, "1")
        http.store.data.down.clear()
        http.server.closing = True
        assert (await http.get("/readyz")).status == 503

    run(story)


def test_a_document_of_a_newer_node_is_passed_on_whole() -> None:
    async def story(http: Session) -> None:
        http.store.status = lambda reply: reply(Admin({"new": {"field": 1}}))  # type: ignore[method-assign]
        assert (await http.get("/v1/cluster")).json() == {"new": {"field": 1}}

    run(story)
