"""Frames, their age, and the messages inside: the pure half of the peer wire."""

from __future__ import annotations

import math
import struct
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.core.errors import CallerError, PeerError
from quorate.core.limits import FRAME_BYTES_MAX, KEY_BYTES_MAX, KIB, MIB
from quorate.core.messages import (
    ForwardReply,
    Message,
    Read,
    ReadReply,
    ScannedKey,
    ScannedPartition,
    ScanReply,
    StatusReply,
    Write,
    WriteReply,
)
from quorate.core.store import Failure
from quorate.core.wire.address import join_address, split_address
from quorate.core.wire.age import DRIFT, FrameAge
from quorate.core.wire.codec import LIGHT_BYTES, PING, decode_messages, encode_messages, weigh
from quorate.core.wire.framing import HEADER_BYTES, FrameReader, frame_header


def frame(body: bytes, sent_ms: float = 1.0) -> bytes:
    return frame_header(len(body), sent_ms) + body


def read_all(reader: FrameReader, chunk: bytes) -> list[tuple[float, bytes]]:
    return [(sent_ms, bytes(body)) for sent_ms, body in reader.frames(chunk)]


# Framing.


def test_a_frame_is_length_time_and_body() -> None:
    assert frame(b"abc", 1.5) == b"\x00\x00\x00\x0b" + struct.pack(">d", 1.5) + b"abc"
    assert read_all(FrameReader(100), frame(b"abc", 1.5)) == [(1.5, b"abc")]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(1, 40) | st.sampled_from([8180, 8190, 20_000]), max_size=6),
    st.lists(st.sampled_from([1, 3, 11, 12, 13, 64]), min_size=1, max_size=9),
    st.integers(20, 300),
)
def test_frames_do_not_depend_on_how_the_stream_is_cut(sizes: list[int], cuts: list[int], factor: int) -> None:
    bodies = [bytes([index + 1]) * size for index, size in enumerate(sizes)]
    stream = b"".join(frame(body, float(index)) for index, body in enumerate(bodies))
    ends = _frame_ends(bodies)
    reader, got, at, turn = FrameReader(MIB), [], 0, 0
    while at < len(stream):
        # Short cuts around the beginning of each frame, long ones elsewhere.
        near = min((abs(at - end) for end in [0, *ends]), default=0) < 40
        size = cuts[turn % len(cuts)] * (1 if near else factor)
        got += read_all(reader, stream[at : at + size])
        at, turn = min(at + size, len(stream)), turn + 1
        assert len(got) == sum(1 for end in ends if end <= at), "a frame is delivered as soon as it is complete"
    assert got == [(float(index), body) for index, body in enumerate(bodies)]
    assert reader.held_bytes == 0


def _frame_ends(bodies: list[bytes]) -> list[int]:
    ends, at = [], 0
    for body in bodies:
        at += HEADER_BYTES + len(body)
        ends.append(at)
    return ends


@pytest.mark.parametrize("length", [0, 8, 101, 4096, 2**31, 2**32 - 1])
def test_a_bad_length_is_refused_at_its_fourth_byte(length: int) -> None:
    """Hard case 35: judged before anything that it announces has come."""
    reader = FrameReader(100)
    assert read_all(reader, length.to_bytes(4, "big")[:3]) == []
    with pytest.raises(PeerError, match=f"declares {length} bytes"):
        read_all(reader, length.to_bytes(4, "big")[3:])


def test_the_limit_counts_what_follows_the_length() -> None:
    assert read_all(FrameReader(100), frame(b"x" * 92)) == [(1.0, b"x" * 92)]
    with pytest.raises(PeerError, match="declares 101 bytes"):
        read_all(FrameReader(100), frame(b"x" * 93))


@pytest.mark.parametrize("sent_ms", [math.nan, math.inf, -math.inf, -1.0, 1e300])
def test_a_time_that_no_clock_shows_is_refused(sent_ms: float) -> None:
    with pytest.raises(PeerError, match="no clock shows"):
        read_all(FrameReader(100), frame(b"abc", sent_ms))


def test_the_limit_may_rise_between_two_frames_of_one_chunk() -> None:
    reader, got = FrameReader(20), []
    for _, body in reader.frames(frame(b"hello") + frame(b"x" * 1000)):
        got.append(len(body))
        reader.limit_bytes = 2000
    assert got == [5, 1000]


def test_frames_before_a_bad_one_are_delivered() -> None:
    got = []
    with pytest.raises(PeerError):
        for _, body in FrameReader(100).frames(frame(b"good") + b"\xff" * 20):
            got.append(bytes(body))
    assert got == [b"good"]


def test_a_kept_body_does_not_block_the_stream() -> None:
    """A logged traceback may keep a view of a buffer alive; the buffer must not be resized then."""
    reader, kept = FrameReader(MIB), []
    stream = frame(b"a" * 20_000) + frame(b"b" * 20_000) + frame(b"c" * 20_000)
    for at in range(0, len(stream), 15_000):
        kept += [body for _, body in reader.frames(stream[at : at + 15_000])]
    assert [bytes(body[:1]) for body in kept] == [b"a", b"b", b"c"]


def test_a_trickle_of_single_bytes_is_held_once() -> None:
    body = b"x" * (64 * KIB)
    stream = frame(body)
    reader = FrameReader(MIB)
    tracemalloc.start()
    try:
        for at in range(len(stream) - 1):
            assert read_all(reader, stream[at : at + 1]) == []
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 2 * len(stream) and peak < 3 * len(stream)
    assert read_all(reader, stream[-1:]) == [(1.0, body)]


