"""What all parts of one node share: ports, view, records, the request table and the counters.

A plain bundle made once by `Node`, so that an operation holds one reference and not twelve.
"""

from __future__ import annotations

from quorate.core.causality.hybrid_logical_clock import HybridLogicalClock
from quorate.core.ports import Clock, Engine, Rng, Scheduler, Transport
from quorate.core.store import Failure
from quorate.node.cluster_view import ClusterView
from quorate.node.commit_queue import CommitQueue
from quorate.node.options import NodeOptions
from quorate.node.records import RecordStore
from quorate.node.requests import RequestTable


class NodeContext:
    """The shared parts of a node. Only `Node` makes one."""

    __slots__ = (
        "clock",
        "commits",
        "counters",
        "engine",
        "fenced_because",
        "hybrid_clock",
        "in_flight_bytes",
        "options",
        "records",
        "requests",
        "rng",
        "scheduler",
        "self_number",
        "suspects",
        "transport",
        "view",
    )

    clock: Clock
    commits: CommitQueue
    engine: Engine
    hybrid_clock: HybridLogicalClock
    options: NodeOptions
    records: RecordStore
    requests: RequestTable
    rng: Rng
    scheduler: Scheduler
    self_number: int
    transport: Transport
    view: ClusterView

    def __init__(self) -> None:
        self.counters: dict[str, int] = {}
        self.fenced_because = ""
        self.in_flight_bytes = 0
        self.suspects: dict[int, bool] = {}
        """Members that let a request wait too long and have not answered since: asked last."""

    def count(self, event: str, times: int = 1) -> None:
        self.counters[event] = self.counters.get(event, 0) + times

    def names(self, numbers: list[int]) -> list[str]:
        names = self.view.names
        return [names.get(number, f"#{number}") for number in numbers]

    def failure(self, kind: str, message: str, missing: list[int]) -> Failure:
        """A failure that names the replicas that did not answer."""
        return Failure(kind, message, self.names(sorted(missing)))  # type: ignore[arg-type]

    def nearest_first(self, members: tuple[int, ...], turn: int) -> list[int]:
        """Connected members in the order to ask them: rotated by `turn` to spread load, suspects last."""
        connected = self.transport.connected
        count = len(members)
        if count > 1:
            turn %= count
            members = members[turn:] + members[:turn]
        asked = [member for member in members if connected(member)]
        suspects = self.suspects
        if suspects and len(asked) > 1:
            asked.sort(key=suspects.__contains__)
        return asked
