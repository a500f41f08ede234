"""One node: the parts put together, messages handed to them, and the Store that interfaces talk to.

Nothing here knows a clock, a socket or a disk: all of that comes in through the ports, so that the simulator runs this
very class. The constructor loads what is persisted; `start` makes the node ready once its epochs are reserved.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from quorate import __version__
from quorate.core import messages
from quorate.core.admission.background import BackgroundAdmission
from quorate.core.admission.concurrency import ConcurrencyLimit
from quorate.core.buckets import BucketProperties
from quorate.core.causality.hybrid_logical_clock import HybridLogicalClock
from quorate.core.errors import CallerError, PeerError, StorageError
from quorate.core.keyspace import check_bucket_name, check_key
from quorate.core.measures import Measures
from quorate.core.membership.ring_consensus import RingValue
from quorate.core.ports import Clock, Engine, Rng, Scheduler, Space, Transport
from quorate.core.ring.ring import Member
from quorate.core.ring.transition import StagedRing
from quorate.core.staleness.legs import LegBook
from quorate.core.store import Admin, Failure, GetRequest, KeysPage, KeysRequest, PutRequest, Wish
from quorate.node.absence import END, Absence, ranges_to_empty
from quorate.node.anti_entropy import AntiEntropy
from quorate.node.collector import Collector
from quorate.node.commit_queue import CommitQueue
from quorate.node.context import NodeContext
from quorate.node.coordinator import Coordinator
from quorate.node.dispatch import Dispatch, Handler
from quorate.node.epochs import Epochs
from quorate.node.exchange_responder import ExchangeResponder
from quorate.node.filling import Filling
from quorate.node.get_operation import GetReply
from quorate.node.handoff import Handoff
from quorate.node.health import Health
from quorate.node.hints import HintStore
from quorate.node.inspection import Inspection
from quorate.node.listening import listen
from quorate.node.listing import Listing
from quorate.node.lives import Lives
from quorate.node.membership import Membership
from quorate.node.offers import Offers
from quorate.node.options import NodeOptions
from quorate.node.put_operation import PutReply
from quorate.node.record_cache import RecordCache
from quorate.node.records import RecordStore
from quorate.node.repair import Repair
from quorate.node.replica import Replica
from quorate.node.requests import RequestTable
from quorate.node.ring_keeper import RingKeeper
from quorate.node.staleness import Staleness
from quorate.node.sweep import Sweep
from quorate.node.trees import Trees

log = logging.getLogger(__name__)

DISK_CHECK_INTERVAL_MS = 1_000
FORWARDS_SEEN_MAX = 65_536
"""Forwarded puts that are remembered, the oldest forgotten first: more than arrive within a deadline."""


class Node:
    """A member of the cluster. Implements `core.store.Store` and `core.ports.PeerHandler`."""

    def __init__(
        self,
        *,
        member_number: int,
        founding: RingValue,
        own: Member,
        engine: Engine,
        transport: Transport,
        clock: Clock,
        scheduler: Scheduler,
        rng: Rng,
        newborn: bool = False,
        options: NodeOptions | None = None,
        software: str = __version__,
        on_departed: Callable[[], None] = lambda: None,
    ) -> None:
        """`founding`: the ring that the assembly knows (a newer one in the store counts more). `own`: this node as it
        is now, with its present addresses. `newborn`: its identity was made just now. `on_departed` is called when it
        has left the cluster and has nothing more to do. Raises `StartupError`, `StorageError`."""
        shared = self._shared = NodeContext()
        shared.self_number = member_number
        shared.options = options or NodeOptions()
        shared.engine, shared.transport = engine, transport
        shared.clock, shared.scheduler, shared.rng = clock, scheduler, rng
        shared.rings = RingKeeper(shared, founding, newborn, self.fence)
        shared.view = shared.rings.view
        shared.disconnected = dict.fromkeys(shared.view.other_numbers, True)
        shared.hybrid_clock = HybridLogicalClock(shared.options.clock_skew_max_ms)
        shared.requests = RequestTable(clock, scheduler, rng, shared.on_stall, partial(listen, shared))
        self._dispatch = shared.dispatch = Dispatch(shared.requests.pending)
        self.on_message: Callable[[int, messages.Message, float], None] = self._dispatch.deliver
        """`PeerHandler.on_message`, without a step in between."""
        shared.rings.on_message = self.on_message
        shared.concurrency = ConcurrencyLimit(shared.options.in_flight_requests_max, clock.monotonic_ms())
        shared.measures = Measures(clock.monotonic_ms())
        shared.legs = LegBook(clock.monotonic_ms())
        shared.background = BackgroundAdmission(clock.monotonic_ms())
        shared.filling = Filling(shared)
        self._absence = Absence(shared, self._empty, self.fence)
        self._make_storage()
        self._lives = Lives(shared, self.fence)
        self._replica = Replica(shared)
        self._coordinator = Coordinator(shared)
        shared.get_again, shared.put_again = self._coordinator.get, self._coordinator.put
        self._membership = Membership(shared, own, software, on_departed, self._on_member_connected)
        self._make_background_work()
        self._disk_full = False
        self._stopped = False
        self._forwards_seen: dict[tuple[int, int], bool] = {}
        self.get: Callable[[GetRequest, GetReply], None] = self._coordinator.get
        self.put: Callable[[PutRequest, PutReply], None] = self._coordinator.put
        self._register_handlers()

    def start(self, ready: Callable[[], None]) -> None:
        """Begin background work; `ready` is called when the node may take requests."""
        report = self._shared.engine.report
        if report.may_have_lost_writes:
            log.warning("the last stop may have lost unsynced writes: every key gets a new actor when next written")
        elif not report.clean:
            log.info("the last stop was unclean; the log was replayed and nothing is missing")
        try:
            self._shared.trees.start()
            self._shared.filling.restore()
            self._absence.start()
        except StorageError as error:
            self.fence(error)
        self._membership.start()
        self._handoff.start()
        self._sweep.start()
        self._anti_entropy.start()
        self._health.start()
        self._check_disk()
        self._shared.epochs.start(ready)

    def stop(self) -> None:
        """Write what is queued, and the hash trees. The assembly closes the transport before and the engine after."""
        self._stopped = True
        self._anti_entropy.stop()
        self._sweep.stop()
        self._shared.commits.flush()
        self._absence.stop()
        self._shared.trees.save()

    def fence(self, error: StorageError) -> None:
        """The disk failed: stop acknowledging and say so (hard case 27). Only a restart lifts this."""
        self._cache.clear()
        if not self._shared.fenced_because or self._disk_full or self._absence.waits():
            self._disk_full = False
            self._shared.fenced_because = str(error)
            self._shared.commits.failed = True
            log.error("this node is fenced and takes no writes until it is restarted: %s", error)

    # --- PeerHandler ---

    def on_connected(self, member: int) -> None:
        self._shared.rings.on_connected(member)
        if member in self._shared.view.names:
            self._on_member_connected(member)

    def _on_member_connected(self, member: int) -> None:
        self._shared.disconnected.pop(member, None)
        self._shared.detector.on_connected(member, self._shared.clock.monotonic_ms())
        self._membership.on_connected()
        self._handoff.wake(member)
        self._lives.on_connected(member)
        self._shared.filling.on_connected(member)
        self._anti_entropy.wake(member)

    def on_disconnected(self, member: int) -> None:
        if member in self._shared.view.names:
            self._shared.disconnected[member] = True
        self._shared.detector.on_disconnected(member, self._shared.clock.monotonic_ms())
        self._shared.requests.on_disconnected(member)

    def on_candidacy(self, message: messages.Candidacy, answer: Callable[[messages.CandidacyReply], None]) -> None:
        self._membership.candidates.on_candidacy(message, answer)

    def on_removed(self, reason: str) -> None:
        """A member says that this node was removed: it serves nobody any more (hard case 16)."""
        self._shared.view.told = False
        self._shared.fenced_because = f"this node was removed from the cluster: {reason}"
        log.error("%s", self._shared.fenced_because)

    # --- Store ---

    def keys(self, request: KeysRequest, reply: Callable[[KeysPage | Failure], None]) -> None:
        Listing(self._shared, self._coordinator, self._replica, request, reply).start()

    def where(self, bucket: bytes, key: bytes, reply: Callable[[Admin | Failure], None]) -> None:
        try:
            check_bucket_name(bucket)
            check_key(key)
        except CallerError as error:
            reply(Failure("caller", str(error)))
            return
        self._inspection.where(bucket, key, reply)

    def status(self, reply: Callable[[Admin | Failure], None]) -> None:
        self._inspection.status(reply)

    def staleness(self, bucket: bytes, reply: Callable[[Admin | Failure], None]) -> None:
        self._staleness.ask(bucket, reply)

    def buckets(self) -> dict[bytes, BucketProperties]:
        return dict(sorted(self._shared.view.metadata.buckets.items()))

    def bucket_properties(self, bucket: bytes) -> BucketProperties:
        return self._shared.view.bucket(bucket).properties

    def repair(self, bucket: bytes, reply: Callable[[Admin | Failure], None]) -> None:
        if self._shared.fenced_because:
            reply(Failure("unavailable", f"this node is fenced: {self._shared.fenced_because}"))
            return
        self._repair.begin(bucket)
        reply(Admin(self._repair.document()))

    def repair_status(self, reply: Callable[[Admin | Failure], None]) -> None:
        self._repair.status(lambda document: reply(Admin(document)))

    def set_bucket(self, bucket: bytes, changes: Mapping[str, str], reply: Callable[[Admin | Failure], None]) -> None:
        self._membership.buckets.set(bucket, changes, reply)

    def plan(self, wish: Wish, reply: Callable[[Admin | Failure], None]) -> None:
        self._membership.reconfiguration.plan(wish, reply)

    def commit(self, wish: Wish, plan_id: str, reply: Callable[[Admin | Failure], None]) -> None:
        self._membership.reconfiguration.commit(wish, plan_id, reply)

    def abort(self, reply: Callable[[Admin | Failure], None]) -> None:
        self._membership.reconfiguration.abort(reply)

    def force(self, lost: list[str], reply: Callable[[Admin | Failure], None]) -> None:
        self._membership.reconfiguration.force(lost, reply)

    def transfers(self, reply: Callable[[Admin | Failure], None]) -> None:
        self._membership.reconfiguration.transfers(reply)

    def members(self, reply: Callable[[Admin | Failure], None]) -> None:
        self._membership.reconfiguration.members(reply)

    def ring(self) -> StagedRing:
        return self._shared.view.ring

    def self_number(self) -> int:
        return self._shared.self_number

    def connected(self, member: int) -> bool:
        """Is there a connection? It changes with `on_connected` and `on_disconnected`, and with nothing else."""
        return self._shared.transport.connected(member)

    def reachable(self, member: int) -> bool:
        """Is there a connection, and nothing that speaks against the peer's answering on it?"""
        return self._shared.usable(member)

    def count(self, event: str) -> None:
        self._shared.count(event)

    def when_told(self, callback: Callable[[], None]) -> None:
        """Call `callback` once this node knows how the cluster stands and serves; at once if it does already."""
        self._shared.view.on_told = callback
        if self.serves:
            callback()

    @property
    def serves(self) -> bool:
        return self._shared.view.told

    # --- for metrics ---

    @property
    def measures(self) -> Measures:
        return self._shared.measures

    def report(self) -> dict[str, Any]:
        """What this node says about itself (as in `status`)."""
        return self._inspection.report()

    # --- for checks ---

    @property
    def trees(self) -> Trees:
        return self._shared.trees

    def queued_writes(self) -> list[tuple[bytes, bytes | None]]:
        """Storage keys with what the batch of this turn will store under them; None removes."""
        return self._shared.commits.queued_between(b"", b"\xff\xff")

    # --- inside ---

    def _make_storage(self) -> None:
        """What lies between the protocol and the engine."""
        shared = self._shared
        engine, clock = shared.engine, shared.clock
        shared.commits = CommitQueue(engine, shared.scheduler, self.fence)
        shared.epochs = Epochs(
            member=shared.self_number, engine=engine, clock=clock, rng=shared.rng, on_failure=self.fence
        )
        self._cache = RecordCache(shared.options.record_cache_bytes)
        shared.trees = Trees(
            engine=engine,
            commits=shared.commits,
            view=shared.view,
            background=shared.background,
            clock=clock,
            scheduler=shared.scheduler,
            fenced=lambda: shared.fenced_because,
            forget=self._cache.forget,
            count=shared.count,
        )
        shared.records = RecordStore(
            member=shared.self_number,
            commits=shared.commits,
            cache=self._cache,
            trees=shared.trees,
            epochs=shared.epochs,
            hybrid_clock=shared.hybrid_clock,
            clock=clock,
            count=shared.count,
        )
        shared.hints = HintStore(
            engine=engine,
            commits=shared.commits,
            clock=clock,
            bytes_max=shared.options.hints_bytes_max,
            age_max_ms=shared.options.grace_ms // 2,
            count=shared.count,
        )

    def _make_background_work(self) -> None:
        """What keeps the replicas whole, and nobody waits for; and what tells of it."""
        shared = self._shared
        self._handoff = Handoff(shared)
        self._health = Health(shared, self._handoff.wake)
        self._anti_entropy = AntiEntropy(shared, self._handoff.delivers_to)
        self._exchanges = ExchangeResponder(shared, self._handoff.delivers_to)
        self._repair = Repair(shared, self._anti_entropy)
        self._collector = Collector(shared)
        self._sweep = Sweep(shared, self._collector)
        self._membership.departure.left = lambda: len(self._sweep.kept_no_more())
        self._membership.on_ring = [self._anti_entropy.on_ring, self._sweep.on_ring]
        self._offers = Offers(shared)
        self._staleness = Staleness(shared)
        reports = (self._anti_entropy.report, self._sweep.report, self._membership.reconfiguration.report)
        self._inspection = Inspection(shared, self._coordinator, __version__, *reports)

    def _register_handlers(self) -> None:
        on_reply = self._dispatch.on_reply
        exchanges = self._exchanges
        replica, inspection = self._replica, self._inspection
        handlers: dict[type, Handler] = {
            messages.Write: replica.on_write,
            messages.Read: replica.on_read,
            messages.HintedWrite: replica.on_hinted_write,
            messages.HintedRead: replica.on_hinted_read,
            messages.Probe: self._on_probe,
            messages.Life: lambda member, message, age_ms: self._lives.on_life(member, message),
            messages.AbsenceAsk: lambda member, message, age_ms: self._absence.on_ask(member, message),
            messages.AbsenceReply: on_reply,
            messages.CollectAsk: self._collector.on_ask,
            messages.Collect: self._collector.on_collect,
            messages.CollectReply: on_reply,
            messages.TreeRoots: exchanges.on_tree_roots,
            messages.TreeSums: exchanges.on_tree_sums,
            messages.LeafKeys: exchanges.on_leaf_keys,
            messages.TreeRootsReply: on_reply,
            messages.TreeSumsReply: on_reply,
            messages.LeafKeysReply: on_reply,
            messages.Scan: replica.on_scan,
            messages.ForwardGet: self._on_forward,
            messages.ForwardPut: self._on_forward,
            **self._membership.handlers(on_reply),
            messages.Offer: self._offers.on_offer,
            messages.OfferReply: on_reply,
            messages.StatusRequest: lambda member, message, age_ms: inspection.on_status_request(member, message),
            messages.WriteReply: on_reply,
            messages.ReadReply: on_reply,
            messages.ForwardReply: on_reply,
            messages.ScanReply: on_reply,
            messages.StatusReply: on_reply,
            messages.ProbeReply: on_reply,
        }
        self._dispatch.register(handlers)

    def _empty(self) -> None:
        """Forget what this store holds for clients and others hold as well; who it is, and its epochs, stay (see
        `absence`). Raises `StorageError`."""
        shared = self._shared
        shared.commits.flush()
        for start, end in ranges_to_empty(shared):
            shared.engine.delete_range(Space.DATA, start, end)
        shared.engine.delete_range(Space.HINTS, b"", END)
        self._cache.clear()
        shared.hints.forget_all()
        shared.trees.rebuild_all()

    def _on_probe(self, member: int, message: messages.Probe, age_ms: float) -> None:
        self._shared.transport.send(member, messages.ProbeReply(message.id))

    def _on_forward(self, member: int, message: messages.ForwardGet | messages.ForwardPut, age_ms: float) -> None:
        remaining_ms = int(message.remaining_ms - age_ms)
        if remaining_ms <= 0:
            self._shared.count("expired_requests_dropped")
            return
        send, number, request = self._shared.transport.send, message.id, message.request
        view = self._shared.view
        if message.ring_version != view.version:
            if self._shared.rings.admits(member, message, age_ms) is None:
                return
            if not self._coordinator.place(view.bucket(request.bucket), request.bucket, request.key)[1].coordinates:
                send(member, messages.ForwardReply(number, Failure("stale", "the ring has moved on")))
                return
        if isinstance(request, PutRequest) and not self._first_of(member, number):
            # A copy of a forward that was judged already. To do now what was refused then would make the refusal, which
            # the client may have by now, a lie (hard case 31).
            self._shared.count("forwards_repeated")
            return
        try:
            check_bucket_name(request.bucket)
            check_key(request.key)
        except CallerError as error:
            raise PeerError(f"a peer forwarded a bad request: {error}") from error

        def reply(result: Any) -> None:
            send(member, messages.ForwardReply(number, result))

        if isinstance(request, GetRequest):
            self._coordinator.get(request, reply, remaining_ms)
        else:
            self._coordinator.put(request, reply, remaining_ms)

    def _first_of(self, member: int, number: int) -> bool:
        """Is this the first forwarded put with this number from `member`, as far as the bounded memory goes?"""
        seen = self._forwards_seen
        if (member, number) in seen:
            return False
        seen[(member, number)] = True
        if len(seen) > FORWARDS_SEEN_MAX:
            del seen[next(iter(seen))]
        return True

    def _check_disk(self) -> None:
        """Stop taking writes before the disk is full, and go on when there is room again."""
        if self._stopped:
            return
        shared = self._shared
        minimum = shared.options.disk_free_fraction_min
        free = shared.engine.free_fraction()
        if not shared.fenced_because and free < minimum:
            self._disk_full = True
            shared.fenced_because = f"the disk is full: {free:.1%} free, and writes need {minimum:.1%}"
            log.error("this node takes no writes: %s", shared.fenced_because)
        elif self._disk_full and free > minimum * 1.5:
            self._disk_full = False
            shared.fenced_because = ""
            log.info("there is room on the disk again; this node takes writes")
        shared.scheduler.call_later(DISK_CHECK_INTERVAL_MS, self._check_disk)
