"""The JSON documents of requests and answers, as types: what is read is checked by them, and the OpenAPI document is
made of them.

Documents of the cluster are made by the node and passed on as they are, so they may have more fields than stand here; a
newer node adds some, and no reader should mind.

Names of buckets and keys are bytes. In JSON they are strings where they are UTF-8, and `{"base64": …}` where not: the
usual case stays easy to read, and the rest is exact. (Escaping as in URLs was rejected: every reader would have to
undo it, and those who forgot would not notice until a key had a percent sign.)
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec

from quorate.core.buckets import TTL_S_MAX, BucketProperties, Conflicts, Durability
from quorate.core.limits import MEMBERS_MAX, REPLICAS_MAX

NAME_LENGTH_MAX = 256
"""Of a name or an id by which a member is called."""
WEIGHT_MAX = 1_000

NodeName = Annotated[str, msgspec.Meta(min_length=1, max_length=NAME_LENGTH_MAX)]
PlanId = Annotated[str, msgspec.Meta(pattern="^[0-9A-Za-z]{1,64}$")]
Replicas = Annotated[int, msgspec.Meta(ge=1, le=REPLICAS_MAX)]
Seconds = Annotated[int, msgspec.Meta(ge=0, le=TTL_S_MAX)]
Weight = Annotated[int, msgspec.Meta(ge=1, le=WEIGHT_MAX)]


def timestamp(unix_ms: int) -> str:
    """A time in RFC 3339, to the millisecond."""
    moment = datetime.fromtimestamp(unix_ms / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Base64(msgspec.Struct, frozen=True):
    """Bytes that are no UTF-8 text."""

    base64: bytes


Name = str | Base64


def name_of(raw: bytes) -> Name:
    """A bucket's name or a key, for JSON."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return Base64(raw)


class SiblingDocument(msgspec.Struct, frozen=True, omit_defaults=True):
    """One of several concurrent values."""

    content_type: str
    last_modified: str
    value: str | msgspec.UnsetType = msgspec.UNSET
    """The value, if it is UTF-8 text."""
    value_base64: bytes | msgspec.UnsetType = msgspec.UNSET
    """The value, if it is not."""


class SiblingsDocument(msgspec.Struct, frozen=True):
    """All concurrent values of a key. A put with this context replaces all of them."""

    context: str
    siblings: list[SiblingDocument]


class KeysDocument(msgspec.Struct, frozen=True):
    """A page of a bucket's keys."""

    keys: list[Name]
    cursor: str | None
    """Where the next page begins; null: this was the last."""


class BucketDocument(msgspec.Struct, frozen=True):
    """A bucket and what it declares."""

    bucket: Name
    properties: BucketProperties


class BucketsDocument(msgspec.Struct, frozen=True):
    """The buckets whose properties were set; all others have the defaults."""

    buckets: list[BucketDocument]
    defaults: BucketProperties


