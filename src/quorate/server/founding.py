"""Which node of which cluster is this process? Settled before anything is opened, from the data directory outwards.

    the directory has an identity   it is that node; whatever the command line says must agree
    it is new, a cluster file given the node takes the membership that the file has under its name
    it is new, nothing given        a new cluster, of which it is the only member

Rejected: letting the command line win over the directory. A node pointed at another's data would serve it under the
wrong name and merge two clusters in silence (hard cases 16 and 20).
"""

from __future__ import annotations

import socket
from pathlib import Path

import msgspec

from quorate.core.errors import CallerError, StartupError
from quorate.core.limits import PARTITIONS_DEFAULT
from quorate.core.ring.ring import Member
from quorate.server.cluster_file import ClusterFile, found_cluster, read_cluster_file, write_cluster_file
from quorate.server.configuration import NodeConfiguration, check_advertised, check_exposure, decode_secret
from quorate.server.data_directory import IDENTITY_FORMAT, DataDirectory, Identity, new_id

NAME_DEFAULT = "n1"
LISTEN_DEFAULT = {"client": "127.0.0.1:7401", "http": "127.0.0.1:7501", "peer": "127.0.0.1:7601"}


class Standing(msgspec.Struct, frozen=True):
    """Everything that is settled about a node before it opens its store."""

    identity: Identity
    cluster: ClusterFile
    """Its ring's version 1 and the cluster's secrets, with the configuration's on top."""
    listen: dict[str, str]
    """`client`, `http`, `peer` → host:port to listen on."""
    warnings: list[str]
    founding: ClusterFile
    """The cluster file as it is, to be kept in the data directory."""
    is_new: bool


def settle(configuration: NodeConfiguration, directory: DataDirectory) -> Standing:
    """Who this node is, or would become if the directory is new. Writes nothing; raises `StartupError`."""
    given = _given_cluster(configuration)
    known = directory.identity()
    if known is not None:
        identity, founding = known, _resume(configuration, directory, known, given)
    else:
        identity, founding = _found(configuration, directory, given)
    cluster = msgspec.structs.replace(
        founding,
        secret=configuration.secret or founding.secret,
        password=configuration.password or founding.password,
    )
    member = cluster.ring.member(identity.number)
    listen = _listen_addresses(configuration, member)
    warnings = _address_warnings(configuration, member, listen)
    exposed = check_exposure(listen, cluster.password, decode_secret(cluster.secret), configuration.insecure)
    if exposed:
        warnings.append(exposed)
    return Standing(identity, cluster, listen, warnings, founding, is_new=known is None)


def establish(standing: Standing, directory: DataDirectory) -> None:
    """Write down what was settled: the node is born with this, so it comes after all else that may refuse.

    The identity is written last: until then the directory counts as new. Raises `StartupError`.
    """
    if read_cluster_file(directory.cluster_path) != standing.founding:
        write_cluster_file(directory.cluster_path, standing.founding)
    if standing.is_new:
        directory.claim(standing.identity)


def _given_cluster(configuration: NodeConfiguration) -> ClusterFile | None:
    if not configuration.cluster:
        return None
    cluster = read_cluster_file(Path(configuration.cluster))
    if cluster is None:
        raise StartupError(f"there is no cluster file {configuration.cluster}; `quorate up` makes one in its --data")
    return cluster


