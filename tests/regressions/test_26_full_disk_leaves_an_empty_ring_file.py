"""Hard case 26: the disk was full, an empty ring file was left, and the node believed that it was a lone cluster
(riak_core#190, #166).

ENOSPC at every write of a node's first moments, of a change of bucket properties, and of its metadata files: what was
there before is there after, whole, and nobody was told that the change is done.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from quorate.core.errors import StorageError
from quorate.core.ports import Space, WriteOperation
from quorate.core.store import Admin, Failure
from quorate.node.node import Node
from quorate.node.ring_keeper import LEDGER_KEY
from quorate.server import documents
from tests.unit.collecting import OPTIONS
from tests.unit.small_cluster import DictEngine, SmallCluster

FULL = "ENOSPC: no space left on device"


class FillingEngine(DictEngine):
    """Takes `room` more writes; then the disk is full."""

    room = 1 << 30

    def write(self, batch: Sequence[WriteOperation]) -> None:
        if self.room <= 0:
            raise StorageError(FULL)
        self.room -= 1
        super().write(batch)


def with_room(cluster: SmallCluster, number: int, room: int) -> FillingEngine:
    """Put the node's data on a disk that takes so many more writes."""
    engine = FillingEngine(cluster.ports[number])
    engine.data = cluster.engines[number].data
    engine.report = cluster.engines[number].report
    engine.room = room
    cluster.engines[number] = engine
    return engine


@pytest.mark.parametrize("room", range(6))
def test_a_node_whose_disk_fills_up_at_its_birth_never_forgets_its_cluster(room: int) -> None:
    cluster = SmallCluster(options=OPTIONS)
    cluster.wipe(1)
    engine = with_room(cluster, 1, room)
    try:
        cluster.join(1)
    except StorageError as error:
        assert str(error) == FULL
    else:
        cluster.world.run(3_000)
        assert cluster.nodes[1].ring() == cluster.ring
    cluster.kill(1)
    engine.room = 1 << 30
    cluster.join(1)
    cluster.world.run(10_000)
    assert cluster.nodes[1].ring() == cluster.ring
    assert not cluster.nodes[1]._shared.fenced_because
    assert cluster.values(1, b"k", r=3) == []


def test_a_change_of_properties_that_does_not_fit_is_not_confirmed_and_the_old_ones_stay() -> None:
    cluster = SmallCluster(options=OPTIONS)
    result = cluster.call(lambda reply: cluster.nodes[1].set_bucket(b"b", {"ttl": "7"}, reply))
    assert isinstance(result, Admin)
    ring = cluster.nodes[1].ring()
    before = cluster.engines[1].data[Space.META, LEDGER_KEY]
    cluster.kill(1)
    engine = with_room(cluster, 1, 1 << 30)
    cluster.join(1)
    cluster.world.run(3_000)
    engine.room = 0
    result = cluster.call(lambda reply: cluster.nodes[1].set_bucket(b"b", {"ttl": "8"}, reply))
    assert isinstance(result, Failure) and FULL in result.message
    assert FULL in cluster.nodes[1]._shared.fenced_because
    assert engine.data[Space.META, LEDGER_KEY] == before
    cluster.kill(1)
    engine.room = 1 << 30
    cluster.boot(1)
    node: Node = cluster.nodes[1]
    assert node.bucket_properties(b"b").ttl == 7
    assert node.ring() == ring != cluster.ring


@pytest.mark.parametrize("call", ["open", "write", "fsync", "replace"])
def test_a_metadata_file_is_replaced_as_a_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "cluster.json"
    documents.write_document(path, {"ring": "of three"})

    def full(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, full)
    with pytest.raises(OSError, match="No space"):
        documents.write_document(path, {"ring": "of one"})
    monkeypatch.undo()
    assert documents.read_document(path, "the ring", "") == {"ring": "of three"}
