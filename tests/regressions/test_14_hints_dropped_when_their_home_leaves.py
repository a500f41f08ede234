"""Hard case 14: hints were dropped when their home left or was replaced (scylladb#20558, #24980).

An acknowledged write may exist nowhere else. What was kept for a member that is gone goes to the replicas that the
key has now, of which the holder itself may be one; what the leaver keeps for others goes before it does.
"""

from __future__ import annotations

import msgspec
import pytest

from quorate.core.buckets import default_properties
from quorate.core.ports import Space
from quorate.core.ring.create import create_ring
from quorate.core.ring.metadata import ClusterMetadata, to_value
from quorate.core.ring.ring import Ring
from quorate.core.ring.transition import staged
from quorate.core.store import PutResult, Wish
from quorate.node.ring_keeper import LEDGER_KEY
from tests.unit.membership_cluster import KEYS, MembershipCluster
from tests.unit.small_cluster import SmallCluster, member


def without(cluster: SmallCluster, gone: int) -> Ring:
    """The ring of the others, one version later."""
    left = [member(number) for number in cluster.nodes if number != gone]
    ring = create_ring(cluster.ring.cluster_id, left, cluster.ring.partitions)
    return msgspec.structs.replace(ring, version=cluster.ring.version + 1)


def adopt(cluster: SmallCluster, ring: Ring, gone: int) -> None:
    """All members start again, new to the ring of the others; the one that is gone does not."""
    for number in cluster.nodes:
        if cluster.ports[number].alive:
            cluster.kill(number)
    cluster.founding = to_value(ClusterMetadata(staged(ring), default_properties(len(ring.members))), 0)
    del cluster.nodes[gone]
    for number in cluster.nodes:
        cluster.engines[number].data.pop((Space.META, LEDGER_KEY), None)
        cluster.join(number, newborn=True)


def scenario(size: int) -> tuple[SmallCluster, int, list[bytes]]:
    """The home of many keys is away for good; every write was acknowledged by hints alone or by homes as well."""
    cluster = SmallCluster(size=size)
    gone = size
    keys = [b"k%d" % index for index in range(20)]
    cluster.kill(gone)
    for key in keys:
        homes, fallbacks = cluster.preference_list(key)
        coordinator = next(number for number in (*fallbacks, *homes) if number != gone)
        assert isinstance(cluster.put(coordinator, key, b"v-" + key, w=2), PutResult)
    return cluster, gone, keys


def test_hints_of_a_member_that_left_reach_the_replicas_that_the_keys_have_now() -> None:
    for size in (4, 5):
        cluster, gone, keys = scenario(size)
        assert any(gone in by_home for by_home in cluster.hints().values())
        adopt(cluster, without(cluster, gone), gone)
        cluster.world.run(10_000)
        assert cluster.hints() == {}
        for key in keys:
            replicas, _ = cluster.preference_list(key)
            for replica in replicas:
                assert cluster.values(replica, key, r=2) == [b"v-" + key], "no acknowledged write is lost (D)"


def test_a_holder_that_is_a_replica_now_keeps_what_it_kept_for_another() -> None:
    """In a cluster of four every survivor is a replica of nearly everything: it has to merge its own hints."""
    cluster = SmallCluster(size=4)
    gone = 4
    key = next(key for key in (b"k%d" % index for index in range(100)) if gone in cluster.preference_list(key)[0])
    homes, (holder,) = cluster.preference_list(key)
    for home in homes:
        cluster.kill(home)
    assert isinstance(cluster.put(holder, key, b"only here", w=1), PutResult)
    assert cluster.hints()[holder][gone] == 1
    adopt(cluster, without(cluster, gone), gone)
    assert cluster.preference_list(key)[0].count(holder) == 1
    cluster.world.run(10_000)
    assert cluster.hints() == {}
    for replica in cluster.preference_list(key)[0]:
        assert cluster.values(replica, key, r=1) == [b"only here"]


