"""Which node of which cluster is this process? Settled before anything is opened, from the data directory outwards.

    the directory is retired        nothing is started
    the directory has an identity   it is that node; whatever the command line says must agree
    it was joined just now          it is who the cluster made it (see `joining`)
    it is new, a cluster file given the node takes the membership that the file has under its name
    it is new, nothing given        a new cluster, of which it is the only member

Where a node is reached is not who it is (hard case 21). It may be started at other addresses than the ring has; then it
tells the cluster (`Standing.own`), and its own copy of the cluster file remembers them for the next start.

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
from quorate.core.wire.address import PORT_MAX, join_address
from quorate.server.addresses import LOOPBACK, is_wildcard, parse_address
from quorate.server.cluster_file import (
    ClusterFile,
    OwnAddresses,
    found_cluster,
    read_cluster_file,
    write_cluster_file,
)
from quorate.server.configuration import NodeConfiguration, check_advertised, check_exposure, decode_secret
from quorate.server.data_directory import IDENTITY_FORMAT, DataDirectory, Identity, new_id, read_retirement

NAME_DEFAULT = "n1"
HTTP_OFFSET = 100
LISTEN_DEFAULT = {"client": "127.0.0.1:7401", "http": "127.0.0.1:7501", "peer": "127.0.0.1:7601"}


class Standing(msgspec.Struct, frozen=True):
    """Everything that is settled about a node before it opens its store."""

    identity: Identity
    cluster: ClusterFile
    """The ring that its life began with and the cluster's secrets, with the configuration's on top."""
    own: Member
    """This node, reached where its configuration says. Its labels are the ring's."""
    listen: dict[str, str]
    """`client`, `http`, `peer` → host:port to listen on."""
    warnings: list[str]
    founding: ClusterFile
    """The cluster file as it is to be kept in the data directory."""
    is_new: bool
    newborn: bool
    """Nobody can have counted on this node before this very start: it made its cluster, or was joined to it, just now.
    A new directory alone does not say so, since a member's disk may have been replaced."""


def settle(
    configuration: NodeConfiguration, directory: DataDirectory, joined: tuple[Identity, ClusterFile] | None = None
) -> Standing:
    """Who this node is, or would become if the directory is new. Writes nothing; raises `StartupError`.

    `joined` is what the node has become just now by being joined to a cluster.
    """
    refuse_retired(directory.path)
    given = given_cluster(configuration)
    known, made = directory.identity(), False
    if known is not None:
        identity, founding = known, _resume(configuration, directory, known, given)
    elif joined is not None:
        identity, founding = joined
    else:
        identity, founding, made = _found(configuration, directory, given)
    cluster = msgspec.structs.replace(
        founding,
        secret=configuration.secret or founding.secret,
        password=configuration.password or founding.password,
    )
    member = founding.ring.member(identity.number)
    own = _reached(configuration, member, founding.addresses)
    listen = _listen_addresses(configuration, own)
    moved = OwnAddresses(own.client_address, own.http_address, own.peer_address)
    warnings = _address_warnings(member, own)
    exposed = check_exposure(listen, cluster.password, decode_secret(cluster.secret), configuration.insecure)
    if exposed:
        warnings.append(exposed)
    return Standing(
        identity=identity,
        cluster=cluster,
        own=own,
        listen=listen,
        warnings=warnings,
        founding=msgspec.structs.replace(founding, addresses=moved if own != member else None),
        is_new=known is None,
        newborn=made or (known is None and joined is not None),
    )


def refuse_retired(path: Path) -> None:
    """Raise `StartupError` if the node in this data directory has left its cluster."""
    retired = read_retirement(path)
    if retired is not None:
        raise StartupError(
            f"node {retired.name} in {path} {retired.reason} ({retired.at}) and never returns; its data has no use "
            "any more: remove the directory, and join a new node with an empty one"
        )


def establish(standing: Standing, directory: DataDirectory) -> None:
    """Write down what was settled: the node is born with this, so it comes after all else that may refuse.

    The identity is written last: until then the directory counts as new. Raises `StartupError`.
    """
    if read_cluster_file(directory.cluster_path) != standing.founding:
        write_cluster_file(directory.cluster_path, standing.founding)
    if standing.is_new:
        directory.claim(standing.identity)


