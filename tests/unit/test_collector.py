"""Collection on whole nodes: the proof needs everybody, the wait, and what happens to those who missed something."""

from __future__ import annotations

import pytest

from quorate.core.errors import PeerError, StorageError
from quorate.core.limits import COLLECT_ENTRIES_MAX
from quorate.core.messages import Collect, CollectAsk, CollectReply, Message, Status, Write
from quorate.core.ports import Space
from quorate.core.record import decode_record
from quorate.core.store import GetResult, PutResult
from quorate.node.absence import COLLECTED_KEY
from quorate.node.options import NodeOptions
from quorate.node.steps import run
from tests.unit.collecting import GRACE_HOURS, OPTIONS, QUIET_MS, collect, deleted, gone, sweep
from tests.unit.small_cluster import SmallCluster


def siblings(cluster: SmallCluster, key: bytes = b"k") -> list[list[bytes]]:
    """The values that each node stores, tombstones as empty ones."""
    return [[s.value for s in decode_record(body).siblings] if body else [] for body in cluster.bodies(key)]


def test_a_tombstone_is_collected_from_all_replicas_after_grace_and_not_before() -> None:
    cluster = SmallCluster(options=OPTIONS)
    deleted(cluster)
    cluster.wait(hours=GRACE_HOURS - 0.01)
    collect(cluster)
    assert None not in cluster.bodies(b"k")
    assert cluster.counter("records_collected") == 0
    cluster.wait(hours=0.02)
    collect(cluster)
    assert gone(cluster)
    assert cluster.counter("records_collected") == 3
    for engine in cluster.engines.values():
        assert not any(space == Space.DATA for space, _ in engine.data)
        assert (Space.META, COLLECTED_KEY) in engine.data


def test_between_the_proof_and_the_removal_there_is_quiet() -> None:
    cluster = SmallCluster(options=OPTIONS)
    deleted(cluster)
    cluster.wait(hours=GRACE_HOURS + 1)
    sweep(cluster)
    cluster.world.run(QUIET_MS - 1_500)
    assert None not in cluster.bodies(b"k")
    assert not any(isinstance(message, Collect) for _, _, message in cluster.sent)
    cluster.world.run(2_000)
    assert gone(cluster)


def test_the_nodes_sweep_by_themselves() -> None:
    options = NodeOptions(collect_quiet_ms=QUIET_MS, sweep_interval_ms=20_000, anti_entropy_interval_ms=0)
    cluster = SmallCluster(options=options)
    deleted(cluster)
    cluster.wait(hours=GRACE_HOURS + 1)
    cluster.world.run(40_000)
    assert gone(cluster)
    assert all(node._sweep.passes >= 1 for node in cluster.nodes.values())


def test_while_one_replica_is_away_nothing_is_collected_however_long() -> None:
    cluster = SmallCluster(options=OPTIONS)
    homes = deleted(cluster)
    cluster.kill(homes[2])
    for _ in range(3):
        cluster.wait(hours=10 * GRACE_HOURS)
        collect(cluster)
    assert None not in cluster.bodies(b"k")
    assert cluster.counter("collections_without_proof") >= 3


@pytest.mark.parametrize("silent", [CollectAsk, CollectReply])
def test_a_question_or_an_answer_that_is_lost_is_no_proof(silent: type[Message]) -> None:
    cluster = SmallCluster(options=OPTIONS)
    homes = deleted(cluster)
    cluster.wait(hours=GRACE_HOURS + 1)
    transmit = cluster.transmit

    def losing(sender: int, target: int, message: Message) -> None:
        if not (isinstance(message, silent) and homes[1] in (sender, target)):
            transmit(sender, target, message)

    cluster.transmit = losing  # type: ignore[method-assign]
    run(cluster.nodes[homes[0]]._sweep.sweep_once(), lambda _: None)
    cluster.world.run(2 * QUIET_MS + 5_000)
    assert None not in cluster.bodies(b"k")


def test_a_replica_that_holds_something_else_prevents_it() -> None:
    """One that has not heard of the delete still holds the value: exactly what the proof is for."""
    cluster = SmallCluster(options=OPTIONS)
    first, _, third = cluster.preference_list(b"k")[0]
    cluster.put(first, b"k", b"v")
    read = cluster.get(first, b"k", r=3)
    assert isinstance(read, GetResult)
    cluster.kill(third)
    cluster.delete(first, b"k", read.context)
    cluster.wait(hours=GRACE_HOURS + 1)  # The hint expires.
    cluster.join(third)
    cluster.world.run(3_000)
    before = cluster.bodies(b"k")
    assert before[third - 1] != before[first - 1]
    collect(cluster)
    assert cluster.bodies(b"k") == before
    cluster.get(first, b"k", r=3)  # A read repairs it; now all agree.
    cluster.world.run(100)
    collect(cluster)
    assert gone(cluster)
    assert cluster.values(third, b"k") == []


