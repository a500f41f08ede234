"""The HTTP port of real nodes: beside the Redis protocol, with replicas away, with a password, and at the end."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote_from_bytes

import pytest
import redis

from quorate.core.keyspace import canonical_name
from tests.conftest import EVENT_TIMEOUT_S, Cluster, MakeCluster, run_cli
from tests.regressions.test_34_file_descriptors_run_out import FILES_MAX, VALUE, crowd, many_files_here

__all__ = ["many_files_here"]

pytestmark = pytest.mark.integration

MIB = 1024 * 1024


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def ask(cluster: Cluster, number: int, method: str, path: str, body: bytes | None = None, **headers: str) -> Reply:
    connection = http.client.HTTPConnection(cluster.members[number - 1].http_address, timeout=EVENT_TIMEOUT_S)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        return Reply(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
    finally:
        connection.close()


@pytest.mark.parametrize("key", [b"alice", b"a/b c", b"\x00\xff%2F:{x}", b"k" * 1024])
def test_both_ports_mean_the_same_key(shared_cluster: Cluster, key: bytes) -> None:
    path = f"/v1/buckets/carts/keys/{quote_from_bytes(key, safe='')}"
    resp = redis.Redis(port=int(shared_cluster.address(2).rpartition(":")[2]))
    put = ask(shared_cluster, 1, "PUT", path, b"milk", Content_Type="text/plain")
    assert put.status == 204
    context, siblings = resp.execute_command("KV.GET", canonical_name(b"carts", key))  # type: ignore[no-untyped-call]
    assert context.decode() == put.headers["quorate-context"]
    assert [sibling[:2] for sibling in siblings] == [[b"milk", b"text/plain"]]
    resp.execute_command("KV.PUT", canonical_name(b"carts", key), b"eggs", "CTX", context)  # type: ignore[no-untyped-call]
    assert ask(shared_cluster, 3, "GET", path).body == b"eggs"
    resp.close()


def test_the_largest_value_goes_through_every_node(shared_cluster: Cluster) -> None:
    value = bytes(range(256)) * (8 * MIB // 256)
    path = "/v1/buckets/large/keys/value"
    assert ask(shared_cluster, 1, "PUT", path + "?timeout_ms=30000", value).status == 204
    for number in (1, 2, 3):
        assert ask(shared_cluster, number, "GET", path + "?timeout_ms=30000").body == value
    assert ask(shared_cluster, 1, "PUT", path, value + b"x").status == 413


def test_a_write_that_was_retried_is_one(shared_cluster: Cluster) -> None:
    path = "/v1/buckets/carts/keys/retried"
    for number in (1, 2, 3):
        assert ask(shared_cluster, number, "PUT", path, b"once", Quorate_Operation="order-17").status == 204
    assert ask(shared_cluster, 1, "GET", path + "?r=3").body == b"once"


def test_without_a_quorum_it_is_503_and_says_that_nothing_was_done(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    path = "/v1/buckets/carts/keys/alice"
    assert ask(cluster, 1, "PUT", path, b"milk").status == 204
    for number in (2, 3):
        cluster.node(number).kill()
    for method in ("GET", "PUT"):
        reply = ask(cluster, 1, method, path, b"eggs" if method == "PUT" else None)
        assert reply.status == 503, reply.body
        assert int(reply.headers["retry-after"]) >= 1
        assert reply.json()["outcome"] == "not done"
        assert reply.headers["content-type"] == "application/problem+json"
    assert ask(cluster, 1, "GET", path + "?r=1").body == b"milk"
    assert ask(cluster, 1, "PUT", path + "?w=1", b"eggs").status == 204
    assert ask(cluster, 1, "GET", "/readyz").status == 200


def test_a_write_that_replicas_may_have_is_504_and_says_so(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    path = "/v1/buckets/carts/keys/alice"
    assert ask(cluster, 1, "PUT", path, b"milk").status == 204
    for number in (2, 3):
        cluster.node(number).stop()
    try:
        reply = ask(cluster, 1, "PUT", path + "?timeout_ms=300&strict=true", b"eggs")
        assert reply.status == 504, reply.body
        assert reply.json()["outcome"] == "unknown"
    finally:
        for number in (2, 3):
            cluster.node(number).cont()


def test_one_password_opens_both_ports(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(password="sesame")
    assert ask(cluster, 1, "GET", "/v1/cluster/ring").status == 401
    assert ask(cluster, 1, "GET", "/v1/cluster/ring", Authorization="Bearer sesame").status == 200
    assert ask(cluster, 1, "GET", "/readyz").status == 200


def test_http_is_not_shown_to_other_machines_without_a_password(tmp_path: Path) -> None:
    refused = run_cli("start", "--data", str(tmp_path / "n1"), "--http-listen", "0.0.0.0:7999")
    assert refused.returncode == 1
    assert b"http 0.0.0.0:7999" in refused.stderr
    assert not (tmp_path / "n1" / "identity.json").exists()


def test_ten_times_as_many_connections_as_files_leave_the_store_alone(cluster: Cluster, many_files_here: None) -> None:
    victim = cluster.node(1)
    assert victim.terminate() == 0
    victim._command = ["sh", "-c", f'ulimit -n {FILES_MAX}; exec "$@"', "sh", *victim._command]
    cluster.restart(1)
    http_address = cluster.members[0].http_address
    early = http.client.HTTPConnection(http_address, timeout=EVENT_TIMEOUT_S)
    early.request("GET", "/readyz")
    assert early.getresponse().read() == b'{"status":"ok"}'
    with contextlib.ExitStack() as stack:
        for group in range(10):
            crowd(http_address, FILES_MAX // 2, stack)
            crowd(cluster.address(1), FILES_MAX // 2, stack)
            for index in range(10):
                early.request("PUT", f"/v1/buckets/files/keys/{group}-{index}", VALUE)
                response = early.getresponse()
                body = response.read()
                assert response.status == 204, f"who was there before goes on being served: {body!r}"
    early.close()
    assert "fenced" not in victim.log()
    assert "Traceback" not in victim.log()
    victim.kill()
    cluster.restart(1)
    for group in range(10):
        assert ask(cluster, 1, "GET", f"/v1/buckets/files/keys/{group}-9").body == VALUE


def test_a_node_that_stops_answers_what_was_begun(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    host, port = cluster.members[0].http_address.split(":")
    with socket.create_connection((host, int(port)), timeout=EVENT_TIMEOUT_S) as begun:
        head = f"PUT /v1/buckets/carts/keys/alice HTTP/1.1\r\nHost: {host}\r\nContent-Length: 4\r\n"
        begun.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())
        assert begun.recv(100).startswith(b"HTTP/1.1 100 ")
        process = cluster.node(1)._running()
        process.terminate()
        while True:
            try:
                socket.create_connection((host, int(port)), timeout=EVENT_TIMEOUT_S).close()
            except ConnectionRefusedError:
                break
            except ConnectionResetError:
                # The listener was closed while this connection waited in its queue.
                continue
        begun.sendall(b"milk")
        answer = begun.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 204 ")
    assert b"Connection: close" in answer
    assert process.wait(timeout=EVENT_TIMEOUT_S) == 0
    assert ask(cluster, 2, "GET", "/v1/buckets/carts/keys/alice").body == b"milk"
