"""Coming back after a long absence: what is never emptied, what a failing disk leaves behind, and damaged stamps."""

from __future__ import annotations

import pytest

from quorate.core.buckets import BucketProperties
from quorate.core.errors import StorageError
from quorate.core.messages import AbsenceAsk, AbsenceReply, Status
from quorate.core.ports import Space
from quorate.core.record import encode_record
from quorate.core.store import Failure, GetResult, PutResult
from quorate.node.absence import (
    ALIVE_INTERVAL_MS,
    ALIVE_KEY,
    COLLECTED_KEY,
    PATIENCE_MS,
)
from quorate.node.filling import FILLING_KEY
from tests.unit.absent_cluster import KEYS, OPTIONS, aged, away, has_collected, held_keys, sign_of_life, waits
from tests.unit.collecting import GRACE_HOURS
from tests.unit.exchange_cluster import exchange, held, plant, record_of, stored_key
from tests.unit.filling_cluster import come_back_empty, filled, set_bucket, trees_equal, until_filled
from tests.unit.small_cluster import DictEngine, SmallCluster

# --- everybody was away ---


@pytest.mark.parametrize("clocks_hours", [(0, 0, 0), (0, 1, -1), (5, -3, 2), (8_760, 8_760, 8_760)])
@pytest.mark.parametrize("collected", [False, True])
@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2)])
def test_all_away_together_empty_nothing(
    clocks_hours: tuple[int, ...], collected: bool, order: tuple[int, ...]
) -> None:
    """Also if something was collected just before, by clocks that were wrong and are wrong; each may hold what nobody
    else does."""
    cluster = aged()
    for number in cluster.nodes:
        plant(cluster, number, b"own %d" % number, record_of(b"v"))
    cluster.world.run(5)
    for number in cluster.nodes:
        cluster.nodes[number]._anti_entropy.stop()
    for number, hours in enumerate(clocks_hours, 1):
        cluster.ports[number].skew_ms += hours * 3_600_000
    cluster.world.run(ALIVE_INTERVAL_MS + 1_000)
    for number in cluster.nodes:
        if collected:
            has_collected(cluster, number)
        cluster.nodes[number].stop()
        cluster.kill(number)
    cluster.wait(hours=3 * GRACE_HOURS)
    for number in order:
        cluster.join(number)
        cluster.world.run(20)
    cluster.world.run(2 * PATIENCE_MS)
    for number in cluster.nodes:
        assert not waits(cluster, number) and filled(cluster, number)
    for number in cluster.nodes:
        for other in cluster.nodes:
            if number != other:
                exchange_when_idle(cluster, number, other)
    assert all(held_keys(cluster, number) == len(KEYS) + 3 for number in cluster.nodes)
    assert cluster.values(1, KEYS[0], r=3) == cluster.values(1, b"own 2", r=3) == [b"v"]


def exchange_when_idle(cluster: SmallCluster, number: int, other: int) -> None:
    while cluster.nodes[number]._anti_entropy._exchange is not None:
        cluster.world.run(100)
    exchange(cluster, number, other)


def test_all_away_together_but_one_serve_after_a_while() -> None:
    cluster = aged()
    for number in cluster.nodes:
        has_collected(cluster, number)
        cluster.nodes[number].stop()
        cluster.kill(number)
    cluster.wait(hours=3 * GRACE_HOURS)
    cluster.join(1)
    cluster.join(2)
    cluster.world.run(PATIENCE_MS + 2_000)
    assert cluster.values(1, KEYS[0], r=2) == [b"v"]
    assert held_keys(cluster, 1) == held_keys(cluster, 2) == len(KEYS)


def test_a_peer_that_was_away_still_tells_of_what_it_collected_long_before() -> None:
    """Whoever returns with a disk that is much older than that absence has missed it."""
    cluster = aged()
    snapshot = dict(cluster.engines[3].data)
    cluster.wait(hours=5 * GRACE_HOURS)
    cluster.world.run(ALIVE_INTERVAL_MS + 1_000)
    for number in (1, 2):
        has_collected(cluster, number)
    for number in cluster.nodes:
        cluster.nodes[number].stop()
        cluster.kill(number)
    cluster.engines[3].data = snapshot
    cluster.wait(hours=2 * GRACE_HOURS)
    cluster.join(1)
    cluster.join(2)
    cluster.world.run(PATIENCE_MS + 2_000)
    assert not waits(cluster, 1) and held_keys(cluster, 1) == len(KEYS)
    cluster.join(3)
    cluster.world.run(20)
    assert held_keys(cluster, 3) == 0


