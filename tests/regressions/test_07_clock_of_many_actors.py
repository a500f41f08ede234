"""Hard case 7: pruning of large clocks made transfers create siblings for ever (riak_core#613).

A record that was pruned on one side and not on the other looked concurrent with itself each time it was sent. Here
nothing prunes while records are merged: 200 actors travel and converge. Only the token that a client gets is bounded,
and it errs towards keeping a value: an event that the token does not name is at worst left as a sibling.
"""

from __future__ import annotations

from quorate.core.causality.actor import make_actor
from quorate.core.causality.context import decode_context, encode_context
from quorate.core.causality.dotted_version_vectors import context_of, sync, update
from quorate.core.limits import CONTEXT_ENTRIES_MAX, CONTEXT_TOKEN_BYTES_MAX
from quorate.core.record import EMPTY_CONTEXT, VALUE, Context, Record, encode_record
from tests.property.pure_replicas import PureReplicas


def written_by(actors: int) -> Record:
    """One value, overwritten once by each of so many actors."""
    record = None
    for number in range(actors):
        actor = make_actor(number % 1000 + 1, 1_000_000 + number)
        record = update(record, context_of(record), actor, number + 1, b"%d" % number, "", VALUE, 0, 0)
    assert record is not None
    return record


def test_two_hundred_lives_converge_to_one_value() -> None:
    replicas = PureReplicas(3)
    for life in range(200):
        store = replicas.stores[life % 3]
        replicas.send(replicas.stores[(life + 1) % 3], store)
        store.floor_epoch = store.epochs.next_epoch
        last = replicas.put(store, replicas.read(*replicas.stores))
    replicas.exchange_all()
    for store in replicas.stores:
        assert replicas.standing(store) == {last}
        assert store.disk.record is not None
        assert len(store.disk.record.clock) == 200
    before = [store.disk.record for store in replicas.stores]
    replicas.exchange_all()
    assert [store.disk.record for store in replicas.stores] == before


def test_the_context_of_two_hundred_actors_fits_its_token_whole() -> None:
    context = context_of(written_by(200))
    assert decode_context(encode_context(context)) == context


def test_a_token_is_bounded_whatever_the_clock() -> None:
    record = written_by(5_000)
    token = encode_context(context_of(record))
    assert len(token) <= CONTEXT_TOKEN_BYTES_MAX
    context = decode_context(token)
    assert len(context.clock) == CONTEXT_ENTRIES_MAX
    assert context.clock.items() <= record.clock.items()
    newest = [make_actor(number % 1000 + 1, 1_000_000 + number) for number in range(5_000)][-CONTEXT_ENTRIES_MAX:]
    assert sorted(context.clock) == sorted(newest)


def test_what_a_shortened_context_leaves_out_is_kept_as_a_sibling_not_lost() -> None:
    oldest = update(None, EMPTY_CONTEXT, make_actor(7, 1), 1, b"oldest", "", VALUE, 0, 0)
    record = sync(written_by(1_000), oldest)
    context = decode_context(encode_context(context_of(record)))
    after = update(record, context, make_actor(7, 9), context.time + 1, b"new", "", VALUE, 0, 0)
    assert [sibling.value for sibling in after.siblings] == [b"oldest", b"new"]
    assert sync(record, after) is after
    assert encode_record(sync(after, record)) == encode_record(after)
    assert len(Context(after.clock).clock) == 1_002
