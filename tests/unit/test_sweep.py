"""The sweep on whole nodes: what it checks, what it hands over, and that nothing it meets ends it."""

from __future__ import annotations

import pytest

from quorate.core.envelope import digest_of, pack
from quorate.core.errors import StorageError
from quorate.core.limits import SCAN_CHUNK_RECORDS
from quorate.core.messages import Message, Offer, OfferReply, Status, Write, WriteReply
from quorate.core.ports import Space
from quorate.core.store import GetResult, PutResult
from quorate.node.options import NodeOptions
from quorate.node.steps import run
from tests.unit.exchange_cluster import exchange
from tests.unit.small_cluster import SmallCluster

OPTIONS = NodeOptions(collect_quiet_ms=1_000, anti_entropy_interval_ms=0)
GRACE_HOURS = OPTIONS.grace_ms / 3_600_000


def sweep(cluster: SmallCluster, number: int, limit_ms: float = 60_000) -> None:
    ended: list[None] = []
    run(cluster.nodes[number]._sweep.sweep_once(), ended.append)
    begin_ms = cluster.world.now_ms
    while not ended:
        cluster.world.run(10)
        assert cluster.world.now_ms - begin_ms < limit_ms, "a pass comes to its end"


def place_of(cluster: SmallCluster, number: int, key: bytes) -> tuple[Space, bytes]:
    return next(place for place in cluster.engines[number].data if place[1].endswith(b"\x01b" + key))


def test_a_damaged_record_is_found_on_the_disk_although_the_cache_has_it_whole() -> None:
    cluster = SmallCluster(options=OPTIONS)
    for index in range(10):
        cluster.put(1, b"k%d" % index, b"v")
    cluster.world.run(100)
    data = cluster.engines[2].data
    place = place_of(cluster, 2, b"k7")
    data[place] = data[place][:-1] + bytes([data[place][-1] ^ 1])
    node = cluster.nodes[2]
    assert node._shared.records.read(place[1]) is not None, "from the cache"
    sweep(cluster, 2)
    assert node._shared.counters["records_damaged"] == 1
    assert node._sweep.records_of_last_pass == 10
    assert cluster.values(2, b"k7") == [b"v"], "the others have it"
    cluster.world.run(5_000)  # The tree of its partition is made anew, without it.
    exchange(cluster, 2, 1)
    assert cluster.bodies(b"k7")[1] == cluster.bodies(b"k7")[0], "one exchange repaired it"
    found = node._shared.counters["records_damaged"]
    sweep(cluster, 2)
    assert node._shared.counters["records_damaged"] == found


def test_no_bad_object_ends_a_pass() -> None:
    """Damaged, empty, cut off, whole but no record, of a partition that does not exist."""
    cluster = SmallCluster(options=OPTIONS)
    assert isinstance(cluster.put(1, b"k", b"v"), PutResult)
    read = cluster.get(1, b"k", r=3)
    assert isinstance(read, GetResult)
    cluster.delete(1, b"k", read.context)
    cluster.world.run(100)
    first = cluster.preference_list(b"k")[0][0]
    data = cluster.engines[first].data
    owned = next(p for p in range(16) if cluster.ring.owners[p] == first).to_bytes(2, "big")
    bodies = [b"\xc1 no record", b"\x92\x80", b"\x92\x80\x90" * 3]
    for number, body in enumerate(bodies):
        key = owned + b"\x01bbad%d" % number
        data[(Space.DATA, key)] = pack(digest_of(key, body), 0, body)
    data[(Space.DATA, owned + b"\x01bempty")] = b""
    key = owned + b"\x01bdamaged"
    data[(Space.DATA, key)] = pack(digest_of(key, b"body"), 0, b"body")[:-1]
    stray = b"\x03\xff\x01bnowhere"
    data[(Space.DATA, stray)] = pack(digest_of(stray, b"body"), 0, b"body")
    cluster.wait(hours=GRACE_HOURS + 1)
    sweep(cluster, first)
    cluster.world.run(5_000)
    node = cluster.nodes[first]
    assert node._sweep.passes == 1
    assert node._shared.counters["records_unreadable"] >= 3
    assert node._shared.counters["records_damaged"] >= 2
    assert cluster.bodies(b"k") == [None, None, None], "and what comes after them is collected"