def _resume(
    configuration: NodeConfiguration, directory: DataDirectory, identity: Identity, given: ClusterFile | None
) -> ClusterFile:
    path = directory.path
    if configuration.name and configuration.name != identity.name:
        raise StartupError(
            f"data directory {path} belongs to node {identity.name}, not to {configuration.name}; "
            "give each node its own --data directory"
        )
    if configuration.engine and configuration.engine != identity.engine:
        raise StartupError(
            f"data directory {path} was made with engine {identity.engine}, which cannot become "
            f"{configuration.engine}; leave --engine out, or give an empty --data directory"
        )
    cluster = given or read_cluster_file(directory.cluster_path)
    if cluster is None:
        raise StartupError(
            f"{directory.cluster_path} is missing; copy it from another node's data directory, or name it by --cluster"
        )
    if cluster.cluster_id != identity.cluster_id:
        raise StartupError(
            f"data directory {path} belongs to cluster {identity.cluster_id}, and this is cluster "
            f"{cluster.cluster_id}; a node never changes its cluster: give another --data directory"
        )
    member = next((member for member in cluster.ring.members if member.number == identity.number), None)
    if member is None or member.id != identity.node_id:
        raise StartupError(
            f"data directory {path} belongs to node {identity.name} with id {identity.node_id}, which the cluster "
            f"file does not know; give the --data directory that goes with this cluster file"
        )
    return cluster


def _found(
    configuration: NodeConfiguration, directory: DataDirectory, given: ClusterFile | None
) -> tuple[Identity, ClusterFile]:
    """What a new directory becomes."""
    nodes = sorted(entry.name for entry in directory.path.iterdir() if (entry / "identity.json").exists())
    if nodes:
        raise StartupError(
            f"{directory.path} holds the nodes {', '.join(nodes)} of a whole cluster; `quorate up` starts them all, "
            f"`quorate start --data {directory.path / nodes[0]}` starts one"
        )
    if given is None:
        cluster = read_cluster_file(directory.cluster_path) or _found_alone(configuration)
        name = configuration.name or cluster.ring.members[0].name
    else:
        cluster, name = given, configuration.name
        if not name:
            known = ", ".join(member.name for member in given.ring.members)
            raise StartupError(f"a new node of a cluster file needs --name, one of: {known}")
    if configuration.engine and configuration.engine != cluster.engine:
        raise StartupError(
            f"this cluster was made with engine {cluster.engine}; leave --engine out, or say --engine {cluster.engine}"
        )
    member = cluster.member_named(name)
    identity = Identity(IDENTITY_FORMAT, cluster.cluster_id, member.id, member.name, member.number, cluster.engine)
    return identity, cluster


def _found_alone(configuration: NodeConfiguration) -> ClusterFile:
    listen = {what: getattr(configuration, f"{what}_listen") or text for what, text in LISTEN_DEFAULT.items()}
    check_exposure(listen, configuration.password, b"made below", configuration.insecure)
    told = {
        what: check_advertised(text, getattr(configuration, f"{what}_advertise"), what) for what, text in listen.items()
    }
    member = Member(
        number=1,
        id=new_id(),
        name=configuration.name or NAME_DEFAULT,
        host=configuration.host or socket.gethostname(),
        zone=configuration.zone,
        weight=configuration.weight,
        peer_address=told["peer"],
        client_address=told["client"],
        http_address=told["http"],
    )
    try:
        return found_cluster(
            new_id(),
            [member],
            configuration.partitions or PARTITIONS_DEFAULT,
            configuration.engine or "rocksdb",
            password=configuration.password,
            secret=configuration.secret,
            grace_s=configuration.grace_s,
        )
    except CallerError as error:
        raise StartupError(f"cannot make a cluster: {error}") from None


def _listen_addresses(configuration: NodeConfiguration, member: Member) -> dict[str, str]:
    return {
        "client": configuration.client_listen or member.client_address,
        "http": configuration.http_listen or member.http_address,
        "peer": configuration.peer_listen or member.peer_address,
    }


def _address_warnings(configuration: NodeConfiguration, member: Member, listen: dict[str, str]) -> list[str]:
    warnings = []
    for what, told in (("client", member.client_address), ("peer", member.peer_address)):
        advertised = getattr(configuration, f"{what}_advertise") or told
        if advertised != told:
            warnings.append(f"{what}_advertise is {advertised}, but the ring tells others {told}: that is what counts")
        elif not getattr(configuration, f"{what}_advertise") and listen[what] != told and "0.0.0.0" not in listen[what]:
            warnings.append(f"listening for {what}s on {listen[what]}, but the ring tells others {told}")
    return warnings