class BucketChanges(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Properties that are to change; those that are left out stay as they are."""

    n: Replicas | msgspec.UnsetType = msgspec.UNSET
    r: Replicas | msgspec.UnsetType = msgspec.UNSET
    w: Replicas | msgspec.UnsetType = msgspec.UNSET
    conflicts: Conflicts | msgspec.UnsetType = msgspec.UNSET
    ttl: Seconds | msgspec.UnsetType = msgspec.UNSET
    durability: Durability | msgspec.UnsetType = msgspec.UNSET
    strict: bool | msgspec.UnsetType = msgspec.UNSET


# Of the cluster, as the node makes them.


class MemberStatus(msgspec.Struct, frozen=True):
    """A member, and what it says about itself."""

    number: int
    id: str
    name: str
    host: str
    zone: str
    weight: int
    peer_address: str
    client_address: str
    http_address: str
    tokens: int
    report: dict[str, Any]


class ClusterDocument(msgspec.Struct, frozen=True):
    """The cluster as one node sees it, with the report of every node that answers."""

    cluster_id: str
    ring_version: int
    partitions: int
    seen_by: str
    members: list[MemberStatus]


class RingMember(msgspec.Struct, frozen=True):
    """A member, as the ring has it."""

    number: int
    id: str
    name: str
    host: str
    zone: str
    weight: int
    peer_address: str
    client_address: str
    http_address: str


class RingDocument(msgspec.Struct, frozen=True):
    """Who owns which partition, for readers. `owners[p]` is the number of the member that owns partition p."""

    cluster_id: str
    version: int
    partitions: int
    members: list[RingMember]
    owners: list[int]


class MemberDocument(RingMember, frozen=True):
    """A member, and what its peer thinks of it."""

    owns: int
    state: str
    reason: str
    side: Literal["stays", "joins", "leaves"]
    confirmed: int | None
    software: str | None
    wire_version: int | None


class MembersDocument(msgspec.Struct, frozen=True):
    """Who belongs to the cluster, who would like to, and who has left."""

    ring_version: int
    members: list[MemberDocument]
    candidates: list[dict[str, Any]]
    departed: list[dict[str, Any]]


class TransfersDocument(msgspec.Struct, frozen=True, omit_defaults=True):
    """The change of membership that is under way; without one `plan` is null and the rest is not there."""

    ring_version: int
    forced: int
    plan: str | None
    stage: str = ""
    began_version: int = 0
    joining: list[str] = []
    leaving: list[str] = []
    stopped: list[str] = []
    waiting: list[str] = []
    members: list[dict[str, Any]] = []


class HomeHints(msgspec.Struct, frozen=True):
    """What is kept for one member."""

    hints: int
    bytes: int


class KeptHints(msgspec.Struct, frozen=True):
    """What one node keeps for others, by name."""

    bytes: int
    bytes_max: int
    homes: dict[str, HomeHints]


class HintsDocument(msgspec.Struct, frozen=True):
    """Writes that nodes keep for others that could not be reached."""

    hints: int
    bytes: int
    nodes: dict[str, KeptHints | None]
    """By holder; null if it did not answer."""
    homes: dict[str, HomeHints]
    """What is kept for each, in all."""


class Measurements(msgspec.Struct, frozen=True):
    """Answers of other replicas that one node has timed."""

    writes: int
    reads: int
    needed: int
    """Of writes, before anything is said."""
    window_s: float


class Wait(msgspec.Struct, frozen=True):
    """Quantiles in milliseconds."""

    p50: float
    p99: float
    p999: float


class Within(msgspec.Struct, frozen=True):
    """After so many milliseconds that share of reads is fresh."""

    p99: float
    p999: float
    p9999: float


class Freshness(msgspec.Struct, frozen=True):
    """What one R and W would mean."""

    r: int
    w: int
    current: bool
    """The bucket has these."""
    certain: bool
    """R + W > N: every read sees every acknowledged write, as long as no other node stands in for a replica."""
    fresh: list[float]
    """The share of reads that see a write, for each of `times_ms` after its acknowledgement."""
    fresh_elsewhere: list[float]
    """The same of reads by other replicas than the one that took the write."""
    fresh_within_ms: Within
    read_wait_ms: Wait | None
    """For the other replicas; null: no reads were measured."""
    write_wait_ms: Wait


class StalenessDocument(msgspec.Struct, frozen=True, omit_defaults=True):
    """How soon reads see writes, by what this node has measured; what follows `reason` is only there if it is ready."""

    bucket: str | None
    seen_by: str
    n: int
    r: int
    w: int
    measured: Measurements
    ready: bool
    reason: str
    replicas: int = 0
    computed_s_ago: float = 0.0
    trials: int = 0
    resolution: float = 0.0
    """A share above 1 - resolution is to be read as "more than that"."""
    times_ms: list[float] = []
    configurations: list[Freshness] = []


class WhereDocument(msgspec.Struct, frozen=True):
    """Where a key lives, and what each replica holds of it right now."""

    bucket: str
    key: str
    slot: int
    partition: int
    preference_list: list[str]
    fallbacks: list[str]
    replicas: list[dict[str, Any]]


class RepairDocument(msgspec.Struct, frozen=True):
    """How far the pass of anti-entropy that was begun last on this node has come."""

    state: str


class PlanDocument(msgspec.Struct, frozen=True):
    """What a change of membership would do. `commit` it with its id, which holds for this version of the ring."""

    id: str
    kind: str
    joining: list[dict[str, Any]]
    """Names and ids of those that would become members."""
    leaving: list[dict[str, Any]]
    ring_version: int
    partitions_moved: int
    fewest_moves: int
    copies: int
    bytes: int
    flows: list[dict[str, Any]]
    members: list[dict[str, Any]]
    warnings: list[str]


class IntentDocument(msgspec.Struct, frozen=True):
    """What an operator's action would do. `commit` it with its id."""

    id: str
    kind: str
    ring_version: int
    warnings: list[str]


class HealthDocument(msgspec.Struct, frozen=True):
    """It is well."""

    status: Literal["ok"]


# What operators ask for: without `commit` it is planned, with it done.


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What all operators' actions have."""

    commit: PlanId | None = None
    """The id of the plan that the same request gave without it; then it is done."""


class JoinRequest(Request, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Join a candidate to the cluster."""

    node: NodeName


class LeaveRequest(Request, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Let a member go."""

    node: NodeName
    stopped: bool = False
    """It has stopped for good, and what only it holds is given up."""


class ReplaceRequest(LeaveRequest, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Put a candidate in the place of a member."""

    by: NodeName


class WeightRequest(Request, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Give a member another share of the data."""

    node: NodeName
    weight: Weight


class RepairRequest(Request, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Compare this node's replicas with all others, now."""

    bucket: str | None = None
    """Only this one."""


class AbortRequest(Request, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Take back the change of membership that is under way."""


class ForceRequest(Request, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Go on without members that are lost for good, without asking anybody."""

    lost: Annotated[list[NodeName], msgspec.Meta(min_length=1, max_length=MEMBERS_MAX)]