def test_a_failing_disk_ends_a_pass_and_not_the_node_and_the_next_goes_on() -> None:
    cluster = SmallCluster(options=OPTIONS)
    cluster.put(1, b"k", b"v")
    engine = cluster.engines[1]
    scan = engine.scan

    def failing(space: Space, start: bytes, end: bytes) -> object:
        raise StorageError("EIO: input/output error")

    engine.scan = failing  # type: ignore[method-assign, assignment]
    sweep(cluster, 1)
    assert cluster.nodes[1]._sweep.passes == 0
    engine.scan = scan  # type: ignore[method-assign]
    sweep(cluster, 1)
    assert cluster.nodes[1]._sweep.passes == 1
    assert cluster.nodes[1]._sweep.records_of_last_pass == 1


@pytest.mark.sources
def test_it_goes_in_bounded_steps_with_turns_between_and_as_admitted() -> None:
    cluster = SmallCluster(size=1, options=OPTIONS)
    for index in range(3 * SCAN_CHUNK_RECORDS):
        cluster.put(1, b"%04d" % index, b"v")
    background, taken = cluster.nodes[1]._shared.background, []
    take = background.take

    def counted(wanted: int, now_ms: float) -> int:
        granted = take(wanted, now_ms)
        taken.append(granted)
        return granted

    background.take = counted  # type: ignore[method-assign]
    steps: list[int] = []
    node = cluster.nodes[1]
    run(node._sweep.sweep_once(), lambda _: None)
    while node._sweep.passes == 0:
        steps.append(node._sweep.records)
        cluster.world.run(1)
    seen = [after - before for before, after in zip([0, *steps], steps, strict=False) if after != before]
    assert len(steps) >= 100, "with pauses"
    assert len(seen) >= 2 and all(0 < count <= SCAN_CHUNK_RECORDS for count in seen)
    assert node._sweep.records_of_last_pass == 3 * SCAN_CHUNK_RECORDS
    assert sum(taken) >= 3 * SCAN_CHUNK_RECORDS // 64


def test_it_leaves_the_cache_alone() -> None:
    cluster = SmallCluster(options=OPTIONS)
    for index in range(20):
        cluster.put(1, b"k%d" % index, b"v")
    cluster.world.run(100)
    cluster.nodes[1]._cache.clear()
    sweep(cluster, 1)
    cache = cluster.nodes[1]._cache
    assert not cache._young and not cache._old


# --- nodes that are replicas no more ---


def lowered(cluster: SmallCluster, n: int) -> None:
    changes = {"n": f"{n}", "r": "1", "w": "1"}
    cluster.call(lambda reply: cluster.nodes[1].set_bucket(b"b", changes, reply))
    cluster.world.run(3_000)


def test_lowering_n_and_raising_it_again_brings_back_nothing_deleted() -> None:
    cluster = SmallCluster(options=OPTIONS)
    cluster.put(1, b"k", b"v")
    homes = cluster.preference_list(b"k")[0]
    lowered(cluster, 2)
    assert cluster.preference_list(b"k")[0] == homes[:2]
    read = cluster.get(homes[0], b"k")
    assert isinstance(read, GetResult)
    cluster.delete(homes[0], b"k", read.context)
    cluster.world.run(100)
    assert cluster.bodies(b"k")[homes[2] - 1] is not None, "it still holds the value that was deleted"
    for number in homes:
        sweep(cluster, number)
    assert cluster.bodies(b"k")[homes[2] - 1] is None
    assert cluster.counter("strays_handed_over") == 1
    cluster.wait(hours=GRACE_HOURS + 1)
    for number in homes:
        sweep(cluster, number)
    cluster.world.run(5_000)
    assert cluster.bodies(b"k") == [None, None, None]
    lowered(cluster, 3)
    assert cluster.values(homes[2], b"k", r=3) == []


def test_the_only_copy_is_handed_over_before_it_is_forgotten() -> None:
    cluster = SmallCluster(options=OPTIONS)
    homes = cluster.preference_list(b"k")[0]
    cluster.cut(homes[2], homes[0])
    cluster.cut(homes[2], homes[1])
    assert isinstance(cluster.put(homes[2], b"k", b"v", w=1), PutResult)
    for place in [place for place in cluster.engines[homes[2]].data if place[0] == Space.HINTS]:
        del cluster.engines[homes[2]].data[place]
    cluster.nodes[homes[2]]._shared.hints.forget_all()
    lowered(cluster, 2)
    cluster.heal()
    cluster.world.run(3_000)
    sweep(cluster, homes[2])
    held = cluster.bodies(b"k")
    assert held[homes[2] - 1] is None
    assert held[homes[0] - 1] == held[homes[1] - 1] != None  # noqa: E711


