"""A cluster on one machine, as a plan: which nodes there are, on which ports, in which directories.

Base port 7400 gives node i the client port 7400+i, the HTTP port 7500+i, the peer port 7600+i. The plan is made once,
when the cluster is created, and kept in DIR/cluster.json; from then on that file counts, and options that disagree with
it are refused rather than half obeyed.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import msgspec

from quorate.cli.program import program_name
from quorate.core.errors import CallerError, StartupError
from quorate.core.limits import PARTITIONS_DEFAULT
from quorate.core.ring.ring import Member
from quorate.core.wire.address import join_address, split_address
from quorate.server.addresses import LOOPBACK
from quorate.server.cluster_file import ClusterFile, found_cluster, read_cluster_file, write_cluster_file
from quorate.server.configuration import EngineName, check_grace, check_partitions
from quorate.server.data_directory import Retirement, new_id, read_retirement
from quorate.server.founding import HTTP_OFFSET
from quorate.server.listeners import bind

NODES_DEFAULT = 3
NODES_MAX = 50
PORT_DEFAULT = 7400
PEER_OFFSET = 200


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

    def retired(self, member: Member) -> Retirement | None:
        """Why this node is no more; None if it is one. Raises `StartupError` if that cannot be told."""
        return read_retirement(self.data_path(member))

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
) -> LocalCluster:
    """The cluster in `path`, or a new one there; None: as it is, or the default.

    Raises `StartupError` if the options disagree with the cluster that is there, or a new one's ports are in use.
    """
    if (path / "identity.json").exists():
        raise StartupError(f"{path} is the data directory of one node; start it with: quorate start --data {path}")
    cluster_path = path / "cluster.json"
    known = read_cluster_file(cluster_path)
    if known is None:
        _refuse_orphans(path)
        cluster = _create(nodes or NODES_DEFAULT, port or PORT_DEFAULT, engine, partitions, password, grace_s)
        write_cluster_file(cluster_path, cluster)
        return LocalCluster(path, cluster, created=True)
    _refuse_changes(known, path, nodes, port, engine, partitions, grace_s)
    if password is not None and password != known.password:
        known = msgspec.structs.replace(known, password=password)
        write_cluster_file(cluster_path, known)
    return LocalCluster(path, known, created=False)


def base_port(cluster: ClusterFile) -> int:
    """The port that the cluster was created on."""
    return split_address(cluster.ring.members[0].client_address)[1] - 1


def _create(
    nodes: int,
    port: int,
    engine: EngineName | None,
    partitions: int | None,
    password: str | None,
    grace_s: int | None,
) -> ClusterFile:
    if partitions is not None:
        check_partitions(partitions)
    if grace_s is not None:
        check_grace(grace_s)
    members = [_member(number, port) for number in range(1, nodes + 1)]
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


def _member(number: int, port: int) -> Member:
    return Member(
        number=number,
        id=new_id(),
        name=f"n{number}",
        host=socket.gethostname(),
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


def _refuse_changes(
    cluster: ClusterFile,
    path: Path,
    nodes: int | None,
    port: int | None,
    engine: EngineName | None,
    partitions: int | None,
    grace_s: int | None,
) -> None:
    has = {
        "--nodes": (nodes, len(cluster.ring.members)),
        "--port": (port, base_port(cluster)),
        "--engine": (engine, cluster.engine),
        "--partitions": (partitions, cluster.ring.partitions),
        "--grace": (grace_s, cluster.grace_s),
    }
    for option, (asked, is_now) in has.items():
        if asked is not None and asked != is_now:
            raise StartupError(
                f"the cluster in {os.path.relpath(path)} was created with {option} {is_now}, which cannot be changed "
                f"here: leave {option} out to resume it, or give another --data for a new cluster"
            )
