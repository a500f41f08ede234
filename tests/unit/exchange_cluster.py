"""Small clusters whose replicas were driven apart, and what exchanges between them did."""

from __future__ import annotations

from typing import Any

from quorate.core.causality.actor import make_actor
from quorate.core.envelope import digest_of, pack, unpack
from quorate.core.keyspace import canonical_name, slot_of_name, storage_key
from quorate.core.messages import LeafKeys, LeafKeysReply, Message, TreeRoots, TreeRootsReply, Write, WriteReply
from quorate.core.ports import Space
from quorate.core.record import VALUE, Record, Sibling, decode_record, encode_record
from quorate.node.anti_entropy import AntiEntropy
from quorate.node.exchange import Exchange, ExchangeFigures
from quorate.node.steps import run
from tests.unit.small_cluster import SmallCluster


def stored_key(cluster: SmallCluster, key: bytes, bucket: bytes = b"b") -> bytes:
    slot = slot_of_name(canonical_name(bucket, key))
    return storage_key(cluster.ring.partition_of_slot(slot), bucket, key)


def record_of(value: bytes, member: int = 1, counter: int = 1) -> Record:
    """A record with one sibling, the `counter`-th put that `member` coordinated."""
    actor = make_actor(member, 7)
    return Record({actor: counter}, [Sibling(actor, counter, (1_700_000_000_000 + counter) << 16, value, "", VALUE)])


def plant(cluster: SmallCluster, number: int, key: bytes, record: Record, bucket: bytes = b"b") -> None:
    """Let node `number` alone hold `record`, as if it had come by replication and the others had missed it."""
    place = stored_key(cluster, key, bucket)
    cluster.nodes[number]._shared.records.merge(
        place, encode_record(record), False, False, lambda argument, durable: None, None
    )


def damage(cluster: SmallCluster, number: int, key: bytes) -> None:
    """Flip the last bit of what node `number` stores under `key`, behind its back."""
    cluster.nodes[number]._shared.commits.flush()
    data = cluster.engines[number].data
    place = (Space.DATA, stored_key(cluster, key))
    data[place] = data[place][:-1] + bytes([data[place][-1] ^ 1])
    cluster.nodes[number]._cache.clear()


def exchange(cluster: SmallCluster, node: int, peer: int, bucket: bytes = b"") -> ExchangeFigures:
    """One exchange, run to its end."""
    return started(cluster, node, peer, bucket).finish()


class Started:
    """An exchange under way."""

    def __init__(self, cluster: SmallCluster, node: int, peer: int, bucket: bytes) -> None:
        self.cluster = cluster
        self.ended: list[ExchangeFigures] = []
        anti_entropy: AntiEntropy = cluster.nodes[node]._anti_entropy
        run(
            anti_entropy.exchange_with(peer, Exchange(cluster.nodes[node]._shared, peer, anti_entropy.note, bucket)),
            self.ended.append,
        )

    def finish(self, limit_ms: float = 60_000) -> ExchangeFigures:
        begin_ms = self.cluster.world.now_ms
        while not self.ended:
            self.cluster.world.run(10)
            assert self.cluster.world.now_ms - begin_ms < limit_ms, "an exchange comes to an end"
        return self.ended[0]


def started(cluster: SmallCluster, node: int, peer: int, bucket: bytes = b"") -> Started:
    return Started(cluster, node, peer, bucket)


def held(cluster: SmallCluster, number: int) -> dict[bytes, bytes]:
    """Storage key → body of all that node `number` has on its disk; raises `DamagedRecord`."""
    cluster.nodes[number]._shared.commits.flush()
    data = cluster.engines[number].data
    return {key: unpack(key, stored)[2] for (space, key), stored in sorted(data.items()) if space == Space.DATA}


def clocks(cluster: SmallCluster, number: int) -> dict[bytes, dict[int, int]]:
    return {key: decode_record(body).clock for key, body in held(cluster, number).items()}


def put_raw(cluster: SmallCluster, number: int, key: bytes, body: bytes) -> None:
    """Put bytes that need not be a record into node `number`, checksum and tree included."""
    place = stored_key(cluster, key)
    digest = digest_of(place, body)
    cluster.engines[number].data[(Space.DATA, place)] = pack(digest, 0, body)
    cluster.nodes[number]._shared.trees.update(place, digest)


def sent(cluster: SmallCluster, *kinds: type) -> list[Any]:
    return [message for _, _, message in cluster.sent if isinstance(message, kinds)]


def weight(messages: list[Message]) -> int:
    from quorate.core.wire.codec import encode_messages

    return sum(len(encode_messages([message])) for message in messages)


MOVED = (Write, WriteReply, LeafKeys, LeafKeysReply)
ROOTS = (TreeRoots, TreeRootsReply)
