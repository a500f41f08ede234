"""The commands that read and write values, on a real cluster, as a shell sees them: stdout, stderr, exit code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from quorate.cli.link import Link
from tests.conftest import Cluster, MakeCluster, run_cli

pytestmark = pytest.mark.integration


def output(cluster: Cluster, *arguments: str, node: int = 1, code: int = 0) -> bytes:
    done = cluster.cli(*arguments, node=node)
    assert done.returncode == code, done.stderr.decode()
    return done.stdout


def document(cluster: Cluster, *arguments: str, node: int = 1, code: int = 0) -> Any:
    return json.loads(output(cluster, *arguments, "--json", node=node, code=code))


def test_what_one_node_took_another_gives(shared_cluster: Cluster) -> None:
    context = output(shared_cluster, "put", "tour", "alice", '{"milk": 1}', node=1).decode().strip()
    assert output(shared_cluster, "get", "tour", "alice", node=2) == b'{"milk": 1}'
    read = document(shared_cluster, "get", "tour", "alice", node=3)
    assert (read["value"], read["context"]) == ('{"milk": 1}', context)


def test_two_writers_with_one_context_leave_siblings_and_the_returned_context_settles_them(
    shared_cluster: Cluster,
) -> None:
    """The paper's §4.4: divergent versions are handed to the client, and its next write reconciles them."""
    context = output(shared_cluster, "put", "carts", "bob", "first").decode().strip()
    output(shared_cluster, "put", "carts", "bob", "one", "--context", context, node=1)
    output(shared_cluster, "put", "carts", "bob", "two", "--context", context, node=2)
    found = json.loads(output(shared_cluster, "get", "carts", "bob", node=3, code=3))
    assert sorted(sibling["value"] for sibling in found["siblings"]) == ["one", "two"]
    output(shared_cluster, "put", "carts", "bob", "merged", "--context", found["context"])
    assert output(shared_cluster, "get", "carts", "bob", node=2) == b"merged"


def test_an_absent_key_exits_with_4(shared_cluster: Cluster) -> None:
    done = shared_cluster.cli("get", "tour", "nobody")
    assert (done.returncode, done.stdout) == (4, b"")
    assert b"tour/nobody holds no value" in done.stderr
    assert document(shared_cluster, "get", "tour", "nobody", code=4)["siblings"] == []
    output(shared_cluster, "delete", "tour", "nobody", code=4)


def test_delete_takes_what_is_there(shared_cluster: Cluster) -> None:
    output(shared_cluster, "put", "tour", "carol", "here")
    output(shared_cluster, "delete", "tour", "carol", node=2)
    output(shared_cluster, "get", "tour", "carol", node=3, code=4)
    # A delete that has seen less than there is leaves the rest.
    old = output(shared_cluster, "put", "tour", "carol", "again").decode().strip()
    output(shared_cluster, "put", "tour", "carol", "newer", "--context", old)
    output(shared_cluster, "delete", "tour", "carol", "--context", old)
    assert output(shared_cluster, "get", "tour", "carol") == b"newer"


def test_any_bytes_travel_through_files_and_pipes(shared_cluster: Cluster, tmp_path: Path) -> None:
    body = bytes(range(256)) * 40
    (tmp_path / "picture.png").write_bytes(body)
    output(shared_cluster, "put", "files", "a", "--file", str(tmp_path / "picture.png"))
    assert output(shared_cluster, "get", "files", "a", node=2) == body
    assert document(shared_cluster, "get", "files", "a")["content_type"] == "image/png"
    done = shared_cluster.cli("put", "files", "b", "--file", "-", stdin=body)
    assert done.returncode == 0, done.stderr
    assert output(shared_cluster, "get", "files", "b") == body
    assert "value_base64" in document(shared_cluster, "get", "files", "b")


def test_keys_come_from_all_partitions_and_all_pages(shared_cluster: Cluster) -> None:
    names = {f"key{number:02}" for number in range(40)}
    with Link(shared_cluster.address(2)) as link:
        for name in sorted(names):
            link.command("KV.PUT", f"many:{name}", "x", write=True)
    assert set(output(shared_cluster, "keys", "many").decode().split()) == names
    assert len(output(shared_cluster, "keys", "many", "--limit", "7").split()) == 7
    assert set(output(shared_cluster, "keys", "many", "--prefix", "key1").decode().split()) == {
        name for name in names if name.startswith("key1")
    }
    assert json.loads(output(shared_cluster, "keys", "many", "--limit", "1", "--json"))["key"] in names


def test_where_names_the_replicas_and_what_they_hold(shared_cluster: Cluster) -> None:
    output(shared_cluster, "put", "tour", "where", "x")
    found = document(shared_cluster, "where", "tour", "where")
    assert sorted(found["preference_list"]) == ["n1", "n2", "n3"]
    assert all(replica["state"] in ("holds", "absent") for replica in found["replicas"])
    text = output(shared_cluster, "where", "tour", "where").decode()
    assert f"slot {found['slot']}, partition {found['partition']}" in text


