"""Hard case 34: file descriptors ran out, storage died, and the accept loop spun (scylladb#23186, libuv#690).

A real node that may open few files meets ten times as many connections. Clients get a part of the files and no more:
the store keeps its own, the data files are unaffected, and the node goes on.
"""

from __future__ import annotations

import contextlib
import resource
import socket
from collections.abc import Iterator

import pytest
import redis

from tests.conftest import Cluster

pytestmark = pytest.mark.integration

FILES_MAX = 400
VALUE = b"v" * 65_536


@pytest.fixture
def many_files_here() -> Iterator[None]:
    """This process needs a file for each connection that it makes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 12 * FILES_MAX), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def crowd(address: str, count: int, stack: contextlib.ExitStack) -> None:
    host, port = address.rsplit(":", 1)
    for _ in range(count):
        client = socket.socket()
        stack.callback(client.close)
        client.setblocking(False)
        client.connect_ex((host, int(port)))


def test_ten_times_as_many_connections_as_files(cluster: Cluster, many_files_here: None) -> None:
    victim = cluster.node(1)
    assert victim.terminate() == 0
    victim._command = ["sh", "-c", f'ulimit -n {FILES_MAX}; exec "$@"', "sh", *victim._command]
    cluster.restart(1)
    host, port = cluster.address(1).rsplit(":", 1)
    client = redis.Redis(host, int(port), socket_timeout=30)
    assert client.set("files:before", VALUE)
    with contextlib.ExitStack() as stack:
        for group in range(10):
            crowd(cluster.address(1), FILES_MAX, stack)
            for index in range(20):
                assert client.set(f"files:{group}-{index}", VALUE), "who was there before goes on being served"
        assert client.get("files:before") == VALUE
    assert cluster.cli("put", "files", "after", "v", node=1).returncode == 0, "there is room again"
    assert "fenced" not in victim.log()
    assert "Traceback" not in victim.log()
    victim.kill()
    cluster.restart(1)
    after = redis.Redis(host, int(port), socket_timeout=30)
    for group in range(10):
        for index in range(20):
            assert after.get(f"files:{group}-{index}") == VALUE
    after.close()
    client.close()