def test_while_some_replica_is_away_the_hint_stays_and_hints_of_other_keys_go() -> None:
    cluster, gone, keys = scenario(5)
    adopt(cluster, without(cluster, gone), gone)
    away = 1
    cluster.kill(away)
    cluster.world.run(5_000)
    left = {
        key
        for number in cluster.nodes
        for space, key in cluster.engines[number].data
        if space == Space.HINTS and number != away
    }
    for stored_key in left:
        key = stored_key[2 + 2 + 1 + 1 :]
        assert key in keys
        assert away in cluster.preference_list(key)[0], "only hints that a replica misses are still kept"
    cluster.join(away)
    cluster.world.run(5_000)
    assert cluster.hints() == {}


LEAVER, AWAY, HOLDER = 5, 2, 1
WISHES = {"leave": Wish("leave", "n5"), "replace": Wish("replace", "n5", by="n6")}


def only_in_a_hint(cluster: MembershipCluster, holder: int, home: int) -> list[bytes]:
    """Keys of which an acknowledged write is nowhere but in the hint that `holder` keeps for `home`.

    It was written with W=1 when the holder could reach nobody. The hints for the other homes were lost with its disk.
    """
    others = [number for number in cluster.running() if number != holder]
    keys = [
        key for key in KEYS if holder in cluster.preference_list(key)[1] and home in cluster.preference_list(key)[0]
    ]
    for number in others:
        cluster.cut(holder, number)
    for key in keys:
        assert isinstance(cluster.put(holder, key, b"hint-" + key, w=1), PutResult)
    cluster.nodes[holder]._shared.commits.flush()
    hints = [place for place in cluster.engines[holder].data if place[0] == Space.HINTS]
    for place in hints:
        if int.from_bytes(place[1][:2], "big") != home:
            del cluster.engines[holder].data[place]
    cluster.kill(holder)
    cluster._cut.clear()
    cluster.join(holder)
    assert cluster.hints() == {holder: {home: len(keys)}} and len(keys) >= 3
    return keys


def check_kept(cluster: MembershipCluster, keys: list[bytes]) -> None:
    cluster.run_until(lambda: cluster.hints() == {}, "no hint stays", 180_000)
    cluster.check_agreement()
    for key in keys:
        for number in cluster.running():
            # All three: it went home, which is one replica, and these nodes compare nothing by themselves.
            assert cluster.values(number, key, r=3) == [b"hint-" + key], "no acknowledged write is lost (D)"
    cluster.check_places()
    bodies = [cluster.bodies(key) for key in keys]
    members = [list(cluster.nodes).index(member.number) for member in cluster.ring_now().members]
    assert all(len({found[place] for place in members} - {None}) == 1 for found in bodies), "all alike (C)"


@pytest.mark.parametrize("wish", list(WISHES))
def test_what_others_keep_for_a_member_that_stopped_survives_the_plan(wish: str) -> None:
    cluster = MembershipCluster(5)
    cluster.wait_to_join(6)
    cluster.kill(LEAVER)
    keys = only_in_a_hint(cluster, HOLDER, LEAVER)
    cluster.begin(3, msgspec.structs.replace(WISHES[wish], stopped=True))
    cluster.until_steady()
    check_kept(cluster, keys)


@pytest.mark.parametrize(
    ("wish", "returns"),
    [
        ("leave", "during the plan"),  # It is to be filled as well, so the plan waits for it.
        ("replace", "during the plan"),
        ("replace", "never"),
        ("replace", "after it"),
    ],
)
def test_what_the_leaver_keeps_for_another_survives_the_plan(wish: str, returns: str) -> None:
    cluster = MembershipCluster(5)
    cluster.wait_to_join(6)
    cluster.kill(AWAY)
    keys = only_in_a_hint(cluster, LEAVER, AWAY)
    cluster.begin(3, WISHES[wish])
    if returns == "during the plan":
        cluster.world.run(300)
        cluster.join(AWAY)
    cluster.run_until(lambda: cluster.ended == [LEAVER], "it ends, and not before it has handed over", 300_000)
    if returns == "after it":
        cluster.join(AWAY)
    if returns != "never":
        check_kept(cluster, keys)
    for key in keys:
        assert cluster.values(3, key, r=2) == [b"hint-" + key], "no acknowledged write is lost (D)"
