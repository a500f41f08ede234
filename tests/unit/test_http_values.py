"""GET, PUT and DELETE of keys over HTTP: what reaches the store, and what the client is told."""

from __future__ import annotations

import asyncio
import email
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.api.http.parameters import operation_id, unescape
from quorate.api.http.server import FAILURES_LOGGED_MAX
from quorate.api.http.siblings import boundary_of, multipart_body
from quorate.api.resp.commands import kv
from quorate.core import limits
from quorate.core.record import Sibling
from quorate.core.store import Failure
from tests.unit.http_session import KEY, VALUE_BYTES_MAX, Session, run


def test_a_value_comes_back_as_it_was_put() -> None:
    async def story(http: Session) -> None:
        put = await http.put(body=b"milk", Content_Type="text/plain; charset=utf-8")
        assert (put.status, put.body) == (204, b"")
        got = await http.get()
        assert (got.status, got.body) == (200, b"milk")
        assert got.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert got.headers["Quorate-Context"] == put.headers["Quorate-Context"] != ""
        assert got.headers["Last-Modified"] == "Tue, 14 Nov 2023 22:13:20 GMT"
        assert got.headers["Quorate-Request-Id"] != put.headers["Quorate-Request-Id"]

    run(story)


def test_a_value_without_a_type_is_bytes() -> None:
    async def story(http: Session) -> None:
        await http.put()
        assert (await http.get()).headers["Content-Type"] == "application/octet-stream"

    run(story)


def test_browsers_do_not_run_what_a_value_says() -> None:
    async def story(http: Session) -> None:
        await http.put(body=b"<script>alert(1)</script>", Content_Type="text/html")
        headers = (await http.get()).headers
        assert headers["Content-Security-Policy"] == "sandbox; default-src 'none'"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "Access-Control-Allow-Origin" not in headers

    run(story)


def test_puts_without_a_context_are_siblings_and_one_with_it_replaces_them() -> None:
    async def story(http: Session) -> None:
        await http.put(body=b"milk", Content_Type="text/plain")
        await http.put(body=b"\xff\x00")
        got = await http.get()
        assert got.status == 300
        document = got.json()
        assert document["context"] == got.headers["Quorate-Context"]
        assert [sibling.get("value") for sibling in document["siblings"]] == ["milk", None]
        assert [sibling.get("value_base64") for sibling in document["siblings"]] == [None, "/wA="]
        assert [sibling["content_type"] for sibling in document["siblings"]] == [
            "text/plain",
            "application/octet-stream",
        ]
        assert document["siblings"][0]["last_modified"] == "2023-11-14T22:13:20.000Z"
        await http.put(body=b"both", Quorate_Context=document["context"])
        assert (await http.get()).body == b"both"

    run(story)


@pytest.mark.parametrize(
    ("accept", "multipart"),
    [
        ("multipart/mixed", True),
        ("multipart/mixed, application/json;q=0.5", True),
        ("multipart/mixed;q=0.5, application/json", False),
        ("multipart/*", True),
        ("multipart/mixed;q=0", False),
        ("multipart/mixed;q=x", False),
        ("*/*", False),
        ("application/json", False),
    ],
)
def test_siblings_come_as_multipart_if_that_is_preferred(accept: str, multipart: bool) -> None:
    async def story(http: Session) -> None:
        await http.put(body=b"milk", Content_Type="text/plain")
        await http.put(body=b"\xff\x00\r\n")
        got = await http.get(Accept=accept)
        assert got.status == 300
        assert got.headers["Vary"] == "Accept"
        if not multipart:
            assert got.headers["Content-Type"] == "application/json"
            return
        message = email.message_from_bytes(
            b"Content-Type: %b\r\n\r\n%b" % (got.headers["Content-Type"].encode(), got.body)
        )
        parts = message.get_payload()
        assert [part.get_payload(decode=True) for part in parts] == [b"milk", b"\xff\x00\r\n"]  # type: ignore[union-attr]
        assert [part.get_content_type() for part in parts] == ["text/plain", "application/octet-stream"]  # type: ignore[union-attr]

    run(story)


