"""The plan of a cluster on one machine: made once, then kept."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from quorate.cli.local_cluster import NODES_MAX, PROCESSES_MAX, _members, base_port, plan_cluster
from quorate.cli.supervisor import Manner, Supervisor
from quorate.core.errors import StartupError
from quorate.server.configuration import NodeConfiguration
from quorate.server.data_directory import DataDirectory, Retirement
from quorate.server.founding import establish, settle
from tests.conftest import plan_on_free_ports


def test_ports_follow_from_the_base(tmp_path: Path) -> None:
    plan = plan_on_free_ports(tmp_path, nodes=2, partitions=16)
    port = base_port(plan.cluster)
    assert [(member.name, member.client_address, member.http_address, member.peer_address)
            for member in plan.cluster.ring.members] == [
        (f"n{i}", f"127.0.0.1:{port + i}", f"127.0.0.1:{port + 100 + i}", f"127.0.0.1:{port + 200 + i}")
        for i in (1, 2)
    ]  # fmt: skip
    assert plan.created
    assert not plan_cluster(tmp_path).created
    assert plan_cluster(tmp_path, nodes=2, port=port).cluster == plan.cluster


def test_workers_have_the_ports_of_their_number_and_a_host_of_their_own(tmp_path: Path) -> None:
    plan = plan_on_free_ports(tmp_path, nodes=2, workers=3, partitions=16)
    port = base_port(plan.cluster)
    assert [
        (one.number, one.name, one.host, one.client_address, one.http_address, one.peer_address)
        for one in plan.cluster.ring.members
    ] == [
        (i, name, name[:2], f"127.0.0.1:{port + i}", f"127.0.0.1:{port + 100 + i}", f"127.0.0.1:{port + 200 + i}")
        for i, name in enumerate(["n1.1", "n1.2", "n1.3", "n2.1", "n2.2", "n2.3"], start=1)
    ]
    assert [ward.data_path for ward in plan.wards()][:2] == [tmp_path / "n1.1", tmp_path / "n1.2"]
    assert plan_cluster(tmp_path, nodes=2, workers=3, port=port).cluster == plan.cluster
    assert plan_cluster(tmp_path).cluster == plan.cluster


def test_no_two_ports_of_any_number_of_processes_are_the_same() -> None:
    for nodes in range(1, NODES_MAX + 1):
        members = _members(nodes, PROCESSES_MAX // nodes, 7400)
        ports = [port for one in members for port in (one.client_address, one.http_address, one.peer_address)]
        assert len(set(ports)) == 3 * len(members)


def test_other_workers_than_the_cluster_has_are_refused_and_too_many_are(tmp_path: Path) -> None:
    plan_on_free_ports(tmp_path / "two", nodes=1, workers=2, partitions=16)
    plan_on_free_ports(tmp_path / "one", nodes=2, partitions=16)
    for path, workers in ((tmp_path / "two", 3), (tmp_path / "two", 1), (tmp_path / "one", 2)):
        with pytest.raises(StartupError, match=r"with --workers \d, which .* leave --workers out to resume it"):
            plan_cluster(path, workers=workers)
    with pytest.raises(StartupError, match="with --nodes 1, which"):
        plan_cluster(tmp_path / "two", nodes=2)
    with pytest.raises(StartupError, match="25 nodes of 4 workers each are 100 processes, and `up` runs at most 99"):
        plan_cluster(tmp_path / "many", nodes=25, workers=4)
    assert not (tmp_path / "many").exists()


def test_a_password_is_kept_and_can_be_changed(tmp_path: Path) -> None:
    plan_on_free_ports(tmp_path, nodes=1, password="one")
    assert plan_cluster(tmp_path).cluster.password == "one"
    assert plan_cluster(tmp_path, password="two").cluster.password == "two"
    assert plan_cluster(tmp_path).cluster.password == "two"
    assert plan_cluster(tmp_path, password="").cluster.password == ""


def test_no_cluster_is_made_over_nodes_that_lost_theirs(tmp_path: Path) -> None:
    """Hard case 26: a missing file must not turn members into a new cluster."""
    plan = plan_on_free_ports(tmp_path, nodes=1, partitions=16)
    directory = DataDirectory.open(tmp_path / "n1")
    configuration = NodeConfiguration(name="n1", cluster=str(plan.cluster_path))
    establish(settle(configuration, directory), directory)
    directory.close()
    plan.cluster_path.unlink()
    with pytest.raises(StartupError, match=r"holds the data of n1 but no cluster\.json; copy it back from"):
        plan_cluster(tmp_path)
    shutil.copy(tmp_path / "n1" / "cluster.json", plan.cluster_path)
    assert plan_cluster(tmp_path).cluster == plan.cluster


def test_the_directory_of_a_single_node_is_not_taken_for_a_clusters(tmp_path: Path) -> None:
    directory = DataDirectory.open(tmp_path)
    establish(settle(NodeConfiguration(), directory), directory)
    directory.close()
    for _ in ("with its copy of the cluster file", "and without"):
        with pytest.raises(StartupError, match="is the data directory of one node; start it with: quorate start"):
            plan_cluster(tmp_path)
        (tmp_path / "cluster.json").unlink(missing_ok=True)


def test_the_directory_of_a_cluster_is_not_taken_for_a_nodes(tmp_path: Path) -> None:
    plan = plan_on_free_ports(tmp_path, nodes=2, partitions=16)
    for name in ("n1", "n2"):
        directory = DataDirectory.open(tmp_path / name)
        establish(settle(NodeConfiguration(name=name, cluster=str(plan.cluster_path)), directory), directory)
        directory.close()
    directory = DataDirectory.open(tmp_path)
    try:
        with pytest.raises(StartupError, match=r"holds the nodes n1, n2 of a whole cluster; .*--data .*/n1` starts"):
            settle(NodeConfiguration(), directory)
    finally:
        directory.close()


def test_a_node_that_has_left_is_known_and_not_started_again(tmp_path: Path) -> None:
    plan = plan_on_free_ports(tmp_path, nodes=2, partitions=16)
    configuration = NodeConfiguration(name="n2", cluster=str(plan.cluster_path))
    directory = DataDirectory.open(tmp_path / "n2")
    establish(settle(configuration, directory), directory)
    directory.retire(Retirement(1, "n2", "has left cluster c", "2026-01-01T00:00:00Z"))
    with pytest.raises(StartupError, match=r"node n2 in .* has left cluster c \(2026.*\) and never returns; .*remove"):
        settle(configuration, directory)
    directory.close()
    supervisor = Supervisor(plan.wards(), Manner("node", {}, as_events=False), lambda children: None)
    assert [ward.name for ward in supervisor.wards_to_start()] == ["n1"]


@pytest.mark.parametrize("partitions", [0, 3, 32_768])
def test_impossible_partitions_are_refused(tmp_path: Path, partitions: int) -> None:
    with pytest.raises(StartupError, match="a power of two from 1 to 16384"):
        plan_on_free_ports(tmp_path, partitions=partitions)
    assert list(tmp_path.iterdir()) == []
