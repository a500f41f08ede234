"""What one HTTP client, or all of them, may take: heads, bodies, time, connections, memory (hard cases 34, 35)."""

from __future__ import annotations

import asyncio

import pytest

from quorate.core import limits
from tests.unit.http_session import KEY, VALUE_BYTES_MAX, Session, run

HEAD = b"GET %b HTTP/1.1\r\nHost: localhost\r\n" % KEY.encode()
PUT = b"PUT %b HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
REQUEST_S = limits.COMMAND_TIMEOUT_MS / 1000
IDLE_S = limits.CLIENT_IDLE_TIMEOUT_MS / 1000


async def closed(reader: asyncio.StreamReader) -> bytes:
    """What still came before the connection ended."""
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""


@pytest.mark.parametrize("step", [1 << 20, 1000])
@pytest.mark.parametrize("field", [b"a: b\r\n", b"a: %b\r\n" % (b"b" * 5000)])
def test_a_head_is_bounded_before_it_is_whole(step: int, field: bytes) -> None:
    async def story(http: Session) -> None:
        head = HEAD + field * (2 * limits.HTTP_HEAD_BYTES_MAX // len(field))
        reader, writer = await http.raw(b"")
        for start in range(0, len(head), step):
            writer.write(head[start : start + step])
        assert (await closed(reader)).split()[1] == b"431"

    run(story)


@pytest.mark.parametrize(
    "head",
    [
        b"GET /%b HTTP/1.1\r\nHost: localhost\r\n\r\n" % (b"x" * limits.HTTP_LINE_BYTES_MAX),
        HEAD + b"Quorate-Context: " + b"x" * (limits.HTTP_FIELD_BYTES_MAX + 1) + b"\r\n\r\n",
    ],
)
def test_a_line_is_bounded(head: bytes) -> None:
    async def story(http: Session) -> None:
        reader, _ = await http.raw(head)
        answer = await closed(reader)
        assert answer.split()[1] == b"431"
        assert b"Quorate-Request-Id: " in answer
        assert b"application/problem+json" in answer

    run(story)


def test_the_longest_context_fits() -> None:
    async def story(http: Session) -> None:
        reply = await http.get(Quorate_Context="x" * limits.CONTEXT_TOKEN_BYTES_MAX)
        assert reply.status == 404, "GET takes no context, and lets it pass"
        reply = await http.put(Quorate_Context="x" * limits.CONTEXT_TOKEN_BYTES_MAX)
        assert reply.status == 400
        assert "malformed context" in reply.json()["detail"]

    run(story)


def test_a_body_right_behind_a_head_does_not_count_as_head() -> None:
    async def story(http: Session) -> None:
        body = b"x" * (4 * limits.HTTP_HEAD_BYTES_MAX)
        message = PUT % (KEY.encode(), len(body)) + body
        for cut in (0, 60, message.index(b"\r\n\r\n") + 2):
            reader, writer = await http.raw(message[:cut])
            if cut:
                await http.until(lambda: any(client.head_bytes for client in http.server.clients))
            writer.write(message[cut:])
            assert (await reader.readline()).split()[1] == b"204"
            writer.close()

    run(story)


@pytest.mark.parametrize(
    "garbage", [b"\x16\x03\x01\x02\x00\x01", b"*1\r\n$4\r\nPING\r\n", b"GET\r\n\r\n", b"\x00" * 99]
)
def test_what_is_no_http_is_told_so(garbage: bytes) -> None:
    async def story(http: Session) -> None:
        reader, _ = await http.raw(garbage)
        answer = await closed(reader)
        assert answer.split()[1] == b"400"
        assert b"urn:quorate:problem:bad-request" in answer

    run(story)


def test_a_head_that_stops_half_way_is_given_up() -> None:
    async def story(http: Session) -> None:
        reader, _ = await http.raw(HEAD)
        await http.until(lambda: any(client.head_bytes for client in http.server.clients))
        http.pass_time(REQUEST_S - 1)
        assert len(http.server.clients) == 1
        http.pass_time(2)
        assert await closed(reader) == b""

    run(story)


def test_a_body_that_stops_half_way_is_given_up_and_one_that_goes_on_is_not() -> None:
    async def story(http: Session) -> None:
        reader, writer = await http.raw(PUT % (KEY.encode(), VALUE_BYTES_MAX))
        for count in range(1, 4):
            writer.write(b"x" * limits.COMMAND_PROGRESS_BYTES_MIN)
            await http.until(lambda count=count: http.server.held_bytes == count * limits.COMMAND_PROGRESS_BYTES_MIN)  # type: ignore[misc]
            http.pass_time(REQUEST_S + 1)
            assert len(http.server.clients) == 1
        writer.write(b"x")
        await http.until(lambda: http.server.held_bytes % 2 == 1)
        http.pass_time(REQUEST_S + 1)
        assert await closed(reader) == b""
        await http.until(lambda: http.server.held_bytes == 0)
        assert http.store.requests == []

    run(story)


def test_an_answer_that_is_not_read_is_given_up() -> None:
    async def story(http: Session) -> None:
        await http.put(body=b"x" * VALUE_BYTES_MAX)
        await http.client.close()
        await http.until(lambda: not http.server.clients)
        _, writer = await http.raw((HEAD + b"\r\n") * 16)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await http.until(lambda: any(client.writing_paused for client in http.server.clients))
        held = http.server.held_bytes
        assert 0 < held <= VALUE_BYTES_MAX, "one answer at a time"
        http.pass_time(REQUEST_S - 1)
        assert len(http.server.clients) == 1
        http.pass_time(2)
        await http.until(lambda: not http.server.clients and http.server.held_bytes == 0)

    run(story)


def test_an_idle_connection_is_closed_and_a_busy_one_is_not() -> None:
    async def story(http: Session) -> None:
        reader, writer = await http.raw(HEAD + b"\r\n")
        assert (await reader.readline()).split()[1] == b"404"
        http.pass_time(IDLE_S - 1)
        assert len(http.server.clients) == 1
        http.store.mode = "held"
        writer.write(HEAD + b"\r\n")
        await http.until(lambda: len(http.store.held) == 1)
        http.pass_time(IDLE_S + 1)
        http.store.release()
        assert b"404" in await reader.readuntil(b"}")
        await http.until(lambda: all(client.between_requests() for client in http.server.clients))
        http.pass_time(IDLE_S + 1)
        await closed(reader)

    run(story)


def test_who_does_not_authenticate_has_little_time() -> None:
    async def story(http: Session) -> None:
        silent, _ = await http.raw(b"")
        known, _ = await http.raw(HEAD + b"Authorization: Bearer sesame\r\n\r\n")
        assert (await known.readline()).split()[1] == b"404"
        await http.until(lambda: len(http.server.clients) == 2)
        http.pass_time(limits.AUTHENTICATION_TIMEOUT_MS / 1000 + 1)
        assert await closed(silent) == b""
        await http.until(lambda: len(http.server.clients) == 1)

    run(story, password="sesame")


def test_connections_are_bounded_and_the_excess_is_told_so() -> None:
    async def story(http: Session) -> None:
        first, _ = await http.raw(b"")
        await http.until(lambda: len(http.server.clients) == 1)
        second, _ = await http.raw(b"")
        answer = await closed(second)
        assert answer.split()[1] == b"503"
        assert b"Retry-After: 1\r\n" in answer
        assert len(http.server.clients) == 1
        assert not first.at_eof()

    run(story, connections_max=1)


def test_bodies_share_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HTTP_HELD_BYTES_MAX", 1000)

    async def story(http: Session) -> None:
        slow, writer = await http.raw(PUT % (KEY.encode(), 900) + b"x" * 899)
        await http.until(lambda: http.server.held_bytes == 899)
        refused = await http.put(body=b"x" * 102)
        assert refused.status == 503
        assert refused.headers["Retry-After"] == "1"
        assert refused.json()["outcome"] == "not done"
        assert (await http.put(body=b"x" * 101)).status == 204
        writer.write(b"x")
        assert (await slow.readline()).split()[1] == b"204"
        await http.until(lambda: http.server.held_bytes == 0)

    run(story)


def test_stopping_lets_begun_requests_end_and_takes_no_more() -> None:
    async def story(http: Session) -> None:
        idle, _ = await http.raw(HEAD + b"\r\n")
        await idle.readuntil(b"}")
        begun, body = await http.raw(PUT % (KEY.encode(), 4) + b"mi")
        await http.until(lambda: http.server.held_bytes == 2)
        http.store.mode = "held"
        asked, _ = await http.raw(HEAD + b"\r\n")
        await http.until(lambda: len(http.store.held) == 1)
        empty = asyncio.Event()
        http.server.on_empty = empty.set
        http.server.close()
        assert await closed(idle) == b""
        body.write(b"lk")
        await http.until(lambda: len(http.store.held) == 2)
        assert not empty.is_set()
        http.store.release()
        http.store.release()
        for reader, status in ((asked, b"404"), (begun, b"204")):
            answer = await closed(reader)
            assert answer.split()[1] == status
            assert b"Connection: close" in answer
        await empty.wait()

    run(story)


def test_a_client_that_goes_leaves_nothing_behind(caplog: pytest.LogCaptureFixture) -> None:
    async def story(http: Session) -> None:
        http.store.mode = "held"
        _, writer = await http.raw(PUT % (KEY.encode(), 4) + b"milk")
        await http.until(lambda: len(http.store.held) == 1)
        writer.transport.abort()
        await http.until(lambda: not http.server.clients)
        http.store.release()
        await http.until(lambda: http.server.held_bytes == 0)
        assert caplog.text == ""

    run(story)