# --- the store while it is emptied ---


def test_what_has_a_single_replica_is_not_emptied() -> None:
    """Nobody else can have collected it, and nobody could bring it back."""
    cluster = aged(size=4)
    set_bucket(cluster, b"one", n="1", r="1", w="1")
    set_bucket(cluster, b"zone", n="1", r="1", w="1")
    for bucket in (b"one", b"zone"):
        for key in KEYS:
            assert isinstance(cluster.put(1, key, b"single", bucket=bucket), PutResult)
    cluster.world.run(ALIVE_INTERVAL_MS)
    single = {key: body for key, body in held(cluster, 3).items() if key[3 : 3 + key[2]] != b"b"}
    assert single and len(single) < held_keys(cluster, 3)
    away(cluster, 3)
    has_collected(cluster, 1)
    cluster.join(3)
    cluster.world.run(20)
    assert held(cluster, 3) == single
    until_filled(cluster, 3)
    for bucket in (b"one", b"zone"):
        for key in KEYS:
            read = cluster.get(1, key, r=1, bucket=bucket)
            assert isinstance(read, GetResult) and [sibling.value for sibling in read.siblings] == [b"single"]
    for n in (1, 3):
        for partition in range(cluster.ring.partitions):
            assert cluster.nodes[3].trees.ready(partition, n)


def test_where_one_replica_is_the_rule_only_the_exceptions_are_emptied() -> None:
    defaults = BucketProperties(n=1, r=1, w=1)
    cluster = SmallCluster(size=2, options=OPTIONS, anti_entropy=True, defaults=defaults)
    cluster.world.run(2_000)
    set_bucket(cluster, b"two", n="2", r="1", w="2")
    for key in KEYS:
        assert isinstance(cluster.put(1, key, b"single"), PutResult)
        assert isinstance(cluster.put(1, key, b"double", bucket=b"two"), PutResult)
    cluster.world.run(ALIVE_INTERVAL_MS + 1_000)
    single = {key: body for key, body in held(cluster, 2).items() if key[3 : 3 + key[2]] == b"b"}
    away(cluster, 2)
    has_collected(cluster, 1)
    cluster.join(2)
    cluster.world.run(20)
    assert single and held(cluster, 2) == single
    until_filled(cluster, 2)
    for key in KEYS:
        read = cluster.get(2, key, r=2, bucket=b"two")
        assert isinstance(read, GetResult) and [sibling.value for sibling in read.siblings] == [b"double"]


def test_nothing_is_left_of_what_it_kept_for_others_or_in_memory() -> None:
    cluster = aged(size=4)
    homes, (fallback,) = cluster.preference_list(b"k")
    cluster.kill(homes[1])
    assert isinstance(cluster.put(homes[0], b"k", b"v", w=3), PutResult)
    own = next(key for key in KEYS if fallback in cluster.preference_list(key)[0])
    away(cluster, fallback)
    has_collected(cluster, homes[0])
    assert any(space == Space.HINTS for space, _ in cluster.engines[fallback].data)
    cluster.join(fallback)
    assert cluster.nodes[fallback]._shared.hints.by_home
    assert cluster.nodes[fallback]._shared.records.read(stored_key(cluster, own)) is not None  # As `where` does.
    cluster.world.run(20)
    assert not waits(cluster, fallback) and held_keys(cluster, fallback) == 0
    assert cluster.nodes[fallback]._shared.records.read(stored_key(cluster, own)) is None
    assert not any(space == Space.HINTS for space, _ in cluster.engines[fallback].data)
    assert cluster.hints() == {} and cluster.nodes[fallback]._shared.hints.size_bytes == 0


