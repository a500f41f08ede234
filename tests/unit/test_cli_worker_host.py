"""What the workers of a host are started with, and what is refused before any of them is."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from quorate.cli.local_cluster import plan_cluster
from quorate.cli.worker_host import WorkerHost, has_workers
from quorate.core.errors import StartupError
from quorate.core.limits import WORKERS_MAX
from quorate.server.cluster_file import read_cluster_file
from quorate.server.configuration import NodeConfiguration, load_configuration
from quorate.server.data_directory import Candidate, DataDirectory
from quorate.server.founding import establish, settle
from tests.conftest import plan_on_free_ports
from tests.free_ports import free_ports

JOIN = "127.0.0.1:7601"


@pytest.fixture
def made() -> Iterator[list[WorkerHost]]:
    hosts: list[WorkerHost] = []
    yield hosts
    for host in hosts:
        host._directory.close()


def listens() -> dict[str, str]:
    """Ports of which the next ones are most likely free as well."""
    ports = free_ports(30)
    return {"client_listen": f"127.0.0.1:{ports[0]}", "http_listen": f"127.0.0.1:{ports[10]}",
            "peer_listen": f"127.0.0.1:{ports[20]}"}  # fmt: skip


def host_in(path: Path, made: list[WorkerHost], **flags: Any) -> WorkerHost:
    """A host that was prepared as `quorate start` does it with these flags; whoever held the directory lets it go."""
    for host in made:
        host._directory.close()
    configuration = load_configuration(None, {"data": str(path), **flags})
    made.append(WorkerHost(DataDirectory.open(path), configuration, None, flags))
    made[-1].prepare()
    return made[-1]


def options(host: WorkerHost, index: int) -> dict[str, str]:
    found = host.options(index)
    return dict(zip(found[::2], found[1::2], strict=True))


def port(address: str) -> int:
    return int(address.rpartition(":")[2])


def become_member(host: WorkerHost, index: int) -> None:
    """What the worker does when it starts."""
    given = options(host, index)
    directory = DataDirectory.open(Path(given["--data"]))
    configuration = NodeConfiguration(name=given["--name"], cluster=given["--cluster"])
    establish(settle(configuration, directory), directory)
    directory.close()


def test_a_new_host_makes_a_cluster_of_its_workers(tmp_path: Path, made: list[WorkerHost]) -> None:
    flags = {"name": "n4", "workers": 3, "host": "box", "zone": "z", "weight": 2, **listens()}
    host = host_in(tmp_path, made, **flags)
    cluster = read_cluster_file(tmp_path / "cluster.json")
    assert cluster is not None
    assert [(one.number, one.name, one.host, one.zone, one.weight) for one in cluster.ring.members] == [
        (i, f"n4.{i}", "box", "z", 2) for i in (1, 2, 3)
    ]
    for kind in ("client", "http", "peer"):
        first = port(flags[f"{kind}_listen"])
        assert [port(getattr(one, f"{kind}_address")) for one in cluster.ring.members] == [first, first + 1, first + 2]
        assert port(options(host, 3)[f"--{kind}-listen"]) == first + 2
    third = options(host, 3)
    assert (third["--name"], third["--data"]) == ("n4.3", str(tmp_path / "n4.3"))
    assert (third["--cluster"], third["--workers"]) == (str(tmp_path / "cluster.json"), "1")
    assert [ward.name for ward in host.wards()] == ["n4.1", "n4.2", "n4.3"]


def test_a_host_is_resumed_with_the_workers_that_it_has(tmp_path: Path, made: list[WorkerHost]) -> None:
    first = host_in(tmp_path, made, name="n4", workers=2, **listens())
    cluster = read_cluster_file(tmp_path / "cluster.json")
    become_member(first, 1)
    assert has_workers(NodeConfiguration(data=str(tmp_path)))
    again = host_in(tmp_path, made)
    assert (again.name, again.workers) == ("n4", 2)
    assert read_cluster_file(tmp_path / "cluster.json") == cluster, "and not made anew"
    assert "--client-listen" not in options(again, 2), "it is where its cluster says"
    for workers in (3, 4):
        with pytest.raises(StartupError, match=r"holds the 2 workers of n4.*leave --workers out.*quorate replace n4"):
            host_in(tmp_path, made, workers=workers)
    with pytest.raises(StartupError, match="holds the 2 workers of n4"):
        has_workers(NodeConfiguration(data=str(tmp_path), workers=1))
    with pytest.raises(StartupError, match="belongs to the workers of n4, not to those of n5"):
        host_in(tmp_path, made, name="n5")


def test_a_start_that_ended_before_there_was_a_cluster_makes_it_when_repeated(
    tmp_path: Path, made: list[WorkerHost]
) -> None:
    host_in(tmp_path, made, workers=2, **listens())
    (tmp_path / "cluster.json").unlink()
    host_in(tmp_path, made, **listens())
    assert read_cluster_file(tmp_path / "cluster.json") is not None


def test_workers_that_join_are_new_each_on_its_own_ports(tmp_path: Path, made: list[WorkerHost]) -> None:
    flags = {"name": "n4", "workers": 2, "join": JOIN, "secret": "s" * 16, "zone": "z", **listens()}
    host = host_in(tmp_path, made, **flags)
    assert not (tmp_path / "cluster.json").exists()
    first, second = options(host, 1), options(host, 2)
    assert first["--join"] == second["--join"] == JOIN
    assert first["--zone"] == "z" and "--secret" not in first, "others see command lines"
    assert first["--client-listen"] == flags["client_listen"]
    assert port(second["--client-listen"]) == port(flags["client_listen"]) + 1
    del flags["client_listen"], flags["http_listen"], flags["peer_listen"]
    again = options(host_in(tmp_path, made, **flags), 2)
    assert (again["--client-listen"], again["--http-listen"], again["--peer-listen"]) == (
        "127.0.0.1:7402", "127.0.0.1:7502", "127.0.0.1:7602"
    )  # fmt: skip


def test_a_worker_whose_directory_is_lost_is_the_member_that_it_was(tmp_path: Path, made: list[WorkerHost]) -> None:
    """Hard case 26: it neither makes a cluster of its own nor asks to be somebody new, whatever the command says."""
    flags = {"name": "n4", "workers": 2, **listens()}
    host = host_in(tmp_path, made, **flags)
    for index in (1, 2):
        become_member(host, index)
    (tmp_path / "cluster.json").unlink()
    shutil.rmtree(tmp_path / "n4.2")
    again = options(host_in(tmp_path, made, **flags, join=JOIN), 2)
    assert (again["--cluster"], again["--join"]) == (str(tmp_path / "n4.1" / "cluster.json"), "")


def test_a_worker_that_nobody_knows_makes_no_cluster_of_its_own(tmp_path: Path, made: list[WorkerHost]) -> None:
    flags = {"name": "n4", "workers": 2, "join": JOIN, "secret": "s" * 16, **listens()}
    host_in(tmp_path, made, **flags)
    waiting = DataDirectory.open(tmp_path / "n4.1")
    waiting.stand(Candidate(1, "a" * 32, "n4.1"))
    waiting.close()
    with pytest.raises(StartupError, match=r"n4\.2 is no member yet, and its siblings are: say --join"):
        host_in(tmp_path, made).wards()


def test_directories_of_others_are_refused(tmp_path: Path, made: list[WorkerHost]) -> None:
    plan = plan_on_free_ports(tmp_path / "up", nodes=1, partitions=16)
    with pytest.raises(StartupError, match=r"holds a whole cluster .* `quorate up` starts it"):
        host_in(tmp_path / "up", made, workers=2)
    node = DataDirectory.open(tmp_path / "node")
    establish(settle(NodeConfiguration(name="n1", cluster=str(plan.cluster_path)), node), node)
    node.close()
    with pytest.raises(StartupError, match="is the data directory of one node, which cannot be split"):
        host_in(tmp_path / "node", made, workers=2)
    host_in(tmp_path / "host", made, workers=2, **listens())
    with pytest.raises(StartupError, match="holds the workers of one host; start them with: quorate start --data"):
        plan_cluster(tmp_path / "host")
    with pytest.raises(StartupError, match="is in use by process"):
        DataDirectory.open(tmp_path / "host", lock_wait_ms=0)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"client_listen": "127.0.0.1:18001", "peer_listen": "127.0.0.1:18003", "workers": 4},
         "peer_listen and client_listen would both use 127.0.0.1:18003: 4 workers .* at least 4 apart"),
        ({"client_listen": "127.0.0.1:65535", "workers": 2}, "worker 2 would need port 65536, above 65535"),
        ({"join": JOIN, "workers": 2}, "needs a name"),
        ({"name": "a/b", "workers": 2}, "cannot be a host's name"),
        ({"name": "n" * 63, "workers": 2}, "cannot be a host's name"),
        ({"workers": WORKERS_MAX + 1}, "a host has from 1 to 64 workers; got 65"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_before_anything_is_made(
    tmp_path: Path, made: list[WorkerHost], flags: dict[str, Any], words: str
) -> None:
    with pytest.raises(StartupError, match=words):
        host_in(tmp_path, made, **{**listens(), **flags})
    assert {entry.name for entry in tmp_path.iterdir()} <= {"lock"}
