"""Messages between nodes. Each is a msgpack array whose first element is its tag; msgspec checks every type on arrival.

A frame is one list of messages: everything sent to a peer within one turn of the loop. Requests carry an id that the
reply repeats, the time that remains (`remaining_ms`), and the sender's ring version: a replica carries out a request
only while it goes by the same ring (`core.ring.advance`).

Tags 30 to 41 are the ring's own (`core.membership.ring_consensus`, `gossip`); 10 and 11 are not used any more. A new
message gets a new tag; a message gets new fields only at its end, with defaults, so that wire versions N and N−1
understand each other.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import msgspec

from quorate.core.membership.gossip import GossipDigest, GossipStates, GossipSyn
from quorate.core.membership.ring_consensus import (
    Accept,
    Announcement,
    Assent,
    Prepare,
    Promise,
    RecallAnswer,
    RecallQuestion,
    Refusal,
    RingAsk,
    RingValue,
)
from quorate.core.store import Failure, GetRequest, GetResult, PutRequest, PutResult


class Status(IntEnum):
    """How a replica answers."""

    OK = 0
    ABSENT = 1
    """There is no record (a read), which is an answer, and counts towards R."""
    STALE_RING = 2
    """The replica goes by a newer ring than the request, which it sends along (`Announcement`), or did before."""
    NOT_REPLICA = 3
    FENCED = 4
    OVERLOADED = 5
    DAMAGED = 6
    """The record there is does not match its checksum. Not an answer: "absent" would be a false one."""
    NOT_READY = 7
    """This replica is being filled anew (a read), or its tree is being rebuilt (an exchange): ask another, or later."""


SCAN_KEYS_MAX: Final = 10_000
"""Keys that one scan may ask for."""

NO_BASE: Final = -1
"""No digest: 0 stands for an absent record."""

FLAG_FSYNC: Final = 1
FLAG_LAST_WRITE_WINS: Final = 2
FLAG_HINTED: Final = 4
"""In a `Write` that brings a hint home: what is too old by the receiver's clock is not taken in."""


class _Message(msgspec.Struct, array_like=True, frozen=True, gc=False):
    pass


class Write(_Message, frozen=True, tag=1):
    """Sync `body` (a whole record) into the replica's own. Idempotent: also used by read repair.

    `base` is the digest of the record that the coordinator added exactly one event of its own to, or `NO_BASE`: a
    replica that holds just that record may take `body` as it is, because nothing else could come out of a sync.
    """

    id: int
    remaining_ms: int
    ring_version: int
    key: bytes
    body: bytes
    flags: int
    base: int = NO_BASE


class WriteReply(_Message, frozen=True, tag=2):
    id: int
    status: int


class Read(_Message, frozen=True, tag=3):
    """Ask for a record, or (`full` false) only for its digest."""

    id: int
    remaining_ms: int
    ring_version: int
    key: bytes
    full: bool


class ReadReply(_Message, frozen=True, tag=4):
    """`digest` is the xxh3-64 of the canonical body; `body` is empty unless it was asked for in full."""

    id: int
    status: int
    digest: int = 0
    body: bytes = b""


class ForwardGet(_Message, frozen=True, tag=5):
    """A client's get, handed to a replica that coordinates it. A forward is never forwarded again (hard case 5)."""

    id: int
    remaining_ms: int
    ring_version: int
    request: GetRequest


class ForwardPut(_Message, frozen=True, tag=6):
    id: int
    remaining_ms: int
    ring_version: int
    request: PutRequest


class ForwardReply(_Message, frozen=True, tag=7):
    id: int
    result: GetResult | PutResult | Failure


