"""Coming back after a long absence, without bringing back what was deleted meanwhile (hard cases 16, 22).

What is dead for longer than `grace` is collected once all replicas have proved to hold the same. A store that comes
back with an *older* state of its disk (a snapshot, a copy, a disk found in a drawer) may hold values that were deleted
and collected since; nobody has the tombstone any more, so anti-entropy would spread the value. Such a store has to
be emptied and filled from the others.

So every store notes now and then that it is alive, and in the batch of every collection that one took place. If at the
start the last sign of life is older than `grace`, the node serves nothing, asks the others whether anything was
collected since, and empties itself if one of them, that is serving, says yes.

The rule must never empty a whole cluster that was switched off for a weekend, or whose clocks are wrong:
- only a peer that *serves* can make a node empty itself, and then it holds what there is to hold. Where all come back
  together, none does;
- collections within `SLACK_MS` of the last sign of life do not count: this store took part in them, since the proof
  before each needs all replicas.

A node that has not come to a decision takes no writes: should it be emptied, they would go as well. Fallbacks take
them. It decides when all others have answered, or after `PATIENCE_MS` when enough have for each partition to have
one other replica's word.

Rejected: emptying whenever the absence was long (a cluster that was off for two days would be gone); trusting the
node's own clock alone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from quorate.core.errors import StartupError, StorageError
from quorate.core.limits import COLLECT_QUIET_MS
from quorate.core.messages import AbsenceAsk, AbsenceReply, Message, Status
from quorate.core.ports import Space
from quorate.node.context import NodeContext
from quorate.node.documents import load, sealed
from quorate.node.gather import Answers, GatherOperation

log = logging.getLogger(__name__)

ALIVE_KEY = b"alive"
COLLECTED_KEY = b"collected"
ALIVE_INTERVAL_MS = 60_000
SLACK_MS = 2 * ALIVE_INTERVAL_MS + COLLECT_QUIET_MS
"""After the last sign of life: what was proven before it is removed so much later at most, but for clocks' skew."""
PATIENCE_MS = 10_000.0
ASK_INTERVAL_MS = 500.0
ASK_TIMEOUT_MS = 1_000
_REASON = "it was away for longer than grace, and waits for the other replicas to say whether anything was collected"


def stamp(wall_ms: int) -> bytes:
    """What is stored under `ALIVE_KEY` and `COLLECTED_KEY`."""
    return sealed(wall_ms.to_bytes(8, "big"))


class Absence:
    """`settled` once this node knows that what it holds may be served. `empty` empties the store."""

    def __init__(self, node: NodeContext, empty: Callable[[], None]) -> None:
        self._node = node
        self._empty = empty
        self.settled = True
        self._since_ms = 0
        self._began_ms = 0.0
        self._heard: dict[int, bool] = {}
        """Peers that have answered that nothing was collected, or that do not serve."""

    def start(self) -> None:
        """Judge the last sign of life, and give signs from now on. Raises `StorageError`."""
        node = self._node
        alive_ms = max(_stamped(node, ALIVE_KEY), _stamped(node, COLLECTED_KEY))
        away_ms = node.clock.wall_ms() - alive_ms
        if alive_ms and away_ms > node.options.grace_ms and node.view.other_numbers:
            self.settled = False
            self._since_ms = alive_ms + SLACK_MS + node.options.clock_skew_max_ms
            self._began_ms = node.clock.monotonic_ms()
            node.fenced_because = _REASON
            node.filling.begin()
            log.warning("the last sign of life of this store is %.1f h old: %s", away_ms / 3_600_000, _REASON)
            self._ask()
        else:
            self._sign()

    def stop(self) -> None:
        """A last sign of life, if this node has the right to give one."""
        if self.settled and not self._node.fenced_because:
            try:
                self._node.engine.write([(Space.META, ALIVE_KEY, stamp(self._node.clock.wall_ms()))])
            except StorageError as error:
                log.error("no sign of life could be written: %s", error)

    def on_ask(self, member: int, message: AbsenceAsk) -> None:
        """A peer that was away asks."""
        node = self._node
        serving = self.settled and not node.fenced_because and not node.filling.partitions
        status = Status.OK if serving else Status.NOT_READY
        try:
            collected = _stamped(node, COLLECTED_KEY) >= message.since_ms
        except StartupError:
            collected = True  # Being filled once too often only costs time.
        empty = node.trees.empty() and not node.hints.by_home
        node.transport.send(member, AbsenceReply(message.id, status, collected, empty))

    def _sign(self) -> None:
        self.stop()
        self._node.scheduler.call_later(ALIVE_INTERVAL_MS, self._sign)

    def waits(self) -> bool:
        """Is the reason for the fence the absence, and not the disk?"""
        return not self.settled and self._node.fenced_because == _REASON

    def _ask(self) -> None:
        gather = GatherOperation(self._node, ASK_TIMEOUT_MS, self._judge)
        question: Message = AbsenceAsk(gather.id, ASK_TIMEOUT_MS, self._since_ms)
        gather.send(dict.fromkeys(self._node.view.other_numbers, question))

    def _judge(self, answers: Answers) -> None:
        node = self._node
        for member, answer in answers.items():
            if answer.status == Status.OK and answer.collected:
                name = node.names([member])[0]
                log.warning("%s collected tombstones while this store was away: it is emptied and filled anew", name)
                self._empty()
                self._settle()
                return
            self._heard[member] = True
        patient = node.clock.monotonic_ms() - self._began_ms < PATIENCE_MS
        if all(number in self._heard for number in node.view.other_numbers) or (not patient and self._heard_enough()):
            log.info("nothing was collected while this store was away: it serves what it holds")
            node.filling.give_up()
            self._settle()
        else:
            node.scheduler.call_later(ASK_INTERVAL_MS, self._ask)

    def _heard_enough(self) -> bool:
        """Has one other replica of every partition that this node holds answered?"""
        for n in self._node.trees.n_values():
            for placement in self._node.view.placements_of(n):
                if placement.local and placement.others and not any(other in self._heard for other in placement.others):
                    return False
        return True

    def _settle(self) -> None:
        self.settled = True
        if self._node.fenced_because == _REASON:
            self._node.fenced_because = ""
        self._sign()


def _stamped(node: NodeContext, key: bytes) -> int:
    """The time (Unix milliseconds) noted under a META key; 0 if there is none.

    One that is damaged raises `StartupError`: neither a short absence nor a long one could be concluded from it.
    """
    raw = load(node.engine, key)
    return int.from_bytes(raw, "big") if raw is not None else 0
