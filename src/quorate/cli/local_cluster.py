"""A cluster on one machine, as a plan: which nodes there are, on which ports, in which directories.

Base port 7400 gives node i the client port 7400+i, the HTTP port 7500+i, the peer port 7600+i. With several workers for
each node, processes are numbered in the order n1.1, n1.2, …, n2.1, …, and each has the ports of its number: with two,
n2.1 is the third and serves clients on 7403. The three blocks are 100 apart, so there are at most 99 processes.

All nodes share the host of this machine as their label, as they do in truth. Workers cannot: a node of several workers
stands for a host of a cluster to come, and only a label of its own (its name) keeps two replicas of a key from lying on
two workers of it.

The plan is made once, when the cluster is created, and kept in DIR/cluster.json; from then on that file counts, and
options that disagree with it are refused rather than half obeyed.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from quorate.cli.program import program_name
from quorate.cli.supervisor import Ward
from quorate.core.errors import CallerError, StartupError
from quorate.core.limits import PARTITIONS_DEFAULT
from quorate.core.ring.ring import Member
from quorate.core.ring.workers import by_host, worker_name
from quorate.core.wire.address import join_address, split_address
from quorate.server.addresses import LOOPBACK
from quorate.server.cluster_file import ClusterFile, found_cluster, read_cluster_file, write_cluster_file
from quorate.server.configuration import EngineName, check_grace, check_partitions
from quorate.server.data_directory import new_id
from quorate.server.founding import HTTP_OFFSET
from quorate.server.listeners import bind
from quorate.server.worker_directory import WORKERS_FILE

NODES_DEFAULT = 3
NODES_MAX = 50
PORT_DEFAULT = 7400
PEER_OFFSET = 200
PROCESSES_MAX = 99
"""Nodes times workers: a port of one kind never meets one of another."""
assert PROCESSES_MAX < HTTP_OFFSET <= PEER_OFFSET - HTTP_OFFSET


class LocalCluster(msgspec.Struct, frozen=True):
    """The nodes that `quorate up` runs."""

    path: Path
    cluster: ClusterFile
    created: bool

    @property
    def cluster_path(self) -> Path:
        return self.path / "cluster.json"

    def data_path(self, member: Member) -> Path:
        return self.path / member.name

    def wards(self) -> list[Ward]:
        """The nodes for a supervisor."""
        return [
            Ward(member.name, self.start_command(member), self.data_path(member), self.revive_command(member))
            for member in self.cluster.ring.members
        ]

    def start_command(self, member: Member) -> list[str]:
        """The command line of a node's process."""
        data, cluster = str(self.data_path(member)), str(self.cluster_path)
        options = ["--name", member.name, "--data", data, "--cluster", cluster, "--attached"]
        return [sys.executable, "-m", "quorate.cli.main", "start", *options]

    def revive_command(self, member: Member) -> str:
        """What a person types to bring one node back, also one whose directory is lost."""
        membership = f"--name {member.name} --cluster {self.cluster_path}"
        return f"{program_name()} start --data {self.data_path(member)} {membership}"


