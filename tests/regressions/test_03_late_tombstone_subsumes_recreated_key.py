"""Hard case 3: a fallback's late tombstone subsumes the key that was created again in the meantime.

First seen in riak_kv PR1094 and PR226: put, delete, put. The primaries have reaped the tombstone and begin the new
value's history afresh; a fallback still holds the tombstone, whose vector covers the restarted counter, and its
handoff erases the new value. The reverse must hold as well: a late copy of the old value must not come back.
"""

from __future__ import annotations

import pytest

from quorate.core.causality.dotted_version_vectors import live_siblings
from quorate.core.envelope import unpack
from quorate.core.messages import FLAG_HINTED, Write
from quorate.core.ports import Space
from quorate.core.record import decode_record
from quorate.core.store import PutResult
from tests.property.pure_replicas import ActorChoice, Disk, PureReplicas, PureStore, by_the_rule, member_alone
from tests.unit.collecting import GRACE_HOURS, OPTIONS, collect, deleted, gone
from tests.unit.small_cluster import SmallCluster


def live_values(store: PureStore) -> list[bytes]:
    assert store.disk.record is not None
    return [sibling.value for sibling in live_siblings(store.disk.record, 0)]


def put_delete_reap_put(choose_actor: ActorChoice) -> tuple[PureReplicas, int]:
    """The history, up to the handoff of the fallback's tombstone; with the event of the new value."""
    replicas = PureReplicas(3, choose_actor)
    first, second, fallback = replicas.stores
    replicas.put(first)
    replicas.put(first, replicas.read(first), delete=True)
    replicas.send(first, second)
    replicas.send(first, fallback)
    first.disk = second.disk = Disk()  # reaped: the tombstone and all that it covered are forgotten
    created_again = replicas.put(first)
    replicas.send(first, second)
    replicas.send(fallback, first)
    return replicas, created_again


def test_a_key_created_again_survives_the_late_tombstone() -> None:
    replicas, created_again = put_delete_reap_put(by_the_rule)
    replicas.exchange_all()
    for store in replicas.stores:
        assert live_values(store) == [b"%d" % created_again]


def test_without_epochs_the_late_tombstone_erases_it() -> None:
    replicas, created_again = put_delete_reap_put(member_alone)
    assert created_again not in replicas.standing(replicas.stores[0])


@pytest.mark.parametrize("hands_off_to", [0, 1])
def test_a_late_copy_of_the_deleted_value_does_not_come_back(hands_off_to: int) -> None:
    replicas = PureReplicas(3)
    first, second, fallback = replicas.stores
    replicas.put(first)
    replicas.send(first, fallback)
    replicas.put(first, replicas.read(first), delete=True)
    replicas.send(first, second)
    created_again = replicas.put(second, replicas.read(second))
    replicas.send(second, first)
    replicas.send(fallback, replicas.stores[hands_off_to])
    replicas.exchange_all()
    for store in replicas.stores:
        replicas.verify(store)
        assert live_values(store) == [b"%d" % created_again]


def test_a_put_concurrent_with_the_delete_is_kept_with_the_tombstone() -> None:
    replicas = PureReplicas(2)
    first, second = replicas.stores
    replicas.put(first)
    replicas.send(first, second)
    seen = replicas.read(first)
    tombstone = replicas.put(first, seen, delete=True)
    concurrent = replicas.put(second, seen)
    replicas.exchange_all()
    for store in replicas.stores:
        assert replicas.standing(store) == {tombstone, concurrent}
        assert live_values(store) == [b"%d" % concurrent]


def test_on_nodes_a_hinted_tombstone_comes_home_after_the_key_was_collected_and_created_again() -> None:
    """The real protocol: the tombstone waits as a hint while all replicas collect theirs, and then comes home."""
    cluster = SmallCluster(size=4, options=OPTIONS)
    homes, (fallback, *_) = cluster.preference_list(b"k")
    deleted(cluster)
    place, tombstone = next(
        (place, unpack(place[1], stored)[2])
        for place, stored in cluster.engines[homes[0]].data.items()
        if place[0] == Space.DATA
    )
    cluster.wait(hours=GRACE_HOURS + 1)
    collect(cluster)
    assert gone(cluster)
    assert isinstance(cluster.put(homes[0], b"k", b"again"), PutResult)
    cluster.world.run(100)
    version = cluster.ring.version
    for home in homes:
        for flags in (FLAG_HINTED, 0):  # As a hint, which is refused for its age, and as any write whatever.
            cluster.nodes[home].on_message(fallback, Write(1, 1_000, version, place[1], tombstone, flags), 0.0)
    cluster.world.run(100)
    assert cluster.counter("hints_refused_as_too_old") == 3
    assert cluster.values(homes[1], b"k", r=3) == [b"again"]
    collect(cluster)
    assert cluster.values(homes[2], b"k", r=3) == [b"again"]
    held = [decode_record(body).siblings for body in cluster.bodies(b"k") if body]
    assert [len(siblings) for siblings in held] == [1, 1, 1], "and the tombstone is collected once more"
