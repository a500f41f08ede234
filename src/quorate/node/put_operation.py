"""One put at its coordinator: commit locally, send the whole record to the others, answer after W acknowledgements.

The three outcomes are kept apart (hard case 31). Until the local commit nothing has happened, so a failure is "not
done". From the local commit on the value exists and will spread, so a failure is "unknown".

A home that is slow, refuses or disappears while the put is under way is replaced by the next fallback, within the
budget for retries. When the put ends, every home that did not acknowledge has its hint somewhere: at a fallback that
acknowledged it, or here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from quorate.core.errors import Overloaded, StorageError
from quorate.core.keyspace import split_storage_key
from quorate.core.messages import NO_BASE, HintedWrite, Status, Write, WriteReply
from quorate.core.quorum.joint_put_tally import JointPutTally
from quorate.core.quorum.put_tally import FAIL, SUCCEED, WAIT, PutTally
from quorate.core.store import Failure, PutResult
from quorate.node.cluster_view import BucketView, Placement
from quorate.node.context import NodeContext
from quorate.node.evidence import Evidence
from quorate.node.put_plan import PutPlan, plan_again, stand_in

PutReply = Callable[[PutResult | Failure], None]

_OK: Final = int(Status.OK)
_STALE_RING: Final = int(Status.STALE_RING)
_OVERLOADED: Final = int(Status.OVERLOADED)


class PutOperation(PutTally):
    """A put in flight. Its tally is the pure base class; this adds the sending and the answering."""

    __slots__ = (
        "again",
        "base",
        "body",
        "committed",
        "covered",
        "evidence",
        "flags",
        "hinted",
        "id",
        "key",
        "node",
        "own_home",
        "placement",
        "plan",
        "reply",
        "result",
        "sent",
        "since_ms",
        "strict",
        "timeout_ms",
        "uncovered",
        "version",
    )

    def __init__(
        self,
        node: NodeContext,
        bucket: BucketView,
        placement: Placement,
        plan: PutPlan,
        key: bytes,
        body: bytes,
        base: int,
        result: PutResult,
        w: int,
        timeout_ms: int,
        strict: bool,
        reply: PutReply,
        own_home: int,
    ) -> None:
        """`own_home`: the home that this node's own copy is for; 0: it has none that counts."""
        super().__init__(w, node.self_number, plan.targets)
        self.node = node
        self.flags = bucket.flags
        self.placement = placement
        self.plan = plan
        self.hinted = plan.hinted.copy()
        self.own_home = own_home
        self.version = node.view.version
        """Of the ring that this put goes by, from its beginning to its end."""
        self.covered: list[int] = []
        """Homes that have acknowledged, or whose stand-in has."""
        self.uncovered: list[int] = []
        """Homes that did not acknowledge and for which no fallback holds a hint yet."""
        self.since_ms = 0
        """As in `messages.HintedWrite`: not 0 only if this node coordinates as a fallback."""
        self.sent = False
        """The record was written here, and has left."""
        self.committed: bool | None = None
        """Is the local commit as durable as the bucket asks? None: it is under way."""
        self.again: PutOperation | None = None
        """What this put was begun again as, while its commit was under way."""
        self.key = key
        self.body = body
        self.base = base
        self.result = result
        self.timeout_ms = timeout_ms
        self.strict = strict
        self.reply = reply
        self.evidence = Evidence(node, read=False)
        node.in_flight += 1
        node.in_flight_bytes += len(body)
        self.id = node.requests.open(self, min(node.options.retry_ms, timeout_ms))

    def on_written(self, written: bool) -> None:
        """The record is with the operating system here: now, and not before, it may leave (see `commit_queue`)."""
        if not written:
            for member in self.awaited.copy():
                self._settle(self.on_failed(member))
            return
        if not self.body:
            return  # The deadline came first, and every home has its hint.
        self.sent = True
        node = self.node
        send = node.transport.send
        message = Write(self.id, self.timeout_ms, self.version, self.key, self.body, self.flags, self.base)
        planned = list(self.hinted.items()) if self.hinted else ()
        for member in self.plan.direct:
            if not send(member, message):
                self._lost(member)
        for member, home in planned:
            self._send_hinted(member, home)
        for home in self.plan.orphans:
            self._keep(home)

    def on_committed(self, durable: bool) -> None:
        """The local commit is as durable as the bucket asks."""
        self.committed = durable
        if self.again is not None:
            self.again.on_own_copy(durable)
            return
        member = self.node.self_number
        self._settle(self._held_by(member, self.own_home) if durable else self.on_failed(member))

    def on_own_copy(self, durable: bool) -> None:
        """The copy that was written here before this put was begun again; it counts if this node is a home still."""
        self.on_committed(durable and bool(self.own_home))

    def _held_by(self, member: int, home: int) -> int:
        """`member` holds the record durably, for `home`. Each home counts once.

        A slow home and its stand-in may both acknowledge; but the stand-in's hint may have gone home by then, and what
        was two copies is one.
        """
        if self.hinted or self.own_home != self.node.self_number:
            if home in self.covered:
                return self.on_failed(member)
            self.covered.append(home)
        return self.on_acknowledged(member)

    def on_reply(self, member: int, message: WriteReply) -> None:
        self.evidence.answered(member)
        status = message.status
        if status == _OK:
            self._settle(self._held_by(member, self.hinted.get(member, member)))
            return
        if status == _OVERLOADED:
            # What is shed there must not fall on the next node as well, or overload spreads (hard case 32).
            self._lost(member, self.node.retries.take())
            return
        if status == _STALE_RING and not self.decided:
            self.node.rings.when_newer(self.version, self._begin_again)
            return
        self._lost(member)

    def on_disconnected(self, member: int) -> None:
        if member in self.awaited:
            self._lost(member)

    def owed(self) -> Iterable[tuple[int, float]]:
        me = self.node.self_number
        return [(member, self.evidence.asked_ms(member)) for member in self.awaited if member != me and self.sent]

    def on_silent(self, member: int) -> None:
        """A write is not sent anywhere else for that: the rest of W is on its way, and the home may be back soon."""

    def on_time(self) -> None:
        """First a reminder that some replica is slow, then the deadline."""
        node = self.node
        now_ms = node.clock.monotonic_ms()
        waited_ms = now_ms - self.evidence.started_ms
        slow = [member for member in self.awaited if member != node.self_number]
        self.evidence.silent(slow, now_ms)
        if waited_ms < self.timeout_ms:
            for member in slow:
                if member in self.placement.homes and not self.decided:
                    self._ask_stand_in(member, paid=False)
            node.requests.remind(self.id, self.timeout_ms - waited_ms)
            return
        for member in slow:
            self.uncovered.append(self.hinted.get(member, member))
        if not self.sent:
            self.uncovered += self.plan.orphans
        verdict = self.on_deadline()
        self.awaited.clear()
        self._settle(verdict, slow)

    def _lost(self, member: int, may_replace: bool = True) -> None:
        """`member` refused or went away: somebody else takes its place before the quorum is given up."""
        if member not in self.awaited:
            return
        home = self.hinted.pop(member, member)
        if not may_replace or home == self.node.self_number or not self._ask_stand_in(home, member):
            self.uncovered.append(home)
        self._settle(self.on_failed(member))

    def _ask_stand_in(self, home: int, instead_of: int = 0, paid: bool = True) -> bool:
        """Send the record to one more fallback, with a hint for `home`; False if none is left or may be asked.

        Unless it is `paid`, which a sure loss is, the budget for retries has to allow it.
        """
        if self.strict or not self.body or home in self.hinted.values():
            return False
        if home == self.own_home or home in self.covered:
            return False  # It would count for nothing; let it stand in for another.
        taken = [*self.awaited, *self.failed, *self.hinted, instead_of]
        member = stand_in(self.node, self.placement, taken)
        if not member or not (paid or self.node.retries.take()):
            return False
        self.node.count("writes_stood_in")
        self.evidence.asked_late(member)
        self.hinted[member] = home
        self.await_also(member)
        self._send_hinted(member, home)
        return True

    def _send_hinted(self, member: int, home: int) -> None:
        node = self.node
        remaining_ms = max(1, int(self.timeout_ms - (node.clock.monotonic_ms() - self.evidence.started_ms)))
        message = HintedWrite(self.id, remaining_ms, self.version, home, self.key, self.body, self.flags, self.since_ms)
        if not node.transport.send(member, message):
            self._lost(member)

    def _settle(self, verdict: int, silent: list[int] | None = None) -> None:
        """Answer if the tally has decided, and let the operation go when nobody is awaited any more."""
        if verdict == WAIT and not self.awaited and not self.decided:
            # A put that was begun again may find fewer homes and stand-ins than its w takes.
            verdict = self.on_deadline()
        if verdict == SUCCEED:
            self._answer(self.result, self.awaited)
        elif verdict != WAIT:
            assert verdict == FAIL
            text = f"{self.acknowledged} of {self.needed} replicas acknowledged the write, so it may or may not last"
            missing = [*self.failed, *self.awaited, *(silent or ())]
            self._answer(self.node.failure("unknown", text, missing), missing)
        if not self.awaited:
            self._close()

    def _begin_again(self) -> None:
        """The ring has moved on: what was acknowledged under the older one counts for nothing (rule T of
        `core.ring.advance`). The record is the same, so whoever holds it already only says so once more."""
        node = self.node
        left_ms = int(self.timeout_ms - (node.clock.monotonic_ms() - self.evidence.started_ms))
        if self.decided or not self.sent or not self.body or left_ms <= 0:
            return  # The deadline, or what goes on here, has the last word.
        body, w = self.body, self.needed
        self.on_deadline()  # Nothing that comes later decides it any more.
        self.awaited.clear()
        self.uncovered.clear()
        node.in_flight -= 1
        node.count("requests_begun_again")
        self._close()
        partition, name, _ = split_storage_key(self.key)
        bucket = node.view.bucket(name)
        placement = bucket.placements[partition]
        plan = plan_again(node, placement, self.strict)
        own_home = node.self_number if placement.stores else 0
        again = make_put(
            node,
            bucket,
            placement,
            plan,
            self.key,
            body,
            NO_BASE,
            self.result,
            w,
            left_ms,
            self.strict,
            self.reply,
            own_home,
        )
        again.since_ms = self.since_ms
        again.on_written(True)
        if self.committed is None:
            self.again = again
        else:
            again.on_own_copy(self.committed)

    def refuse(self, failure: Failure) -> None:
        """Nothing could be kept here, and nothing has left: the put is not done."""
        self.decided = True
        self.awaited.clear()
        self._answer(failure, ())
        self._close()

    def _answer(self, result: PutResult | Failure, awaited: Sequence[int]) -> None:
        node = self.node
        node.in_flight -= 1
        weight = self.evidence.weight
        if weight:
            now_ms = node.clock.monotonic_ms()
            latency_ms = now_ms - self.evidence.started_ms
            node.on_answered(latency_ms, now_ms, awaited)
            node.measures.put_latency.record(latency_ms, weight)
        node.measures.puts["ok" if result is self.result else result.kind] += 1  # type: ignore[union-attr]
        self.reply(result)

    def _close(self) -> None:
        node = self.node
        if node.requests.pending.pop(self.id, None) is None:
            return
        node.in_flight_bytes -= len(self.body)
        if self.uncovered:
            for home in dict.fromkeys(self.uncovered):
                if home in self.placement.homes:
                    self._keep(home)
        self.body = b""

    def _keep(self, home: int) -> None:
        """Keep the hint for `home` here."""
        node = self.node
        if home == node.self_number:
            return
        if node.fenced_because:
            node.count("hints_lost")
            return
        try:
            node.hints.keep(home, self.key, self.body, self.flags, 0, since_ms=self.since_ms)
        except (Overloaded, StorageError):
            node.count("hints_lost")


