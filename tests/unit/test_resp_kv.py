"""KV.*: contexts, siblings, options, and documents."""

from __future__ import annotations

import json

import pytest

from quorate.core import limits
from quorate.core.causality.context import decode_context
from quorate.core.record import EMPTY_CONTEXT
from quorate.core.store import GetRequest, KeysRequest, PutRequest
from tests.unit.resp_session import Session


def test_writes_without_context_are_siblings_and_one_with_it_replaces_them() -> None:
    session = Session()
    session.call("KV.PUT", "carts:alice", "milk", "TYPE", "text/plain")
    session.call("KV.PUT", "carts:alice", "eggs")
    context, siblings = session.call("KV.GET", "carts:alice")
    now_ms = session.clock.wall_ms()
    assert siblings == [[b"milk", b"text/plain", now_ms], [b"eggs", b"", now_ms]]
    after = session.call("KV.PUT", "carts:alice", "both", "CTX", context)
    context, siblings = session.call("KV.GET", "carts:alice")
    assert [sibling[0] for sibling in siblings] == [b"both"]
    assert decode_context(after) == decode_context(context)


def test_an_absent_key_has_no_siblings_and_an_empty_context() -> None:
    session = Session()
    for version in (2, 3):
        session.call("HELLO", version)
        assert session.call("KV.GET", "carts:nobody") == [b"", []]


def test_options_reach_the_store() -> None:
    session = Session()
    session.call("kv.get", "b:k", "r", 1, "timeout", 250)
    context = session.call("KV.PUT", "k", "v")
    session.call("KV.PUT", "b:k:x", "v", "w", 3, "Ttl", 60, "OP", "id", "strict", "TIMEOUT", 99, "CTX", context)
    get, _, put = session.store.requests
    assert get == GetRequest(b"b", b"k", 1, 250)
    assert isinstance(put, PutRequest)
    assert put.operation != 0
    assert put == PutRequest(b"b", b"k:x", b"v", "", decode_context(context), 3, 60_000, put.operation, 99, strict=True)


def test_equal_operation_ids_are_equal_and_others_are_not() -> None:
    session = Session()
    for operation in ("a", "a", "b"):
        session.call("KV.PUT", "k", "v", "OP", operation)
    first, again, other = (request.operation for request in session.store.requests)
    assert first == again != other


def test_a_delete_takes_what_its_coordinator_has_seen_unless_it_has_a_context() -> None:
    session = Session()
    context = session.call("KV.PUT", "k", "old")
    session.call("KV.PUT", "k", "new")
    session.call("KV.DEL", "k", "CTX", context)
    _, siblings = session.call("KV.GET", "k")
    assert [sibling[0] for sibling in siblings] == [b"new"]
    session.call("KV.DEL", "k")
    context, siblings = session.call("KV.GET", "k")
    assert siblings == []
    assert decode_context(context) != EMPTY_CONTEXT
    assert [request.overwrite_seen for request in session.store.requests if getattr(request, "delete", False)] == [
        False,
        True,
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["KV.GET"], "wrong number of arguments for 'kv.get' command"),
        (["KV.GET", ""], "a key has 1 to 1024 bytes"),
        (["KV.GET", "b:" + "k" * 1025], "this one has 1025"),
        (["KV.GET", "b" * 65 + ":k"], "a bucket's name has 1 to 64 bytes"),
        (["KV.GET", "b\0:k"], "neither colons nor control characters"),
        (["KV.GET", "k", "NX"], "unknown option 'NX'; there are: R, TIMEOUT"),
        (["KV.GET", "k", "R"], "option R needs a value"),
        (["KV.GET", "k", "R", "two"], "R must be an integer; got 'two'"),
        (["KV.GET", "k", "R", "9" * 5000], "R must be an integer"),
        (["KV.GET", "k", "R", "0"], "R must be from 1 to 16; got 0"),
        (["KV.GET", "k", "R", "1", "r", "1"], "option R is given twice"),
        (["KV.GET", "k", "TIMEOUT", "60001"], "TIMEOUT (ms) must be from 1 to 60000"),
        (["KV.PUT", "k"], "wrong number of arguments"),
        (["KV.PUT", "k", "v", "CTX", "garbage!"], "malformed context"),
        (["KV.PUT", "k", "v", "CTX", "A" * 9000], "malformed context"),
        (["KV.PUT", "k", "v", "TTL", "-1"], "TTL (seconds) must be from 0"),
        (["KV.PUT", "k", "v", "TYPE", "a\r\nb"], "TYPE must be printable ASCII"),
        (["KV.PUT", "k", "v", "TYPE", "é"], "TYPE must be printable ASCII"),
        (["KV.PUT", "k", "v", "TYPE", "t" * 128], "TYPE has at most 127 bytes"),
        (["KV.PUT", "k", "v", "OP", "x" * 65], "OP has 1 to 64 bytes"),
        (["KV.DEL", "k", "TTL", "1"], "unknown option 'TTL'"),
        (["KV.KEYS", "a:b"], "neither colons"),
        (["KV.KEYS", "a", "LIMIT", "1001"], "LIMIT must be from 1 to 1000"),
        (["KV.KEYS", "a", "CURSOR", "é"], "CURSOR is none that"),
        (["KV.BUCKET", "carts", "n"], "'n' is no property=value"),
        (["KV.BUCKET", "carts", "n=2", "n=3"], "property 'n' is given twice"),
        (["KV.BUCKET", "carts", "colour=red"], "unknown bucket property 'colour'"),
        (["KV.BUCKET", "carts", "r=4"], "r=4 is above n=3"),
        (["KV.RING", "new"], "the version must be an integer"),
    ],
)
def test_wrong_input_is_named_and_harms_nothing(arguments: list[str], message: str) -> None:
    session = Session()
    error = session.error(*arguments)
    assert error.startswith("ERR ")
    assert message in error
    assert session.store.requests == []
    assert session.call("PING") == b"PONG"


