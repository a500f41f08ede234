"""Listening: who owes this node an answer and says nothing (see `core.membership.silence`), and what follows.

Looked at once in a turn of the wheel that all requests share, so it costs a request nothing: in a healthy cluster
hardly one in flight is old enough to be looked at. When a turn came late, this node was busy or stopped, and what its
peers have said may lie unread: then nobody is judged.

When a peer falls silent the operations that await it are told, once, and may ask somebody else within their budgets.
"""

from __future__ import annotations

from itertools import islice

from quorate.core.membership.silence import SILENT_MS
from quorate.node.context import NodeContext
from quorate.node.requests import TICK_MS

LATE_MS = TICK_MS / 2
"""A turn that came so late judges nobody."""
OPERATIONS_LOOKED_AT_MAX = 512
"""In one turn. They are the oldest, and a peer that is silent keeps many waiting."""


def listen(node: NodeContext, now_ms: float, late_ms: float) -> None:
    """Judge who is silent, and tell the operations that await them."""
    if late_ms > LATE_MS:
        return
    asked_ms: dict[int, float] = {}
    for operation in islice(node.requests.aged(), OPERATIONS_LOOKED_AT_MAX):
        for member, when_ms in operation.owed():
            if when_ms < asked_ms.get(member, now_ms - SILENT_MS):
                asked_ms[member] = when_ms
    heard_ms = node.transport.heard_ms
    quiet_ms = {member: now_ms - max(when_ms, heard_ms(member)) for member, when_ms in asked_ms.items()}
    for member in node.detector.judge_silence(quiet_ms, now_ms):
        node.count("peers_silent")
        for operation in list(node.requests.pending.values()):
            operation.on_silent(member)
