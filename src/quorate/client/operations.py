"""Operations: what happens after an attempt failed. The only copy of the retry policy; it does no IO and has no clock.

A shell runs an operation like this, each in its own style:

    operation = Operation(router, budget, command, bucket, timeout_ms, now)
    while True:
        node, attempt_ms = operation.attempt(now)
        reply = … send to node, wait for at most attempt_ms …
        if command.accepts(reply): return reply
        pause_ms = operation.failed(node, reply, attempt_ms, now)      # raises the error that ends the operation
        … pause …

The asynchronous shell makes the first attempt without an `Operation`, and constructs one only when that failed.

The policy:
- everything happens within the caller's deadline, in at most `ATTEMPTS_MAX` attempts;
- reads are retried on any other node. Writes carry an operation id, and a retry has the same id: if both attempts
  were done, readers see one write. A write without one is retried only if it was certainly not done;
- an overloaded node is taken at its word: nothing is retried before `retry_after_ms` (hard case 32);
- retries spend tokens, of which each call earns a tenth: a broken cluster is not asked ever more (hard case 33);
- the outcome is true (hard case 31): once any attempt of a write may have been done, no later answer turns the
  outcome back into "not done". Such an operation ends as done or as `OutcomeUnknown`.
"""

from __future__ import annotations

from typing import Generic

from quorate.client.protocol import MAY_BE_DONE, AttemptFailure, Command, FailureKind, Reply, Safety, failure_of
from quorate.client.routing import NodeT, Router
from quorate.core.errors import CallerError, OutcomeUnknown, Overloaded, QuorateError, Unavailable
from quorate.core.limits import ATTEMPTS_MAX, RETRY_DELAY_MIN_MS, RETRY_TOKENS_MAX, RETRY_TOKENS_PER_CALL


class RetryBudget:
    """Tokens for retries: a burst of `RETRY_TOKENS_MAX`, and in the long run a tenth of the calls."""

    __slots__ = ("_calls_seen", "_tokens", "calls")

    def __init__(self) -> None:
        self._tokens = float(RETRY_TOKENS_MAX)
        self._calls_seen = 0
        self.calls = 0
        """Calls made so far; the shells count them here, for nothing cheaper exists on the fast path."""

    def spend(self) -> bool:
        """Take a token for a retry; False if there is none."""
        earned = (self.calls - self._calls_seen) * RETRY_TOKENS_PER_CALL
        self._calls_seen = self.calls
        self._tokens = min(RETRY_TOKENS_MAX, self._tokens + earned)
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Operation(Generic[NodeT]):
    """One call, from its first attempt to its outcome."""

    __slots__ = (
        "_attempts",
        "_bucket",
        "_budget",
        "_command",
        "_deadline_ms",
        "_maybe_done",
        "_rounds",
        "_router",
        "_timeout_ms",
        "_trail",
        "_tried",
    )

    def __init__(
        self,
        router: Router[NodeT],
        budget: RetryBudget,
        command: Command,
        bucket: bytes,
        timeout_ms: float,
        started_ms: float,
    ) -> None:
        self._router = router
        self._budget = budget
        self._command = command
        self._bucket = bucket
        self._timeout_ms = timeout_ms
        self._deadline_ms = started_ms + timeout_ms
        self._attempts = 0
        self._rounds = 0
        self._maybe_done = False
        self._tried: list[NodeT] = []
        self._trail: list[str] = []

    def attempt(self, now_ms: float) -> tuple[NodeT, float]:
        """(node to ask, milliseconds to wait for it) of the next attempt."""
        replicas = self._router.replicas(self._bucket, self._command.slot)
        node = self._router.pick(replicas, self._tried)
        if node is None:
            self._tried.clear()
            node = self._router.pick(replicas)
        remaining_ms = self._deadline_ms - now_ms
        if node is None or remaining_ms <= 0:
            raise self._ending(AttemptFailure(FailureKind.NOT_SENT, "no time was left to ask a node"))
        return node, self._router.attempt_ms(node, self._command, self._timeout_ms, remaining_ms, self._attempts)

    def failed(self, node: NodeT, reply: Reply, attempt_ms: float, now_ms: float) -> float:
        """The attempt at `node` gave `reply`. Gives the pause before the next attempt, in milliseconds.

        Raises the operation's outcome if there is to be no other attempt: `CallerError`, `Unavailable`, `Overloaded`
        or `OutcomeUnknown`.
        """
        failure = failure_of(self._command, reply)
        self._attempts += 1
        self._tried.append(node)
        self._trail.append(f"{node.address}: {failure.message}")
        if failure.kind is FailureKind.REFUSED:
            raise self._ending(failure)
        self._router.failed(node, failure, attempt_ms, now_ms)
        if failure.kind in MAY_BE_DONE and self._command.safety is not Safety.READ:
            self._maybe_done = True
            if self._command.safety is Safety.ONCE:
                raise self._ending(failure)
        pause_ms = self._pause_ms(failure)
        if self._attempts >= ATTEMPTS_MAX or now_ms + pause_ms >= self._deadline_ms:
            raise self._ending(failure)
        if failure.kind is not FailureKind.NOT_SENT and not self._budget.spend():
            self._trail.append("too many retries already")
            raise self._ending(failure)
        return pause_ms

    def abandoned(self, reason: str) -> QuorateError:
        """The error to raise if there is to be no other attempt because of something the policy does not know."""
        self._trail.append(reason)
        return self._ending(AttemptFailure(FailureKind.NOT_SENT, reason))

    def _pause_ms(self, failure: AttemptFailure) -> float:
        """How long to wait before the next attempt: not at all while there is another node to ask."""
        if failure.kind is FailureKind.OVERLOADED:
            return failure.retry_after_ms
        replicas = self._router.replicas(self._bucket, self._command.slot)
        if self._router.pick(replicas, self._tried) is not None:
            return 0.0
        self._tried.clear()
        self._rounds += 1
        return float(RETRY_DELAY_MIN_MS << self._rounds)

    def _ending(self, failure: AttemptFailure) -> QuorateError:
        """The error that is true, whatever the last failure says of the last attempt alone."""
        verb = self._command.verb
        trail = "; ".join(dict.fromkeys(self._trail)) or failure.message
        if self._maybe_done:
            return OutcomeUnknown(f"{verb} may or may not have been done; get the key to find out. {trail}")
        if failure.kind is FailureKind.REFUSED:
            return CallerError(failure.message)
        if failure.kind is FailureKind.OVERLOADED:
            message = f"{verb} was not done: {trail}; ask again in {failure.retry_after_ms} ms"
            return Overloaded(message, failure.retry_after_ms)
        return Unavailable(f"{verb} was not done within {self._timeout_ms:g} ms: {trail}")
