"""Hard case 1: a coordinator that lost its data issues the same dots again, and its next write is erased.

First seen in riak_kv#679: after its disk was replaced, a vnode counted from 1 again; the others' version vectors had
covered that number long ago, so the write, acknowledged to the client, was taken for an old one and dropped by repair.
"""

from __future__ import annotations

import pytest

from quorate.core.causality.dotted_version_vectors import live_siblings
from tests.property.pure_replicas import (
    ActorChoice,
    PureReplicas,
    by_the_rule,
    epoch_per_key,
    floor_never_raised,
    member_alone,
)


def wipe_then_write(choose_actor: ActorChoice) -> bool:
    """Does the write that follows the loss of the disk survive repair?"""
    replicas = PureReplicas(2, choose_actor)
    first, second = replicas.stores
    replicas.put(first)
    replicas.put(first, replicas.read(first))
    replicas.send(first, second)
    first.wipe()
    acknowledged = replicas.put(first)
    replicas.exchange_all()
    return all(acknowledged in replicas.standing(store) for store in replicas.stores)


def test_a_write_after_the_loss_of_the_disk_stands() -> None:
    assert wipe_then_write(by_the_rule)


def test_without_epochs_the_write_is_lost() -> None:
    assert not wipe_then_write(member_alone)


def test_the_value_from_before_the_loss_stands_beside_it() -> None:
    replicas = PureReplicas(2)
    first, second = replicas.stores
    before = replicas.put(first)
    replicas.send(first, second)
    first.wipe()
    after = replicas.put(first)
    replicas.exchange_all()
    for store in replicas.stores:
        replicas.verify(store)
        assert store.disk.record is not None
        assert [sibling.value for sibling in live_siblings(store.disk.record, 0)] == [b"%d" % before, b"%d" % after]


@pytest.mark.parametrize("lives", [1, 2, 5])
def test_every_further_loss_is_survived_too(lives: int) -> None:
    replicas = PureReplicas(3)
    first, second, third = replicas.stores
    written = []
    for life in range(lives):
        first.wipe()
        written.append(replicas.put(first))
        replicas.send(first, second if life % 2 else third)
    first.wipe()
    replicas.exchange_all()
    assert replicas.standing(first) == set(written)


def unclean_stop_then_write(choose_actor: ActorChoice) -> bool:
    """The disk stays, and goes back to before the last two writes, which only the other replica has then."""
    replicas = PureReplicas(2, choose_actor)
    first, second = replicas.stores
    replicas.put(first)
    synced = first.disk
    replicas.put(first, replicas.read(first))
    replicas.put(first, replicas.read(first))
    replicas.send(first, second)
    first.lose_unsynced(synced)
    acknowledged = replicas.put(first)
    replicas.exchange_all()
    return all(acknowledged in replicas.standing(store) for store in replicas.stores)


def test_a_write_after_unsynced_writes_vanished_stands() -> None:
    assert unclean_stop_then_write(by_the_rule)


@pytest.mark.parametrize("control", [member_alone, epoch_per_key, floor_never_raised])
def test_with_markers_trusted_after_an_unclean_stop_the_write_is_lost(control: ActorChoice) -> None:
    assert not unclean_stop_then_write(control)
