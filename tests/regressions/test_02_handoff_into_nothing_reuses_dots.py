"""Hard case 2: an epoch a key is not enough; a handoff merged into a local not-found still reuses dots.

First seen in riak_test's kv679_dataloss_fb2: the cure for riak_kv#679 minted an epoch when a key was not found
locally. But an old copy that arrives from a fallback before the next put makes the key found, and the store continues
under the counter in that copy, below the dots that it had issued after the copy was made. A read error does the same.
"""

from __future__ import annotations

import pytest

from quorate.core.causality.actor import member_of
from quorate.core.envelope import digest_of, pack, unpack
from quorate.core.errors import DamagedRecord
from quorate.core.record import encode_record
from tests.property.pure_replicas import (
    ActorChoice,
    Disk,
    PureReplicas,
    by_the_rule,
    epoch_per_key,
    member_alone,
)


def old_copy_arrives_first(choose_actor: ActorChoice) -> bool:
    """Does the write that follows wipe and late handoff survive repair?"""
    replicas = PureReplicas(3, choose_actor)
    first, second, fallback = replicas.stores
    replicas.put(first)
    replicas.send(first, fallback)
    replicas.put(first, replicas.read(first))
    replicas.put(first, replicas.read(first))
    replicas.send(first, second)
    first.wipe()
    replicas.send(fallback, first)
    acknowledged = replicas.put(first, replicas.read(first))
    replicas.exchange_all()
    return all(acknowledged in replicas.standing(store) for store in replicas.stores)


def test_a_write_on_top_of_a_handed_off_copy_stands() -> None:
    assert old_copy_arrives_first(by_the_rule)


@pytest.mark.parametrize("control", [member_alone, epoch_per_key])
def test_continuing_under_the_counter_of_the_copy_loses_the_write(control: ActorChoice) -> None:
    assert not old_copy_arrives_first(control)


def test_a_replicated_record_carries_no_marker() -> None:
    replicas = PureReplicas(2)
    first, second = replicas.stores
    replicas.put(first)
    replicas.send(first, second)
    assert second.disk.marker == 0
    replicas.put(second)
    assert member_of(second.disk.marker) == second.member


def test_a_store_that_has_its_own_marker_does_not_mint_again() -> None:
    replicas = PureReplicas(2)
    first, second = replicas.stores
    replicas.put(first)
    marker = first.disk.marker
    for _ in range(20):
        replicas.put(second, replicas.read(first))
        replicas.send(second, first)
        replicas.put(first, replicas.read(first))
        replicas.send(first, second)
    assert first.disk.marker == marker
    assert first.disk.record is not None
    assert len(first.disk.record.clock) == 2, "one clock entry for each life that coordinated, not for each put"


def test_a_damaged_record_counts_as_none_and_the_next_write_stands() -> None:
    replicas = PureReplicas(2)
    first, second = replicas.stores
    replicas.put(first)
    replicas.send(first, second)
    replicas.put(first, replicas.read(first))
    replicas.send(first, second)
    assert first.disk.record is not None
    stored = bytearray(
        pack(digest_of(b"key", encode_record(first.disk.record)), first.disk.marker, encode_record(first.disk.record))
    )
    stored[-1] ^= 1
    with pytest.raises(DamagedRecord):
        unpack(b"key", bytes(stored))
    first.disk = Disk()
    acknowledged = replicas.put(first)
    replicas.exchange_all()
    assert all(acknowledged in replicas.standing(store) for store in replicas.stores)
