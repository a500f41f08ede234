"""The envelope: any change of a stored record, anywhere, is noticed (hard case 25)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.core.causality.actor import make_actor
from quorate.core.causality.dotted_version_vectors import update
from quorate.core.envelope import HEADER_BYTES, digest_of, pack, unpack
from quorate.core.errors import DamagedRecord
from quorate.core.record import EMPTY_CONTEXT, VALUE, encode_record

KEY = b"\x01\x02\x07defaultalice"
ACTOR = make_actor(2, 23_000_000_000_000)
BODY = encode_record(update(None, EMPTY_CONTEXT, ACTOR, 1_750_000_000_000 << 16, b'{"milk":1}', "", VALUE, 0, 0))

keys = st.binary(min_size=1, max_size=40)
markers = st.just(0) | st.integers(0, (1 << 64) - 1)
bodies = st.binary(min_size=1, max_size=400)


@given(keys, markers, bodies)
def test_what_is_packed_comes_back(key: bytes, marker: int, body: bytes) -> None:
    assert unpack(key, pack(digest_of(key, body), marker, body)) == (digest_of(key, body), marker, body)


@given(keys, markers, markers, bodies)
def test_the_digest_is_the_same_whatever_the_marker(key: bytes, one: int, other: int, body: bytes) -> None:
    assert (
        unpack(key, pack(digest_of(key, body), one, body))[0] == unpack(key, pack(digest_of(key, body), other, body))[0]
    )


def test_equal_bodies_under_different_keys_have_different_digests() -> None:
    assert digest_of(b"a", BODY) != digest_of(b"b", BODY)


def test_the_layout_on_disk_does_not_change_by_accident() -> None:
    """Data directories outlive versions: a change here needs a new format byte and a reader for the old one."""
    stored = pack(digest_of(b"key", b"body"), make_actor(1, 5), b"body")
    assert stored.hex() == "01ba9193886060229f0001000000000005626f6479"
    assert len(stored) == HEADER_BYTES + len(b"body")


@pytest.mark.parametrize("marker", [0, ACTOR])
def test_every_flipped_bit_is_noticed(marker: int) -> None:
    stored = pack(digest_of(KEY, BODY), marker, BODY)
    for bit in range(len(stored) * 8):
        changed = bytearray(stored)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(DamagedRecord):
            unpack(KEY, bytes(changed))


@pytest.mark.parametrize("marker", [0, ACTOR])
def test_every_truncation_is_noticed(marker: int) -> None:
    stored = pack(digest_of(KEY, BODY), marker, BODY)
    for length in range(len(stored)):
        with pytest.raises(DamagedRecord):
            unpack(KEY, stored[:length])


def test_every_pair_of_flips_in_marker_and_check_is_noticed() -> None:
    """The check is tied to the marker; no two flips, one in each, may cancel out."""
    stored = pack(digest_of(KEY, b"body"), ACTOR, b"body")
    for one in range(8, 72):
        for other in range(72, 136):
            changed = bytearray(stored)
            changed[one // 8] ^= 1 << one % 8
            changed[other // 8] ^= 1 << other % 8
            with pytest.raises(DamagedRecord):
                unpack(KEY, bytes(changed))


@given(keys, markers, bodies, st.data())
def test_any_damage_is_noticed(key: bytes, marker: int, body: bytes, data: st.DataObject) -> None:
    stored = pack(digest_of(key, body), marker, body)
    start = data.draw(st.integers(0, len(stored) - 1))
    noise = data.draw(st.binary(max_size=len(stored) - start + 4))
    changed = stored[:start] + noise + stored[start + len(noise) :]
    if changed != stored:
        with pytest.raises(DamagedRecord):
            unpack(key, changed)


@given(keys, keys, markers, bodies)
def test_a_record_under_the_wrong_key_is_noticed(key: bytes, other: bytes, marker: int, body: bytes) -> None:
    if key != other:
        with pytest.raises(DamagedRecord):
            unpack(other, pack(digest_of(key, body), marker, body))


def test_the_error_names_the_key_the_cause_and_what_happens_next() -> None:
    with pytest.raises(DamagedRecord, match=r"alice.*too short.*repair"):
        unpack(KEY, b"")
    with pytest.raises(DamagedRecord, match="format is 9"):
        unpack(KEY, b"\x09" + pack(digest_of(KEY, BODY), 0, BODY)[1:])
