"""What both sides of an exchange take care of: bounds, pace, order on the disk, and peers that say strange things."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec
import pytest

from quorate.core.envelope import unpack
from quorate.core.errors import PeerError, StorageError
from quorate.core.keyspace import storage_key
from quorate.core.limits import (
    EXCHANGE_ANSWERS_MAX,
    EXCHANGE_BYTES_MAX,
    EXCHANGE_KEYS_MAX,
    EXCHANGE_RECORDS_PER_OPERATION,
    EXCHANGE_WRITES_IN_FLIGHT_MAX,
    SCAN_CHUNK_RECORDS,
)
from quorate.core.messages import (
    LeafKeys,
    LeafKeysReply,
    Message,
    Status,
    TreeRoots,
    TreeRootsReply,
    TreeSums,
    TreeSumsReply,
    Write,
    WriteReply,
)
from quorate.core.ports import Space
from quorate.core.record import encode_record
from tests.unit.exchange_cluster import damage, exchange, held, plant, record_of, sent, started, stored_key
from tests.unit.small_cluster import SmallCluster
from tests.unit.test_exchange import diverged, names

ALL_LEAVES = list(range(1_024))


def keys_reply(cluster: SmallCluster, number: int, question: LeafKeys) -> LeafKeysReply:
    """What node `number` answers to a question about keys."""
    cluster.sent.clear()
    cluster.nodes[number].on_message(3 - number, question, 0.0)
    cluster.world.run(200)
    (reply,) = sent(cluster, LeafKeysReply)
    assert isinstance(reply, LeafKeysReply)
    return reply


# --- what a peer asks ---


def test_bad_questions_cost_the_peer_its_connection() -> None:
    cluster = SmallCluster(size=2)
    bad: list[Message] = [
        TreeRoots(1, 1_000, 1, 2, [1, 2], b"\0" * 8),
        TreeRoots(1, 1_000, 1, 2, [16], b"\0" * 8),
        TreeRoots(1, 1_000, 1, 2, [-1], b"\0" * 8),
        TreeSums(1, 1_000, 1, 2, 0, 3, [1], b"\0" * 8),
        TreeSums(1, 1_000, 1, 2, 0, 16, [16], b"\0" * 8),
        TreeSums(1, 1_000, 1, 2, 0, 16, [1, 1], b"\0" * 16),
        LeafKeys(1, 1_000, 1, 2, 0, [1 << 40], b"", b"", []),
        LeafKeys(1, 1_000, 1, 2, 0, [1], b"", b"", [(b"b", 1), (b"a", 1)]),
        LeafKeys(1, 1_000, 1, 2, 0, [1], b"", b"", [(b"%08d" % index, 1) for index in range(EXCHANGE_KEYS_MAX + 1)]),
    ]
    for message in bad:
        with pytest.raises(PeerError):
            cluster.nodes[1].on_message(2, message, 0.0)
    cluster.nodes[1].on_message(2, LeafKeys(1, 1_000, 1, 2, 99, [1], b"", b"", []), 0.0)
    cluster.nodes[1].on_message(2, TreeSums(2, 1_000, 1, 5, 0, 16, [1], b"\0" * 8), 0.0)
    cluster.nodes[1].on_message(2, TreeRoots(3, 1_000, 1, 5, [1], b"\0" * 8), 0.0)
    cluster.nodes[1].on_message(2, TreeRoots(4, 1_000, 1, 2, [1], b"\0" * 8), 1_001.0)
    answers = [message for _, _, message in cluster.sent]
    assert answers == [
        TreeSumsReply(2, Status.NOT_REPLICA, []),
        TreeRootsReply(3, Status.OK, [], [1]),
    ] or answers == [
        LeafKeysReply(1, Status.NOT_REPLICA, [], [], b""),
        TreeSumsReply(2, Status.NOT_REPLICA, []),
        TreeRootsReply(3, Status.OK, [], [1]),
    ]


def test_only_what_a_node_replicates_is_compared() -> None:
    cluster = SmallCluster(size=4, partitions=16)
    for number, node in cluster.nodes.items():
        placements = node._shared.view.placements_of(3)
        foreign = [partition for partition in range(16) if not placements[partition].stores]
        assert foreign, "with four nodes and three replicas there is something for each"
        cluster.sent.clear()
        other = number % 4 + 1
        node.on_message(other, TreeRoots(1, 1_000, 1, 3, foreign, bytes(8 * len(foreign))), 0.0)
        node.on_message(other, TreeSums(2, 1_000, 1, 3, foreign[0], 16, [1], bytes(8)), 0.0)
        node.on_message(other, LeafKeys(3, 1_000, 1, 3, foreign[0], [1], b"", b"", []), 0.0)
        assert [message for _, _, message in cluster.sent] == [
            TreeRootsReply(1, Status.OK, [], foreign),
            TreeSumsReply(2, Status.NOT_REPLICA, []),
            LeafKeysReply(3, Status.NOT_REPLICA, [], [], b""),
        ]


def test_an_answer_knows_the_writes_of_its_own_turn() -> None:
    cluster = SmallCluster(size=2, partitions=2)
    plant(cluster, 1, b"k", record_of(b"v"))
    partition = stored_key(cluster, b"k")[1]
    reply = keys_reply(cluster, 1, LeafKeys(1, 1_000, 1, 2, partition, ALL_LEAVES, b"", b"", []))
    assert reply.records == [(stored_key(cluster, b"k"), encode_record(record_of(b"v")))]


def test_an_answer_has_keys_of_the_n_asked_about_only() -> None:
    cluster = SmallCluster(size=2, partitions=2)
    cluster.call(lambda reply: cluster.nodes[1].set_bucket(b"one", {"n": "1", "r": "1", "w": "1"}, reply))
    cluster.world.run(3_000)
    version = cluster.nodes[1].ring().version
    partition = stored_key(cluster, b"k")[1]
    number = cluster.nodes[1]._shared.view.placements_of(1)[partition].replicas[0]
    key = next(key for key in names(99) if stored_key(cluster, key, b"one")[1] == partition)
    plant(cluster, number, b"k", record_of(b"v"))
    plant(cluster, number, key, record_of(b"v"), b"one")
    for n, bucket, held_key in ((2, b"b", b"k"), (1, b"one", key)):
        reply = keys_reply(cluster, number, LeafKeys(1, 1_000, version, n, partition, ALL_LEAVES, b"", b"", []))
        assert [found for found, _ in reply.records] == [stored_key(cluster, held_key, bucket)]


def test_damage_that_a_scan_comes_across_is_reported_and_wanted_from_the_peer() -> None:
    cluster = SmallCluster(size=2, partitions=2)
    plant(cluster, 1, b"k", record_of(b"v"))
    damage(cluster, 1, b"k")
    place = stored_key(cluster, b"k")
    reply = keys_reply(cluster, 1, LeafKeys(1, 1_000, 1, 2, place[1], ALL_LEAVES, b"", b"", [(place, 5)]))
    assert (reply.records, reply.wanted) == ([], [place])
    assert cluster.counter("records_damaged") > 0


def test_a_partition_is_gone_through_in_turns() -> None:
    cluster = SmallCluster(size=2, partitions=2)
    for key in names(2_000):
        plant(cluster, 1, key, record_of(b"v"))
    cluster.world.run(10)
    engine = cluster.engines[1]
    genuine = engine.scan
    steps: list[int] = []

    def scan(space: Space, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        steps.append(0)
        for pair in genuine(space, start, end):
            steps[-1] += 1
            yield pair

    engine.scan = scan  # type: ignore[method-assign]
    keys_reply(cluster, 1, LeafKeys(1, 1_000, 1, 2, 0, [1, 2, 3], b"", b"", []))
    assert len(steps) >= 3
    assert max(steps) == SCAN_CHUNK_RECORDS


def test_what_a_peer_gets_is_in_the_senders_log_before_it_leaves() -> None:
    """Also what was written in the very turn in which it is sent (hard case 1)."""
    cluster = SmallCluster(size=2, partitions=2)
    plant(cluster, 1, b"k", record_of(b"listed"))
    place = stored_key(cluster, b"k")
    newer = record_of(b"of this turn", counter=2)
    node = cluster.nodes[1]
    receive, transmit = node.on_message, cluster.transmit
    left: list[bytes] = []

    def on_message(member: int, message: Message, age_ms: float) -> None:
        if isinstance(message, LeafKeysReply):
            plant(cluster, 1, b"k", newer)
        receive(member, message, age_ms)

    def leaves(sender: int, target: int, message: Message) -> None:
        if isinstance(message, Write):
            assert unpack(place, cluster.engines[1].data[(Space.DATA, place)])[2] == message.body
            left.append(message.body)
        transmit(sender, target, message)

    node.on_message = on_message  # type: ignore[method-assign]
    cluster.transmit = leaves  # type: ignore[method-assign]
    assert exchange(cluster, 1, 2).complete
    assert left == [encode_record(newer)]


@pytest.mark.sources
def test_questions_above_the_bound_are_refused_at_once_and_the_others_answered() -> None:
    cluster = SmallCluster(size=2, partitions=2)
    plant(cluster, 1, b"k", record_of(b"v"))
    background = cluster.nodes[1]._shared.background
    admit = background.take
    background.take = lambda wanted, now_ms: 0  # type: ignore[method-assign]
    for number in range(EXCHANGE_ANSWERS_MAX + 3):
        cluster.nodes[1].on_message(2, LeafKeys(number, 1_000, 1, 2, 0, [1], b"", b"", []), 0.0)
    assert [reply.status for reply in sent(cluster, LeafKeysReply)] == [Status.OVERLOADED] * 3
    background.take = admit  # type: ignore[method-assign]
    cluster.world.run(100)
    assert [reply.status for reply in sent(cluster, LeafKeysReply)[3:]] == [Status.OK] * EXCHANGE_ANSWERS_MAX
    cluster.nodes[1].on_message(2, LeafKeys(99, 1_000, 1, 2, 0, [1], b"", b"", []), 0.0)
    cluster.world.run(100)
    assert sent(cluster, LeafKeysReply)[-1].status == Status.OK


@pytest.mark.sources
@pytest.mark.parametrize("holder", [1, 2])
def test_an_exchange_is_paced_by_what_background_work_is_admitted(holder: int) -> None:
    cluster = SmallCluster(size=2, partitions=2)
    for key in names(300):
        plant(cluster, holder, key, record_of(b"v"))
    cluster.world.run(10)
    begin_ms = cluster.world.now_ms
    for node in cluster.nodes.values():
        granted = [0]

        def a_hundred_a_second(wanted: int, now_ms: float, granted: list[int] = granted) -> int:
            slice_ = min(wanted, int((now_ms - begin_ms) * 0.1) - granted[0])
            granted[0] += slice_
            return slice_

        node._shared.background.take = a_hundred_a_second  # type: ignore[method-assign]
    under_way = started(cluster, 1, 2)
    while not under_way.ended:
        cluster.world.run(100)
        admitted = (cluster.world.now_ms - begin_ms) * 0.1 * EXCHANGE_RECORDS_PER_OPERATION
        assert len(sent(cluster, Write)) <= admitted + EXCHANGE_WRITES_IN_FLIGHT_MAX % EXCHANGE_RECORDS_PER_OPERATION
        assert cluster.world.now_ms - begin_ms < 3_000, "and what is admitted is used"
    assert cluster.world.now_ms - begin_ms >= 300 / EXCHANGE_RECORDS_PER_OPERATION / 0.1 * 0.8
    assert under_way.ended[0].sent + under_way.ended[0].received == 300


def test_bytes_on_the_way_are_bounded_like_writes() -> None:
    cluster = SmallCluster(size=2, partitions=2)
    for key in names(12):
        plant(cluster, 1, key, record_of(b"v" * (EXCHANGE_BYTES_MAX // 3)))
    cluster.world.run(10)
    transmit = cluster.transmit
    sizes: list[int] = []
    most = 0

    def counted(sender: int, target: int, message: Message) -> None:
        nonlocal most
        if isinstance(message, Write):
            sizes.append(len(message.body))
        elif isinstance(message, WriteReply):
            sizes.pop()
        most = max(most, sum(sizes))
        transmit(sender, target, message)

    cluster.transmit = counted  # type: ignore[method-assign]
    assert exchange(cluster, 1, 2).sent == 12
    assert EXCHANGE_BYTES_MAX <= most < 2 * EXCHANGE_BYTES_MAX


# --- what a peer answers ---


def with_answers(
    change: Callable[[SmallCluster, LeafKeysReply], LeafKeysReply], keys: int = 40
) -> tuple[SmallCluster, list[bytes]]:
    """A cluster in which node 1 holds `keys`, half of them alone, and gets the changed answers of node 2; and the
    storage keys."""
    cluster = SmallCluster(size=2, partitions=2)
    for index, key in enumerate(names(keys)):
        plant(cluster, 1, key, record_of(b"v"))
        if index % 2:
            plant(cluster, 2, key, record_of(b"v"))
    cluster.world.run(10)
    places = sorted(held(cluster, 1))
    genuine = cluster.transmit

    def transmit(sender: int, target: int, message: Message) -> None:
        genuine(sender, target, change(cluster, message) if isinstance(message, LeafKeysReply) else message)

    cluster.transmit = transmit  # type: ignore[method-assign]
    return cluster, places


@pytest.mark.parametrize("covered", [b"\x00", b"\xff"])
def test_an_answer_that_does_not_fit_the_question_ends_the_exchange(covered: bytes) -> None:
    keys = 10 * EXCHANGE_KEYS_MAX if covered == b"\xff" else 40
    cluster, _ = with_answers(lambda cluster, reply: msgspec.structs.replace(reply, covered=covered), keys)
    # Only a listing that was cut has an end that an answer can go beyond.
    assert exchange(cluster, 1, 2).ended_because == "the peer answered beyond what it was asked"
    # An answer that comes no further than the one before is noticed when it repeats itself.
    assert len(sent(cluster, LeafKeys)) == (1 if covered == b"\xff" else 2)


def test_an_answer_with_an_unknown_status_ends_the_exchange() -> None:
    cluster, _ = with_answers(lambda cluster, reply: msgspec.structs.replace(reply, status=99))
    assert exchange(cluster, 1, 2).ended_because == "the peer answers with the unknown status 99"


def test_a_record_of_another_partition_is_not_taken() -> None:
    foreign = storage_key(7, b"b", b"foreign")
    body = encode_record(record_of(b"v"))
    cluster, _ = with_answers(
        lambda cluster, reply: msgspec.structs.replace(reply, records=[*reply.records, (foreign, body), (b"", body)])
    )
    figures = exchange(cluster, 1, 2)
    assert (figures.complete, figures.failed, figures.sent) == (False, 2, 20)
    assert set(held(cluster, 1)) == set(held(cluster, 2))


def test_a_key_that_was_not_listed_is_not_sent() -> None:
    cluster, places = with_answers(
        lambda cluster, reply: msgspec.structs.replace(reply, wanted=sorted(held(cluster, 1)))
    )
    exchange(cluster, 1, 2)
    listed = [key for question in sent(cluster, LeafKeys) for key, _ in question.entries]
    assert [message.key for message in sent(cluster, Write)] == listed
    assert 0 < len(listed) < len(places)


def test_more_records_than_an_answer_may_have_end_the_exchange() -> None:
    many = [(b"\x00\x00\x01b%05d" % index, encode_record(record_of(b"v"))) for index in range(500)]
    cluster, _ = with_answers(lambda cluster, reply: msgspec.structs.replace(reply, records=many))
    before = held(cluster, 1)
    assert exchange(cluster, 1, 2).ended_because == "the peer sent 500 records at once"
    assert held(cluster, 1) == before


def test_what_the_peer_had_already_is_not_sent_back_to_it() -> None:
    cluster = SmallCluster(size=2, partitions=2)
    plant(cluster, 1, b"k", record_of(b"old"))
    plant(cluster, 2, b"k", record_of(b"new", counter=2))
    figures = exchange(cluster, 1, 2)
    assert (figures.complete, figures.received, figures.sent) == (True, 1, 0)
    assert not sent(cluster, Write)


def test_a_write_that_is_refused_leaves_its_partition_for_later() -> None:
    cluster = SmallCluster(size=2, partitions=2)
    for key in names(20):
        plant(cluster, 1, key, record_of(b"v"))
    genuine = cluster.transmit

    def refuse(sender: int, target: int, message: Message) -> None:
        if isinstance(message, WriteReply):
            message = WriteReply(message.id, Status.OVERLOADED)
        genuine(sender, target, message)

    cluster.transmit = refuse  # type: ignore[method-assign]
    figures = exchange(cluster, 1, 2)
    assert (figures.complete, figures.failed, figures.sent) == (False, 2, 0)


# --- what ends an exchange on this side ---


def interrupted(interrupt: Callable[[SmallCluster], None]) -> tuple[SmallCluster, str]:
    """Interrupt an exchange in its middle; why it ended, as it says. It sends nothing after that."""
    cluster = diverged(seed=4, count=200)
    under_way = started(cluster, 1, 2)
    while not sent(cluster, LeafKeysReply):
        cluster.world.run(1)
    interrupt(cluster)
    before = len([sender for sender, _, _ in cluster.sent if sender == 1])
    figures = under_way.finish()
    assert len([sender for sender, _, _ in cluster.sent if sender == 1]) == before
    assert not figures.complete
    return cluster, figures.ended_because


def test_a_node_that_stops_sends_no_more() -> None:
    _, reason = interrupted(lambda cluster: cluster.nodes[1]._anti_entropy.stop())
    assert reason == "this node stops"


def test_a_node_that_is_fenced_sends_no_more() -> None:
    _, reason = interrupted(lambda cluster: cluster.nodes[1].fence(StorageError("Input/output error")))
    assert reason == "this node is fenced"


def test_a_node_whose_ring_has_changed_begins_anew() -> None:
    def change(cluster: SmallCluster) -> None:
        cluster.nodes[1]._shared.view.version += 1

    _, reason = interrupted(change)
    assert reason == "the ring has changed"
