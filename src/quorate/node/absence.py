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
- what a peer collected before it was away itself does not count for a store that went about when it did, whatever the
  clocks say: where all were switched off together, nothing was collected meanwhile;
- collections within `SLACK_MS` of the last sign of life do not count: this store took part in them, since the proof
  before each needs all replicas;
- what has a single replica stays: nobody else can have collected it, and nobody could bring it back.

A node that has not come to a decision takes no writes: should it be emptied, they would go as well. Fallbacks take
them. It decides when all others have answered, or after `PATIENCE_MS` when enough have for each partition to have
one other replica's word. A peer that collected something and does not serve yet has not answered: once it serves,
its word is what counts.

A sign of life that is damaged proves nothing, and another one that is whole still does. If none is, the absence counts
as long: the worst that follows is being filled again.

Rejected: emptying whenever the absence was long (a cluster that was off for two days would be gone); trusting the
node's own clock alone; refusing to start over a damaged stamp (hard case 25: the data would be as good as gone).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

from quorate.core.errors import StorageError
from quorate.core.keyspace import prefix_end, storage_key
from quorate.core.limits import COLLECT_QUIET_MS
from quorate.core.messages import AbsenceAsk, AbsenceReply, Message, Status
from quorate.core.ports import Space
from quorate.node.context import NodeContext
from quorate.node.documents import opened, sealed
from quorate.node.gather import Answers, ask

log = logging.getLogger(__name__)

ALIVE_KEY = b"alive"
COLLECTED_KEY = b"collected"
ALIVE_INTERVAL_MS = 60_000
SLACK_MS = 2 * ALIVE_INTERVAL_MS + COLLECT_QUIET_MS
"""After the last sign of life: what was proven before it is removed so much later at most, but for clocks' skew."""
PATIENCE_MS = 10_000.0
ASK_INTERVAL_MS = 500.0
ASK_TIMEOUT_MS = 1_000
END = b"\xff" * 4
"""Above every key of the spaces for records and hints."""
_REASON = "it was away for longer than grace, and waits for the other replicas to say whether anything was collected"


def stamp(wall_ms: int) -> bytes:
    """What is stored under `ALIVE_KEY` and `COLLECTED_KEY`."""
    return sealed(wall_ms.to_bytes(8, "big"))


