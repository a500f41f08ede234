"""`quorate repair` on real nodes and real stores: what a stopped node's disk lost, or had flipped, is back after it."""

from __future__ import annotations

import json
from itertools import islice

import pytest

from quorate.adapters.storage.rocksdb import RocksDbEngine
from quorate.core.ports import Space, WriteOperation
from quorate.node.tree_documents import remove_trees
from tests.conftest import MakeCluster
from tests.settled import eventually

pytestmark = pytest.mark.integration

KEYS = 300


def test_repair_brings_back_what_a_disk_lost_or_had_flipped(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(3)
    rows = b"".join(b'{"id": "k%d", "value": %d}\n' % (number, number) for number in range(KEYS))
    path = cluster.plan.path / "rows.jsonl"
    path.write_bytes(rows)
    done = cluster.cli("import", "b", str(path), "--key", "id")
    assert done.returncode == 0, done.stderr.decode()
    cluster.node(2).terminate()
    engine = RocksDbEngine(
        cluster.plan.data_path(cluster.plan.cluster.ring.members[1]) / "store", lambda callback: None
    )
    try:
        pairs = list(islice(engine.scan(Space.DATA, b"", b"\xff\xff\xff"), 20))
        lost: list[WriteOperation] = [(Space.DATA, key, None) for key, _ in pairs[:10]]
        flipped: list[WriteOperation] = [
            (Space.DATA, key, stored[:-1] + bytes([stored[-1] ^ 1])) for key, stored in pairs[10:]
        ]
        engine.write(lost + flipped)
        remove_trees(engine)
    finally:
        engine.close()
    cluster.restart(2)
    eventually("a repair is whole", lambda: cluster.cli("repair", "--json").returncode == 0)
    done = cluster.cli("repair", "b", "--json", node=3)
    assert done.returncode == 0, done.stderr.decode()
    found = json.loads(done.stdout)
    assert (found["complete"], found["damaged"], found["repaired"]) == (True, 0, 0)
    status = json.loads(cluster.cli("status", "--json").stdout)
    report = next(member["report"] for member in status["members"] if member["name"] == "n2")
    others = [member["report"] for member in status["members"] if member["name"] != "n2"]
    assert report["counters"]["records_damaged"] >= 10
    assert report["trees"]["damaged_records"] == 0
    got = report["anti_entropy"]["received"] + sum(other["anti_entropy"]["sent"] for other in others)
    assert got >= 20
    cluster.node(1).kill()
    cluster.node(3).kill()
    for number in range(0, KEYS, 7):
        done = cluster.cli("get", "b", f"k{number}", "--r", "1", node=2)
        assert json.loads(done.stdout)["value"] == number


def test_repair_says_which_node_it_could_not_reach(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(3)
    cluster.node(3).kill()
    done = cluster.cli("repair", "--json")
    assert done.returncode == 5
    found = json.loads(done.stdout)
    assert found["nodes"]["n3"]["state"] == "unreachable"
    assert found["nodes"]["n1"]["peers"]["n2"]["state"] == "done"
    assert found["nodes"]["n1"]["peers"]["n3"]["state"] == "unreachable"
