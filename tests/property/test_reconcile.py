"""Comparing two listings against the plain definition of what two replicas have to tell each other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.core.errors import PeerError
from quorate.core.keyspace import storage_key
from quorate.core.merkle.reconcile import Comparison, bounds_of_bucket, check_listing

KEYS = [b"%c" % letter for letter in range(ord("a"), ord("j"))]
holdings = st.dictionaries(st.sampled_from(KEYS), st.integers(1, 3))


@given(asker=holdings, answerer=holdings, covered=st.sampled_from([b"", *KEYS]))
def test_what_moves_is_what_differs_and_nothing_else(
    asker: dict[bytes, int], answerer: dict[bytes, int], covered: bytes
) -> None:
    comparison = Comparison(sorted(asker.items()))
    seen = [key for key in sorted(answerer) if not covered or key <= covered]
    sent = [key for key in seen if comparison.lacks(key, answerer[key])]
    wanted = comparison.wanted(covered)
    in_reach = [key for key in KEYS if not covered or key <= covered]
    assert sent == [key for key in in_reach if key in answerer and asker.get(key) != answerer[key]]
    assert wanted == [key for key in in_reach if key in asker and answerer.get(key) != asker[key]]


@given(one=holdings, other=holdings, cuts=st.lists(st.sampled_from(KEYS)))
def test_any_cuts_into_ranges_bring_both_to_the_union(
    one: dict[bytes, int], other: dict[bytes, int], cuts: list[bytes]
) -> None:
    """With the larger digest for the merged record: after all ranges both hold the same."""
    expected = {key: max(one.get(key, 0), other.get(key, 0)) for key in one | other}
    after = b""
    for upto in [*sorted(set(cuts)), b""]:
        listed = [(key, one[key]) for key in sorted(one) if key > after and (not upto or key <= upto)]
        check_listing(listed, after, upto)
        comparison = Comparison(listed)
        seen = [key for key in sorted(other) if key > after and (not upto or key <= upto)]
        sent = [key for key in seen if comparison.lacks(key, other[key])]
        wanted = comparison.wanted(b"")
        for key in sent:
            one[key] = max(one.get(key, 0), other[key])
        for key in wanted:
            other[key] = max(other.get(key, 0), one[key])
        after = upto
    assert one == other == expected


@pytest.mark.parametrize(
    ("entries", "after", "upto"),
    [
        ([b"b", b"a"], b"", b""),
        ([b"a", b"a"], b"", b""),
        ([b"a"], b"a", b""),
        ([b"a", b"c"], b"", b"b"),
    ],
)
def test_a_listing_out_of_order_or_out_of_range_is_refused(entries: list[bytes], after: bytes, upto: bytes) -> None:
    with pytest.raises(PeerError):
        check_listing([(key, 1) for key in entries], after, upto)


names = st.binary(min_size=1, max_size=3).filter(lambda name: not set(name) & {0x3A, 0x7F, *range(0x20)})


@given(bucket=names, other=names, key=st.binary(min_size=1, max_size=2), partition=st.integers(0, 300))
def test_the_bounds_of_a_bucket_hold_its_keys_and_no_others(
    bucket: bytes, other: bytes, key: bytes, partition: int
) -> None:
    after, upto = bounds_of_bucket(partition, bucket)
    stored = storage_key(partition, other, key)
    assert (after < stored <= upto) == (bucket == other)
    assert not after < storage_key(partition + 1, bucket, key) <= upto