class ScanPosition(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Keys of `partition` that come after `after` (empty: from its beginning)."""

    partition: int
    after: bytes


class Scan(_Message, frozen=True, tag=8):
    """List keys of a bucket in these partitions, in order, at most `limit` in all."""

    id: int
    remaining_ms: int
    ring_version: int
    bucket: bytes
    prefix: bytes
    positions: list[ScanPosition]
    limit: int
    now_ms: int = 0
    """The wall clock (Unix milliseconds) by which values have expired, which is the coordinator's; 0: the replica's."""


class ScannedKey(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A key that this replica holds a record of; `live` is false if it holds only tombstones and expired values."""

    key: bytes
    digest: int
    live: bool


class ScannedPartition(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """`complete` is false if there may be keys after the last one listed."""

    partition: int
    keys: list[ScannedKey]
    complete: bool


class ScanReply(_Message, frozen=True, tag=9):
    """Partitions in the order asked; those that were not reached within the limit are left out."""

    id: int
    status: int
    partitions: list[ScannedPartition]


class StatusRequest(_Message, frozen=True, tag=12):
    id: int
    remaining_ms: int


class StatusReply(_Message, frozen=True, tag=13):
    """A node's report about itself, as JSON (`quorate.core.store.NodeReport`)."""

    id: int
    report: bytes


class HintedWrite(_Message, frozen=True, tag=14):
    """Keep `body` for `home`, which cannot be reached, and hand it over when it can (SOSP 2007, §4.6)."""

    id: int
    remaining_ms: int
    ring_version: int
    home: int
    key: bytes
    body: bytes
    flags: int
    since_ms: int = 0
    """The oldest hint that `body` was built on (Unix milliseconds), from which the age of this one counts; 0: none."""


class HintedRead(_Message, frozen=True, tag=15):
    """Ask a fallback for what it holds of `key` for any home. Answered by a `ReadReply`."""

    id: int
    remaining_ms: int
    ring_version: int
    homes: list[int]
    key: bytes
    full: bool


class Probe(_Message, frozen=True, tag=16):
    """Are you well? Sent to peers that have fallen silent."""

    id: int


class ProbeReply(_Message, frozen=True, tag=17):
    id: int


class TreeRoots(_Message, frozen=True, tag=18):
    """Compare: the roots of the sender's trees for buckets with this `n`, 8 bytes each, big-endian, one for each of
    `partitions` (which both sides replicate, and whose tree is ready at the sender)."""

    id: int
    remaining_ms: int
    ring_version: int
    n: int
    partitions: list[int]
    roots: bytes


class TreeRootsReply(_Message, frozen=True, tag=19):
    """`differing`: partitions whose roots are not the same here; `unready`: those that cannot be compared now."""

    id: int
    status: int
    differing: list[int]
    unready: list[int]


class TreeSums(_Message, frozen=True, tag=20):
    """Compare: sums of `nodes` at the level that has `width` nodes, of the tree of one partition; 8 bytes each."""

    id: int
    remaining_ms: int
    ring_version: int
    n: int
    partition: int
    width: int
    nodes: list[int]
    sums: bytes


class TreeSumsReply(_Message, frozen=True, tag=21):
    """Those of the nodes asked about whose sums are not the same here."""

    id: int
    status: int
    differing: list[int]


class LeafKeys(_Message, frozen=True, tag=22):
    """Reconcile: all that the sender holds in these `leaves`, of the storage keys above `after` up to and including
    `upto` (empty: to the partition's end), as (storage key, digest) in key order."""

    id: int
    remaining_ms: int
    ring_version: int
    n: int
    partition: int
    leaves: list[int]
    after: bytes
    upto: bytes
    entries: list[tuple[bytes, int]]


class LeafKeysReply(_Message, frozen=True, tag=23):
    """The answer to `LeafKeys`: `records`, as (storage key, body), that the asker lacks or holds otherwise; `wanted`,
    keys whose records the answering node lacks or holds otherwise.

    `covered` is how far the answer goes: the storage key up to which everything asked about was looked at (empty: all).
    """

    id: int
    status: int
    records: list[tuple[bytes, bytes]]
    wanted: list[bytes]
    covered: bytes


class CollectAsk(_Message, frozen=True, tag=24):
    """Do you hold, under each of these storage keys, just the record with this digest, with something in it that has
    been dead since before `horizon_ms` (Unix milliseconds)? The proof that precedes every collection."""

    id: int
    remaining_ms: int
    ring_version: int
    horizon_ms: int
    entries: list[tuple[bytes, int]]


class Collect(_Message, frozen=True, tag=25):
    """All replicas hold these: remove what has been dead since before `horizon_ms`, wherever the digest still fits."""

    id: int
    remaining_ms: int
    ring_version: int
    horizon_ms: int
    entries: list[tuple[bytes, int]]


class CollectReply(_Message, frozen=True, tag=26):
    """The answer to both: the places in `entries` for which it is so (`CollectAsk`), or was done (`Collect`)."""

    id: int
    status: int
    places: list[int]


class AbsenceAsk(_Message, frozen=True, tag=27):
    """The sender was away since `since_ms` (Unix milliseconds): has anything been collected since, of partitions that
    both replicate?"""

    id: int
    remaining_ms: int
    since_ms: int


class AbsenceReply(_Message, frozen=True, tag=28):
    """`NOT_READY`: the answering node does not serve all of its partitions itself."""

    id: int
    status: int
    collected: bool
    empty: bool = False
    """The answering node holds no record at all."""


class Life(_Message, frozen=True, tag=29):
    """Sent when a connection begins, and when more epochs are reserved: which life of its store the sender lives, up to
    where it may mint epochs, and the highest that it remembers of the receiver (0: nothing). See `node.lives`."""

    life: int
    ceiling: int
    heard_life: int
    heard_ceiling: int


class StandingAsk(_Message, frozen=True, tag=42):
    """Where do you stand in the change of the ring that is under way?"""

    id: int


class StandingReply(_Message, frozen=True, tag=43):
    """Ranks (forced, version): the newest ring that the sender has adopted durably, and the ring that began the plan
    for which it holds all that it is to own ((0, 0): none)."""

    id: int
    confirmed: tuple[int, int]
    filled: tuple[int, int]


class Candidacy(_Message, frozen=True, tag=44):
    """A node that is no member yet says what it would be as one; its number is 0. Answered by a `CandidacyReply`."""

    id: str
    name: str
    host: str
    zone: str
    weight: int
    peer_address: str
    client_address: str
    http_address: str
    software: str
    engine: str


class CandidacyReply(_Message, frozen=True, tag=45):
    """`ring` is the newest that the sender knows: the candidate is a member when its id stands there.

    `refused`: why it never can be; empty: it is noted, and waits for an operator. The rest is what a member has to know
    of its cluster beside the ring.
    """

    ring: RingValue
    refused: str
    grace_s: int


class Offer(_Message, frozen=True, tag=46):
    """The sender is no replica of these any more, and would forget them: (storage key, digest)."""

    id: int
    remaining_ms: int
    ring_version: int
    entries: list[tuple[bytes, int]]


class OfferReply(_Message, frozen=True, tag=47):
    """The places in `entries` of which this replica holds just that; whatever else there is, it should be sent."""

    id: int
    status: int
    places: list[int]


Message = (
    Write
    | HintedWrite
    | HintedRead
    | Probe
    | ProbeReply
    | WriteReply
    | Read
    | ReadReply
    | ForwardGet
    | ForwardPut
    | ForwardReply
    | Scan
    | ScanReply
    | StatusRequest
    | StatusReply
    | TreeRoots
    | TreeRootsReply
    | TreeSums
    | TreeSumsReply
    | LeafKeys
    | LeafKeysReply
    | CollectAsk
    | Collect
    | CollectReply
    | AbsenceAsk
    | AbsenceReply
    | Life
    | Prepare
    | Accept
    | Promise
    | Assent
    | Refusal
    | Announcement
    | RecallQuestion
    | RecallAnswer
    | RingAsk
    | GossipSyn
    | GossipDigest
    | GossipStates
    | StandingAsk
    | StandingReply
    | Candidacy
    | CandidacyReply
    | Offer
    | OfferReply
)