@given(st.lists(st.binary(max_size=40), min_size=2, max_size=4), st.booleans())
def test_no_value_breaks_the_multipart(values: list[bytes], hostile: bool) -> None:
    tag = "0123456789abcdef"
    if hostile:
        values[0] = f"\r\n--quorate-{tag}--\r\n".encode()
    siblings = [Sibling(1, number, 0, value) for number, value in enumerate(values, start=1)]
    boundary = boundary_of(tag, siblings)
    parts = multipart_body(siblings, boundary).split(b"--" + boundary.encode())
    assert len(parts) == len(values) + 2
    assert [part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n") for part in parts[1:-1]] == values


def test_what_is_absent_is_told_from_what_was_deleted() -> None:
    async def story(http: Session) -> None:
        never = await http.get()
        assert never.status == 404
        assert "Quorate-Context" not in never.headers
        assert never.headers["Content-Type"] == "application/problem+json"
        assert never.json()["instance"] == never.headers["Quorate-Request-Id"]
        await http.put()
        deleted = await http.ask("DELETE", KEY)
        assert deleted.status == 204
        gone = await http.get()
        assert gone.status == 404
        assert gone.headers["Quorate-Context"] == gone.json()["context"] == deleted.headers["Quorate-Context"]
        await http.put(body=b"again", Quorate_Context=gone.headers["Quorate-Context"])
        assert (await http.get()).body == b"again"

    run(story)


def test_a_delete_with_a_context_spares_what_that_has_not_seen() -> None:
    async def story(http: Session) -> None:
        seen = await http.put(body=b"seen")
        await http.put(body=b"unseen")
        await http.ask("DELETE", KEY, headers={"Quorate-Context": seen.headers["Quorate-Context"]})
        assert (await http.get()).body == b"unseen"

    run(story)


def test_a_put_can_answer_with_the_value() -> None:
    async def story(http: Session) -> None:
        first = await http.put(KEY + "?return=value", b"milk", Content_Type="text/plain")
        assert (first.status, first.body, first.headers["Content-Type"]) == (200, b"milk", "text/plain")
        second = await http.put(KEY + "?return=value", b"eggs")
        assert second.status == 300
        assert len(second.json()["siblings"]) == 2

    run(story)


def test_a_put_that_cannot_be_read_back_is_done_nevertheless() -> None:
    async def story(http: Session) -> None:
        http.store.mode = "held"
        task = asyncio.ensure_future(http.put(KEY + "?return=value"))
        await http.until(lambda: len(http.store.held) == 1)
        http.store.fail_next.append(Failure("unavailable", "too few"))
        http.store.release()
        await http.until(lambda: len(http.store.held) == 1)
        http.store.release()
        reply = await task
        assert reply.status == 204
        assert reply.headers["Quorate-Context"]

    run(story)


@pytest.mark.parametrize(
    ("segment", "key"),
    [
        ("a%2Fb", b"a/b"),
        ("%00%FF", b"\x00\xff"),
        ("a%252Fb", b"a%2Fb"),
        ("a+b", b"a+b"),
        ("a%20b", b"a b"),
        ("%2E%2E", b".."),
        ("a:b;c=d", b"a:b;c=d"),
        ("%C3%A9", "é".encode()),
    ],
)
def test_keys_are_any_bytes(segment: str, key: bytes) -> None:
    async def story(http: Session) -> None:
        assert (await http.put(f"/v1/buckets/carts/keys/{segment}")).status == 204
        assert http.store.requests[-1].key == key
        assert (await http.get(f"/v1/buckets/carts/keys/{segment}")).body == b"milk"

    run(story)


@given(st.binary(min_size=1, max_size=50))
def test_unescape_undoes_every_escaping(raw: bytes) -> None:
    assert unescape("".join(f"%{byte:02X}" for byte in raw)) == raw
    assert unescape("".join(f"%{byte:02x}" if byte in b"%/?#" or byte > 126 else chr(byte) for byte in raw)) == raw


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/buckets/carts/keys/a%zz", 400),
        ("/v1/buckets/carts/keys/a%2", 400),
        ("/v1/buckets/carts/keys/", 400),
        ("/v1/buckets//keys/a", 400),
        ("/v1/buckets/a%3Ab/keys/a", 400),
        ("/v1/buckets/carts/keys/" + "x" * (limits.KEY_BYTES_MAX + 1), 400),
        ("/v1/buckets/carts/keys/a/b", 404),
        ("/v1/bucket/carts", 404),
        ("/nothing", 404),
        ("//v1/buckets", 404),
        (KEY + "?r=0", 400),
        (KEY + "?r=x", 400),
        (KEY + "?r=1&r=1", 400),
        (KEY + "?w=1", 400),
        (KEY + "?timeout_ms=60001", 400),
        (KEY + "?" + "&" * 20, 400),
    ],
)
def test_malformed_requests_are_refused(path: str, status: int) -> None:
    async def story(http: Session) -> None:
        reply = await http.get(path)
        assert reply.status == status
        assert reply.headers["Content-Type"] == "application/problem+json"
        assert reply.json()["status"] == status
        assert http.store.requests == []

    run(story)


