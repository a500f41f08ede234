"""Requests for partitions that this node does not hold: handed to a replica, which coordinates them.

A forward is never forwarded again, and the target is the only coordinator (hard case 5). A get may be handed to
another replica whenever the first does not answer. A put may be only if it certainly did not arrive, or if it carries
an operation id, so that a second coordination is recognised as the same write.

The last third of a put's time belongs to this node itself: replicas that are connected and silent, as all are in the
first second of a partition, must not use it up. Whoever coordinates then, a write that may have arrived somewhere
never ends as "not done" (hard case 31). A get has no such way out: a fallback that holds nothing proves nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from quorate.core.messages import ForwardGet, ForwardPut, ForwardReply
from quorate.core.store import Failure, GetRequest, PutRequest
from quorate.node.cluster_view import Placement
from quorate.node.context import NodeContext


class ForwardOperation:
    """One client request in the hands of another node."""

    __slots__ = (
        "attempt_ms",
        "blamed",
        "candidates",
        "homes_only",
        "id",
        "may_have_arrived",
        "node",
        "placement",
        "reply",
        "request",
        "sent_ms",
        "stand_in",
        "started_ms",
        "target",
        "timeout_ms",
        "version",
    )

    def __init__(
        self,
        node: NodeContext,
        placement: Placement,
        request: GetRequest | PutRequest,
        timeout_ms: int,
        reply: Callable[[Any], None],
        stand_in: Callable[[int, Callable[[Any], None]], None],
        homes_only: bool,
    ) -> None:
        """With `homes_only` replicas that are suspected are asked if there are no others; else `stand_in` is called."""
        self.node = node
        self.version = node.view.version
        self.stand_in = stand_in
        self.homes_only = homes_only
        self.placement = placement
        self.request = request
        self.timeout_ms = timeout_ms
        self.reply = reply
        # A replica itself hands it on while it is fenced, or being filled: never to itself.
        candidates = node.nearest_first(placement.others, node.requests.next_turn())
        self.candidates = [member for member in candidates if node.usable(member)]
        if homes_only and not self.candidates:
            self.candidates = candidates
        self.started_ms = node.clock.monotonic_ms()
        self.attempt_ms = timeout_ms / 3
        self.sent_ms = self.started_ms
        self.blamed = False
        self.target = 0
        self.may_have_arrived = False
        self.id = 0

    def start(self) -> None:
        node = self.node
        node.in_flight += 1
        node.retries.earn()
        self.id = node.requests.open(self, self.attempt_ms)
        self._next_target()

    def on_reply(self, member: int, message: ForwardReply) -> None:
        if member != self.target:
            return
        node = self.node
        node.detector.on_answer(member, node.clock.monotonic_ms() - self.sent_ms)
        result = message.result
        if isinstance(result, Failure) and result.kind == "stale":
            # It did nothing, and goes by a newer ring, in which others coordinate.
            if self._may_be_repeated():
                node.rings.when_newer(self.version, self._begin_again)
            else:
                self._give_up()
            return
        if isinstance(result, Failure) and result.kind != "unknown":
            # This target did nothing. Another one may still, and one that fell silent may already have. What one
            # sheds must not fall on all the others as well, beyond the budget (hard case 32).
            if self.candidates and (
                result.kind == "unavailable" or (result.kind == "overloaded" and node.retries.take())
            ):
                self._next_target()
                return
            if self.may_have_arrived and isinstance(self.request, PutRequest):
                self._give_up()
                return
        self._finish(result)

    def on_disconnected(self, member: int) -> None:
        if member == self.target:
            self.may_have_arrived = True
            self._retry_or_give_up()

    def owed(self) -> Iterable[tuple[int, float]]:
        return ((self.target, self.sent_ms),)

    def on_silent(self, member: int) -> None:
        """A get is handed to another replica at once; a put, which may be under way there, when its time has come."""
        if member != self.target or not isinstance(self.request, GetRequest) or not self.candidates:
            return
        if self.candidates[0] not in self.node.detector.silent and self.node.retries.take():
            self._next_target()

    def on_time(self) -> None:
        self.may_have_arrived = True
        node = self.node
        now_ms = node.clock.monotonic_ms()
        if not self.blamed:
            self.blamed = True
            node.detector.on_timeout(self.target, now_ms - self.sent_ms, now_ms)
        remaining_ms = self._remaining_ms()
        last_third = remaining_ms < 1.5 * self.attempt_ms
        if remaining_ms <= 0 or (last_third and self._may_be_taken_over() and node.retries.take()):
            self._give_up()
        elif self._may_be_repeated() and self.candidates and node.retries.take():
            self.node.requests.remind(self.id, min(self.attempt_ms, remaining_ms))
            self._next_target()
        else:
            self.node.requests.remind(self.id, remaining_ms if last_third else self.attempt_ms)

    def _remaining_ms(self) -> float:
        return self.timeout_ms - (self.node.clock.monotonic_ms() - self.started_ms)

    def _may_be_repeated(self) -> bool:
        return isinstance(self.request, GetRequest) or self.request.operation != 0 or not self.may_have_arrived

    def _may_be_taken_over(self) -> bool:
        """May this node coordinate the request, although a replica may be doing so?"""
        return isinstance(self.request, PutRequest) and self.request.operation != 0 and not self.homes_only

    def _retry_or_give_up(self) -> None:
        if self._may_be_repeated() and self.candidates:
            self._next_target()
        else:
            self._give_up()

    def _next_target(self) -> None:
        node = self.node
        remaining_ms = max(1, int(self._remaining_ms()))
        version = self.version
        while self.candidates:
            self.target = self.candidates.pop(0)
            request = self.request
            message = (
                ForwardGet(self.id, remaining_ms, version, request)
                if isinstance(request, GetRequest)
                else ForwardPut(self.id, remaining_ms, version, request)
            )
            if node.transport.send(self.target, message):
                self.sent_ms = node.clock.monotonic_ms()
                self.blamed = False
                node.count("forwards")
                return
        self._give_up()

    def _give_up(self) -> None:
        node = self.node
        remaining_ms = int(self._remaining_ms())
        if remaining_ms > 0 and (not self.may_have_arrived or self._may_be_taken_over()):
            # Nothing has happened, or doing it twice is harmless: this node coordinates it as a fallback.
            self._close()
            node.count("forwards_taken_over", int(self.may_have_arrived))
            self.stand_in(remaining_ms, self._or_unknown if self.may_have_arrived else self.reply)
            return
        replicas = list(self.placement.replicas)
        if isinstance(self.request, PutRequest) and self.may_have_arrived:
            target = node.names([self.target])[0]
            failure = node.failure("unknown", f"the write was handed to {target}, which did not answer", [])
        else:
            failure = node.failure("unavailable", "no replica of this key could be reached", replicas)
        failed = node.get_failed if isinstance(self.request, GetRequest) else node.put_failed
        self._finish(failed(failure))

    def _begin_again(self) -> None:
        """Place the request anew, under the newer ring."""
        node = self.node
        left_ms = int(self._remaining_ms())
        if self.id not in node.requests.pending or left_ms <= 0:
            return
        self._close()
        node.count("requests_begun_again")
        reply = self._or_unknown if self.may_have_arrived else self.reply
        request = msgspec.structs.replace(self.request, timeout_ms=left_ms)
        if isinstance(request, GetRequest):
            node.get_again(request, reply)
        else:
            node.put_again(request, reply)

    def _or_unknown(self, result: Any) -> None:
        """The stand-in's result, which if it is a failure says nothing of the target that fell silent."""
        if isinstance(result, Failure) and result.kind != "unknown":
            text = f"a replica that did not answer may have done it, and the fallback did not: {result.message}"
            result = Failure("unknown", text, result.missing)
        self.reply(result)

    def _finish(self, result: Any) -> None:
        self._close()
        self.reply(result)

    def _close(self) -> None:
        self.node.in_flight -= 1
        self.node.requests.close(self.id)
