"""Plain keys, as a client of Redis knows them."""

from __future__ import annotations

from typing import Any

import pytest

from quorate.core import limits
from quorate.core.store import Failure
from tests.unit.resp_session import Session, command

FAILURE = Failure("unavailable", "1 of 2 replicas answered", ["n2"])


def values_of(session: Session, name: str) -> list[bytes]:
    return [sibling[0] for sibling in session.call("KV.GET", name)[1]]


def test_set_and_get() -> None:
    session = Session()
    assert session.call("GET", "k") is None
    assert session.call("set", "k", b"\r\n\0") == b"OK"
    assert session.call("gEt", "k") == b"\r\n\0"
    assert session.call("GET", "default:k") == b"\r\n\0"
    assert session.call("GET", "other:k") is None
    assert session.call("STRLEN", "k") == 3
    assert session.call("STRLEN", "absent") == 0
    assert session.call("TYPE", "k") == b"string"
    assert session.call("TYPE", "absent") == b"none"


def test_null_is_of_the_protocol_version() -> None:
    session = Session()
    assert session.raw("GET", "k") == b"$-1\r\n"
    assert session.raw("MGET", "k") == b"*1\r\n$-1\r\n"
    session.call("HELLO", 3)
    assert session.raw("GET", "k") == b"_\r\n"
    assert session.raw("MGET", "k") == b"*1\r\n_\r\n"


def test_set_overwrites_what_its_coordinator_has_seen() -> None:
    session = Session()
    session.call("KV.PUT", "k", "one")
    session.call("KV.PUT", "k", "two")
    session.call("SET", "k", "three")
    assert values_of(session, "k") == [b"three"]


def test_get_of_siblings_answers_the_latest_and_counts() -> None:
    session = Session()
    session.call("KV.PUT", "k", "one")
    assert session.call("GET", "k") == b"one"
    assert session.store.counted == []
    session.call("KV.PUT", "k", "two")
    assert session.call("GET", "k") == b"two"
    assert session.call("MGET", "k", "absent") == [b"two", None]
    assert session.store.counted == ["resp_get_conflict"] * 2


@pytest.mark.parametrize(
    ("options", "milliseconds"),
    [
        (["EX", 10], 10_000),
        (["px", 1500], 1500),
        (["EXAT", 1_700_000_100], 100_000),
        (["PXAT", 1_700_000_000_777], 777),
    ],
)
def test_set_with_a_lifetime(options: list[Any], milliseconds: int) -> None:
    session = Session()
    session.call("SET", "k", "v", *options)
    assert session.call("PTTL", "k") == milliseconds
    assert session.call("TTL", "k") == (milliseconds + 500) // 1000
    assert session.call("PEXPIRETIME", "k") == 1_700_000_000_000 + milliseconds
    assert session.call("EXPIRETIME", "k") == (1_700_000_000_000 + milliseconds) // 1000
    session.clock.wall += milliseconds
    assert session.call("GET", "k") is None
    assert session.call("TTL", "k") == -2


def test_set_without_a_lifetime_takes_the_buckets() -> None:
    session = Session()
    session.call("SET", "k", "v")
    session.call("SET", "k", "v", "EX", 5)
    session.call("SETEX", "k", 6, "v")
    session.call("PSETEX", "k", 7, "v")
    session.call("KV.PUT", "k", "v", "TTL", 0)
    assert [request.ttl_ms for request in session.store.requests] == [-1, 5000, 6000, 7, 0]


def test_set_get_answers_the_old_value() -> None:
    session = Session()
    assert session.call("SET", "k", "one", "GET") is None
    assert session.call("SET", "k", "two", "GET", "EX", 10) == b"one"
    assert session.call("PTTL", "k") == 10_000
    assert session.call("GETSET", "k", "three") == b"two"
    assert session.call("GET", "k") == b"three"
    assert session.call("PTTL", "k") == -1