def test_a_put_between_the_proof_and_the_removal_is_kept() -> None:
    cluster = SmallCluster(options=OPTIONS)
    homes = deleted(cluster)
    cluster.wait(hours=GRACE_HOURS + 1)
    sweep(cluster)
    assert isinstance(cluster.put(homes[1], b"k", b"new"), PutResult)
    cluster.world.run(QUIET_MS + 1_000)
    assert cluster.values(homes[0], b"k", r=3) == [b"new"]
    assert None not in cluster.bodies(b"k")
    collect(cluster)
    assert siblings(cluster) == [[b"new"]] * 3, "the tombstone beside it goes, the value stays"


def test_a_put_concurrent_with_the_delete_is_kept_when_the_tombstone_goes() -> None:
    cluster = SmallCluster(options=OPTIONS)
    cluster.put(1, b"k", b"v")
    read = cluster.get(1, b"k", r=3)
    assert isinstance(read, GetResult)
    cluster.delete(1, b"k", read.context)
    cluster.put(2, b"k", b"w", context=read.context)
    cluster.get(1, b"k", r=3)
    cluster.world.run(100)
    assert [sorted(found) for found in siblings(cluster)] == [[b"", b"w"]] * 3
    clocks = [decode_record(body).clock for body in cluster.bodies(b"k") if body]
    cluster.wait(hours=GRACE_HOURS + 1)
    collect(cluster)
    assert siblings(cluster) == [[b"w"]] * 3
    assert [decode_record(body).clock for body in cluster.bodies(b"k") if body] == clocks, "what was seen stays known"
    assert cluster.counter("records_collected") == 0


def test_an_expired_value_leaves_the_disk_after_the_horizon_and_one_beside_it_stays() -> None:
    cluster = SmallCluster(options=OPTIONS)
    cluster.put(1, b"k", b"short", ttl_ms=60_000)
    cluster.put(1, b"k", b"long")
    cluster.put(1, b"only", b"short", ttl_ms=60_000)
    cluster.world.run(100)
    cluster.wait(hours=0.1)
    assert cluster.values(1, b"k") == [b"long"]
    assert cluster.values(1, b"only") == []
    cluster.wait(hours=GRACE_HOURS - 0.1)
    collect(cluster)
    assert sorted(siblings(cluster)[0]) == [b"long", b"short"], "not before the horizon"
    cluster.wait(hours=0.1)
    collect(cluster)
    assert siblings(cluster) == [[b"long"]] * 3
    assert gone(cluster, b"only")


def test_last_write_wins_collects_its_tombstone_as_well() -> None:
    cluster = SmallCluster(options=OPTIONS)
    cluster.call(lambda reply: cluster.nodes[1].set_bucket(b"b", {"conflicts": "lww"}, reply))
    cluster.put(1, b"k", b"loser")
    cluster.world.run(10)
    deleted(cluster)
    cluster.wait(hours=GRACE_HOURS + 1)
    collect(cluster)
    assert gone(cluster)


def test_a_replica_whose_clock_is_behind_refuses() -> None:
    cluster = SmallCluster(options=OPTIONS)
    homes = deleted(cluster)
    cluster.wait(hours=GRACE_HOURS + 0.01)
    cluster.ports[homes[2]].skew_ms -= 3_600_000
    collect(cluster)
    assert None not in cluster.bodies(b"k")
    assert cluster.counter("collections_refused_by_clock") > 0
    cluster.wait(hours=1)
    collect(cluster)
    assert None not in cluster.bodies(b"k"), "it is still behind, and says so"
    cluster.ports[homes[2]].skew_ms += 3_600_000
    collect(cluster)
    assert gone(cluster)


def test_a_fenced_replica_proves_nothing() -> None:
    cluster = SmallCluster(options=OPTIONS)
    homes = deleted(cluster)
    cluster.nodes[homes[1]].fence(StorageError("Input/output error"))
    cluster.wait(hours=GRACE_HOURS + 1)
    collect(cluster)
    assert None not in cluster.bodies(b"k")


def test_a_yes_is_said_only_once_it_is_on_the_disk() -> None:
    """An unsynced tombstone that a loss of power takes back would leave the deleted value, and the others nothing."""
    cluster = SmallCluster(options=OPTIONS)
    homes = deleted(cluster)
    cluster.wait(hours=GRACE_HOURS + 1)
    engine = cluster.engines[homes[1]]
    engine.held_syncs = []
    cluster.sent.clear()
    run(cluster.nodes[homes[0]]._sweep.sweep_once(), lambda _: None)
    cluster.world.run(1_000)
    answered = [sender for sender, _, message in cluster.sent if isinstance(message, CollectReply)]
    assert answered == [homes[2]]
    held, engine.held_syncs = engine.held_syncs, None
    for done in held:
        done(None)
    cluster.world.run(QUIET_MS + 2_000)
    assert gone(cluster)


