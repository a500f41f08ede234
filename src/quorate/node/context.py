"""What all parts of one node share: ports, view, records, the request table and the counters.

A plain bundle made once by `Node`, so that an operation holds one reference and not twelve.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from quorate.core.admission.background import BackgroundAdmission
from quorate.core.admission.budget import TokenBudget
from quorate.core.admission.concurrency import TARGET_MS, ConcurrencyLimit
from quorate.core.admission.read_latency import LatencyQuantile
from quorate.core.causality.hybrid_logical_clock import HybridLogicalClock
from quorate.core.measures import Measures
from quorate.core.membership.failure_detector import FailureDetector
from quorate.core.ports import Clock, Engine, Rng, Scheduler, Transport
from quorate.core.staleness.legs import LegBook
from quorate.core.store import Failure, GetRequest, GetResult, PutRequest, PutResult
from quorate.node.cluster_view import ClusterView
from quorate.node.commit_queue import CommitQueue
from quorate.node.dispatch import Dispatch
from quorate.node.epochs import Epochs
from quorate.node.hints import HintStore
from quorate.node.options import NodeOptions
from quorate.node.records import RecordStore
from quorate.node.requests import RequestTable
from quorate.node.trees import Trees

if TYPE_CHECKING:
    from quorate.node.filling import Filling
    from quorate.node.plan_filling import PlanFilling
    from quorate.node.ring_keeper import RingKeeper

HEDGE_FRACTION: Final = 0.05
RETRY_FRACTION: Final = 0.05
"""Extra requests of both kinds together stay below a tenth of the real ones."""


class NodeContext:
    """The shared parts of a node. Only `Node` makes one."""

    __slots__ = (
        "background",
        "clock",
        "commits",
        "concurrency",
        "counters",
        "detector",
        "disconnected",
        "dispatch",
        "engine",
        "epochs",
        "fenced_because",
        "filling",
        "get_again",
        "hedges",
        "hints",
        "hybrid_clock",
        "in_flight",
        "in_flight_bytes",
        "legs",
        "measures",
        "observed_every",
        "options",
        "plan_filling",
        "put_again",
        "read_latency",
        "records",
        "requests",
        "requests_made",
        "retries",
        "rings",
        "rng",
        "scheduler",
        "self_number",
        "transport",
        "trees",
        "view",
    )

    background: BackgroundAdmission
    clock: Clock
    concurrency: ConcurrencyLimit
    commits: CommitQueue
    dispatch: Dispatch
    engine: Engine
    epochs: Epochs
    filling: Filling
    hints: HintStore
    hybrid_clock: HybridLogicalClock
    legs: LegBook
    measures: Measures
    options: NodeOptions
    plan_filling: PlanFilling
    records: RecordStore
    requests: RequestTable
    rng: Rng
    scheduler: Scheduler
    self_number: int
    transport: Transport
    trees: Trees
    view: ClusterView
    rings: RingKeeper
    get_again: Callable[[GetRequest, Callable[[GetResult | Failure], None]], None]
    """Coordinate or forward a get once more, under the present ring."""
    put_again: Callable[[PutRequest, Callable[[PutResult | Failure], None]], None]

    def __init__(self) -> None:
        self.counters: dict[str, int] = {}
        self.fenced_because = ""
        self.in_flight = 0
        """Clients' requests that have not been answered yet."""
        self.in_flight_bytes = 0
        self.disconnected: dict[int, bool] = {}
        """Other members without a connection."""
        self.requests_made = 0
        self.observed_every = 1
        """One request in so many is observed (see `evidence`)."""
        self.detector = FailureDetector()
        self.hedges = TokenBudget(HEDGE_FRACTION, 50.0)
        self.retries = TokenBudget(RETRY_FRACTION, 100.0)
        self.read_latency = LatencyQuantile(10.0)

    def count(self, event: str, times: int = 1) -> None:
        self.counters[event] = self.counters.get(event, 0) + times

    def observation_weight(self, read: bool) -> int:
        """Count a request that this node coordinates: for how many requests it stands if it is observed, else 0."""
        self.requests_made += 1
        every = self.observed_every
        if every > 1 and self.requests_made % every:
            return 0
        if read:
            self.hedges.earn(every)
        self.retries.earn(every)
        return every

    def on_answered(self, latency_ms: float, now_ms: float, awaited: Sequence[int]) -> None:
        """A client's request was answered after `latency_ms`: what overload and background work are judged by.

        A request that was late while it waited for one of few suspects says nothing about this node. If most peers
        are suspects, it is this node that is slow, or cut off.
        """
        self.background.on_foreground(latency_ms, now_ms)
        suspects = self.detector.suspects
        if suspects and latency_ms > TARGET_MS and 2 * len(suspects) <= len(self.view.other_numbers):
            for member in awaited:
                if member in suspects:
                    return
        self.concurrency.on_done(latency_ms, now_ms, self.in_flight + 1)

    def on_stall(self, now_ms: float) -> None:
        """This node stood still until now."""
        self.count("own_stalls")
        self.detector.on_own_stall(now_ms)

    def get_failed(self, failure: Failure) -> Failure:
        """Count a get that this node answers with `failure`; returns that."""
        self.measures.gets[failure.kind] += 1
        return failure

    def put_failed(self, failure: Failure) -> Failure:
        """Count a put that this node answers with `failure`; returns that."""
        self.measures.puts[failure.kind] += 1
        return failure

    def names(self, numbers: list[int]) -> list[str]:
        names = self.view.names
        return [names.get(number, f"#{number}") for number in numbers]

    def failure(self, kind: str, message: str, missing: list[int]) -> Failure:
        """A failure that names the replicas that did not answer."""
        return Failure(kind, message, self.names(sorted(missing)))  # type: ignore[arg-type]

    def nearest_first(self, members: tuple[int, ...], turn: int) -> list[int]:
        """Connected members in the order to ask them: rotated by `turn`, then the slow, those being filled, the silent,
        the suspected."""
        count = len(members)
        if count > 1:
            turn %= count
            members = members[turn:] + members[:turn]
        detector = self.detector
        suspects, silent, slow, unready = detector.suspects, detector.silent, detector.slow, detector.unready
        if not self.disconnected:
            asked = list(members)
        else:
            connected = self.transport.connected
            asked = [member for member in members if connected(member)]
        if (suspects or silent or slow or unready) and len(asked) > 1:
            asked.sort(
                key=lambda member: (member in suspects, member in silent, member in unready, member in slow),
            )
        return asked

    def usable(self, member: int) -> bool:
        """Is `member` connected and not suspected? True of this node itself unless it is fenced."""
        if member == self.self_number:
            return not self.fenced_because
        return self.transport.connected(member) and member not in self.detector.suspects