def test_keepttl_keeps_it() -> None:
    session = Session()
    session.call("SET", "k", "v", "PX", 5000)
    session.clock.wall += 1000
    assert session.call("SET", "k", "w", "KEEPTTL") == b"OK"
    assert session.call("PTTL", "k") == 4000
    assert session.call("GET", "k") == b"w"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["SET", "k", "v", "NX"], "SET with NX is not supported: two concurrent writers"),
        (["SET", "k", "v", "EX", "1", "xx"], "SET with XX is not supported"),
        (["SET", "k", "v", "IFEQ", "w"], "SET with IFEQ is not supported"),
        (["SET", "k", "v", "EX", "0"], "EX must be from 1"),
        (["SET", "k", "v", "EX", "1", "PX", "1"], "options EX and PX exclude each other"),
        (["SET", "k", "v", "FOO"], "unknown option 'FOO'"),
        (["SETEX", "k", "-1", "v"], "the lifetime (seconds) must be from 1"),
        (["MSET", "a", "1", "b"], "each key needs a value"),
        (["EXPIRE", "k", "10", "NX"], "'NX' is not supported"),
        (["EXPIRE", "k", "soon"], "must be an integer"),
        (["DEL", "a", ""], "a key has 1 to 1024 bytes"),
        (["SELECT", "1"], "SELECT is not allowed in cluster mode"),
        (["SCAN", "7"], "does not know SCAN cursor 7"),
        (["SCAN", "0", "MATCH", "*:x"], "MATCH must name one bucket"),
        (["SCAN", "0", "COUNT", "0"], "COUNT must be from 1"),
    ],
)
def test_what_cannot_be_honoured_is_refused(arguments: list[str], message: str) -> None:
    session = Session()
    error = session.error(*arguments)
    assert error.startswith("ERR ")
    assert message in error
    assert session.store.requests == []


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("MULTI", "no transactions"),
        ("watch", "no transactions"),
        ("EVAL", "no scripts"),
        ("BLPOP", "nothing blocks"),
        ("SUBSCRIBE", "no publish"),
        ("SETNX", "KV.PUT with CTX"),
        ("INCR", "KV.PUT it with its CTX"),
        ("HSET", "no hashes"),
        ("KEYS", "use SCAN"),
        ("SHUTDOWN", "the command quorate"),
    ],
)
def test_other_commands_of_redis_are_refused_with_the_reason(name: str, reason: str) -> None:
    error = Session().error(name, "x", "y")
    assert error.startswith(f"ERR '{name}' is not supported: ")
    assert reason in error


def test_an_unknown_command_is_quoted_safely() -> None:
    error = Session().raw(b"NO\r\n+OK\r\n" + b"x" * 5000)
    assert error.startswith(b"-ERR unknown command 'NO  +OK  xxx")
    assert error.count(b"\r\n") == 1
    assert len(error) < 200


def test_several_keys_at_once() -> None:
    session = Session()
    assert session.call("MSET", "a", 1, "carts:b", 2, "{c}d", 3, "a", 4) == b"OK"
    assert session.call("MGET", "a", "carts:b", "absent", "{c}d") == [b"4", b"2", None, b"3"]
    assert session.call("EXISTS", "a", "a", "absent", "carts:b") == 3
    assert session.call("DEL", "a", "a", "absent") == 1
    assert session.call("UNLINK", "carts:b", "{c}d") == 2
    assert session.call("MGET", "a", "carts:b", "{c}d") == [None] * 3