@pytest.mark.parametrize("status", [Status.FENCED, None])
@pytest.mark.parametrize("refused", [Offer, Write])
def test_what_a_replica_does_not_take_is_kept(refused: type[Message], status: Status | None) -> None:
    """One replica says nothing to the offer, or that it lacks the record, and then does not take it."""
    cluster = SmallCluster(options=OPTIONS)
    cluster.put(1, b"k", b"v")
    homes = cluster.preference_list(b"k")[0]
    lowered(cluster, 2)
    transmit = cluster.transmit
    asked: list[type] = []

    def refusing(sender: int, target: int, message: Message) -> None:
        if target != homes[1] or not isinstance(message, (Offer, Write)):
            transmit(sender, target, message)
            return
        asked.append(type(message))
        if isinstance(message, Write):
            if status is not None:
                transmit(target, sender, WriteReply(message.id, status))
        elif refused is Write:
            transmit(target, sender, OfferReply(message.id, Status.OK, []))
        elif status is not None:
            transmit(target, sender, OfferReply(message.id, status, []))

    cluster.transmit = refusing  # type: ignore[method-assign]
    sweep(cluster, homes[2])
    assert refused in asked
    assert cluster.bodies(b"k")[homes[2] - 1] is not None
    assert cluster.counter("strays_handed_over") == 0


def test_the_status_tells_how_far_it_is() -> None:
    cluster = SmallCluster(options=OPTIONS)
    cluster.put(1, b"k", b"v")
    cluster.world.run(100)
    sweep(cluster, 1)
    members = cluster.call(cluster.nodes[2].status).document["members"]
    told = members[0]["report"]["sweep"]
    assert (told["passes"], told["records_of_last_pass"], told["batches_waiting"]) == (1, 1, 0)
    assert told["last_pass_unix_ms"] <= cluster.ports[1].wall_ms()
    assert members[1]["report"]["sweep"]["passes"] == 0


@pytest.mark.parametrize("held", [OfferReply, WriteReply])
def test_what_was_offered_by_one_ring_is_not_forgotten_by_the_next(held: type[Message]) -> None:
    """By the next one this node may keep the record again, and may count as filled with it already."""
    cluster = SmallCluster(options=OPTIONS)
    homes, leaver = cluster.preference_list(b"k")[0][:2], cluster.preference_list(b"k")[0][2]
    for home in homes:
        cluster.cut(leaver, home)
    assert isinstance(cluster.put(leaver, b"k", b"v", w=1), PutResult)
    for place in [place for place in cluster.engines[leaver].data if place[0] == Space.HINTS]:
        del cluster.engines[leaver].data[place]
    cluster.nodes[leaver]._shared.hints.forget_all()
    lowered(cluster, 2)
    transmit = cluster.transmit
    late: list[tuple[int, int, Message]] = []

    def holding(sender: int, target: int, message: Message) -> None:
        if isinstance(message, held) and target == leaver:
            late.append((sender, target, message))
        else:
            transmit(sender, target, message)

    cluster.transmit = holding  # type: ignore[method-assign]
    cluster.heal()
    cluster.world.run(3_000)
    run(cluster.nodes[leaver]._sweep.sweep_once(), lambda _: None)
    cluster.world.run(1_000)
    assert late, "it has offered what it keeps no more"
    cluster.call(lambda reply: cluster.nodes[1].set_bucket(b"other", {"ttl": "7"}, reply))
    cluster.transmit = transmit  # type: ignore[method-assign]
    for one in late:
        transmit(*one)
    cluster.world.run(20)
    assert cluster.bodies(b"k")[leaver - 1] is not None
    cluster.world.run(5_000)
    sweep(cluster, leaver)
    cluster.world.run(100)
    assert [body is None for body in cluster.bodies(b"k")] == [number == leaver for number in (1, 2, 3)]


def test_a_damaged_record_that_is_kept_no_more_goes() -> None:
    """No exchange looks at it, so nothing would ever mend it, and every pass would report it."""
    cluster = SmallCluster(options=OPTIONS)
    homes = cluster.preference_list(b"k")[0]
    cluster.put(1, b"k", b"v")
    cluster.world.run(100)
    data, place = cluster.engines[homes[2]].data, place_of(cluster, homes[2], b"k")
    data[place] = data[place][:-1] + bytes([data[place][-1] ^ 1])
    sweep(cluster, homes[2])
    cluster.world.run(5_000)  # The tree of its partition is made anew, without it.
    assert place in data, "as long as it is kept, an exchange may mend it"
    lowered(cluster, 2)
    sweep(cluster, homes[2])
    cluster.world.run(100)
    assert place not in data
    assert cluster.values(homes[0], b"k", r=2) == [b"v"]
