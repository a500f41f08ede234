"""Starts that are refused: one message that names the cause and the next step, exit code 1, no traceback, no harm."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Cluster, MakeCluster, free_base_port, run_cli

pytestmark = pytest.mark.integration


def refused(*arguments: str) -> str:
    done = run_cli("start", *arguments)
    text = done.stderr.decode()
    assert (done.returncode, done.stdout) == (1, b""), text
    assert "Traceback" not in text
    assert len(text.strip().splitlines()) == 1, text
    return text


def listening(port: int) -> list[str]:
    return ["--client-listen", f"127.0.0.1:{port}", "--peer-listen", f"127.0.0.1:{port + 1}"]


def test_a_data_directory_in_use(cluster: Cluster) -> None:
    data = str(cluster.plan.data_path(cluster.members[0]))
    assert f"is in use by process {cluster.node(1).pid}; stop that node" in refused("--data", data)
    assert cluster.cli("put", "b", "k", "v").returncode == 0


def test_a_data_directory_of_another_node_or_cluster(make_cluster: MakeCluster) -> None:
    one, two = make_cluster(nodes=1), make_cluster(nodes=1)
    data = str(one.plan.data_path(one.members[0]))
    assert one.node(1).terminate() == 0
    assert "belongs to node n1, not to n2" in refused("--data", data, "--name", "n2")
    assert "a node never changes its cluster" in refused("--data", data, "--cluster", str(two.plan.cluster_path))
    one.restart(1)
    assert one.cli("status").returncode == 0


def test_a_store_that_was_moved_into_another_nodes_directory(make_cluster: MakeCluster) -> None:
    """Hard case 20, by hand: the identity is one node's and the store another's."""
    one, two = make_cluster(nodes=1), make_cluster(nodes=1)
    paths = [each.plan.data_path(each.members[0]) for each in (one, two)]
    for each in (one, two):
        assert each.node(1).terminate() == 0
    shutil.rmtree(paths[0] / "store")
    shutil.copytree(paths[1] / "store", paths[0] / "store")
    done = run_cli("start", "--data", str(paths[0]))
    assert done.returncode == 1
    assert b"belongs to another node or cluster than identity.json says" in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("what", ["client", "peer"])
def test_a_port_in_use(tmp_path: Path, what: str) -> None:
    port = free_base_port()
    taken = port if what == "client" else port + 1
    with socket.create_server(("127.0.0.1", taken)):
        text = refused("--data", str(tmp_path / "n1"), *listening(port))
    assert f"cannot listen for {what}s on 127.0.0.1:{taken}: port {taken} is in use" in text
    assert not (tmp_path / "n1" / "identity.json").exists(), "nothing was made"


def test_an_address_that_is_not_ours(tmp_path: Path) -> None:
    peers = f"127.0.0.1:{free_base_port()}"
    text = refused(
        *("--data", str(tmp_path), "--client-listen", "192.0.2.1:7401", "--peer-listen", peers),
        *("--password", "open sesame"),
    )
    assert "this machine has no such address" in text


def test_others_could_reach_it(tmp_path: Path) -> None:
    text = refused("--data", str(tmp_path), "--client-listen", "0.0.0.0:7401", "--client-advertise", "10.0.0.1:7401")
    assert "refusing to listen on client 0.0.0.0:7401 without a password" in text


def test_a_damaged_identity(tmp_path: Path) -> None:
    (tmp_path / "identity.json").write_text("{}")
    assert f"the node's identity in {tmp_path / 'identity.json'} is damaged" in refused("--data", str(tmp_path))


def test_an_unwritable_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot use data directory" in refused("--data", str(tmp_path / "file" / "n1"))
    # Nobody can make directories here, not even root.
    assert "cannot use data directory /proc/n1" in refused("--data", "/proc/n1")


def test_unknown_settings(tmp_path: Path) -> None:
    (tmp_path / "n.toml").write_text('nmae = "n1"')
    text = refused("--data", str(tmp_path), "--config", str(tmp_path / "n.toml"))
    assert "unknown configuration key 'nmae' (did you mean 'name'?)" in text


def test_no_data_directory() -> None:
    assert "a node needs a data directory; say --data DIR" in refused()


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MB, where the tests may mount one."""
    path = tmp_path / "tiny"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(path)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    yield path
    subprocess.run(["umount", path], check=True)


def test_a_full_disk(tiny_disk: Path) -> None:
    filler = os.open(tiny_disk / "filler", os.O_WRONLY | os.O_CREAT)
    try:
        with pytest.raises(OSError, match="No space left"):
            while os.write(filler, b"\0" * 4096):
                pass
    finally:
        os.close(filler)
    text = refused("--data", str(tiny_disk / "n1"), *listening(free_base_port()))
    assert "the disk is full; make room" in text
    assert not (tiny_disk / "n1" / "identity.json").exists()


@pytest.mark.parametrize("port", ["client", "peer"])
def test_garbage_on_a_port_harms_nobody(shared_cluster: Cluster, port: str) -> None:
    member = shared_cluster.members[0]
    host, _, number = (member.client_address if port == "client" else member.peer_address).rpartition(":")
    for garbage in (
        b"\x00" * 2000,
        b"\xff" * 70_000,
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"*1000000\r\n$5",
        os.urandom(9999),
    ):
        with socket.create_connection((host, int(number)), timeout=30) as connection:
            try:
                connection.sendall(garbage)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):
                    pass
            except ConnectionError:
                pass
    assert shared_cluster.cli("put", "b", "k", "v").returncode == 0
    assert shared_cluster.cli("status").returncode == 0