def test_a_command_on_many_keys_has_a_bounded_number_in_flight() -> None:
    session = Session()
    count = 5 * limits.FAN_OUT_REQUESTS_MAX
    session.call("MSET", *[part for i in range(count) for part in (f"k{i}", i)])
    session.store.mode = "held"
    session.transport.written.clear()
    session.receive(command("MGET", *[f"k{i}" for i in range(count)]))
    most = 0
    while session.store.held:
        most = max(most, len(session.store.held))
        session.store.release(len(session.store.held) // 2)
        session.scheduler.run()
    assert session.replies() == [[str(i).encode() for i in range(count)]]
    assert most == limits.FAN_OUT_REQUESTS_MAX


@pytest.mark.sources
def test_mget_beyond_what_a_reply_may_hold_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quorate.api.resp.commands.values.COMMAND_BYTES_MAX", 5000)
    session = Session()
    session.call("SET", "k", "v" * 1000)
    assert len(session.call("MGET", *["k"] * 4)) == 4
    assert "ask for fewer keys" in session.error("MGET", *["k"] * 6)


def test_a_write_of_several_keys_that_fails_in_part_is_unknown() -> None:
    """Neither 'done' nor 'not done' would be true (hard case 31)."""
    session = Session()
    session.store.fail_next = [FAILURE]
    assert session.error("MSET", "a", 1).startswith("UNAVAILABLE")
    session.store._answer = _fail_second()  # type: ignore[method-assign]
    error = session.error("MSET", "a", 1, "b", 2)
    assert error == "UNKNOWN 1 of 2 keys are done, the others are not, or may be: no quorum (no answer from n2)"


def _fail_second() -> Any:
    answered: list[Any] = []

    def answer(request: Any, reply: Any, work: Any) -> None:
        answered.append(request)
        reply(Failure("unavailable", "no quorum", ["n2"]) if len(answered) == 2 else work())

    return answer


def test_after_a_failure_no_further_keys_are_asked_for() -> None:
    session = Session()
    session.store.fail_next = [FAILURE]
    session.error("MSET", *[part for i in range(10) for part in (f"k{i}", i)])
    assert len(session.store.requests) == 1


def test_a_key_named_twice_is_deleted_once() -> None:
    session = Session()
    session.call("SET", "k", "v")
    session.store.mode = "held"
    session.transport.written.clear()
    session.receive(command("DEL", "k", "k"))
    while session.store.held:
        session.store.release()
    session.scheduler.run()
    assert session.replies() == [1]


def test_a_read_of_several_keys_that_fails_in_part_fails() -> None:
    session = Session()
    session.store.fail_next = [FAILURE]
    assert session.error("MGET", "a", "b").startswith("UNAVAILABLE")
    session.store.fail_next = [FAILURE]
    assert session.error("EXISTS", "a", "b").startswith("UNAVAILABLE")


def test_delete_removes_what_was_read_and_nothing_else() -> None:
    session = Session()
    session.call("SET", "k", "old")
    session.store.mode = "held"
    session.transport.written.clear()
    session.receive(command("DEL", "k"))
    session.store.release()
    session.store.mode = "at once"
    Session(server=session.server).call("KV.PUT", "k", "put meanwhile")
    session.store.release()
    session.scheduler.run()
    assert session.replies() == [1]
    assert values_of(session, "k") == [b"put meanwhile"]


def test_deleting_nothing_writes_nothing() -> None:
    session = Session()
    assert session.call("DEL", "k") == 0
    assert session.call("GETDEL", "k") is None
    assert session.store.data.records == {}


def test_getdel_answers_what_it_deletes() -> None:
    session = Session()
    session.call("SET", "k", "v")
    assert session.call("GETDEL", "k") == b"v"
    assert session.call("GET", "k") is None


def test_lifetimes_are_given_and_taken() -> None:
    session = Session()
    assert session.call("EXPIRE", "k", 10) == 0
    assert session.call("PERSIST", "k") == 0
    session.call("KV.PUT", "k", "v", "TYPE", "text/plain")
    assert session.call("TTL", "k") == -1
    for name, lifetime in [("EXPIRE", 10), ("PEXPIRE", 10_000), ("EXPIREAT", 1_700_000_010)]:
        assert session.call(name, "k", lifetime) == 1
        assert session.call("PTTL", "k") == 10_000
    assert session.call("PEXPIREAT", "k", 1_700_000_000_005) == 1
    assert session.call("PTTL", "k") == 5
    assert session.call("KV.GET", "k")[1][0][:2] == [b"v", b"text/plain"]
    assert session.call("PERSIST", "k") == 1
    assert session.call("PERSIST", "k") == 0
    assert session.call("TTL", "k") == -1


def test_a_lifetime_in_the_past_deletes() -> None:
    session = Session()
    for name, lifetime in [("EXPIRE", -1), ("PEXPIRE", 0), ("EXPIREAT", 1), ("PEXPIREAT", 1_699_999_999_999)]:
        session.call("SET", "k", "v")
        assert session.call(name, "k", lifetime) == 1
        assert session.call("GET", "k") is None
        assert session.call(name, "k", lifetime) == 0


def test_failures_of_either_step_are_reported() -> None:
    for arguments in (["GETDEL", "k"], ["EXPIRE", "k", 10], ["SET", "k", "w", "GET"], ["DEL", "k"], ["PERSIST", "k"]):
        session = Session()
        session.call("SET", "k", "v", "EX", 100)
        session.store.fail_next = [FAILURE]
        assert session.error(*arguments).startswith("UNAVAILABLE"), arguments
        session.store.mode = "held"
        session.transport.written.clear()
        session.receive(command(*arguments))
        session.store.fail_next = [Failure("unknown", "may be done")]
        session.store.release()
        session.store.release()
        session.scheduler.run()
        [reply] = session.replies()
        assert str(reply) == "UNKNOWN may be done", arguments


def test_scan_walks_a_bucket() -> None:
    session = Session()
    for i in range(25):
        session.call("SET", f"carts:user{i:02}", "v")
        session.call("SET", f"plain{i:02}", "v")
    session.call("SET", "default:with:colon", "v")

    def scan(*options: Any) -> list[bytes]:
        found: list[bytes] = []
        cursor = b"0"
        while True:
            cursor, keys = session.call("SCAN", cursor, *options)
            assert cursor.isdigit()
            found += keys
            if cursor == b"0":
                return found

    assert scan("MATCH", "carts:*") == [f"carts:user{i:02}".encode() for i in range(25)]
    assert scan("MATCH", "carts:user1?", "COUNT", 3) == [f"carts:user{i}".encode() for i in range(10, 20)]
    assert scan("MATCH", "carts:*[13]") == [f"carts:user{i:02}".encode() for i in range(25) if i % 10 in (1, 3)]
    assert scan() == [f"plain{i:02}".encode() for i in range(25)] + [b"default:with:colon"]
    assert scan("TYPE", "list") == []
    assert len(scan("TYPE", "string", "COUNT", 1_000_000)) == 26


def test_scan_positions_are_bounded_and_the_oldest_is_forgotten() -> None:
    session = Session()
    session.call("MSET", "a", 1, "b", 2)
    first, _ = session.call("SCAN", 0, "COUNT", 1)
    for _ in range(limits.SCAN_CURSORS_MAX - 1):
        session.call("SCAN", 0, "COUNT", 1)
    assert session.call("SCAN", first)[1] == [b"b"]
    second, _ = session.call("SCAN", 0, "COUNT", 1)
    assert int(second) == int(first) + limits.SCAN_CURSORS_MAX
    assert "begin again" in session.error("SCAN", int(first) + 1)
    assert session.call("SCAN", first)[1] == [b"b"]