def test_the_longest_key_and_the_longest_escape_of_it_fit() -> None:
    async def story(http: Session) -> None:
        assert (await http.put("/v1/buckets/carts/keys/" + "%FF" * limits.KEY_BYTES_MAX)).status == 204

    run(story)


def test_parameters_reach_the_store() -> None:
    async def story(http: Session) -> None:
        path = KEY + "?w=1&timeout_ms=700&ttl=60&strict=true"
        await http.put(path, Quorate_Operation="order-17")
        put = http.store.requests[-1]
        assert (put.bucket, put.key, put.value) == (b"carts", b"alice", b"milk")
        assert (put.w, put.timeout_ms, put.ttl_ms, put.strict) == (1, 700, 60_000, True)
        assert put.operation == kv._operation(b"order-17") == operation_id(b"order-17")
        await http.put()
        assert (http.store.requests[-1].ttl_ms, http.store.requests[-1].operation) == (-1, 0)
        await http.get(KEY + "?r=3&timeout_ms=9")
        assert (http.store.requests[-1].r, http.store.requests[-1].timeout_ms) == (3, 9)
        await http.ask("DELETE", KEY + "?w=2&strict=false", headers={"Quorate-Operation": "x"})
        delete = http.store.requests[-1]
        assert (delete.w, delete.strict, delete.delete, delete.overwrite_seen) == (2, False, True, True)

    run(story)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Quorate-Context": "rubbish"}, 400),
        ({"Quorate-Operation": "x" * 65}, 400),
        ({"Content-Type": "x" * 128}, 400),
        ({"Content-Encoding": "gzip"}, 415),
        ({"If-Match": '"x"'}, 400),
        ({"If-None-Match": "*"}, 400),
        ({"If-Unmodified-Since": "Tue, 14 Nov 2023 22:13:20 GMT"}, 400),
    ],
)
def test_bad_headers_of_a_put_are_refused(headers: dict[str, str], status: int) -> None:
    async def story(http: Session) -> None:
        reply = await http.ask("PUT", KEY, b"milk", headers)
        assert reply.status == status
        if any(name.startswith("If-") for name in headers):
            assert reply.json()["type"] == "urn:quorate:problem:no-compare-and-set"
            assert "Quorate-Context" in reply.json()["detail"]
        assert http.store.requests == []

    run(story)


def test_a_reader_who_has_it_already_gets_304() -> None:
    async def story(http: Session) -> None:
        await http.put()
        got = await http.get()
        tag = got.headers["ETag"]
        same = await http.get(If_None_Match=f'"other", W/{tag}')
        assert (same.status, same.body, same.headers["ETag"]) == (304, b"", tag)
        assert same.headers["Quorate-Context"] == got.headers["Quorate-Context"]
        assert (await http.get(If_None_Match="*")).status == 304
        assert (await http.get(If_None_Match='"other"')).status == 200
        await http.put(body=b"eggs")
        siblings = await http.get(If_None_Match=tag)
        assert siblings.status == 300
        multipart = await http.get(Accept="multipart/mixed")
        assert len({tag, siblings.headers["ETag"], multipart.headers["ETag"]}) == 3

    run(story)


def test_a_tag_changes_when_a_sibling_expires() -> None:
    async def story(http: Session) -> None:
        await http.put()
        await http.put(KEY + "?ttl=10")
        both = await http.get()
        http.clock.wall += 10_001
        one = await http.get(If_None_Match=both.headers["ETag"])
        assert (both.status, one.status) == (300, 200)
        assert both.headers["Quorate-Context"] == one.headers["Quorate-Context"]

    run(story)


@pytest.mark.parametrize("size", [4, 3 * limits.HTTP_PIECE_BYTES + 5])
def test_head_is_get_without_the_body(size: int) -> None:
    async def story(http: Session) -> None:
        await http.put(body=b"x" * size)
        got, head = await http.get(), await http.ask("HEAD", KEY)
        assert (head.status, head.body) == (200, b"")
        for name in ("Content-Length", "ETag", "Quorate-Context", "Content-Type"):
            assert head.headers[name] == got.headers[name]
        assert (await http.ask("HEAD", KEY + "x")).status == 404

    run(story)