class JointPutOperation(PutOperation):
    """A put to a partition that has two sides: W of each make it (`core.ring.joint`)."""

    __slots__ = ("_joint", "_lent")

    def __init__(
        self,
        node: NodeContext,
        bucket: BucketView,
        placement: Placement,
        plan: PutPlan,
        key: bytes,
        body: bytes,
        base: int,
        result: PutResult,
        w: int,
        timeout_ms: int,
        strict: bool,
        reply: PutReply,
        own_home: int,
    ) -> None:
        super().__init__(node, bucket, placement, plan, key, body, base, result, w, timeout_ms, strict, reply, own_home)
        self._lent = list(self.plan.orphans)
        """Homes that nobody can stand in for: their sides borrow."""
        asked = {member: self._home_of(member) for member in self.awaited}
        self._joint = JointPutTally(self.needed, placement.sides, asked, () if self.strict else self._lent)

    def _home_of(self, member: int) -> int:
        return self.own_home if member == self.node.self_number else self.hinted.get(member, member)

    def on_acknowledged(self, member: int) -> int:
        if member in self.awaited:
            self.awaited.remove(member)
            self.acknowledged += 1
        return self._decided(self._joint.on_acknowledged(member))

    def on_failed(self, member: int) -> int:
        if member in self.awaited:
            self.awaited.remove(member)
            self.failed.append(member)
        return self._decided(self._joint.on_failed(member))

    def _ask_stand_in(self, home: int, instead_of: int = 0, paid: bool = True) -> bool:
        asked = super()._ask_stand_in(home, instead_of, paid)
        wanted = home != self.own_home and home not in self.covered and home not in self.hinted.values()
        gone = not self.node.usable(home)  # One that is only slow is waited for.
        if not asked and wanted and gone and self.body and not self.strict and home not in self._lent:
            taken = [*self.awaited, *self.failed, *self.hinted, instead_of]
            if not stand_in(self.node, self.placement, taken):
                self._lent.append(home)
                self._settle(self._decided(self._joint.lend(home)))
        return asked

    def await_also(self, member: int) -> None:
        super().await_also(member)
        self._joint.await_also(member, self._home_of(member))

    def on_deadline(self) -> int:
        return self._decided(self._joint.on_deadline())

    def _decided(self, verdict: int) -> int:
        self.decided = self._joint.decided
        return verdict


def make_put(
    node: NodeContext,
    bucket: BucketView,
    placement: Placement,
    plan: PutPlan,
    key: bytes,
    body: bytes,
    base: int,
    result: PutResult,
    w: int,
    timeout_ms: int,
    strict: bool,
    reply: PutReply,
    own_home: int,
) -> PutOperation:
    """The operation for a put to this partition; the arguments are those of `PutOperation`."""
    if placement.sides:
        return JointPutOperation(
            node, bucket, placement, plan, key, body, base, result, w, timeout_ms, strict, reply, own_home
        )
    return PutOperation(node, bucket, placement, plan, key, body, base, result, w, timeout_ms, strict, reply, own_home)
