"""Routing: which node gets the next attempt.

The client walks the same preference lists as the nodes do, so a request goes straight to a replica, which coordinates
it (DeCandia et al., SOSP 2007, §6.4). Among the replicas the one with the lowest score wins, and
score = (observed latency + present silence) × (requests in flight + `_BALANCE`): latency finds the slow node, the count
of requests in flight keeps a herd from running after a figure that is one round trip old.

Three separate judgements, because three different things go wrong (hard case 33):
- a node that owes replies and says nothing is *silent*: latency is learned from replies, so that of a node that was
  stopped would stay good until the first attempt is given up, 125 ms and hundreds of requests later. The silence is
  part of the score for as long as it lasts, and gone with the first reply. All scores rise if all are silent, so a
  cluster that is late as a whole, or a client that stood still itself, changes nothing. Only the asynchronous shell
  tells it: threads of the synchronous one, with one request each, would all have asked before it is known;
- a node that refuses, drops or does not answer is *in doubt*: it gets no requests until a probe (PING, with backoff)
  is answered. If nobody is free of doubt, the doubted are asked all the same;
- a node that answers slowly, or only with errors, keeps its figure until the figure fades: an unused node's latency
  halves about once a second, until it is worth one try. No fixed share of requests is spent on exploring, because
  a share of 1% is a p99.

Invariants: departed members keep no entry; every walk is bounded by the number of members; there is no randomness.
Another cluster's ring is never taken over (hard case 20), nor an older version. That a node belongs to the cluster is
asked on every new connection (`introduction`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Final, Generic, TypeVar

from quorate.client.commands import split_address
from quorate.client.protocol import NO_SLOT, NODE_IN_DOUBT, AttemptFailure, Command, FailureKind
from quorate.core.buckets import default_properties
from quorate.core.errors import CallerError
from quorate.core.limits import ATTEMPT_TIMEOUT_MIN_MS, RECONNECT_DELAY_MAX_MS, RECONNECT_DELAY_MIN_MS, SLOTS
from quorate.core.ring.preference import PreferenceLists
from quorate.core.ring.ring import Ring

_BALANCE: Final = 8
_FADE_INTERVAL_MS: Final = 1_000
_WEIGHT: Final = 1 / 16
"""Of a new sample in the moving averages."""


class Node:
    """What the client knows of one node. The shells derive their own, which also hold the connections."""

    __slots__ = (
        "address",
        "deviation_ms",
        "failures",
        "host",
        "in_doubt",
        "in_flight",
        "latency_ms",
        "port",
        "probe_at_ms",
        "samples",
        "silent_ms",
    )

    def __init__(self, address: str) -> None:
        self.address = address
        self.host, self.port = split_address(address)
        self.latency_ms = 0.0
        """Moving average; 0 until the first sample, so that an unknown node is tried."""
        self.deviation_ms = 0.0
        self.in_flight = 0
        """Requests that the node has not answered, also those that nobody waits for any more."""
        self.in_doubt = False
        self.failures = 0
        """In a row."""
        self.probe_at_ms = 0.0
        self.samples = 0
        """Since the last fading."""
        self.silent_ms = 0.0
        """For how long the node has owed replies and sent nothing, if that is worth mentioning; else 0."""

    def observe(self, sample_ms: float) -> None:
        """A request took `sample_ms`."""
        if self.latency_ms == 0.0:
            self.latency_ms = sample_ms
        error = sample_ms - self.latency_ms
        self.latency_ms += error * _WEIGHT
        self.deviation_ms += ((error if error > 0 else -error) - self.deviation_ms) * _WEIGHT
        self.samples += 1

    def worked(self) -> None:
        """A request was answered well."""
        self.failures = 0
        self.in_doubt = False

    def doubt(self, now_ms: float) -> None:
        self.in_doubt = True
        delay_ms = min(RECONNECT_DELAY_MAX_MS, RECONNECT_DELAY_MIN_MS << min(self.failures, 16))
        self.failures += 1
        self.probe_at_ms = now_ms + delay_ms

    def probed(self) -> None:
        """A probe was answered: requests may come again. `failures` stays, so a relapse waits longer."""
        self.in_doubt = False


NodeT = TypeVar("NodeT", bound=Node)


class _View(Generic[NodeT]):
    """One ring as this client sees it. Replaced as a whole, so that threads never see half of two rings."""

    __slots__ = ("_by_number", "_default", "_lists", "_of_bucket", "_slots_per_partition", "_tables", "ring")

    def __init__(
        self, ring: Ring, by_number: Mapping[int, NodeT], of_bucket: Mapping[bytes, int], default_n: int
    ) -> None:
        self.ring = ring
        self._by_number = by_number
        self._of_bucket = of_bucket
        """Bucket → n, where it is not the default."""
        self._default = default_n
        self._lists = PreferenceLists(ring)
        self._slots_per_partition = SLOTS // ring.partitions
        self._tables: dict[int, list[tuple[NodeT, ...] | None]] = {}
        """n → partition → replicas, made when first asked for."""

    def replicas(self, bucket: bytes, slot: int) -> tuple[NodeT, ...]:
        n = self._of_bucket.get(bucket, self._default)
        table = self._tables.get(n)
        if table is None:
            table = self._tables[n] = [None] * self.ring.partitions
        partition = slot // self._slots_per_partition
        found = table[partition]
        if found is None:
            numbers = self._lists.of(partition, n).replicas
            found = table[partition] = tuple(self._by_number[m] for m in numbers if m in self._by_number)
        return found

    def with_buckets(self, of_bucket: Mapping[bytes, int]) -> _View[NodeT]:
        return _View(self.ring, self._by_number, of_bucket, self._default)


class Router(Generic[NodeT]):
    """The nodes, the ring, and the choice between them."""

    def __init__(self, make_node: Callable[[str], NodeT]) -> None:
        self.make_node = make_node
        self.nodes: Mapping[str, NodeT] = {}
        """By client address. Replaced, never changed."""
        self.ring_wanted = False
        """A failure suggests that the ring has changed."""
        self.ring_questions = 0
        """How often the nodes were asked for the ring: each time another one is asked first."""
        self._view: _View[NodeT] | None = None
        self._of_bucket: Mapping[bytes, int] = {}
        self._faded_at_ms = 0.0

    @property
    def ring(self) -> Ring | None:
        return None if self._view is None else self._view.ring

    @property
    def cluster_id(self) -> str | None:
        """The cluster of the first ring installed, for ever; None before that."""
        return None if self._view is None else self._view.ring.cluster_id

    def install(self, ring: Ring, source: NodeT | None = None, default_n: int = 0) -> list[NodeT]:
        """Take over `ring`, told by `source`; gives the nodes that are members no more, to be closed.

        `default_n`: replicas of keys whose bucket was not set; 0: nobody says, and it is what a cluster created with
        so many members has. Members without a usable client address are not talked to; the others serve their
        partitions. A member whose address has changed is another node here: nothing that was observed of the old
        address holds for the new one. Raises `CallerError` for the ring of another cluster; an older ring is ignored.
        """
        if self.ring is not None:
            if ring.cluster_id != self.ring.cluster_id:
                raise CallerError(f"the ring belongs to cluster {ring.cluster_id}, not to {self.ring.cluster_id}")
            if ring.version < self.ring.version:
                return []
        known = self.nodes if source is None else {**self.nodes, source.address: source}
        nodes: dict[str, NodeT] = {}
        by_number: dict[int, NodeT] = {}
        for member in ring.members:
            try:
                node = known.get(member.client_address) or self.make_node(member.client_address)
            except CallerError:
                continue
            nodes[member.client_address] = by_number[member.number] = node
        departed = [node for address, node in known.items() if address not in nodes]
        self.nodes = nodes
        default_n = default_n or default_properties(len(ring.members)).n
        self._view = _View(ring, by_number, self._of_bucket, default_n)
        return departed

    def set_buckets(self, of_bucket: Mapping[bytes, int]) -> None:
        """How many replicas the keys of some buckets have; the others have the cluster's default."""
        if self._of_bucket != of_bucket:
            self._of_bucket = dict(of_bucket)
            if self._view is not None:
                self._view = self._view.with_buckets(self._of_bucket)

    def replicas(self, bucket: bytes, slot: int) -> tuple[NodeT, ...]:
        """The replicas that hold `slot`; every node for commands that have none."""
        view = self._view
        if slot == NO_SLOT or view is None:
            return tuple(self.nodes.values())
        return view.replicas(bucket, slot)

    def pick(self, replicas: tuple[NodeT, ...], tried: Collection[NodeT] = ()) -> NodeT | None:
        """The best of `replicas`, else of all nodes (any node forwards), that is neither in doubt nor `tried`.

        If every node is in doubt, the one whose probe is due first. None: all those were tried.
        """
        best = None
        best_score = 0.0
        for node in replicas:
            if node.in_doubt or node in tried:
                continue
            score = (node.latency_ms + node.silent_ms) * (node.in_flight + _BALANCE)
            if best is None or score < best_score:
                best, best_score = node, score
        if best is not None:
            return best
        everyone = self.nodes.values()
        if all(node.in_doubt for node in everyone):
            return min((node for node in everyone if node not in tried), key=_probe_time, default=None)
        return min((node for node in everyone if not node.in_doubt and node not in tried), key=_score, default=None)

    def attempt_ms(self, node: Node, command: Command, total_ms: float, remaining_ms: float, attempts: int) -> float:
        """How long to wait for `node` in the attempt after `attempts` others.

        Long enough that a healthy node's slowest replies are not given up, and never more than half of what remains
        while another node could be asked: one silent node cannot use up the deadline. Each attempt is more patient
        than the one before, for a cluster that is slow as a whole must not be asked ever more often.
        """
        if len(self.nodes) == 1:
            return remaining_ms
        patience_ms = remaining_ms / 2
        if command.timed:
            floor_ms = max(ATTEMPT_TIMEOUT_MIN_MS, total_ms / 8) * (1 << attempts)
            usual_ms = 2 * (node.latency_ms + 4 * node.deviation_ms)
            wanted_ms = floor_ms if floor_ms > usual_ms else usual_ms
            if wanted_ms < patience_ms:
                return wanted_ms
        return patience_ms if patience_ms > ATTEMPT_TIMEOUT_MIN_MS else min(ATTEMPT_TIMEOUT_MIN_MS, remaining_ms)

    def failed(self, node: Node, failure: AttemptFailure, attempt_ms: float, now_ms: float) -> None:
        """An attempt at `node` failed: doubt it, or at least remember that it gave nothing for the time."""
        if failure.kind in NODE_IN_DOUBT:
            if not node.in_doubt:
                node.doubt(now_ms)
            self.ring_wanted = True
        if failure.kind not in (FailureKind.NOT_SENT, FailureKind.LOST):
            node.observe(max(attempt_ms, node.latency_ms))

    def due_probes(self, now_ms: float) -> list[NodeT]:
        """Nodes in doubt that should be probed now; each is then not due again before its next backoff."""
        due = [node for node in self.nodes.values() if node.in_doubt and node.probe_at_ms <= now_ms]
        for node in due:
            node.doubt(now_ms)
        return due

    def fade(self, now_ms: float) -> None:
        """Halve the figures of nodes that were not used for a while; to be called now and then."""
        if now_ms - self._faded_at_ms < _FADE_INTERVAL_MS:
            return
        self._faded_at_ms = now_ms
        for node in self.nodes.values():
            if node.samples == 0:
                node.latency_ms /= 2
                node.deviation_ms /= 2
            node.samples = 0

    def next_probe_ms(self) -> float | None:
        """When the next probe is due; None: nobody is in doubt."""
        return min((node.probe_at_ms for node in self.nodes.values() if node.in_doubt), default=None)


def _score(node: Node) -> float:
    return (node.latency_ms + node.silent_ms) * (node.in_flight + _BALANCE)


def _probe_time(node: Node) -> float:
    return node.probe_at_ms