def test_a_value_above_the_limit_is_refused_and_the_connection_stays() -> None:
    session = Session(value_bytes_max=1000)
    for arguments in (["KV.PUT", "k"], ["SET", "k"], ["MSET", "j", "small", "k"], ["SETEX", "k", "10"]):
        assert "a value has at most 1000 bytes; this one has 1001" in session.error(*arguments, "v" * 1001)
    assert session.store.requests == []
    assert session.call("SET", "k", "v" * 1000) == b"OK"


def test_keys_are_paged() -> None:
    session = Session()
    for i in range(7):
        session.call("KV.PUT", f"carts:user{i}", "v")
    session.call("KV.PUT", "carts:other", "v")
    found: list[bytes] = []
    cursor = b""
    while True:
        cursor, keys = session.call("KV.KEYS", "carts", "PREFIX", "user", "LIMIT", 3, "CURSOR", cursor)
        assert len(keys) <= 3
        found += keys
        if not cursor:
            break
    assert found == [f"user{i}".encode() for i in range(7)]
    assert session.store.requests[-1] == KeysRequest(b"carts", b"user", 3, b"user5".hex())


def test_documents_are_json() -> None:
    session = Session()
    assert json.loads(session.call("KV.WHERE", "carts:alice")) == {"bucket": "carts", "key": "alice"}
    assert json.loads(session.call("KV.STATUS")) == {"members": 3}
    assert json.loads(session.call("KV.STALENESS")) == {"bucket": None, "ready": False}
    assert json.loads(session.call("KV.STALENESS", "carts"))["bucket"] == "carts"
    assert isinstance(session.call("KV.STALENESS", "a:b"), Exception)
    ring = json.loads(session.call("KV.RING"))
    assert (ring["version"], len(ring["members"]), len(ring["owners"])) == (1, 3, 64)


def test_the_cluster_is_told_by_its_id() -> None:
    session = Session()
    assert session.call("KV.CLUSTER").decode() == json.loads(session.call("KV.RING"))["cluster_id"]
    assert session.call("COMMAND", "INFO", "kv.cluster")[0][1] == 1
    locked = Session(password="secret")
    assert str(locked.call("KV.CLUSTER")).startswith("NOAUTH")


def test_the_ring_is_sent_only_if_it_is_newer() -> None:
    session = Session()
    assert session.call("KV.RING", 0) is not None
    assert session.raw("KV.RING", 1) == b"$-1\r\n"
    session.call("HELLO", 3)
    assert session.raw("KV.RING", 1) == b"_\r\n"


def test_bucket_properties_are_shown_and_set() -> None:
    session = Session()
    assert json.loads(session.call("KV.BUCKETS")) == {}
    assert json.loads(session.call("KV.BUCKET", "carts"))["conflicts"] == "siblings"
    changed = json.loads(session.call("KV.BUCKET", "carts", "conflicts=lww", "ttl=60"))
    assert (changed["conflicts"], changed["ttl"]) == ("lww", 60)
    assert json.loads(session.call("KV.BUCKET", "carts")) == changed
    assert json.loads(session.call("KV.BUCKETS")) == {"carts": changed}


def test_every_limit_of_a_key_is_reachable() -> None:
    session = Session()
    name = "b" * limits.BUCKET_NAME_BYTES_MAX + ":" + "k" * limits.KEY_BYTES_MAX
    session.call("KV.PUT", name, "v")
    assert session.call("GET", name) == b"v"


def test_repair_is_begun_and_looked_at() -> None:
    session = Session()
    assert json.loads(session.call("KV.REPAIR", "STATUS")) == {"state": "idle"}
    assert json.loads(session.call("KV.REPAIR", "START", "carts")) == {"state": "done"}
    assert json.loads(session.call("KV.REPAIR", "start")) == {"state": "done"}
    assert session.store.repaired == [b"carts", b""]
    for bad in (["KV.REPAIR", "STOP"], ["KV.REPAIR", "STATUS", "carts"], ["KV.REPAIR", "START", "a:b"]):
        assert str(session.call(*bad)).startswith("ERR ")
