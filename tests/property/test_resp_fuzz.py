"""The client port against whatever bytes there are (hard case 35)."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quorate.api.resp.commands import ALL_COMMANDS
from quorate.api.resp.commands.refused import REASONS
from quorate.api.resp.glob import compile_glob, literal_prefix, matches
from quorate.api.resp.parser import ProtocolError, RequestParser
from tests.unit.resp_session import Session, command

words = st.sampled_from(
    [b"", b"0", b"-1", b"7", b"k", b"carts:k", b"{t}k", b"EX", b"CTX", b"MATCH", b"*", b"\r\n", b"3"]
)
arguments = st.lists(words | st.binary(max_size=300), max_size=5)
names = st.sampled_from([*ALL_COMMANDS, *REASONS, b"NOSUCH"])
commands = st.builds(lambda name, rest: command(name, *rest), names, arguments)
fragments = st.sampled_from(
    [b"*", b"$", b"\r\n", b"*3\r\n", b"$5\r\n", b"$-1\r\n", b"*1000000000\r\n", b"9", b"PING\r\n"]
)
streams = st.lists(commands | fragments | st.binary(max_size=40), max_size=12).map(b"".join)

Outcome = tuple[list[list[bytes]], str]


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(at % (len(data) + 1) for at in cuts), len(data)]
    return [data[low:high] for low, high in pairwise(edges)]


def parse(pieces: list[bytes]) -> Outcome:
    parser = RequestParser(bytes_max=4096, arguments_max=20)
    found = []
    try:
        for piece in pieces:
            parser.feed(piece)
            while (parsed := parser.next()) is not None:
                found.append(parsed)
    except ProtocolError as error:
        return found, str(error)
    return found, ""


def plain_parse(data: bytes) -> Outcome:
    """The brute-force twin: no state, no limits on time, one regular expression a token."""
    found: list[list[bytes]] = []
    while data:
        if data[:1] != b"*":
            line, newline, rest = data.partition(b"\n")
            if not newline:
                break
            if line.split():
                found.append(line.split())
            data = rest
            continue
        header = re.match(rb"\*(-?)([0-9]{1,13})\r\n", data[:16])
        if header is None:
            return found, "error" if b"\r\n" in data[:16] or len(data) >= 16 else ""
        count = 0 if header[1] else int(header[2])
        if count > 20:
            return found, "error"
        data = data[header.end() :]
        total, parsed = 0, []
        for _ in range(count):
            bulk = re.match(rb"\$([0-9]{1,13})\r\n", data[:16])
            if bulk is None:
                return found, "error" if b"\r\n" in data[:16] or len(data) >= 16 else ""
            size = int(bulk[1])
            total += size
            if total > 4096:
                return found, "error"
            body = data[bulk.end() : bulk.end() + size + 2]
            if len(body) < size + 2:
                return found, ""
            if body[size:] != b"\r\n":
                return found, "error"
            parsed.append(body[:size])
            data = data[bulk.end() + size + 2 :]
        if parsed:
            found.append(parsed)
    return found, ""


@settings(max_examples=400, deadline=None)
@given(streams, st.lists(st.integers(0, 5000), max_size=8))
def test_cutting_changes_nothing_and_the_plain_parser_agrees(data: bytes, cuts: list[int]) -> None:
    whole = parse([data])
    assert parse(cut(data, cuts)) == whole
    assert parse([data[at : at + 1] for at in range(len(data))]) == whole
    found, error = plain_parse(data)
    assert (whole[0], bool(whole[1])) == (found, bool(error))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(streams, st.lists(st.integers(0, 5000), max_size=4), st.booleans(), st.booleans())
def test_any_bytes_get_well_formed_replies(data: bytes, cuts: list[int], password: bool, resp3: bool) -> None:
    """No exception, one reply a command, and the server still serves the next client."""
    session = Session(password="secret" if password else None, value_bytes_max=200)
    if resp3 and not password:
        session.call("HELLO", 3)
        session.transport.written.clear()
    for piece in cut(data, cuts):
        if not session.transport.closed:
            session.receive(piece)
    replies = session.replies()
    parsed, error = parse([data])
    if not session.transport.closed and not error:
        assert len(replies) == len(parsed)
    other = Session(server=session.server)
    assert other.call("HELLO", 2, "AUTH", "default", "secret")
    assert other.call("PING") == b"PONG"


@settings(max_examples=200, deadline=None)
@given(st.lists(commands, min_size=1, max_size=10), st.integers(0, 10_000), st.integers(0, 255))
def test_a_flipped_byte_does_no_harm(stream: list[bytes], at: int, byte: int) -> None:
    data = bytearray(b"".join(stream))
    data[at % len(data)] = byte
    session = Session()
    session.receive(bytes(data))
    session.replies()


def plain_matches(pattern: list[Any], text: bytes) -> bool:
    """The brute-force twin: every way a star could match."""
    if not pattern:
        return not text
    if pattern[0] is None:
        return any(plain_matches(pattern[1:], text[at:]) for at in range(len(text) + 1))
    return bool(text) and pattern[0](text[0]) and plain_matches(pattern[1:], text[1:])


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from([b"a", b"b", b"*", b"?", b"[ab]", b"[^a]", b"[b-a]", b"\\*", b"[", b"\\"]), max_size=6),
    st.text("ab*c", max_size=6),
)
def test_globs_match_as_every_way_of_matching_says(parts: list[bytes], text: str) -> None:
    pattern = b"".join(parts)
    tokens = compile_glob(pattern)
    assert matches(tokens, text.encode()) == plain_matches(list(tokens), text.encode())
    if matches(tokens, text.encode()):
        assert text.encode().startswith(literal_prefix(pattern))


def test_globs_by_example() -> None:
    for pattern, text, expected in [
        (b"user:*", b"user:1", True),
        (b"h?llo", b"hello", True),
        (b"h[ae]llo", b"hillo", False),
        (b"h[^e]llo", b"hello", False),
        (b"h[a-b]llo", b"hbllo", True),
        (b"h\\*llo", b"h*llo", True),
        (b"h\\*llo", b"hello", False),
        (b"*a*b*", b"xxaxxbxx", True),
        (b"*a*b", b"xxbxxa", False),
        (b"", b"", True),
    ]:
        assert matches(compile_glob(pattern), text) == expected, (pattern, text)