def test_who_missed_the_removal_is_told_again_and_twice_does_no_harm() -> None:
    cluster = SmallCluster(options=OPTIONS)
    homes = deleted(cluster)
    cluster.wait(hours=GRACE_HOURS + 1)
    transmit = cluster.transmit
    lost: list[int] = []

    def losing(sender: int, target: int, message: Message) -> None:
        if isinstance(message, CollectReply) and any(isinstance(m, Collect) for _, _, m in cluster.sent) and not lost:
            lost.append(sender)  # It is done there, and the first node does not hear of it.
        else:
            transmit(sender, target, message)

    cluster.transmit = losing  # type: ignore[method-assign]
    sweep(cluster, homes[0])
    cluster.world.run(QUIET_MS + 25_000)
    assert lost and gone(cluster)
    orders = [target for _, target, message in cluster.sent if isinstance(message, Collect)]
    assert sorted(orders) == sorted([*homes[1:], lost[0]])
    assert cluster.counter("records_collected") == 3


def test_a_replica_that_missed_it_brings_back_a_tombstone_and_no_value() -> None:
    cluster = SmallCluster(options=OPTIONS)
    homes = deleted(cluster)
    cluster.wait(hours=GRACE_HOURS + 1)
    sweep(cluster)
    for other in homes[:2]:
        cluster.cut(other, homes[2])
    cluster.world.run(QUIET_MS + 60_000)
    cluster.heal()
    cluster.world.run(1_000)
    held = cluster.bodies(b"k")
    assert [held[number - 1] is None for number in homes] == [True, True, False]
    assert isinstance(cluster.put(homes[0], b"k", b"new life"), PutResult)
    assert cluster.values(homes[0], b"k", r=3) == [b"new life"], "the old clock does not cover a new life"
    cluster.world.run(100)
    collect(cluster)
    assert siblings(cluster) == [[b"new life"]] * 3
    assert cluster.counter("collections_missed") == 1


def test_what_a_peer_may_ask_for_is_bounded() -> None:
    cluster = SmallCluster(options=OPTIONS)
    entries = [(b"\x00\x01\x01bk", 1)] * (COLLECT_ENTRIES_MAX + 1)
    for kind in (CollectAsk, Collect):
        with pytest.raises(PeerError, match="keys to collect"):
            cluster.nodes[1].on_message(2, kind(1, 1_000, cluster.ring.version, 0, entries), 0.0)


def test_a_message_of_another_ring_or_too_late_does_nothing() -> None:
    cluster = SmallCluster(options=OPTIONS)
    homes = deleted(cluster)
    cluster.wait(hours=GRACE_HOURS + 1)
    node = cluster.nodes[homes[1]]
    key = next(key for space, key in cluster.engines[homes[1]].data if space == Space.DATA)
    stored = node._shared.records.read(key)
    assert stored is not None
    horizon_ms = node._collector.horizon_ms()
    cluster.sent.clear()
    node.on_message(homes[0], Collect(7, 1_000, cluster.ring.version + 1, horizon_ms, [(key, stored[0])]), 0.0)
    node.on_message(homes[0], Collect(8, 1_000, cluster.ring.version, horizon_ms, [(key, stored[0])]), 1_000.0)
    node.on_message(homes[0], Collect(9, 1_000, cluster.ring.version, horizon_ms, [(key, stored[0] ^ 1)]), 0.0)
    cluster.world.run(100)
    replies = [message for _, _, message in cluster.sent if isinstance(message, CollectReply)]
    assert replies == [CollectReply(7, Status.STALE_RING, []), CollectReply(9, Status.OK, [])]
    assert None not in cluster.bodies(b"k")


def test_collecting_mints_no_version_and_writes_no_record_elsewhere() -> None:
    cluster = SmallCluster(options=OPTIONS)
    deleted(cluster)
    ceilings = [engine.data[Space.META, b"epochs"] for engine in cluster.engines.values()]
    cluster.wait(hours=GRACE_HOURS + 1)
    cluster.sent.clear()
    collect(cluster)
    assert gone(cluster)
    assert not any(isinstance(message, Write) for _, _, message in cluster.sent)
    assert [engine.data[Space.META, b"epochs"] for engine in cluster.engines.values()] == ceilings


def test_trees_stay_exact_through_collections() -> None:
    cluster = SmallCluster(options=OPTIONS)
    for index in range(20):
        deleted(cluster, b"k%d" % index)
        cluster.put(1, b"both%d" % index, b"short", ttl_ms=1)
        cluster.put(2, b"both%d" % index, b"long")
    cluster.get(1, b"both0", r=3)
    cluster.wait(hours=GRACE_HOURS + 1)
    collect(cluster)
    assert cluster.counter("records_collected") == 60
    for node in cluster.nodes.values():
        trees = node._shared.trees
        kept = [trees.root(partition, 3) for partition in range(cluster.ring.partitions)]
        trees.rebuild_all()
        cluster.world.run(5_000)
        assert kept == [trees.root(partition, 3) for partition in range(cluster.ring.partitions)]
        assert any(kept)