def given_cluster(configuration: NodeConfiguration) -> ClusterFile | None:
    """The cluster file that the configuration names, if it names one; raises `StartupError` if it is not there."""
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
    kept = read_cluster_file(directory.cluster_path)
    cluster = given or kept
    if cluster is None:
        raise StartupError(
            f"{directory.cluster_path} is missing; copy it from another node's data directory, or name it by --cluster"
        )
    if cluster.cluster_id != identity.cluster_id:
        raise StartupError(
            f"data directory {path} belongs to cluster {identity.cluster_id}, and this is cluster "
            f"{cluster.cluster_id}; a node never changes its cluster: give another --data directory"
        )
    if given is not None and kept is not None and kept.cluster_id == given.cluster_id:
        # The given file may be of another life: that of the cluster's founders, or from before this node has moved.
        cluster = msgspec.structs.replace(
            kept if kept.decided else given, secret=given.secret, password=given.password, addresses=kept.addresses
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
) -> tuple[Identity, ClusterFile, bool]:
    """What a new directory becomes, and whether its cluster is made by that."""
    nodes = sorted(entry.name for entry in directory.path.iterdir() if (entry / "identity.json").exists())
    if nodes:
        raise StartupError(
            f"{directory.path} holds the nodes {', '.join(nodes)} of a whole cluster; `quorate up` starts them all, "
            f"`quorate start --data {directory.path / nodes[0]}` starts one"
        )
    if directory.candidate() is not None:
        raise StartupError(
            f"the node in {directory.path} waits to be joined to a cluster and is no member yet; start it with "
            "--join HOST:PORT again, or give another --data directory"
        )
    made = False
    if given is None:
        kept = read_cluster_file(directory.cluster_path)
        made = kept is None
        cluster = kept or _found_alone(configuration)
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
    return identity, cluster, made


def addresses_of_new(configuration: NodeConfiguration, password: str) -> tuple[dict[str, str], dict[str, str]]:
    """Of a node that no ring knows yet: where it listens, and what others are told. Raises `StartupError`.

    `password`: what its clients will need; its cluster has a secret in any case.
    """
    listen = {what: getattr(configuration, f"{what}_listen") or text for what, text in LISTEN_DEFAULT.items()}
    if not configuration.http_listen:
        listen["http"] = http_default(listen["client"])
    check_exposure(listen, password, b"there is one", configuration.insecure)
    told = {
        what: check_advertised(text, getattr(configuration, f"{what}_advertise"), what) for what, text in listen.items()
    }
    return listen, told


def http_default(client_listen: str) -> str:
    """Where a node listens for HTTP if nobody has said: on loopback, as far above its client port as by default."""
    port = parse_address(client_listen, "client_listen")[1] + HTTP_OFFSET
    return join_address(LOOPBACK, port) if port <= PORT_MAX else LISTEN_DEFAULT["http"]


def _found_alone(configuration: NodeConfiguration) -> ClusterFile:
    _, told = addresses_of_new(configuration, configuration.password)
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


def _reached(configuration: NodeConfiguration, member: Member, remembered: OwnAddresses | None) -> Member:
    """`member` where it is reached: as the configuration says, else where it was last, else where the ring has it."""
    last = remembered or OwnAddresses(member.client_address, member.http_address, member.peer_address)

    def told(what: str) -> str:
        advertised: str = getattr(configuration, f"{what}_advertise")
        listen: str = getattr(configuration, f"{what}_listen")
        if advertised or not listen or is_wildcard(parse_address(listen, f"{what}_listen")[0]):
            return advertised or str(getattr(last, what))
        return listen

    return msgspec.structs.replace(
        member, client_address=told("client"), http_address=told("http"), peer_address=told("peer")
    )


def _listen_addresses(configuration: NodeConfiguration, own: Member) -> dict[str, str]:
    return {
        "client": configuration.client_listen or own.client_address,
        "http": configuration.http_listen or own.http_address,
        "peer": configuration.peer_listen or own.peer_address,
    }


def _address_warnings(member: Member, own: Member) -> list[str]:
    return [
        f"this node is reached by {what}s at {now}, and no more at {before}: it tells the cluster, if that does not "
        "know it yet"
        for what, now, before in (
            ("client", own.client_address, member.client_address),
            ("peer", own.peer_address, member.peer_address),
        )
        if now != before
    ]
