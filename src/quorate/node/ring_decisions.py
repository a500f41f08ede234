"""Decisions: having the members decide on a newer ring (`core.membership.ring_proposer`), and voting on others' rings.

`decide` takes a *change*, a function from the present metadata to the wanted ones, and not a ring: if another ring is
decided meanwhile, the change is made once more upon that one. So of two changes at once both happen, one after the
other, or the second is refused by its own function with a reason (hard case 11: no two histories).

One change at a time; a second one waits for the first. A ring that this node voted for and never saw decided is
proposed again after a while by whoever notices first: its proposer may be gone (hard case 19).

Invariants: an attempt's messages leave only after the proposer's own promise is durable; attempts, their time and the
waits between them are bounded; the outcome is "decided", "refused", or honestly "unknown".
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Final

from quorate.core.errors import CallerError, QuorateError, Unavailable
from quorate.core.membership.ring_consensus import (
    NO_BALLOT,
    Accept,
    Announcement,
    Ballot,
    Prepare,
    Reply,
    RingValue,
)
from quorate.core.membership.ring_ledger import Held
from quorate.core.membership.ring_proposer import ATTEMPT_TIMEOUT_MS, End, Outcome, Outgoing, Proposer, retry_delay_ms
from quorate.core.ring.metadata import ClusterMetadata, check_succession, of_value, to_value
from quorate.core.store import Failure
from quorate.node.context import NodeContext

log = logging.getLogger(__name__)

WAITING_MAX: Final = 64
"""Changes that wait for another one."""
UNFINISHED_AFTER_MS: Final = 3_000.0
"""A vote without a decision for so long: its proposer is taken for gone."""
CHECK_INTERVAL_MS: Final = 500.0

Change = Callable[[ClusterMetadata], ClusterMetadata]
"""The present metadata → what shall follow. Raises `CallerError` if that makes no sense (any more)."""
Decided = Callable[[Failure | None], None]


class _Request:
    """One change on its way."""

    __slots__ = ("attempts", "change", "decided", "done", "highest", "proposed", "sent")

    def __init__(self, change: Change, done: Decided) -> None:
        self.change = change
        self.done = done
        self.attempts = 0
        self.sent = False
        """Others have been asked, so what becomes of it is not in this node's hands alone."""
        self.highest = NO_BALLOT
        self.proposed: RingValue | None = None
        """What was proposed last, and may come to be decided yet."""
        self.decided = False
        """The node has heard of `proposed` as a decided ring: whoever had it decided, it was."""


