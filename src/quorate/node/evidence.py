"""What the requests of clients tell the failure detector about the peers that they were sent to, and what is told of
staleness is worked out from (`core.staleness`).

A peer answers for the time since it was asked itself, not since the request began; and one request is one observation,
however often its operation looks at the clock.

Under load one request in `OBSERVED_UNDER_LOAD` is observed, and stands for as many: at thousands a second the others
say nothing new, and each would pay for it. Silence is always reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from quorate.node.context import NodeContext

OBSERVED_UNDER_LOAD: Final = 8
LOAD_REQUESTS_PER_TICK: Final = 100
"""Requests in a tick of `health` above which not all of them are observed."""


class Evidence:
    """When the members of one operation were asked, and who was reported as silent."""

    __slots__ = ("_asked_late_ms", "_node", "_read", "_reported", "started_ms", "weight")

    def __init__(self, node: NodeContext, read: bool) -> None:
        self._node = node
        self._read = read
        self.weight = node.observation_weight(read)
        """How many requests this one stands for; 0: it is not observed."""
        self.started_ms = node.clock.monotonic_ms()
        self._asked_late_ms: dict[int, float] | None = None
        self._reported: list[int] | None = None

    def asked_late(self, member: int) -> None:
        """`member` was asked only now."""
        if self._asked_late_ms is None:
            self._asked_late_ms = {}
        self._asked_late_ms[member] = self._node.clock.monotonic_ms()

    def answered(self, member: int) -> None:
        node = self._node
        if self.weight or member in node.detector.suspects:
            now_ms = node.clock.monotonic_ms()
            waited_ms = now_ms - self.asked_ms(member)
            node.detector.on_answer(member, waited_ms, self.weight or 1)
            node.legs.observe(member, self._read, waited_ms, node.dispatch.reply_age_ms, now_ms)

    def silent(self, awaited: Sequence[int], now_ms: float) -> None:
        """Report those of `awaited` that were asked long enough ago, each of them once."""
        node = self._node
        for member in awaited:
            waited_ms = now_ms - self.asked_ms(member)
            if member == node.self_number or waited_ms < node.options.retry_ms:
                continue
            if self._reported is None:
                self._reported = []
            if member not in self._reported:
                self._reported.append(member)
                node.detector.on_timeout(member, waited_ms, now_ms)

    def asked_ms(self, member: int) -> float:
        """When `member` was asked."""
        late = self._asked_late_ms
        return self.started_ms if late is None else late.get(member, self.started_ms)
