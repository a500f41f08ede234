"""A cluster's founding file: its id, the secret its members share, and the ring that a node's life begins with.

`quorate up` writes one when it creates a cluster, with the first version of its ring; each node keeps a copy in its own
data directory, so that a directory can be started again alone. A node that joined a cluster later has a file of its
own: its ring is the one that made it a member. A node takes its first ring from here; once its store has a ring, that
one counts. The file holds secrets and is readable by its owner only.

A ring that was decided is kept to the byte (`decided`): rings are told apart by their digests, and who encodes one anew
may make another ring of it (`core.membership.ring_consensus`). That of a new cluster is the same whoever makes it.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from pathlib import Path

import msgspec

from quorate.core.buckets import default_properties
from quorate.core.errors import CallerError, PeerError, StartupError
from quorate.core.limits import GRACE_DEFAULT_MS
from quorate.core.membership.ring_consensus import RingValue
from quorate.core.ring.create import create_ring
from quorate.core.ring.metadata import ClusterMetadata, of_value, to_value
from quorate.core.ring.ring import Member, Ring
from quorate.core.ring.transition import staged
from quorate.server.configuration import EngineName
from quorate.server.documents import read_document, reason, write_document

CLUSTER_FORMAT = 1
SECRET_BYTES = 32
_PRIVATE = 0o600
_decode = msgspec.msgpack.Decoder(RingValue).decode


class OwnAddresses(msgspec.Struct, frozen=True):
    """Where a node is reached (host:port)."""

    client: str
    http: str
    peer: str


class ClusterFile(msgspec.Struct, frozen=True):
    """What a node has to know about its cluster before it has talked to anyone."""

    format: int
    secret: str
    """Hexadecimal digits, or what the configuration said."""
    password: str
    """What clients authenticate with; empty: they need not."""
    engine: EngineName
    ring: Ring
    """Version 1; of a node that joined, the one by which it did."""
    grace_s: int = GRACE_DEFAULT_MS // 1000
    """The horizon for everything that could bring back what was deleted: the same for all nodes, for good."""
    decided: str = ""
    """Of a node that joined: `ring` as it was decided, a msgpack `RingValue` in hexadecimal digits."""
    addresses: OwnAddresses | None = None
    """In a node's own copy: where it was reached last, if that is not what `ring` says."""

    @property
    def cluster_id(self) -> str:
        return self.ring.cluster_id

    def founding(self) -> RingValue:
        """The ring that a node's life begins with, for consensus. Raises `StartupError` if it cannot be made."""
        try:
            if self.decided:
                value = _decode(bytes.fromhex(self.decided))
                of_value(value)
                return value
            defaults = default_properties(len(self.ring.members))
            return to_value(ClusterMetadata(staged(self.ring), defaults), forced=0)
        except (ValueError, RecursionError, PeerError, CallerError) as error:
            raise StartupError(f"the cluster file's ring cannot be used: {error}") from None

    def member_named(self, name: str) -> Member:
        """The member of this name; raises `StartupError`."""
        for member in self.ring.members:
            if member.name == name:
                return member
        known = ", ".join(member.name for member in self.ring.members)
        raise StartupError(
            f"the cluster file knows no node '{name}'; it knows: {known}. A new node joins a running cluster: "
            "add --join HOST:PORT, the peer address of a member"
        )


def joined_cluster(secret: str, password: str, engine: EngineName, value: RingValue, grace_s: int) -> ClusterFile:
    """The file of a node that `value` has made a member; raises `PeerError` if `value` is no ring."""
    ring = of_value(value).ring
    plain = Ring(ring.cluster_id, ring.version, ring.members, ring.owners)
    return ClusterFile(
        CLUSTER_FORMAT, secret, password, engine, plain, grace_s, decided=msgspec.msgpack.encode(value).hex()
    )


def found_cluster(
    cluster_id: str,
    members: Sequence[Member],
    partitions: int,
    engine: EngineName,
    password: str = "",
    secret: str = "",
    grace_s: int = 0,
) -> ClusterFile:
    """A new cluster of `members`, with a fresh secret unless one is given; a `grace_s` of 0 is the default."""
    replicas = min(3, len(members))
    ring = create_ring(cluster_id, members, partitions, replicas)
    secret = secret or secrets.token_hex(SECRET_BYTES)
    return ClusterFile(CLUSTER_FORMAT, secret, password, engine, ring, grace_s or GRACE_DEFAULT_MS // 1000)


def write_cluster_file(path: Path, cluster: ClusterFile) -> None:
    """Raises `StartupError` if it cannot be written; the old file, if any, is then untouched."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_document(path, msgspec.to_builtins(cluster), _PRIVATE)
    except OSError as error:
        raise StartupError(f"cannot write the cluster file {path}: {reason(error)}") from None


def read_cluster_file(path: Path) -> ClusterFile | None:
    """The cluster file at `path`, None if there is none; raises `StartupError` if it is damaged."""
    remedy = "restore it from a copy: every node keeps one in its data directory"
    document = read_document(path, "the cluster file", remedy)
    if document is None:
        return None
    if document.get("format") != CLUSTER_FORMAT:
        raise StartupError(
            f"{path} has format {document.get('format')!r}, and this version of quorate reads format {CLUSTER_FORMAT}; "
            "start it with the version that wrote it"
        )
    try:
        cluster = msgspec.convert(document, ClusterFile)
    except msgspec.ValidationError as error:
        raise StartupError(f"{path} is not a cluster file ({error}); {remedy}") from None
    # A copy made by hand may have lost its mode; the secrets in it have not become public by that.
    if path.stat().st_mode & 0o077 and os.access(path, os.W_OK):
        path.chmod(_PRIVATE)
    return cluster
