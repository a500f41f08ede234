"""Names of keys and where they live: what must agree with Redis Cluster, and what must never collide."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.core.errors import CallerError
from quorate.core.keyspace import canonical_name, slot_of_name, split_name, split_storage_key, storage_key
from quorate.core.limits import BUCKET_NAME_BYTES_MAX, KEY_BYTES_MAX, SLOTS

bucket_names = st.text(st.characters(codec="ascii", min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=64)
buckets = bucket_names.map(lambda name: name.replace(":", "-").encode())
keys = st.binary(min_size=1, max_size=KEY_BYTES_MAX)


def slot_bit_by_bit(data: bytes) -> int:
    """CRC16/XMODEM from its definition, one bit at a time."""
    register = 0
    for byte in data:
        register ^= byte << 8
        for _ in range(8):
            register = (register << 1) ^ (0x1021 if register & 0x8000 else 0)
    return register & 0xFFFF & (SLOTS - 1)


@pytest.mark.parametrize(
    ("name", "slot"),
    [
        (b"123456789", 0x31C3),
        (b"foo", 12182),
        (b"", 0),
        (b"{user1000}.following", slot_bit_by_bit(b"user1000")),
        (b"foo{{bar}}zap", slot_bit_by_bit(b"{bar")),
        (b"foo{bar}{zap}", slot_bit_by_bit(b"bar")),
        (b"foo{}{bar}", slot_bit_by_bit(b"foo{}{bar}")),
        (b"foo{bar", slot_bit_by_bit(b"foo{bar")),
        (b"foo}bar{x}", slot_bit_by_bit(b"x")),
    ],
)
def test_slots_are_those_of_redis_cluster(name: bytes, slot: int) -> None:
    """The cases of the Redis Cluster specification, hash tags included."""
    assert slot_of_name(name) == slot


@given(st.binary(max_size=64).filter(lambda data: b"{" not in data))
def test_a_slot_is_the_crc_by_definition(name: bytes) -> None:
    assert slot_of_name(name) == slot_bit_by_bit(name)


@pytest.mark.parametrize(
    ("name", "bucket", "key"),
    [
        (b"carts:alice", b"carts", b"alice"),
        (b"alice", b"default", b"alice"),
        (b"carts:a:b", b"carts", b"a:b"),
        (b"default:alice", b"default", b"alice"),
        (b"default:a:b", b"default", b"a:b"),
        (b"c:\x00\xff", b"c", b"\x00\xff"),
    ],
)
def test_the_bucket_is_what_stands_before_the_first_colon(name: bytes, bucket: bytes, key: bytes) -> None:
    assert split_name(name) == (bucket, key)


@given(buckets, keys)
def test_a_canonical_name_leads_back_to_its_bucket_and_key(bucket: bytes, key: bytes) -> None:
    assert split_name(canonical_name(bucket, key)) == (bucket, key)


@given(keys)
def test_the_default_bucket_has_one_slot_for_a_key_however_it_is_spelled(key: bytes) -> None:
    spellings = [b"default:" + key] + ([key] if b":" not in key else [])
    assert len({canonical_name(*split_name(spelling)) for spelling in spellings}) == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (b"", "a key has 1 to"),
        (b"carts:", "a key has 1 to"),
        (b":alice", "a bucket's name has 1 to"),
        (b"b" * (BUCKET_NAME_BYTES_MAX + 1) + b":k", "this one has 65"),
        (b"k" * (KEY_BYTES_MAX + 1), "this one has 1025"),
        (b"a\nb:k", "control characters"),
        (b"a\x7fb:k", "control characters"),
    ],
)
def test_a_bad_name_is_refused_with_the_reason(name: bytes, message: str) -> None:
    with pytest.raises(CallerError, match=message):
        split_name(name)


@given(st.integers(0, SLOTS - 1), buckets, keys)
def test_a_storage_key_leads_back_to_its_parts(partition: int, bucket: bytes, key: bytes) -> None:
    assert split_storage_key(storage_key(partition, bucket, key)) == (partition, bucket, key)


@given(st.tuples(st.integers(0, SLOTS - 1), buckets, keys), st.tuples(st.integers(0, SLOTS - 1), buckets, keys))
def test_storage_keys_sort_by_partition_first(a: tuple[int, bytes, bytes], b: tuple[int, bytes, bytes]) -> None:
    """A partition is one contiguous range, and two places never share a storage key."""
    if a[0] < b[0]:
        assert storage_key(*a) < storage_key(*b)
    assert (storage_key(*a) == storage_key(*b)) == (a == b)