def test_a_crash_while_it_is_emptied_makes_nothing_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = aged()
    away(cluster, 3)
    has_collected(cluster, 1)
    cluster.join(3)
    original = DictEngine.delete_range

    def dies(engine: DictEngine, space: Space, start: bytes, end: bytes) -> None:
        original(engine, space, start, end)
        cluster.kill(3)
        raise StorageError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(DictEngine, "delete_range", dies)
        cluster.world.run(20)
    assert held_keys(cluster, 3) == 0
    # The peers forget that they collected: that alone must not make the half store a whole one.
    del cluster.engines[1].data[Space.META, COLLECTED_KEY]
    cluster.join(3)
    cluster.world.run(20)
    assert not waits(cluster, 3) and not filled(cluster, 3)
    until_filled(cluster, 3)
    assert trees_equal(cluster)


def test_a_crash_before_the_decision_changes_nothing() -> None:
    cluster = aged()
    away(cluster, 3)
    cluster.muted.add(3)
    cluster.join(3)
    cluster.world.run(1_000)
    assert waits(cluster, 3)
    cluster.nodes[3].stop()
    cluster.kill(3)
    cluster.muted.clear()
    assert (Space.META, FILLING_KEY) not in cluster.engines[3].data
    cluster.join(3)
    assert waits(cluster, 3), "it has given no sign of life meanwhile"
    cluster.world.run(20)
    assert not waits(cluster, 3) and filled(cluster, 3)


def test_a_store_that_was_being_filled_when_it_left_goes_on_being_filled() -> None:
    cluster = aged()
    come_back_empty(cluster, 3)
    cluster.world.run(500)
    assert not filled(cluster, 3)
    away(cluster, 3)
    cluster.join(3)
    cluster.world.run(20)
    assert not waits(cluster, 3) and not filled(cluster, 3)
    read = cluster.get(3, KEYS[0], r=3)
    assert isinstance(read, Failure), "it holds nothing, and that is no answer"
    until_filled(cluster, 3)
    assert cluster.values(3, KEYS[0], r=3) == [b"v"]


def test_a_disk_failure_while_it_waits_keeps_it_fenced() -> None:
    cluster = aged()
    away(cluster, 3)
    has_collected(cluster, 1)
    cluster.muted.add(3)
    cluster.join(3)
    cluster.nodes[3].fence(StorageError("input/output error"))
    cluster.muted.clear()
    before = sign_of_life(cluster, 3)
    cluster.world.run(2 * PATIENCE_MS + ALIVE_INTERVAL_MS)
    assert "input/output error" in cluster.nodes[3]._shared.fenced_because
    assert held_keys(cluster, 3) == len(KEYS), "nothing is done on a disk that fails"
    assert sign_of_life(cluster, 3) == before


