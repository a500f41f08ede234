"""Context tokens: what a node encodes it decodes; everything else is refused with advice."""

from __future__ import annotations

import string
from binascii import b2a_base64

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xxhash import xxh32_digest

from quorate.core.causality.actor import ACTOR_MAX, make_actor
from quorate.core.causality.context import COUNTER_MAX, TIME_MAX, decode_context, encode_context
from quorate.core.errors import CallerError
from quorate.core.limits import CONTEXT_ENTRIES_MAX, CONTEXT_TOKEN_BYTES_MAX
from quorate.core.record import EMPTY_CONTEXT, Context

URL_SAFE = set(string.ascii_letters + string.digits + "-_")
A = make_actor(1, 17 << 40)
B = make_actor(2, 17 << 40)

contexts = st.builds(
    Context,
    st.dictionaries(st.integers(1, ACTOR_MAX), st.integers(1, COUNTER_MAX), min_size=1, max_size=20),
    st.integers(0, TIME_MAX),
)


def forged(payload: bytes) -> str:
    """A token with a right checksum, whatever it holds."""
    return (
        b2a_base64(payload + xxh32_digest(payload), newline=False)
        .decode()
        .rstrip("=")
        .translate(str.maketrans("+/", "-_"))
    )


def forged_context(document: object) -> str:
    return forged(b"\x01" + msgspec.msgpack.encode(document))


@given(contexts)
def test_a_context_survives_its_token(context: Context) -> None:
    token = encode_context(context)
    assert set(token) <= URL_SAFE
    assert decode_context(token) == context
    assert decode_context(token.encode()) == context


def test_the_empty_context_is_the_empty_token() -> None:
    assert encode_context(EMPTY_CONTEXT) == ""
    assert decode_context("") == EMPTY_CONTEXT
    assert decode_context(b"") == EMPTY_CONTEXT


def test_equal_contexts_have_equal_tokens() -> None:
    assert encode_context(Context({A: 1, B: 2}, 3)) == encode_context(Context({B: 2, A: 1}, 3))


def test_the_largest_context_fits() -> None:
    clock = {ACTOR_MAX - number: COUNTER_MAX for number in range(CONTEXT_ENTRIES_MAX)}
    context = Context(clock, TIME_MAX)
    token = encode_context(context)
    assert len(token) <= CONTEXT_TOKEN_BYTES_MAX
    assert decode_context(token) == context


def test_a_token_of_the_first_version_stays_readable() -> None:
    """Clients keep tokens: this one must decode for as long as version 1 is known."""
    context = Context({make_actor(1, 5): 2, make_actor(2, 70_000): 300}, 114_688_000_000_000_007)
    assert encode_context(context) == "AZKCzwABAAAAAAAFAs8AAgAAAAERcM0BLM8Bl3Qg3AAAB9xmZUE"
    assert decode_context("AZKCzwABAAAAAAAFAs8AAgAAAAERcM0BLM8Bl3Qg3AAAB9xmZUE") == context


def test_every_cut_is_noticed() -> None:
    token = encode_context(Context({A: 3, B: 1}, 99 << 16))
    for length in range(1, len(token)):
        with pytest.raises(CallerError, match="malformed context"):
            decode_context(token[:length])


def test_every_changed_character_is_noticed() -> None:
    context = Context({A: 3, B: 1}, 99 << 16)
    token = encode_context(context)
    harmless = 0
    for position in range(len(token)):
        for character in sorted(URL_SAFE - {token[position]}):
            changed = token[:position] + character + token[position + 1 :]
            try:
                assert decode_context(changed) == context
                harmless += 1
            except CallerError:
                pass
    unused_bits = len(token) * 6 % 8
    assert harmless == 2**unused_bits - 1, "only the bits that base64 leaves unused at the end"


@pytest.mark.parametrize(
    "token", ["=", "A===", "%%%%", "AB CD", "AB\nCD", "+/+/", "ä" * 8, b"\xff\xfe\xfd\xfc", "AAAAA"]
)
def test_what_is_not_base64url_is_refused(token: str | bytes) -> None:
    with pytest.raises(CallerError, match="not base64url"):
        decode_context(token)


@settings(max_examples=150)
@given(st.text(max_size=60) | st.binary(max_size=60) | st.text(alphabet=sorted(URL_SAFE), min_size=1, max_size=60))
def test_garbage_is_refused_and_never_crashes(token: str | bytes) -> None:
    if token:
        with pytest.raises(CallerError, match="hand back, unchanged"):
            decode_context(token)


@settings(max_examples=150)
@given(st.binary(max_size=60))
def test_garbage_with_a_right_checksum_is_refused_or_sane(packed: bytes) -> None:
    try:
        context = decode_context(forged(b"\x01" + packed))
    except CallerError:
        return
    assert all(1 <= actor <= ACTOR_MAX and 1 <= counter <= COUNTER_MAX for actor, counter in context.clock.items())
    assert 0 <= context.time <= TIME_MAX


def test_the_size_is_checked_before_anything_else() -> None:
    with pytest.raises(CallerError, match=f"none is longer than {CONTEXT_TOKEN_BYTES_MAX}"):
        decode_context("!" * (CONTEXT_TOKEN_BYTES_MAX + 1))


def test_another_version_is_refused_by_name() -> None:
    with pytest.raises(CallerError, match="version"):
        decode_context(forged(b"\x02" + msgspec.msgpack.encode([{A: 1}, 5])))


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ([{A: 0}, 5], "number 0 of actor"),
        ([{A: -1}, 5], "number -1 of actor"),
        ([{A: COUNTER_MAX + 1}, 5], "no event"),
        ([{0: 1}, 5], "of actor 0"),
        ([{-1: 1}, 5], "of actor -1"),
        ([{A: 1}, -1], "the time -1"),
        ([{A: 1}, TIME_MAX + 1], "the time"),
        ([{}, 5], "0 actors"),
        ([dict.fromkeys(range(1, CONTEXT_ENTRIES_MAX + 2), 1), 5], "actors, and there are"),
        ([{"a": 1}, 5], "clock and a time"),
        ([{A: 1.5}, 5], "clock and a time"),
        ([[A, 1], 5], "clock and a time"),
        ({"clock": {A: 1}}, "clock and a time"),
        ([], "clock and a time"),
        (7, "clock and a time"),
    ],
)
def test_a_well_formed_token_with_impossible_content_is_refused(document: object, reason: str) -> None:
    with pytest.raises(CallerError, match=reason):
        decode_context(forged_context(document))