class Absence:
    """`settled` once this node knows that what it holds may be served.

    `empty` empties the store and may raise `StorageError`; `fence` is told when that, or the note of it, fails.
    """

    def __init__(self, node: NodeContext, empty: Callable[[], None], fence: Callable[[StorageError], None]) -> None:
        self._node = node
        self._empty = empty
        self._fence = fence
        self.settled = True
        self._since_ms = 0
        self._began_ms = 0.0
        self._was_being_filled = False
        self._collected_before: bytes | None = None
        """The stamp of a collection as it was when this node came back from a long absence; None: it did not."""
        self._heard: dict[int, bool] = {}
        """Peers that have answered, and have nothing to say that could still make this store empty itself."""

    def start(self) -> None:
        """Judge the last sign of life, and give signs from now on. Raises `StorageError`."""
        node = self._node
        alive_ms = _last_sign_ms(node)
        if alive_ms is None or not node.view.other_numbers:
            self._sign()
            return
        away_ms = node.clock.wall_ms() - alive_ms
        if away_ms <= node.options.grace_ms:
            self._sign()
            return
        self.settled = False
        self._since_ms = alive_ms + SLACK_MS + node.options.clock_skew_max_ms
        self._began_ms = node.clock.monotonic_ms()
        self._collected_before = node.engine.get(Space.META, COLLECTED_KEY)
        self._was_being_filled = bool(node.filling.partitions)
        node.fenced_because = _REASON
        node.filling.hold_back()
        if alive_ms:
            log.warning("the last sign of life of this store is %.1f h old: %s", away_ms / 3_600_000, _REASON)
        else:
            log.error("the last sign of life of this store is damaged, which counts as a long absence: %s", _REASON)
        self._ask()

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
            collected = self._collected_since(message.since_ms)
        except StorageError:
            status, collected = Status.FENCED, True
        empty = node.trees.empty() and not node.hints.by_home
        node.transport.send(member, AbsenceReply(message.id, status, collected, empty))

    def _collected_since(self, since_ms: int) -> bool:
        stored = self._node.engine.get(Space.META, COLLECTED_KEY)
        if stored is None:
            return False
        if stored == self._collected_before and since_ms > self._since_ms - self._node.options.grace_ms:
            return False
        # If it is damaged: being filled once too often only costs time.
        return _time_of(stored) >= since_ms or not _time_of(stored)

    def _sign(self) -> None:
        self.stop()
        self._node.scheduler.call_later(ALIVE_INTERVAL_MS, self._sign)

    def waits(self) -> bool:
        """Is the reason for the fence the absence, and not the disk?"""
        return not self.settled and self._node.fenced_because == _REASON

    def _ask(self) -> None:
        def question(number: int) -> Message:
            return AbsenceAsk(number, ASK_TIMEOUT_MS, self._since_ms)

        ask(self._node, self._node.view.other_numbers, question, ASK_TIMEOUT_MS, self._judge)

    def _judge(self, answers: Answers) -> None:
        if not self.waits():
            return  # The disk has failed meanwhile: only a restart lifts that, and asks again.
        node = self._node
        for member, answer in answers.items():
            if not answer.collected:
                self._heard[member] = True
            elif answer.status == Status.OK:
                self._settle(node.names([member])[0])
                return
        patient = node.clock.monotonic_ms() - self._began_ms < PATIENCE_MS
        if all(number in self._heard for number in node.view.other_numbers) or (not patient and self._heard_enough()):
            self._settle("")
        else:
            node.scheduler.call_later(ASK_INTERVAL_MS, self._ask)

    def _heard_enough(self) -> bool:
        """Has one other replica of every partition that this node holds answered?"""
        for n in self._node.trees.n_values():
            for placement in self._node.view.placements_of(n):
                if (
                    placement.stores
                    and placement.other_homes
                    and not any(other in self._heard for other in placement.other_homes)
                ):
                    return False
        return True

    def _settle(self, collected_by: str) -> None:
        """The end of waiting: emptied if a peer, which is named, collected something meanwhile."""
        filling = self._node.filling
        try:
            if collected_by:
                log.warning(
                    "%s collected tombstones while this store was away: it is emptied and filled anew", collected_by
                )
                filling.begin()  # First, so that a crash half-way leaves no half store that seems whole.
                self._empty()
            else:
                log.info("nothing was collected while this store was away: it serves what it holds")
                if self._was_being_filled:
                    filling.begin()
                else:
                    filling.give_up()
        except StorageError as error:
            self._fence(error)
            return
        self.settled = True
        self._node.fenced_because = ""
        self._sign()


def ranges_to_empty(node: NodeContext) -> Iterator[tuple[bytes, bytes]]:
    """What has other replicas: ranges (start, end) of storage keys that hold all of it, and nothing else."""
    view = node.view
    default_n = view.bucket(b"").properties.n
    special = sorted(
        (bucket for bucket, properties in view.metadata.buckets.items() if properties.n != default_n),
        key=lambda bucket: (len(bucket), bucket),
    )
    single = [bucket for bucket in special if view.bucket(bucket).properties.n == 1]
    start = b""
    for partition, placement in enumerate(view.placements_of(1)):
        if not placement.stores:
            continue
        if default_n == 1:
            yield start, partition.to_bytes(2, "big")
            for bucket in special:
                prefix = storage_key(partition, bucket, b"")
                yield prefix, prefix_end(prefix)
            start = (partition + 1).to_bytes(2, "big")
        else:
            for bucket in single:
                prefix = storage_key(partition, bucket, b"")
                yield start, prefix
                start = prefix_end(prefix)
    yield start, END


def _last_sign_ms(node: NodeContext) -> int | None:
    """The latest sign of life that can be believed; 0 if none can, None if none was ever given."""
    stored = [node.engine.get(Space.META, key) for key in (ALIVE_KEY, COLLECTED_KEY)]
    return max((_time_of(found) for found in stored if found is not None), default=None)


def _time_of(stored: bytes) -> int:
    """The time (Unix milliseconds) of a stamp; 0 if it is damaged."""
    return int.from_bytes(opened(stored) or b"", "big")
