"""The request parser: what it accepts, what it refuses, and what it never takes memory for (hard case 35)."""

from __future__ import annotations

import re
import tracemalloc

import pytest

from quorate.api.resp.parser import ProtocolError, RequestParser
from quorate.core import limits
from tests.unit.resp_session import command


def parse(data: bytes, **bounds: int) -> list[list[bytes]]:
    parser = RequestParser(**bounds)
    parser.feed(data)
    found = []
    while (arguments := parser.next()) is not None:
        found.append(arguments)
    return found


@pytest.mark.parametrize(
    ("data", "commands"),
    [
        (b"", []),
        (command("GET", "k"), [[b"GET", b"k"]]),
        (command("SET", "k", b"\r\n$5\r\n\0"), [[b"SET", b"k", b"\r\n$5\r\n\0"]]),
        (command("SET", "k", "") + command("PING"), [[b"SET", b"k", b""], [b"PING"]]),
        (command("SET", "k", "v" * 5000), [[b"SET", b"k", b"v" * 5000]]),
        (command(*["a"] * 40), [[b"a"] * 40]),
        (b"PING\r\n", [[b"PING"]]),
        (b"SET  k\tv \n\r\n\nPING\r\n", [[b"SET", b"k", b"v"], [b"PING"]]),
        (b"*0\r\n*-1\r\n" + command("PING"), [[b"PING"]]),
        (b"*2\r\n$4\r\nECHO\r\n$0003\r\nabc\r\n", [[b"ECHO", b"abc"]]),
        (b"*1\r\n$4\r\nPI", []),
        (b"PI", []),
    ],
)
def test_requests_become_commands(data: bytes, commands: list[list[bytes]]) -> None:
    assert parse(data) == commands


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"*1000000000\r\n", "1000000000 arguments are too many"),
        (b"*1\r\n$1000000000\r\n", "invalid bulk length"),
        (b"*x\r\n", "invalid multibulk length"),
        (b"*1_0\r\n", "invalid multibulk length"),
        (b"*" + b"9" * 400, "invalid multibulk length"),
        (b"*1\r\n$-1\r\n", "invalid bulk length"),
        (b"*1\r\n$+1\r\n", "invalid bulk length"),
        (b"*1\r\n$" + b"1" * 400, "invalid bulk length"),
        (b"*1\r\n:1\r\n", "expected '$', got ':'"),
        (b"*1\r\n\r\n", "expected '$', got ''"),
        (b"*1\r\n$1\r\nabc\r\n", "longer than it says"),
        (b"x" * limits.INLINE_COMMAND_BYTES_MAX, "too big inline request"),
    ],
)
def test_what_is_no_request_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(ProtocolError, match=re.escape(message)) as raised:
        parse(data)
    assert str(raised.value).startswith("Protocol error: ")


def test_sizes_are_checked_against_the_whole_command() -> None:
    """Each argument is within the bound and all together are not; that is seen before the last one arrives."""
    fitting = command("a" * 30, "b" * 70)
    assert len(parse(fitting, bytes_max=100)) == 1
    with pytest.raises(ProtocolError, match="at most 99 bytes"):
        parse(fitting, bytes_max=99)
    with pytest.raises(ProtocolError, match="at most 99 bytes"):
        parse(b"*3\r\n$60\r\n" + b"a" * 60 + b"\r\n$60\r\n", bytes_max=99)


def test_the_bound_counts_again_for_each_command() -> None:
    data = command("a" * 60) * 5
    assert len(parse(data, bytes_max=100)) == 5
    parser = RequestParser(bytes_max=100)
    found = 0
    for at in range(len(data)):
        parser.feed(data[at : at + 1])
        found += parser.next() is not None
    assert found == 5


def test_arguments_are_bounded_by_number_and_by_what_they_could_hold() -> None:
    assert len(parse(command(*["a"] * 20), arguments_max=20)[0]) == 20
    with pytest.raises(ProtocolError, match="21 arguments are too many"):
        parse(command(*["a"] * 21), arguments_max=20)
    with pytest.raises(ProtocolError, match="50000 arguments are too many"):
        parse(b"*50000\r\n", bytes_max=limits.UNAUTHENTICATED_BYTES_MAX)


@pytest.mark.parametrize("data", [b"*1\r\n$%d\r\nabc" % (60 * limits.MIB), b"*60000\r\n$3\r\nabc\r\n"])
def test_nothing_declared_takes_memory(data: bytes) -> None:
    tracemalloc.start()
    try:
        assert parse(data) == []
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 64 * limits.KIB


def test_a_large_argument_in_small_pieces_is_not_looked_at_until_it_is_there() -> None:
    """Linear cost: between the first piece and the last the parser only appends."""
    value = b"v" * (1 * limits.MIB)
    data = command("SET", "k", value)
    parser = RequestParser()
    looks = 0
    for at in range(0, len(data), 1024):
        parser.feed(data[at : at + 1024])
        looks += bool(parser._data)
        arguments = parser.next()
    assert arguments == [b"SET", b"k", value]
    assert looks <= 3


def test_it_knows_when_a_command_has_begun() -> None:
    parser = RequestParser()
    for piece, begun in [(b"*", True), (b"1\r\n$4\r\nPI", True), (b"NG\r\n", False), (b"PI", True), (b"NG\n", False)]:
        parser.feed(piece)
        while parser.next():
            pass
        assert parser.in_command == begun, piece