def test_large_values_go_in_and_out_in_pieces() -> None:
    value = bytes(range(256)) * (VALUE_BYTES_MAX // 256)

    async def pieces() -> Any:
        for start in range(0, len(value), 10_000):
            yield value[start : start + 10_000]

    async def story(http: Session) -> None:
        assert (await http.put(body=pieces())).status == 204
        got = await http.get()
        assert got.body == value
        assert got.headers["Content-Length"] == str(len(value))
        assert got.headers["Quorate-Request-Id"]
        assert http.server.held_bytes == 0

    run(story)


def test_too_large_values_are_refused_whether_announced_or_not() -> None:
    async def pieces() -> Any:
        yield b"x" * VALUE_BYTES_MAX
        yield b"x"

    async def story(http: Session) -> None:
        reader, _ = await http.raw(
            b"PUT %b HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % (KEY.encode(), 1 << 60)
        )
        assert (await reader.readline()).split()[1] == b"413"
        reply = await http.put(body=pieces())
        assert reply.status == 413
        assert reply.json()["outcome"] == "not done"
        assert http.store.requests == []
        assert http.server.held_bytes == 0

    run(story)


def test_who_asks_first_is_refused_before_the_body_is_sent() -> None:
    head = b"PUT %b HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n"

    async def story(http: Session) -> None:
        reader, _ = await http.raw(head % (KEY.encode(), VALUE_BYTES_MAX + 1))
        assert (await reader.readline()).split()[1] == b"413"
        reader, writer = await http.raw(head % (KEY.encode(), 4))
        assert (await reader.readline()).split()[1] == b"100"
        assert await reader.readline() == b"\r\n"
        writer.write(b"milk")
        assert (await reader.readline()).split()[1] == b"204"
        assert (await http.get()).body == b"milk"

    run(story)


@pytest.mark.parametrize(
    ("failure", "status", "outcome", "retry_after"),
    [
        (Failure("caller", "r above n"), 400, None, None),
        (Failure("unavailable", "too few", ["n2"]), 503, "not done", "1"),
        (Failure("stale", "older ring"), 503, "not done", "1"),
        (Failure("overloaded", "too much", retry_after_ms=2_500), 503, "not done", "3"),
        (Failure("unknown", "no quorum in time", ["n3"]), 504, "unknown", None),
    ],
)
def test_failures_tell_not_done_from_unknown(
    failure: Failure, status: int, outcome: str | None, retry_after: str | None
) -> None:
    async def story(http: Session) -> None:
        http.store.fail_next = [failure, failure]
        for reply in (await http.put(), await http.get()):
            document = reply.json()
            assert reply.status == document["status"] == status
            assert document.get("outcome") == outcome
            assert reply.headers.get("Retry-After") == retry_after
            assert document.get("missing", []) == failure.missing
            assert failure.message in document["detail"]

    run(story)


def test_a_bug_is_told_as_one_and_the_next_request_is_answered(caplog: pytest.LogCaptureFixture) -> None:
    async def story(http: Session) -> None:
        def broken(*_: Any) -> None:
            raise ZeroDivisionError

        http.store.get = broken  # type: ignore[method-assign, assignment]
        reply = await http.get()
        assert reply.status == 500
        assert [getattr(line, "request_id", "") for line in caplog.records] == [reply.json()["instance"]]
        assert "ZeroDivision" not in reply.body.decode()
        assert (await http.put()).status == 204

    run(story)


@pytest.mark.parametrize(
    ("given", "kept"), [("trace-7:a.b@c+d_e", True), ("x" * 64, True), ("x" * 65, False), ("a b", False), ("", False)]
)
def test_a_request_keeps_the_id_that_it_brings_if_that_is_one(given: str, kept: bool) -> None:
    async def story(http: Session) -> None:
        reply = await http.get(X_Request_Id=given)
        assert (reply.headers["Quorate-Request-Id"] == given) == kept
        assert reply.json()["instance"] == reply.headers["Quorate-Request-Id"]

    run(story)


def test_failures_are_logged_with_their_ids_but_not_without_end(caplog: pytest.LogCaptureFixture) -> None:
    async def story(http: Session) -> None:
        http.store.fail_next = [Failure("unavailable", "too few", ["n2"])] * (FAILURES_LOGGED_MAX + 6)
        ids = [(await http.get()).headers["Quorate-Request-Id"] for _ in range(FAILURES_LOGGED_MAX + 5)]
        logged = [getattr(line, "request_id", "") for line in caplog.records]
        assert logged == ids[:FAILURES_LOGGED_MAX]
        http.pass_time(1)
        last = (await http.get()).headers["Quorate-Request-Id"]
        assert "5 more requests failed" in caplog.records[-2].getMessage()
        assert getattr(caplog.records[-1], "request_id", "") == last

    run(story)
