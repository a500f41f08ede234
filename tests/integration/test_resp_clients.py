"""Clients of Redis that know nothing of us, unchanged, against a real cluster.

They set, get, expire and delete; each key goes straight to its coordinator; and they go on when a node dies.
Those that are not installed are skipped, with the reason.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import ResponseError
from redis.asyncio.cluster import RedisCluster as AsyncRedisCluster
from redis.cluster import RedisCluster

from tests.conftest import free_base_port

pytestmark = [pytest.mark.integration, pytest.mark.foreign]

NODES = 3
PROTOCOLS = [2, 3]
STOP_TIMEOUT_SECONDS = 30


class RunningCluster:
    """`quorate up` with three nodes in memory, ready for clients."""

    def __init__(self, data: Path) -> None:
        self.base_port = free_base_port()
        self.pids: dict[str, int] = {}
        arguments = ["up", "--nodes", NODES, "--port", self.base_port, "--data", data, "--engine", "memory", "--json"]
        self._log = (data.parent / f"{data.name}.log").open("wb")
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from quorate.cli.main import main; main()", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=self._log,
        )
        assert self._process.stdout is not None
        for line in self._process.stdout:
            event = json.loads(line)
            if event["event"] == "node":
                self.pids[event["name"]] = event["pid"]
            assert event["event"] != "exited", f"a node did not start; see {self._log.name}"
            if event["event"] == "ready":
                return
        raise AssertionError(f"the cluster did not start; see {self._log.name}")

    def port(self, number: int) -> int:
        return self.base_port + number

    def kill(self, name: str) -> None:
        os.kill(self.pids[name], signal.SIGKILL)

    def stop(self) -> None:
        self._process.terminate()
        self._process.communicate(timeout=STOP_TIMEOUT_SECONDS)
        self._log.close()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCluster]:
    running = RunningCluster(tmp_path_factory.mktemp("clients") / "data")
    yield running
    running.stop()


@pytest.fixture
def mortal_cluster(tmp_path: Path) -> Iterator[RunningCluster]:
    """One of its own, for a test that kills a node."""
    running = RunningCluster(tmp_path / "data")
    yield running
    running.stop()


def coordinator_of(client: RedisCluster, key: str, base_port: int) -> tuple[str, str]:
    """(the node that the slot map names, the node that coordinated the key's only write)."""
    node = client.get_node_from_key(key)
    assert node is not None
    where = json.loads(client.execute_command("KV.WHERE", key))
    held = [replica for replica in where["replicas"] if replica["state"] == "holds"]
    [actor] = held[0]["clock"]
    return f"n{node.port - base_port}", actor.partition("@")[0]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_redis_py(cluster: RunningCluster, protocol: int) -> None:
    bucket = f"sync{protocol}"
    with RedisCluster(host="127.0.0.1", port=cluster.port(1), protocol=protocol) as client:
        assert len(client.get_nodes()) == NODES
        key = f"{bucket}:a"
        assert client.set(key, b"\0value\r\n")
        assert client.get(key) == b"\0value\r\n"
        assert client.expire(key, 100)
        assert 0 < client.ttl(key) <= 100
        assert client.persist(key)
        assert client.ttl(key) == -1
        assert client.set(key, "new", get=True, ex=50) == b"\0value\r\n"
        assert client.getdel(key) == b"new"
        assert client.get(key) is None
        assert client.mset_nonatomic({f"{bucket}:{i}": i for i in range(20)})
        assert client.mget_nonatomic([f"{bucket}:3", f"{bucket}:none"]) == [b"3", None]
        assert client.exists(f"{bucket}:1", f"{bucket}:2", f"{bucket}:none") == 2
        assert set(client.scan_iter(match=f"{bucket}:*")) == {f"{bucket}:{i}".encode() for i in range(20)}
        assert client.delete(f"{bucket}:1", f"{bucket}:none") == 1
        pipeline = client.pipeline()
        for i in range(20):
            pipeline.set(f"{bucket}:p{i}", i).get(f"{bucket}:p{i}")
        assert pipeline.execute() == [result for i in range(20) for result in (True, str(i).encode())]
        with pytest.raises(ResponseError, match="SET with NX is not supported"):
            client.set(key, "x", nx=True)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_redis_py_with_contexts(cluster: RunningCluster, protocol: int) -> None:
    key = f"contexts{protocol}:k"
    with RedisCluster(host="127.0.0.1", port=cluster.port(2), protocol=protocol) as client:
        client.execute_command("KV.PUT", key, "one", "TYPE", "text/plain")
        client.execute_command("KV.PUT", key, "two")
        context, siblings = client.execute_command("KV.GET", key)
        assert sorted(sibling[0] for sibling in siblings) == [b"one", b"two"]
        client.execute_command("KV.PUT", key, "both", "CTX", context)
        context, siblings = client.execute_command("KV.GET", key)
        assert [sibling[0] for sibling in siblings] == [b"both"]
        client.execute_command("KV.DEL", key, "CTX", context)
        assert client.execute_command("KV.GET", key)[1] == []


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_each_key_goes_straight_to_its_coordinator(cluster: RunningCluster, protocol: int) -> None:
    with RedisCluster(host="127.0.0.1", port=cluster.port(3), protocol=protocol) as client:
        seen = set()
        for i in range(60):
            key = f"straight{protocol}:{i}"
            if i % 2:
                client.execute_command("KV.PUT", key, i)
            else:
                client.set(key, i)
            named, coordinated = coordinator_of(client, key, cluster.base_port)
            assert named == coordinated
            seen.add(named)
        assert seen == {"n1", "n2", "n3"}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_redis_py_async(cluster: RunningCluster, protocol: int) -> None:
    async def work() -> None:
        async with AsyncRedisCluster(host="127.0.0.1", port=cluster.port(1), protocol=protocol) as client:
            keys = [f"async{protocol}:{i}" for i in range(50)]
            assert all(await asyncio.gather(*(client.set(key, key) for key in keys)))
            assert await asyncio.gather(*(client.get(key) for key in keys)) == [key.encode() for key in keys]
            assert await client.expire(keys[0], 100)
            assert 0 < await client.ttl(keys[0]) <= 100
            assert await client.delete(keys[0]) == 1
            assert await client.get(keys[0]) is None
            context = await client.execute_command("KV.PUT", keys[1], "new")
            assert context

    asyncio.run(work())


def test_redis_py_without_cluster_mode(cluster: RunningCluster) -> None:
    """Any node answers for any key."""
    from redis import Redis

    with Redis(port=cluster.port(1)) as one, Redis(port=cluster.port(2), protocol=3) as two:
        for i in range(30):
            assert one.set(f"single:{i}", i)
            assert two.get(f"single:{i}") == str(i).encode()
        assert two.info()["redis_mode"] == "cluster"
        assert two.config_get("save") == {"save": ""}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_redis_py_goes_on_when_a_node_dies(mortal_cluster: RunningCluster, protocol: int) -> None:
    with RedisCluster(host="127.0.0.1", port=mortal_cluster.port(1), protocol=protocol, socket_timeout=5) as client:
        for i in range(100):
            client.set(f"carts:{i}", i)
        mortal_cluster.kill("n2")
        for i in range(100):
            assert client.get(f"carts:{i}") == str(i).encode()
            assert client.set(f"carts:{i}", -i)
        slots: Any = client.execute_command("CLUSTER SLOTS", target_nodes=client.get_node_from_key("carts:1"))
        ports = {int(primary[1]) for primary in (entry["primary"] for entry in slots.values())}
        assert ports == {mortal_cluster.port(1), mortal_cluster.port(3)}


def run(*arguments: str | int) -> str:
    name = str(arguments[0])
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    done = subprocess.run([str(argument) for argument in arguments], capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.decode()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_redis_cli(cluster: RunningCluster, protocol: int) -> None:
    cli: tuple[str | int, ...] = ("redis-cli", f"-{protocol}", "-c", "-p", cluster.port(1))
    key = f"cli{protocol}:k"
    assert run(*cli, "SET", key, "value") == "OK\n"
    assert run(*cli, "GET", key) == "value\n"
    assert run(*cli, "EXPIRE", key, 100) == "1\n"
    assert run(*cli, "KV.GET", key).splitlines()[1] == "value"
    assert run(*cli, "DEL", key) == "1\n"
    assert run(*cli, "GET", key) == "\n"
    assert "'INCR' is not supported" in run(*cli, "INCR", key)


def test_redis_cli_finds_the_cluster_complete(cluster: RunningCluster) -> None:
    report = run("redis-cli", "--cluster", "check", f"127.0.0.1:{cluster.port(2)}")
    assert "All nodes agree about slots configuration" in report
    assert "All 16384 slots covered" in report


def test_redis_benchmark(cluster: RunningCluster) -> None:
    report = run(
        *("redis-benchmark", "--cluster", "-p", cluster.port(1), "-t", "set,get"),
        *("-n", 2000, "-c", 10, "-P", 4, "-d", 500, "-r", 1000, "--csv"),
    )
    assert '"SET"' in report
    assert '"GET"' in report
    assert "rror" not in report


NODE_SCRIPT = """
const Redis = require('ioredis');
const assert = require('assert');
(async () => {
  const client = new Redis.Cluster([{host: '127.0.0.1', port: Number(process.argv[2])}]);
  assert.equal(await client.set('node:k', 'value'), 'OK');
  assert.equal(await client.get('node:k'), 'value');
  assert.equal(await client.expire('node:k', 100), 1);
  assert.equal(await client.del('node:k'), 1);
  assert.equal(await client.get('node:k'), null);
  const context = await client.call('KV.PUT', 'node:s', 'one');
  await client.call('KV.PUT', 'node:s', 'two', 'CTX', context);
  const [, siblings] = await client.call('KV.GET', 'node:s');
  assert.deepEqual(siblings.map(sibling => sibling[0]), ['two']);
  for (let i = 0; i < 100; i++) await client.set('node:' + i, i);
  client.disconnect();
  console.log('done');
})().catch(error => { console.error(error); process.exit(1); });
"""


def test_ioredis(cluster: RunningCluster, tmp_path: Path) -> None:
    """Needs Node.js and ioredis where Node looks for modules (`NODE_PATH`)."""
    found = shutil.which("node") and subprocess.run(
        ["node", "-e", "require.resolve('ioredis')"], capture_output=True, check=False
    )
    if not found or found.returncode:
        pytest.skip("ioredis is not installed")
    script = tmp_path / "client.js"
    script.write_text(NODE_SCRIPT)
    assert run("node", str(script), cluster.port(1)) == "done\n"
