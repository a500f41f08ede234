"""The record algebra by example: what each function promises its callers."""

from __future__ import annotations

import pytest

from quorate.core.causality.actor import make_actor
from quorate.core.causality.dotted_version_vectors import (
    context_of,
    has_operation,
    live_siblings,
    resolve_last_write_wins,
    sync,
    update,
    winner,
)
from quorate.core.record import EMPTY_CONTEXT, TOMBSTONE, VALUE, Context, Record, Sibling, check

A, B = make_actor(1, 1), make_actor(2, 1)


def put(record: Record | None, context: Context, actor: int, time: int, operation: int = 0) -> Record:
    return update(record, context, actor, time, b"%d" % time, "", VALUE, 0, operation)


def test_a_first_put_is_event_one_of_its_actor() -> None:
    record = update(None, EMPTY_CONTEXT, A, 10, b"v", "text/plain", VALUE, 99, 7)
    assert record == Record({A: 1}, [Sibling(A, 1, 10, b"v", "text/plain", VALUE, 99, 7)])
    assert context_of(record) == Context({A: 1}, 10)


def test_nothing_has_the_empty_context() -> None:
    assert context_of(None) == EMPTY_CONTEXT


def test_a_put_replaces_what_its_context_covers_and_nothing_else() -> None:
    first = put(None, EMPTY_CONTEXT, A, 10)
    second = put(first, EMPTY_CONTEXT, B, 11)
    assert [sibling.dot for sibling in second.siblings] == [(A, 1), (B, 1)]
    third = put(second, context_of(first), A, 12)
    assert [sibling.dot for sibling in third.siblings] == [(A, 2), (B, 1)]
    fourth = put(third, context_of(third), B, 13)
    assert [sibling.dot for sibling in fourth.siblings] == [(B, 2)]
    for record in (first, second, third, fourth):
        check(record)


def test_a_context_that_knows_more_than_the_coordinator_is_remembered() -> None:
    record = put(put(None, EMPTY_CONTEXT, B, 5), Context({A: 4, B: 1}, 20), A, 21)
    assert record == Record({A: 5, B: 1}, [Sibling(A, 5, 21, b"21")])


def test_a_put_changes_none_of_its_arguments() -> None:
    first = put(None, EMPTY_CONTEXT, A, 10)
    context = context_of(first)
    put(first, context, A, 11)
    put(first, EMPTY_CONTEXT, B, 11)
    assert first == put(None, EMPTY_CONTEXT, A, 10)
    assert context == Context({A: 1}, 10)


def test_a_put_that_is_not_later_than_its_context_is_our_bug() -> None:
    with pytest.raises(AssertionError):
        put(None, Context({A: 1}, 10), B, 10)


def test_a_context_that_lies_about_its_time_does_not_put_effect_before_cause() -> None:
    first = put(None, EMPTY_CONTEXT, A, 100)
    second = put(first, Context({A: 1}, 3), B, 4)
    assert [sibling.time for sibling in second.siblings] == [101]


def test_sync_returns_the_side_that_has_everything() -> None:
    first = put(None, EMPTY_CONTEXT, A, 10)
    second = put(first, context_of(first), B, 11)
    blind = put(first, EMPTY_CONTEXT, B, 11)
    assert sync(first, second) is second
    assert sync(second, first) is second
    assert sync(first, blind) is blind
    assert sync(blind, first) is blind
    twin = Record(dict(first.clock), list(first.siblings))
    assert sync(first, twin) is first
    assert sync(twin, first) is twin


def test_sync_of_one_clock_with_different_siblings_is_a_full_merge() -> None:
    """A last-write-wins replica dropped A's event, another one overwrote B's: what either dropped is gone."""
    both = put(put(None, EMPTY_CONTEXT, A, 10), EMPTY_CONTEXT, B, 11)
    pruned = resolve_last_write_wins(both)
    assert pruned.clock == both.clock
    assert sync(both, pruned) is pruned
    assert sync(pruned, both) is pruned


def test_a_tombstone_is_held_and_not_shown() -> None:
    value = put(None, EMPTY_CONTEXT, A, 10)
    deleted = update(value, context_of(value), A, 11, b"", "", TOMBSTONE, 0, 0)
    assert live_siblings(deleted, 0) == []
    assert context_of(deleted) == Context({A: 2}, 11)


def test_an_expired_value_is_not_shown_from_its_expiry_on() -> None:
    record = update(None, EMPTY_CONTEXT, A, 10, b"v", "", VALUE, 1_000, 0)
    assert live_siblings(record, 999) == record.siblings
    assert live_siblings(record, 1_000) == []


def test_a_write_that_was_retried_elsewhere_is_shown_once() -> None:
    once = put(None, EMPTY_CONTEXT, B, 10, operation=77)
    again = put(put(once, EMPTY_CONTEXT, A, 11, operation=77), EMPTY_CONTEXT, A, 12)
    assert [sibling.dot for sibling in again.siblings] == [(A, 1), (A, 2), (B, 1)]
    assert [sibling.dot for sibling in live_siblings(again, 0)] == [(A, 2), (B, 1)]


def test_writes_without_an_operation_id_are_never_taken_for_one() -> None:
    record = put(put(None, EMPTY_CONTEXT, A, 10), EMPTY_CONTEXT, B, 10)
    assert len(live_siblings(record, 0)) == 2


def test_the_winner_is_the_latest_then_the_highest_dot() -> None:
    early, late, tied = Sibling(B, 9, 10, b""), Sibling(A, 1, 11, b""), Sibling(A, 2, 11, b"")
    assert winner([early]) is early
    assert winner([early, late]) is late
    assert winner([late, tied, early]) is tied
    assert winner([tied, early, late]) is tied


def test_last_write_wins_keeps_the_clock_and_the_winner() -> None:
    record = put(put(None, EMPTY_CONTEXT, A, 12), EMPTY_CONTEXT, B, 11)
    resolved = resolve_last_write_wins(record)
    assert resolved == Record({A: 1, B: 1}, [Sibling(A, 1, 12, b"12")])
    assert resolve_last_write_wins(resolved) is resolved


def test_an_operation_is_found_by_its_id_and_none_by_zero() -> None:
    record = put(put(None, EMPTY_CONTEXT, A, 10, operation=5), EMPTY_CONTEXT, B, 11)
    found = has_operation(record, 5)
    assert found is not None and found.dot == (A, 1)
    assert has_operation(record, 6) is None
    assert has_operation(record, 0) is None