def test_a_large_frame_is_not_copied_again_and_again() -> None:
    body = bytes(8 * MIB)
    stream, reader = frame(body), FrameReader(FRAME_BYTES_MAX)
    tracemalloc.start()
    try:
        frames = 0
        for at in range(0, len(stream), 64 * KIB):
            for _, got in reader.frames(stream[at : at + 64 * KIB]):
                frames += 1
                assert isinstance(got, memoryview) and len(got) == len(body)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert frames == 1 and peak < 20 * MIB
    assert reader.held_bytes == 0


# Age.


def test_the_fastest_frame_has_no_age_and_others_have_what_they_waited() -> None:
    age = FrameAge()
    assert age.of(100.0, 5100.0) == 0.0
    assert age.of(200.0, 5230.0) == pytest.approx(30.0, abs=0.2)
    assert age.of(300.0, 5295.0) == 0.0  # faster than ever: the offset is 4995
    assert age.of(400.0, 5400.0) == pytest.approx(5.0, abs=0.2)


def test_a_drifting_clock_does_not_age_frames() -> None:
    """The sender's clock loses 200 ppm; after a day that would be 17 seconds."""
    age = FrameAge()
    ages = [age.of(second * 1000 * (1 - 200e-6), second * 1000 + 1.0) for second in range(0, 86_400, 60)]
    assert max(ages) < 0.1


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1000), st.floats(0, 5000)), min_size=1, max_size=30))
def test_the_age_equals_its_definition(steps: list[tuple[float, float]]) -> None:
    """Brute force: the smallest of all differences so far, each risen by the drift since it was seen."""
    age, now_ms, seen = FrameAge(), 0.0, []
    for pause_ms, sent_ms in steps:
        now_ms += pause_ms
        seen.append((now_ms, now_ms - sent_ms))
        smallest_ms = min(difference + (now_ms - at) * DRIFT for at, difference in seen)
        got = age.of(sent_ms, now_ms)
        assert got >= 0.0
        assert got == pytest.approx(now_ms - sent_ms - smallest_ms, abs=1e-6)


# Messages.

small = st.integers(0, 2**63 - 1)
messages = st.one_of(
    st.builds(Write, small, small, small, st.binary(max_size=KEY_BYTES_MAX), st.binary(max_size=5000), small),
    st.builds(WriteReply, small, small),
    st.builds(Read, small, small, small, st.binary(max_size=KEY_BYTES_MAX), st.booleans()),
    st.builds(ReadReply, small, small, small, st.binary(max_size=5000)),
    st.builds(ForwardReply, small, st.builds(Failure, st.sampled_from(["caller", "unknown"]), st.text())),
    st.builds(StatusReply, small, st.binary(max_size=5000)),
    st.builds(
        ScanReply,
        small,
        small,
        st.lists(
            st.builds(
                ScannedPartition,
                small,
                st.lists(st.builds(ScannedKey, st.binary(max_size=9), small, st.booleans()), max_size=9),
                st.booleans(),
            ),
            max_size=3,
        ),
    ),
)


@settings(deadline=None)
@given(st.lists(messages, max_size=5))
def test_messages_survive_the_wire(batch: list[Message]) -> None:
    body = encode_messages(batch)
    assert decode_messages(body) == batch
    assert decode_messages(memoryview(body)) == batch


@settings(deadline=None)
@given(messages)
def test_a_message_never_takes_more_than_it_weighs(message: Message) -> None:
    size = len(encode_messages([message]))
    assert size <= weigh(message) <= size + LIGHT_BYTES


def test_a_ping_is_an_empty_list() -> None:
    assert decode_messages(PING) == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc0",  # nil
        b"\x90\x90",  # two values
        b"\xdd\xff\xff\xff\xff",  # a list of four thousand million
        b"\x91\x93\x63\x01\x01",  # no message has tag 99
        b"\x91\x93\x02\xcb" + bytes(8) + b"\x01",  # an id that is a float
        b"\x91\x93\x02\x01",  # cut short
        b"\x91\x97\x01\x01\x02\x03\xc6\xff\xff\xff\xff",  # a key of four gigabytes
        b"\x91\x93\x07\x01\x95\x03\xa2\xff\xfe\xa1a\x90\x00",  # text that is not UTF-8
        b"\x91\x9a\x02\x01\x00" + b"\x91" * 100_000,  # nested without end, in a field from the future
    ],
)
def test_anything_else_is_the_peers_error_and_takes_no_memory(body: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(PeerError, match="no valid messages"):
            decode_messages(body)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 64 * KIB


# Addresses.


@pytest.mark.parametrize(
    ("text", "parts"),
    [("127.0.0.1:7601", ("127.0.0.1", 7601)), ("[::1]:0", ("::1", 0)), ("node.example:65535", ("node.example", 65535))],
)
def test_an_address_is_host_and_port(text: str, parts: tuple[str, int]) -> None:
    assert split_address(text) == parts
    assert join_address(*parts) == text


@pytest.mark.parametrize("text", ["", "host", "host:", ":7601", "::1:7601", "host:65536", "host:-1", "host:٣", "h:1x"])
def test_what_is_no_address_is_the_callers_error(text: str) -> None:
    with pytest.raises(CallerError):
        split_address(text)
