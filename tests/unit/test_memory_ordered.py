"""The ordered key set beside a plain sorted list."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.adapters.storage import ordered
from quorate.adapters.storage.ordered import OrderedKeys

KEYS = st.binary(max_size=2)


def check(keys: OrderedKeys) -> None:
    assert all(keys._blocks), "no block is empty"
    assert keys._firsts == [block[0] for block in keys._blocks]
    assert all(len(block) <= ordered._BLOCK_KEYS_MAX for block in keys._blocks)


@pytest.fixture(scope="module", autouse=True)
def short_blocks() -> object:
    """Blocks of four keys, so that few keys make many blocks."""
    before, ordered._BLOCK_KEYS_MAX = ordered._BLOCK_KEYS_MAX, 4  # type: ignore[misc]
    yield
    ordered._BLOCK_KEYS_MAX = before  # type: ignore[misc]


@settings(max_examples=200, deadline=None)
@given(toggled=st.lists(KEYS, max_size=60), ranges=st.lists(st.tuples(KEYS, KEYS), max_size=5))
def test_it_is_a_sorted_set(toggled: list[bytes], ranges: list[tuple[bytes, bytes]]) -> None:
    keys, twin = OrderedKeys(), set[bytes]()
    for key in toggled:
        if key in twin:
            keys.remove(key)
        else:
            keys.add(key)
        twin ^= {key}
        check(keys)
    assert len(keys) == len(twin)
    assert keys.between(b"", b"\xff" * 3) == sorted(twin)
    for start, end in ranges:
        assert keys.between(start, end) == sorted(key for key in twin if start <= key < end)


def test_many_keys_in_random_order() -> None:
    generator = random.Random(7)
    chosen = [b"%05d" % number for number in generator.sample(range(100_000), 3000)]
    keys = OrderedKeys()
    for key in chosen:
        keys.add(key)
    check(keys)
    assert keys.between(b"", b"a") == sorted(chosen)
    for key in chosen[::2]:
        keys.remove(key)
    check(keys)
    assert keys.between(b"2", b"7") == sorted(key for key in chosen[1::2] if b"2" <= key < b"7")
