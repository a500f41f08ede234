"""The Store: what a node offers to the interfaces in front of it (RESP, HTTP) and to the simulator's clients.

The only thing that `api/` knows of a node. Requests are values; results come through a callback, exactly once, on the
loop's thread, possibly before the call returns. No future and no task per request: that is the hot path.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol

import msgspec

from quorate.core.buckets import BucketProperties
from quorate.core.record import Context, Sibling
from quorate.core.ring.ring import Ring


class GetRequest(msgspec.Struct, array_like=True, frozen=True, gc=False):
    bucket: bytes
    key: bytes
    r: int = 0
    """Replicas that must answer; 0: as the bucket says."""
    timeout_ms: int = 0
    """0: the default of `limits.REQUEST_TIMEOUT_DEFAULT_MS`."""


class PutRequest(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A put, or with `delete` the write of a tombstone."""

    bucket: bytes
    key: bytes
    value: bytes = b""
    content_type: str = ""
    context: Context | None = None
    """What the writer has seen and replaces; None: nothing, so the put is concurrent with everything."""
    w: int = 0
    ttl_ms: int = -1
    """Lifetime of the value; -1: as the bucket says, 0: for ever."""
    operation: int = 0
    timeout_ms: int = 0
    delete: bool = False
    overwrite_seen: bool = False
    """Take for the context what the coordinator itself holds (Redis's SET and DEL). Excludes `context`."""
    strict: bool = False
    """No fallback replicas, whatever the bucket says."""


class GetResult(msgspec.Struct, array_like=True, frozen=True, tag=1, gc=False):
    """What R replicas hold together. No siblings: not found (`context` is not empty if there was a delete)."""

    context: Context
    siblings: list[Sibling]
    """Live ones only: no tombstones, none expired, a retried write once; in the order of their dots."""


class PutResult(msgspec.Struct, array_like=True, frozen=True, tag=2, gc=False):
    """W replicas have it. `context` covers what the coordinator holds now, the new value included."""

    context: Context
    siblings: int
    """How many siblings, tombstones included, the coordinator holds now; more than 1: a conflict exists."""


FailureKind = Literal["caller", "unavailable", "overloaded", "unknown", "stale"]


class Failure(msgspec.Struct, array_like=True, frozen=True, tag=3, gc=False):
    """Why a request failed: `caller` and `unavailable`, `overloaded` mean not done; `unknown` may be done.

    `stale` is between nodes alone: not done, since the request was placed by an older ring than the answerer's.
    """

    kind: FailureKind
    message: str
    missing: list[str] = []
    """Names of the replicas that did not answer."""
    retry_after_ms: int = 0


class KeysRequest(msgspec.Struct, frozen=True):
    bucket: bytes
    prefix: bytes = b""
    limit: int = 100
    cursor: str = ""
    """Opaque; empty: from the beginning."""
    timeout_ms: int = 0


class KeysPage(msgspec.Struct, frozen=True):
    keys: list[bytes]
    cursor: str
    """Where the next page begins; empty: this was the last."""


WishKind = Literal["join", "leave", "replace", "weight"]


