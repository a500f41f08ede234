"""Hard case 8: the merge of versions gave another result in another order (voldemort#21).

Replicas then never agree: each repair moves the difference about. Here a handful of records of every kind is merged
in every order and every grouping; the property tests do the same with records of random histories.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from itertools import permutations, product

import pytest

from quorate.core.causality.actor import make_actor
from quorate.core.causality.dotted_version_vectors import context_of, resolve_last_write_wins, sync, update
from quorate.core.record import EMPTY_CONTEXT, TOMBSTONE, VALUE, Context, Record, check, encode_record

Merge = Callable[[Record, Record], Record]

A, B, C = (make_actor(member, 1) for member in (1, 2, 3))


def put(record: Record | None, context: Context, actor: int, time: int, kind: int = VALUE) -> Record:
    value = b"" if kind == TOMBSTONE else b"%d" % time
    return update(record, context, actor, time, value, "", kind, 0, 0)


def records() -> list[Record]:
    """A value, two that overwrote it concurrently (one of them a delete), one of equal time, one that saw nothing."""
    base = put(None, EMPTY_CONTEXT, A, 10)
    deleted = put(base, context_of(base), A, 30, TOMBSTONE)
    changed = put(base, context_of(base), B, 30)
    both = put(sync(deleted, changed), context_of(changed), B, 40)
    blind = put(None, EMPTY_CONTEXT, C, 30)
    return [base, deleted, changed, both, blind]


def merge_siblings(left: Record, right: Record) -> Record:
    return sync(left, right)


def merge_latest(left: Record, right: Record) -> Record:
    return resolve_last_write_wins(sync(resolve_last_write_wins(left), resolve_last_write_wins(right)))


@pytest.mark.parametrize("merge", [merge_siblings, merge_latest])
def test_every_order_gives_the_same_bytes(merge: Merge) -> None:
    results = {encode_record(reduce(merge, order)) for order in permutations(records())}
    assert len(results) == 1


@pytest.mark.parametrize("merge", [merge_siblings, merge_latest])
def test_grouping_and_repetition_do_not_matter(merge: Merge) -> None:
    for a, b, c in product(records(), repeat=3):
        assert merge(a, merge(b, c)) == merge(merge(a, b), c)
        assert merge(merge(a, b), b) == merge(a, b)
        assert merge(a, b) == merge(b, a)
        check(merge(a, b))


def test_even_two_contents_under_one_dot_are_merged_alike_everywhere() -> None:
    """It cannot happen by the rules. If a disk image is brought back behind our back, replicas must still agree."""
    one = put(None, EMPTY_CONTEXT, A, 10)
    other = put(None, EMPTY_CONTEXT, A, 11)
    wider = put(other, EMPTY_CONTEXT, B, 12)
    for left, right in ((one, other), (one, wider)):
        assert sync(left, right) == sync(right, left)
        assert sync(sync(left, right), left) == sync(left, right)
