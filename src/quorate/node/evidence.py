"""What the requests of clients tell the failure detector about the peers that they were sent to.

A peer answers for the time since it was asked itself, not since the request began; and one request is one observation,
however often its operation looks at the clock.
"""

from __future__ import annotations

from collections.abc import Sequence

from quorate.node.context import NodeContext


class Evidence:
    """When the members of one operation were asked, and who was reported as silent."""

    __slots__ = ("_asked_late_ms", "_node", "_reported", "started_ms")

    def __init__(self, node: NodeContext) -> None:
        self._node = node
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
        now_ms = node.clock.monotonic_ms()
        node.detector.on_answer(member, now_ms - self._asked_ms(member))

    def silent(self, awaited: Sequence[int], now_ms: float) -> None:
        """Report those of `awaited` that were asked long enough ago, each of them once."""
        node = self._node
        for member in awaited:
            waited_ms = now_ms - self._asked_ms(member)
            if member == node.self_number or waited_ms < node.options.retry_ms:
                continue
            if self._reported is None:
                self._reported = []
            if member not in self._reported:
                self._reported.append(member)
                node.detector.on_timeout(member, waited_ms, now_ms)

    def _asked_ms(self, member: int) -> float:
        late = self._asked_late_ms
        return self.started_ms if late is None else late.get(member, self.started_ms)