class Wish(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A change of membership that an operator asks for. Members and candidates are named by name or id, and all
    workers of a host at once by the name that theirs begin with (`core.ring.workers`)."""

    kind: WishKind
    node: str
    """The candidate that joins, or the member that leaves, is replaced, or gets another weight."""
    by: str = ""
    """`replace`: the candidate that takes its place."""
    weight: int = 0
    """`weight`: the new one."""
    stopped: bool = False
    """`leave`, `replace`: the member has stopped for good, and what only it holds is given up."""


class Admin(msgspec.Struct, frozen=True):
    """The answer of a command for people and tools: a JSON-able document."""

    document: dict[str, Any]


class Store(Protocol):
    """One node, seen from its interfaces. Every node answers for every key."""

    def get(self, request: GetRequest, reply: Callable[[GetResult | Failure], None]) -> None: ...

    def put(self, request: PutRequest, reply: Callable[[PutResult | Failure], None]) -> None: ...

    def keys(self, request: KeysRequest, reply: Callable[[KeysPage | Failure], None]) -> None: ...

    def where(self, bucket: bytes, key: bytes, reply: Callable[[Admin | Failure], None]) -> None:
        """Slot, partition, preference list, and what each replica holds right now."""
        ...

    def status(self, reply: Callable[[Admin | Failure], None]) -> None:
        """The cluster as this node sees it, with every reachable node's report about itself."""
        ...

    def staleness(self, bucket: bytes, reply: Callable[[Admin | Failure], None]) -> None:
        """How likely a read sees a write that was acknowledged some time before, in `bucket` or (empty) in a bucket
        with the defaults, as this node has measured it; replies at once, or when it is worked out. The document:

        bucket (null: the defaults), seen_by, n, r, w, replicas (how many there are), measured: {writes, reads, needed,
        window_s}, ready, reason (why not), and when it is ready: computed_s_ago, trials, resolution, times_ms,
        configurations: [{r, w, current, certain, fresh (a share for each of times_ms), fresh_elsewhere,
        fresh_within_ms: {p99, p999, p9999}, read_wait_ms (null: not measured) and write_wait_ms: {p50, p99, p999}}].
        See `core.staleness.figures`.
        """
        ...

    def repair(self, bucket: bytes, reply: Callable[[Admin | Failure], None]) -> None:
        """Begin one pass of anti-entropy from this node to all others, over `bucket` or (empty) over everything, or
        join the one that is under way; replies at once with the document that `repair_status` gives."""
        ...

    def repair_status(self, reply: Callable[[Admin | Failure], None]) -> None:
        """How far the pass that was begun last has come: at once if it has ended, else in a moment."""
        ...

    def buckets(self) -> dict[bytes, BucketProperties]:
        """Buckets whose properties were set."""
        ...

    def bucket_properties(self, bucket: bytes) -> BucketProperties: ...

    def set_bucket(self, bucket: bytes, changes: Mapping[str, str], reply: Callable[[Admin | Failure], None]) -> None:
        """Change properties; replies when a majority of the members know it."""
        ...

    def plan(self, wish: Wish, reply: Callable[[Admin | Failure], None]) -> None:
        """What granting `wish` would do, without doing it. The document:

        id, kind, ring_version (for which it holds), partitions_moved (tokens that get another owner), fewest_moves (how
        many must at least), copies (of partitions that are made), bytes (about how much that is), flows: [{from, to,
        partitions}] (tokens), members: [{name, weight, owns_before, owns_after, copies_before, copies_after}],
        warnings: [text].
        """
        ...

    def commit(self, wish: Wish, plan_id: str, reply: Callable[[Admin | Failure], None]) -> None:
        """Begin the plan that `plan` gave for `wish`; replies with the document of `transfers` when that is decided.

        Fails with `caller` if the plan does not hold any more, since the ring has changed: plan again.
        """
        ...

    def abort(self, reply: Callable[[Admin | Failure], None]) -> None:
        """Take back the plan under way, if it can be; replies as `transfers`."""
        ...

    def force(self, lost: list[str], reply: Callable[[Admin | Failure], None]) -> None:
        """The operator's word that a majority, with all of the members `lost`, is lost for good: remove them without
        asking anybody. What only they hold is given up. Replies as `transfers`."""
        ...

    def transfers(self, reply: Callable[[Admin | Failure], None]) -> None:
        """The change of membership that is under way. The document:

        ring_version, forced, plan (its id or null; all that follows is only there with a plan), stage ("read old",
        "read new"), began_version, joining: [name], leaving: [name], stopped: [name], waiting: [text],
        members: [{name, confirmed (ring version), filled (bool, null if it need not be), partitions (to be filled),
        partitions_left, received_records, received_bytes, bytes_per_s, seconds_left (null: unknown),
        waits_for: [{partitions ("0-3 7"), members: [name], reason}]}].
        """
        ...

    def members(self, reply: Callable[[Admin | Failure], None]) -> None:
        """Who belongs to the cluster. The document: ring_version, members: [{name, number, id, host, zone, weight,
        peer_address, client_address, http_address, owns, state ("up", "suspected", "down"), reason, side ("stays",
        "joins", "leaves"), confirmed (ring version), software, wire_version}], candidates: [{name, id, host, zone,
        weight, peer_address, client_address, heard_s_ago}], departed: [{number, id}]."""
        ...

    def ring(self) -> Ring:
        """The ring with all that is in it (`core.ring.metadata.read_ring` gives what readers go by)."""
        ...

    def self_number(self) -> int: ...

    def reachable(self, member: int) -> bool:
        """Does this node believe that `member` answers? Always true of itself unless it is fenced."""
        ...

    def count(self, event: str) -> None:
        """Count an event of an interface (a metric), such as a conflict that GET resolved by itself."""
        ...