class RingDecisions:
    """Both sides of the consensus, for one node."""

    def __init__(self, node: NodeContext) -> None:
        self._node = node
        self._chain = node.rings.chain
        self._waiting: deque[_Request] = deque()
        self._current: _Request | None = None
        self._proposer: Proposer | None = None
        self._attempt = 0
        self._unfinished: RingValue | None = None
        self._unfinished_since_ms = 0.0

    def start(self) -> None:
        self._node.scheduler.call_later(CHECK_INTERVAL_MS, self._look_for_unfinished)

    def on_ring(self) -> None:
        """The node goes by another ring. It may be the one that it has proposed, brought to its end by another
        proposer, and superseded by the time of the next attempt."""
        request = self._current
        if request is not None and self._chain.confirmed == request.proposed:
            request.decided = True

    # --- proposing ---

    def decide(self, change: Change, done: Decided) -> None:
        """Have `change` decided; `done(None)` when the node goes by it, else `done(failure)`."""
        if len(self._waiting) >= WAITING_MAX:
            done(Failure("overloaded", "too many changes of the ring wait for each other", [], 1_000))
            return
        self._waiting.append(_Request(change, done))
        self._next()

    def force(self, make: Callable[[ClusterMetadata], ClusterMetadata], done: Decided) -> None:
        """Put what `make` gives above the present ring without asking anybody (an operator's word)."""
        node = self._node
        try:
            value = to_value(make(of_value(self._chain.ring)), self._chain.ring.forced + 1)
            held = self._chain.force(value)
        except CallerError as error:
            done(Failure("caller", str(error)))
            return
        log.warning("ring version %d is forced by an operator, without a majority", value.version)

        def forced(announcement: Announcement) -> None:
            self._announce(announcement.ring)
            done(None)

        node.rings.settle(held, forced, lambda: done(self._disk_failure(sent=False)))

    def _next(self) -> None:
        if self._current is None and self._waiting:
            self._current = self._waiting.popleft()
            self._try()

    def _finish(self, failure: Failure | None) -> None:
        request, self._current, self._proposer = self._current, None, None
        assert request is not None
        self._node.scheduler.call_soon(self._next)
        request.done(failure)

    def _try(self) -> None:
        """One more attempt at the current change, upon the ring as it is now."""
        request, node = self._current, self._node
        assert request is not None
        base = self._chain.ring
        if request.decided or base == request.proposed:
            request.decided = True  # Not `on_ring`'s word alone: it comes when the disk has the ring.
            self._keep(request, base)
            return
        if node.fenced_because and not node.view.told:
            self._give_up(base, Failure("unavailable", f"this node is fenced: {node.fenced_because}"))
            return
        try:
            before = of_value(base)
            after = request.change(before)
            check_succession(before, after)
            request.proposed = to_value(after, base.forced)
            held = self._chain.begin(request.proposed, request.highest)
        except CallerError as error:
            self._give_up(base, Failure("caller", str(error)))
            return
        except Unavailable as error:
            self._give_up(base, Failure("unavailable", str(error)))
            return
        attempt = self._timed(request)
        node.rings.settle(held, lambda proposer: self._begun(attempt, proposer), lambda: self._disk_failed(request))

    def _timed(self, request: _Request) -> int:
        """Count one more attempt, which ends in time. Returns its number."""
        request.attempts += 1
        self._attempt += 1
        attempt = self._attempt
        self._node.scheduler.call_later(ATTEMPT_TIMEOUT_MS, lambda: self._on_timeout(attempt))
        return attempt

    def _keep(self, request: _Request, ring: RingValue) -> None:
        """It was decided. It is done when this node goes by it, or by what followed; a slow disk may not hold `ring`,
        the newest, yet."""
        assert request.proposed is not None
        if self._chain.confirmed.position >= request.proposed.position:
            self._finish(None)
            return
        attempt = self._timed(request)

        def kept(_: object) -> None:
            if attempt == self._attempt and self._current is request:
                self._finish(None)

        self._node.rings.settle(self._chain.learn(ring), kept, lambda: self._disk_failed(request))

    def _give_up(self, base: RingValue, failure: Failure) -> None:
        """The change cannot be tried (again) upon `base`. "Not done" is only true if nothing that was proposed for it
        can have been decided, or come to be: nothing was, or another ring has taken its place (hard case 31)."""
        request = self._current
        assert request is not None
        if request.sent and request.proposed is not None and base.version != request.proposed.version:
            text = f"the change was proposed, and may have been decided before this came in its way: {failure.message}"
            failure = Failure("unknown", text)
        self._finish(failure)

    def _disk_failed(self, request: _Request) -> None:
        """The ledger cannot be written any more: this node takes part in no decision until it is restarted."""
        if self._current is request:
            self._attempt += 1
            self._finish(self._disk_failure(request.sent))

    def _disk_failure(self, sent: bool) -> Failure:
        cause = f"this node could not write down the ring: {self._node.fenced_because}"
        if sent:
            return Failure("unknown", f"{cause}; the others may have decided it: ask another node")
        return Failure("unavailable", f"{cause}; give the command to another node")

    def _begun(self, attempt: int, proposer: Proposer) -> None:
        if attempt == self._attempt and self._current is not None:
            self._proposer = proposer
            self._current.sent = True
            self._send(proposer.start())

    def _send(self, outgoing: list[Outgoing]) -> None:
        node, proposer = self._node, self._proposer
        for member, message in outgoing:
            if member != node.self_number:
                node.transport.send(member, message)
            elif isinstance(message, Prepare):
                self._answer(self._chain.on_prepare(member, message), member)
            else:
                self._answer(self._chain.on_accept(member, message), member)
        if proposer is not None and proposer is self._proposer and proposer.outcome is not None:
            self._ended(proposer.outcome)

    def on_reply(self, member: int, reply: Reply) -> None:
        """A voter's promise, assent or refusal."""
        proposer = self._proposer
        if proposer is not None:
            self._send(proposer.on_reply(member, reply))

    def _on_timeout(self, attempt: int) -> None:
        if attempt != self._attempt or self._current is None:
            return
        proposer = self._proposer
        if proposer is None:
            # The disk has not answered yet. Should it do so before the next attempt, this one would have no time limit.
            self._attempt += 1
            self._retry()
        elif proposer.outcome is None:
            proposer.on_timeout()
            self._send([])

    def _ended(self, outcome: Outcome) -> None:
        request = self._current
        assert request is not None
        self._proposer = None
        self._attempt += 1  # Whatever comes of it later comes too late.
        ring = outcome.ring
        if ring is None:
            self._retry(max(outcome.highest, request.highest))
            return
        ours = outcome.end is End.DECIDED and ring == request.proposed

        def learned(_: object) -> None:
            if outcome.end is End.DECIDED:
                self._announce(ring)
            if self._current is not request:
                return
            if ours:
                self._finish(None)
            else:
                self._retry(soon=True)

        self._node.rings.settle(self._chain.learn(ring), learned, lambda: self._disk_failed(request))

    def _retry(self, highest: Ballot | None = None, soon: bool = False) -> None:
        """Try once more, above `highest` if that is given, after a while or `soon`; or give up."""
        request, node = self._current, self._node
        assert request is not None
        self._proposer = None
        if highest is not None:
            request.highest = highest
        delay_ms = retry_delay_ms(max(1, request.attempts), node.rng)
        if delay_ms is None:
            text = "no majority of the members answered in time: the change may or may not be decided yet"
            if request.decided:
                text = "the change was decided, and this node's disk does not take it: ask another node"
            self._finish(Failure("unknown", text))
            return

        def again() -> None:
            if self._current is request and self._proposer is None:
                self._try()

        node.scheduler.call_later(0.0 if soon else delay_ms, again)

    def _announce(self, ring: RingValue) -> None:
        """Tell everybody who is connected: it costs one message each, a few times a day."""
        for member in self._node.view.other_numbers:
            self._node.rings.tell(member)

    # --- voting ---

    def on_prepare(self, member: int, message: Prepare) -> None:
        """Raises `PeerError`."""
        self._answer(self._chain.on_prepare(member, message), member)

    def on_accept(self, member: int, message: Accept) -> None:
        """Raises `PeerError`."""
        of_value(message.value)  # A ring that cannot be read must never be decided.
        self._answer(self._chain.on_accept(member, message), member)

    def _answer(self, held: Held[Reply], member: int) -> None:
        node = self._node

        def reply(answer: Reply) -> None:
            if member == node.self_number:
                self.on_reply(member, answer)
            else:
                node.transport.send(member, answer)

        node.rings.settle(held, reply)

    # --- what others have left unfinished ---

    def _look_for_unfinished(self) -> None:
        node = self._node
        node.scheduler.call_later(CHECK_INTERVAL_MS, self._look_for_unfinished)
        unfinished = self._chain.unfinished
        now_ms = node.clock.monotonic_ms()
        if unfinished is None or unfinished != self._unfinished:
            self._unfinished, self._unfinished_since_ms = unfinished, now_ms
            return
        rank = sorted(self._chain.ring.voters).index(node.self_number) if self._may_finish() else -1
        if rank < 0 or now_ms - self._unfinished_since_ms < UNFINISHED_AFTER_MS * (1 + rank):
            return
        self._unfinished_since_ms = now_ms
        log.info("ring version %d was voted for and not decided: it is proposed again", unfinished.version)
        try:
            wanted = of_value(unfinished)
        except QuorateError as error:
            log.error("a ring that was voted for cannot be read: %s", error)
            return

        def finish(present: ClusterMetadata) -> ClusterMetadata:
            if present.ring.version + 1 != wanted.ring.version:
                raise CallerError("it was decided meanwhile")
            return wanted

        self.decide(finish, lambda failure: None)

    def _may_finish(self) -> bool:
        return self._current is None and self._node.self_number in self._chain.ring.voters
