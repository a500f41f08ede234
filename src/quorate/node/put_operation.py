"""One put at its coordinator: commit locally, send the whole record to the other replicas, answer after W acks.

The three outcomes are kept apart (hard case 31). Until the local commit nothing has happened, so a failure is "not
done". From the local commit on the value exists and read repair may spread it, so a failure is "unknown".

Stragglers are waited for until the deadline and no longer; read repair and later exchanges cover them.
"""

from __future__ import annotations

from collections.abc import Callable

from quorate.core.messages import Status, Write, WriteReply
from quorate.core.quorum.put_tally import FAIL, SUCCEED, PutTally
from quorate.core.store import Failure, PutResult
from quorate.node.cluster_view import BucketView, Placement
from quorate.node.context import NodeContext

PutReply = Callable[[PutResult | Failure], None]

_OK = int(Status.OK)


class PutOperation(PutTally):
    """A put in flight. Its tally is the pure base class; this adds the sending and the answering."""

    __slots__ = ("base", "body", "flags", "id", "key", "node", "others", "reply", "result", "size_bytes", "timeout_ms")

    def __init__(
        self,
        node: NodeContext,
        bucket: BucketView,
        placement: Placement,
        key: bytes,
        body: bytes,
        base: int,
        result: PutResult,
        w: int,
        timeout_ms: int,
        reply: PutReply,
    ) -> None:
        super().__init__(w, placement.replicas)
        self.node = node
        self.flags = bucket.flags
        self.others = placement.others
        self.key = key
        self.body = body
        self.base = base
        self.size_bytes = len(body)
        self.result = result
        self.timeout_ms = timeout_ms
        self.reply = reply
        node.in_flight_bytes += self.size_bytes
        self.id = node.requests.open(self, timeout_ms)

    def on_written(self, written: bool) -> None:
        """The record is with the operating system here: now, and not before, it may leave (see `commit_queue`)."""
        if not written:
            for member in self.awaited.copy():
                self._failed(member)
            return
        node = self.node
        send = node.transport.send
        message = Write(self.id, self.timeout_ms, node.view.ring.version, self.key, self.body, self.flags, self.base)
        self.body = b""
        for member in self.others:
            if not send(member, message):
                self._failed(member)

    def on_committed(self, durable: bool) -> None:
        """The local commit is as durable as the bucket asks."""
        if not durable:
            self._failed(self.node.self_number)
            return
        if self.on_acknowledged(self.node.self_number) == SUCCEED:
            self.reply(self.result)
        if not self.awaited:
            self._close()

    def on_reply(self, member: int, message: WriteReply) -> None:
        if message.status != _OK:
            self._failed(member)
            return
        if self.on_acknowledged(member) == SUCCEED:
            self.reply(self.result)
        if not self.awaited:
            self._close()

    def on_disconnected(self, member: int) -> None:
        if member in self.awaited:
            self._failed(member)

    def on_time(self) -> None:
        """The deadline."""
        for member in self.awaited:
            self.node.suspects[member] = True
        if self.on_deadline() == FAIL:
            self._answer_unknown()
        self._close()

    def _failed(self, member: int) -> None:
        if self.on_failed(member) == FAIL:
            self._answer_unknown()
        if not self.awaited:
            self._close()

    def _answer_unknown(self) -> None:
        message = f"{self.acknowledged} of {self.needed} replicas acknowledged the write, so it may or may not last"
        self.reply(self.node.failure("unknown", message, self.missing()))

    def _close(self) -> None:
        node = self.node
        if node.requests.pending.pop(self.id, None) is not None:
            node.in_flight_bytes -= self.size_bytes