def plan_cluster(
    path: Path,
    nodes: int | None = None,
    port: int | None = None,
    engine: EngineName | None = None,
    partitions: int | None = None,
    password: str | None = None,
    grace_s: int | None = None,
    workers: int | None = None,
) -> LocalCluster:
    """The cluster in `path`, or a new one there; None: as it is, or the default.

    Raises `StartupError` if the options disagree with the cluster that is there, or a new one's ports are in use.
    """
    if (path / "identity.json").exists():
        raise StartupError(f"{path} is the data directory of one node; start it with: quorate start --data {path}")
    if (path / WORKERS_FILE).exists():
        raise StartupError(f"{path} holds the workers of one host; start them with: quorate start --data {path}")
    cluster_path = path / "cluster.json"
    known = read_cluster_file(cluster_path)
    if known is None:
        _refuse_orphans(path)
        members = _members(nodes or NODES_DEFAULT, workers or 1, port or PORT_DEFAULT)
        cluster = _create(members, engine, partitions, password, grace_s)
        write_cluster_file(cluster_path, cluster)
        return LocalCluster(path, cluster, created=True)
    hosts = [len(workers_there) for _, workers_there in by_host(known.ring.members, lambda one: (one.name, one.host))]
    has = {
        "--nodes": (nodes, len(hosts)),
        "--workers": (workers, hosts[0]),
        "--port": (port, base_port(known)),
        "--engine": (engine, known.engine),
        "--partitions": (partitions, known.ring.partitions),
        "--grace": (grace_s, known.grace_s),
    }
    _refuse_changes(path, has)
    if password is not None and password != known.password:
        known = msgspec.structs.replace(known, password=password)
        write_cluster_file(cluster_path, known)
    return LocalCluster(path, known, created=False)


def base_port(cluster: ClusterFile) -> int:
    """The port that the cluster was created on."""
    return split_address(cluster.ring.members[0].client_address)[1] - 1


def _create(
    members: list[Member],
    engine: EngineName | None,
    partitions: int | None,
    password: str | None,
    grace_s: int | None,
) -> ClusterFile:
    if partitions is not None:
        check_partitions(partitions)
    if grace_s is not None:
        check_grace(grace_s)
    for member in members:
        for what, address in (
            ("client", member.client_address),
            ("HTTP client", member.http_address),
            ("peer", member.peer_address),
        ):
            bind(address, what).close()
    try:
        return found_cluster(
            new_id(),
            members,
            partitions or PARTITIONS_DEFAULT,
            engine or "rocksdb",
            password=password or "",
            grace_s=grace_s or 0,
        )
    except CallerError as error:
        raise StartupError(f"cannot make a cluster: {error}") from None


def _members(nodes: int, workers: int, port: int) -> list[Member]:
    """Raises `StartupError` if they are too many."""
    if nodes * workers > PROCESSES_MAX:
        raise StartupError(
            f"{nodes} nodes of {workers} workers each are {nodes * workers} processes, and `up` runs at most "
            f"{PROCESSES_MAX} on one machine: take fewer nodes, or fewer workers"
        )
    members = []
    for node in range(1, nodes + 1):
        for worker in range(1, workers + 1):
            number, name = (node - 1) * workers + worker, f"n{node}"
            if workers == 1:
                members.append(_member(number, name, socket.gethostname(), port))
            else:
                members.append(_member(number, worker_name(name, worker), name, port))
    return members


def _member(number: int, name: str, host: str, port: int) -> Member:
    return Member(
        number=number,
        id=new_id(),
        name=name,
        host=host,
        zone="",
        weight=1,
        peer_address=join_address(LOOPBACK, port + PEER_OFFSET + number),
        client_address=join_address(LOOPBACK, port + number),
        http_address=join_address(LOOPBACK, port + HTTP_OFFSET + number),
    )


def _refuse_orphans(path: Path) -> None:
    """Nodes without their cluster's file: a new cluster must not be made over them (hard case 26)."""
    if path.is_dir():
        orphans = sorted(entry.name for entry in path.iterdir() if (entry / "identity.json").exists())
        if orphans:
            raise StartupError(
                f"{path} holds the data of {', '.join(orphans)} but no cluster.json; "
                f"copy it back from {path / orphans[0] / 'cluster.json'}, or give another --data"
            )


def _refuse_changes(path: Path, has: Mapping[str, tuple[object, object]]) -> None:
    """`has`: option → (what is asked for, None: nothing; what it is)."""
    for option, (asked, is_now) in has.items():
        if asked is not None and asked != is_now:
            raise StartupError(
                f"the cluster in {os.path.relpath(path)} was created with {option} {is_now}, which cannot be changed "
                f"here: leave {option} out to resume it, or give another --data for a new cluster"
            )