def test_status_and_ring_show_every_node(shared_cluster: Cluster) -> None:
    status = document(shared_cluster, "status")
    assert [member["report"]["state"] for member in status["members"]] == ["up", "up", "up"]
    ring = document(shared_cluster, "ring")
    assert len(ring["owners"]) == 64
    for name in ("status", "ring"):
        text = output(shared_cluster, name).decode()
        assert all(node in text for node in ("n1", "n2", "n3"))


def test_bucket_properties_are_the_same_everywhere(shared_cluster: Cluster) -> None:
    output(shared_cluster, "bucket", "set", "props", "conflicts=lww", "ttl=3600", node=1)
    for node in (1, 2, 3):
        assert document(shared_cluster, "bucket", "show", "props", node=node)["conflicts"] == "lww"
    assert "props" in document(shared_cluster, "bucket", "list", node=2)
    output(shared_cluster, "put", "props", "k", "one")
    output(shared_cluster, "put", "props", "k", "two")
    assert output(shared_cluster, "get", "props", "k", node=3) == b"two"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["bucket", "set", "b", "replicas=3"], 1, "unknown bucket property 'replicas'; there are: n, r, w"),
        (["bucket", "set", "b", "r=4"], 1, "r=4 is above n=3"),
        (["bucket", "set", "b", "w=4"], 1, "w=4 is above n=3"),
        (["bucket", "set", "b", "n=4"], 1, "n=4 needs 4 nodes, and the cluster has 3"),
        (["bucket", "set", "b", "nonsense"], 2, "a property is written NAME=VALUE"),
        (["get", "b", "k", "--r", "4"], 1, "4"),
        (["put", "b", "k", "v", "--w", "4"], 1, "4"),
        (["put", "b", "k" * 1025, "v"], 1, "a key has 1 to 1024 bytes; this one has 1025"),
        (["put", "b:c", "k", "v"], 1, "neither colons nor control characters"),
        (["put", "b", "k", "v", "--context", "no-such-context"], 1, "context"),
        (["put", "b", "k"], 2, "give either a VALUE or --file"),
        (["put", "b", "k", "v", "--ttl", "-1"], 2, "ttl"),
        (["frobnicate"], 2, "No such command 'frobnicate'.\n"),
        (["gte", "b", "k"], 2, "No such command 'gte'. Did you mean 'get'?"),
    ],
)
def test_bad_input_is_named_and_changes_nothing(
    shared_cluster: Cluster, arguments: list[str], code: int, message: str
) -> None:
    done = shared_cluster.cli(*arguments)
    assert (done.returncode, done.stdout) == (code, b"")
    assert message in done.stderr.decode()
    assert b"Traceback" not in done.stderr
    assert shared_cluster.cli("get", "b", "k").returncode == 4


def test_a_value_that_is_too_large_is_refused(shared_cluster: Cluster) -> None:
    done = shared_cluster.cli("put", "b", "large", "--file", "-", stdin=b"x" * (8 * 1024 * 1024 + 1))
    assert done.returncode == 1
    assert b"a value has at most 8388608 bytes; this one has 8388609" in done.stderr
    assert shared_cluster.cli("get", "b", "large").returncode == 4


def test_no_node_exits_with_5_and_says_what_to_do() -> None:
    done = run_cli("get", "b", "k", "--node", "127.0.0.1:1")
    assert done.returncode == 5
    assert b"no node answers at 127.0.0.1:1 (connection refused); start a cluster with `quorate up`" in done.stderr
    done = run_cli("get", "b", "k", "--node", "127.0.0.1:1", "--json")
    assert json.loads(done.stderr)["kind"] == "Unavailable"


def test_one_node_down_goes_on_and_two_down_say_who_is_missing(cluster: Cluster) -> None:
    output(cluster, "put", "b", "k", "v")
    cluster.node(3).kill()
    assert output(cluster, "get", "b", "k") == b"v"
    output(cluster, "put", "b", "other", "v")
    assert document(cluster, "status", code=1)["members"][2]["report"]["state"] == "unreachable"
    cluster.node(2).kill()
    done = cluster.cli("get", "b", "k")
    assert done.returncode == 5, done.stderr
    assert done.stderr == b"error: 1 of 2 replicas answered the read (no answer from n2, n3)\n"
    assert cluster.cli("put", "b", "k", "w").returncode in (5, 6)
    cluster.restart(2)
    assert cluster.cli("get", "b", "other").stdout == b"v"


def test_a_password_is_asked_for(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(nodes=1, engine="memory", password="open sesame")
    done = cluster.cli("get", "b", "k")
    assert done.returncode == 1
    assert b"this cluster needs a password; give it with --password" in done.stderr
    assert b"the password is wrong" in cluster.cli("get", "b", "k", "--password", "open").stderr
    assert cluster.cli("put", "b", "k", "v", "--password", "open sesame").returncode == 0


def test_an_idle_node_is_small(cluster: Cluster) -> None:
    """An idle node stays under 80 MB resident."""
    assert cluster.cli("status").returncode == 0
    assert max(cluster.node(number).memory_bytes() for number in (1, 2, 3)) < 80_000_000
