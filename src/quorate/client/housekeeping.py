"""Housekeeping: learning the ring, and when to do what beside the calls. No IO: the shells send what is yielded here.

The ring comes from whichever node answers first: known members before the seeds, those in doubt last, and so that in
the long run every member is asked, for one that is cut off from the others knows of no newer ring. If all known members
are gone, the seeds are asked again. A known member is asked for a newer ring only; a seed that is no member has to show
its ring, so that a node of another cluster that now lives at a seed's address is found out (hard case 20).
"""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from typing import Any, Final

import msgspec

from quorate.client.commands import buckets_command, ring_command, ring_of_reply
from quorate.client.protocol import Command, FailureKind, Reply, failure_of
from quorate.client.routing import NodeT, Router
from quorate.core.errors import CallerError, PeerError, Unavailable
from quorate.core.limits import RECONNECT_DELAY_MIN_MS, REPLICAS_MAX, RING_POLL_INTERVAL_MS

_REFRESH_INTERVAL_MIN_MS: Final = 500
"""Between two questions for the ring, however many failures ask for it."""
_FADE_CHECK_INTERVAL_MS: Final = 1_000
_NOT_QUORATE = re.compile("unknown command", re.IGNORECASE)


class Timetable:
    """When the next ring poll, probe or fading is due. Times are monotonic milliseconds."""

    def __init__(self, now_ms: float) -> None:
        self._polled_ms = now_ms

    def wait_ms(self, router: Router[NodeT], now_ms: float) -> float:
        """How long there is nothing to do, unless a failure happens."""
        due = [self._polled_ms + RING_POLL_INTERVAL_MS, now_ms + _FADE_CHECK_INTERVAL_MS]
        if router.ring_wanted:
            due.append(self._polled_ms + _REFRESH_INTERVAL_MIN_MS)
        probe_ms = router.next_probe_ms()
        if probe_ms is not None:
            due.append(probe_ms)
        return max(RECONNECT_DELAY_MIN_MS / 2, min(due) - now_ms)

    def poll_is_due(self, router: Router[NodeT], now_ms: float) -> bool:
        """Whether to ask for the ring now; if so, the next poll is counted from now."""
        interval_ms = _REFRESH_INTERVAL_MIN_MS if router.ring_wanted else RING_POLL_INTERVAL_MS
        if now_ms - self._polled_ms < interval_ms:
            return False
        self._polled_ms = now_ms
        router.ring_wanted = False
        return True


def learn_ring(
    router: Router[NodeT], seeds: Sequence[str], to_close: list[NodeT]
) -> Generator[tuple[NodeT, Command], Reply, None]:
    """Yields (node, command) to send, wants the reply back, and installs the first ring that it gets.

    Whatever happens, the nodes in `to_close` are of no more use afterwards. Raises `Unavailable` if no node tells a
    ring, `CallerError` if one refuses to (a wrong password, or no Quorate node at all).
    """
    trail: list[str] = []
    for node in _sources(router, seeds, to_close):
        member = node not in to_close
        known = router.ring.version if router.ring is not None and member else None
        command = ring_command(known)
        reply = yield node, command
        if reply is None and known is not None:
            return
        if reply is None or not command.accepts(reply):
            trail.append(f"{node.address}: {_complaint(node.address, command, reply)}")
            continue
        try:
            ring, default_n = ring_of_reply(reply)
            departed = router.install(ring, node, default_n)
        except (PeerError, CallerError) as error:
            trail.append(f"{node.address}: {error}")
            continue
        to_close[:] = departed + [other for other in to_close if other is not node]
        answer = yield node, buckets_command()
        if buckets_command().accepts(answer):
            router.set_buckets(replicas_of_buckets(answer))
        return
    raise Unavailable(f"no node told the ring: {'; '.join(trail)}")


def _sources(router: Router[NodeT], seeds: Sequence[str], to_close: list[NodeT]) -> list[NodeT]:
    """Known nodes without doubt, the others, then seeds that are not among them (these are put into `to_close`)."""
    nodes = list(router.nodes.values())
    first = router.ring_questions % max(1, len(nodes))
    router.ring_questions += 1
    known = sorted(nodes[first:] + nodes[:first], key=lambda node: node.in_doubt)
    strangers = [router.make_node(address) for address in seeds if address not in router.nodes]
    to_close += strangers
    return known + strangers


def _complaint(address: str, command: Command, reply: Reply) -> str:
    failure = failure_of(command, reply)
    if failure.kind is FailureKind.REFUSED:
        if _NOT_QUORATE.search(failure.message):
            raise CallerError(f"{address} is not the client port of a Quorate node: {failure.message}")
        raise CallerError(f"{address}: {failure.message}")
    return failure.message


def replicas_of_buckets(reply: Reply) -> dict[bytes, int]:
    """Bucket → n from a reply to KV.BUCKETS. A reply without is no error: it only costs a forward."""
    try:
        document: Any = msgspec.json.decode(reply)
        rows = document.get("buckets", document)
        found = {name.encode(): row["n"] for name, row in rows.items() if isinstance(row, dict) and "n" in row}
    except (TypeError, AttributeError, msgspec.DecodeError):
        return {}
    return {name: n for name, n in found.items() if isinstance(n, int) and 1 <= n <= REPLICAS_MAX}
