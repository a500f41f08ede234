"""Hash trees of real processes: kill -9 in the midst of writes, and the trees are those of the records on the disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from quorate.adapters.storage.rocksdb import RocksDbEngine
from quorate.cli.link import Link
from quorate.core.envelope import unpack
from quorate.core.merkle.trees import Forest, leaves_per_partition
from quorate.core.ports import Space
from quorate.node.tree_documents import Shape, load_trees
from tests.background_load import Users
from tests.conftest import Cluster, MakeCluster
from tests.settled import eventually, wait_for_all, wait_until_hints_are_home

pytestmark = pytest.mark.integration

KILLS = 3


def ready_trees(link: Link) -> dict[str, int]:
    """How many trees of each node are ready."""
    members = link.document("KV.STATUS")["members"]
    return {member["name"]: member["report"].get("trees", {"ready": 0})["ready"] for member in members}


def stored_and_made(path: Path, partitions: int) -> tuple[Forest, Forest, int]:
    """(the trees that a clean stop has saved under `path`, those that the records there make, how many records)."""
    leaf_count = leaves_per_partition(partitions)
    saved, made = Forest(partitions, leaf_count), Forest(partitions, leaf_count)
    engine = RocksDbEngine(path, lambda callback: None)
    try:
        assert engine.report.clean
        assert load_trees(engine, Shape(partitions, leaf_count, 3, {}), {3: saved}) == [], "all were ready"
        records = 0
        for key, stored in engine.scan(Space.DATA, b"", b"\xff\xff"):
            made.update(key, unpack(key, stored)[0])
            records += 1
    finally:
        engine.close()
    return saved, made, records


def test_trees_are_exact_after_kills_in_the_midst_of_writes(make_cluster: MakeCluster) -> None:
    cluster: Cluster = make_cluster(3)
    partitions = len(cluster.plan.cluster.ring.owners)
    everyone = [member.name for member in cluster.members]
    with Users(cluster.addresses) as users:
        for kill in range(KILLS):
            users.wait_for(100)
            cluster.node(1 + kill).kill()
            users.wait_for(50)
            cluster.restart(1 + kill)
            with Link(cluster.address(1)) as link:
                wait_for_all(link, names=everyone)
        users.wait_for(100)
    with Link(cluster.address(1)) as link:
        wait_until_hints_are_home(link)
        eventually("all trees are ready", lambda: ready_trees(link) == dict.fromkeys(everyone, partitions))
    for member in cluster.members:
        assert cluster.node(member.number).terminate() == 0
    for member in cluster.members:
        saved, made, records = stored_and_made(cluster.plan.data_path(member) / "store", partitions)
        assert records >= len(users.written), "every node has every key, and so the check had something to see"
        assert saved.roots == made.roots
        assert all(saved.leaves(partition) == made.leaves(partition) for partition in range(partitions))
    cluster.start()
    with Link(cluster.address(1)) as link:
        assert ready_trees(link) == dict.fromkeys(everyone, partitions), "loaded, without any walk"
    assert "this is a bug" not in cluster.logs()