@pytest.mark.parametrize("operation", ["write", "delete_range"])
def test_a_disk_failure_at_the_decision_fences_it(operation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = aged()
    away(cluster, 3)
    has_collected(cluster, 1)
    cluster.join(3)

    def fails(engine: DictEngine, *arguments: object) -> None:
        if engine is cluster.engines[3]:
            raise StorageError("input/output error")

    before = sign_of_life(cluster, 3)
    with monkeypatch.context() as patch:
        patch.setattr(DictEngine, operation, fails)
        cluster.world.run(20)
    cluster.world.run(PATIENCE_MS)
    assert "input/output error" in cluster.nodes[3]._shared.fenced_because
    assert sign_of_life(cluster, 3) == before
    assert isinstance(cluster.put(3, b"new", b"v", w=1), PutResult), "handed on"
    assert cluster.bodies(b"new")[2] is None
    cluster.kill(3)
    cluster.join(3)
    cluster.world.run(20)
    assert not waits(cluster, 3)
    until_filled(cluster, 3)
    assert trees_equal(cluster)


def test_a_full_disk_is_noticed_after_the_decision() -> None:
    cluster = aged()
    away(cluster, 3)
    cluster.engines[3].free = 0.0
    cluster.muted.add(3)
    cluster.join(3)
    cluster.world.run(2_000)
    assert waits(cluster, 3)
    cluster.muted.clear()
    cluster.world.run(4_000)
    assert not waits(cluster, 3) and "disk is full" in cluster.nodes[3]._shared.fenced_because
    cluster.engines[3].free = 0.5
    cluster.world.run(2_000)
    assert not cluster.nodes[3]._shared.fenced_because


def test_hints_that_it_kept_are_too_old_to_be_handed_over() -> None:
    cluster = aged(size=4)
    homes, (fallback,) = cluster.preference_list(b"k")
    cluster.kill(homes[1])
    assert isinstance(cluster.put(homes[0], b"k", b"v", w=3), PutResult)
    assert cluster.hints() == {fallback: {homes[1]: 1}}
    cluster.world.run(ALIVE_INTERVAL_MS)
    cluster.kill(fallback)
    cluster.wait(hours=GRACE_HOURS / 2 + 1)
    cluster.join(fallback)
    cluster.join(homes[1])
    cluster.sent.clear()
    cluster.world.run(5_000)
    assert cluster.hints() == {}
    assert cluster.counter("hints_expired") == 1 and cluster.counter("hints_delivered") == 0


# --- damaged stamps ---


@pytest.mark.parametrize("damaged", [b"", b"\0" * 16, b"x" * 16, b"x"])
def test_without_a_sign_that_can_be_believed_the_absence_counts_as_long(damaged: bytes) -> None:
    cluster = aged()
    cluster.kill(3)
    cluster.engines[3].data[Space.META, ALIVE_KEY] = damaged
    cluster.join(3)
    assert waits(cluster, 3)
    cluster.world.run(20)
    assert not waits(cluster, 3) and held_keys(cluster, 3) == len(KEYS)
    assert sign_of_life(cluster, 3) != damaged
    cluster.kill(3)
    cluster.engines[3].data[Space.META, ALIVE_KEY] = damaged
    has_collected(cluster, 1, ago_ms=1_000_000_000)
    cluster.join(3)
    cluster.world.run(20)
    assert held_keys(cluster, 3) == 0, "whenever that was"
    until_filled(cluster, 3)
    assert trees_equal(cluster)


def test_a_sign_that_is_whole_is_believed_beside_one_that_is_not() -> None:
    for damaged in (ALIVE_KEY, COLLECTED_KEY):
        cluster = aged()
        has_collected(cluster, 3)
        cluster.kill(3)
        cluster.engines[3].data[Space.META, damaged] = b"x"
        cluster.join(3)
        assert not waits(cluster, 3)


def test_a_peer_whose_note_is_damaged_says_yes() -> None:
    cluster = aged()
    away(cluster, 3)
    cluster.engines[1].data[Space.META, COLLECTED_KEY] = b"x" * 16
    cluster.join(3)
    cluster.world.run(20)
    assert held_keys(cluster, 3) == 0
    until_filled(cluster, 3)
    assert cluster.values(3, KEYS[0], r=3) == [b"v"]


def test_what_is_answered() -> None:
    """Serving or not; since when something was collected; whether there is anything at all."""
    cluster = SmallCluster(options=OPTIONS, anti_entropy=True)

    def answer() -> AbsenceReply:
        cluster.sent.clear()
        cluster.nodes[1].on_message(2, AbsenceAsk(7, 1_000, since_ms), 0.0)
        return next(message for _, _, message in cluster.sent if isinstance(message, AbsenceReply))

    has_collected(cluster, 1)
    since_ms = cluster.ports[1].wall_ms()
    assert answer() == AbsenceReply(7, Status.OK, True, True)
    since_ms += 1
    assert answer() == AbsenceReply(7, Status.OK, False, True)
    cluster.nodes[1]._shared.hints.keep(3, stored_key(cluster, b"k"), encode_record(record_of(b"v")), 0, 0)
    assert answer() == AbsenceReply(7, Status.OK, False, False), "what it keeps for others is not nothing"
    cluster.nodes[1]._shared.hints.forget_all()
    assert answer().empty
    cluster.put(2, b"k", b"v")
    cluster.world.run(10)
    assert answer() == AbsenceReply(7, Status.OK, False, False)
    cluster.nodes[1]._shared.filling.begin()
    assert answer().status == Status.NOT_READY
    cluster.nodes[1]._shared.filling.give_up()
    cluster.nodes[1].fence(StorageError("input/output error"))
    assert answer().status == Status.NOT_READY
