"""Group commit: every write of one turn of the loop is one engine batch, and one fsync serves all that wait for one.

Invariants:
- What a put builds on includes what was queued before it in the same turn (`get` looks into the queue first). What
  leaves the node does not: whoever shows a record to somebody else has it written first (`settle`).
- A waiter of a plain write is told after its batch is with the operating system; a waiter of a synced write after its
  batch is on the disk. The engine runs one fsync at a time; whoever comes meanwhile shares the next one.
- What a put sends to other replicas leaves only after its own batch is with the operating system. Otherwise a killed
  process would forget a dot that its peers already hold, and issue it again (hard case 1).
- When the engine fails, all waiters are told so, nothing is acknowledged, and the node is fenced.

Rejected: one engine write per request (four times the cost at this rate); a thread for every commit (a hand-over costs
more than an unsynced write); to ask for the next fsync when the last one was reported (the disk then waits for the loop
each time: an eighth of the puts at 64 in flight).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from quorate.core.errors import StorageError
from quorate.core.ports import Engine, Scheduler, Space, WriteOperation

Waiter = tuple[Callable[[Any, bool], None], Any]
"""(callback, argument): called as callback(argument, durable) exactly once."""

_DATA: Final = Space.DATA
_SYNCS_ASKED_MAX: Final = 64
"""Of the engine at once. A disk that hangs makes the groups larger, not the engine's queue longer."""
_NOT_QUEUED: Final = b""
"""Stands for "look into the engine": no stored bytes are empty, and None is a queued removal."""


class CommitQueue:
    """Writes of this turn, in front of one engine."""

    __slots__ = (
        "_engine",
        "_engine_get",
        "_held_back",
        "_hints",
        "_meta",
        "_on_failure",
        "_queued",
        "_scheduled",
        "_scheduler",
        "_synced_waiters",
        "_syncs_asked",
        "_unsynced",
        "_waiters",
        "failed",
    )

    def __init__(self, engine: Engine, scheduler: Scheduler, on_failure: Callable[[StorageError], None]) -> None:
        self._engine = engine
        self._engine_get = engine.get
        self._scheduler = scheduler
        self._on_failure = on_failure
        self._queued: dict[bytes, bytes | None] = {}
        self._hints: dict[bytes, bytes | None] = {}
        self._meta: dict[bytes, bytes] = {}
        self._waiters: list[Waiter] = []
        self._synced_waiters: list[Waiter] = []
        self._held_back: list[Waiter] = []
        """Synced ones for whom the engine is asked when it has answered another."""
        self._syncs_asked = 0
        self._unsynced = 0
        self._scheduled = False
        self.failed = False

    def get(self, key: bytes) -> bytes | None:
        """The stored bytes of a data key, this turn's writes included. Raises `StorageError`."""
        queued = self._queued.get(key, _NOT_QUEUED)
        return queued if queued is not _NOT_QUEUED else self._engine_get(_DATA, key)

    def put(
        self, key: bytes, stored: bytes | None, synced: bool, callback: Callable[[Any, bool], None], argument: Any
    ) -> None:
        """Queue a write of one data key, or with None its removal; `callback(argument, durable)` follows."""
        self._queued[key] = stored
        self.wait(synced, callback, argument)

    def settle(self, key: bytes) -> None:
        """Write the batch now if it holds this data key, because somebody else is about to see what is under it.

        A reader that had seen a queued value could put with its dot in the context; if the process was killed before
        the batch was written, the dot would be issued again, and the context would erase that other event (hard
        case 1). Rejected: to let the read wait for the turn's batch, which is one batch fewer, and two ways for every
        read to go on. Raises `StorageError`.
        """
        if key in self._queued:
            self._write_now()

    def settle_hint(self, key: bytes) -> None:
        """As `settle`, of a hint. Raises `StorageError`."""
        if key in self._hints:
            self._write_now()

    def _write_now(self) -> None:
        self.flush()
        if self.failed:
            raise StorageError("the node is fenced after a failure of its disk")

    def queued_between(self, start: bytes, end: bytes) -> list[tuple[bytes, bytes | None]]:
        """What is queued under data keys with start ≤ key < end: the engine does not know it yet. In no order."""
        return [(key, stored) for key, stored in self._queued.items() if start <= key < end]

    def get_hint(self, key: bytes) -> bytes | None:
        """The stored bytes of a hint, this turn's changes included. Raises `StorageError`."""
        return self._hints[key] if key in self._hints else self._engine_get(Space.HINTS, key)

    def put_hint(
        self, key: bytes, stored: bytes | None, synced: bool, callback: Callable[[Any, bool], None], argument: Any
    ) -> None:
        """Queue a hint, or with None its removal, in the same batch as everything else of this turn."""
        self._hints[key] = stored
        self.wait(synced, callback, argument)

    def put_meta(self, key: bytes, document: bytes) -> None:
        """Queue a document of the META space, in the same batch as the other changes of this turn; somebody waits for
        one of those."""
        self._meta[key] = document

    def wait(self, synced: bool, callback: Callable[[Any, bool], None], argument: Any) -> None:
        """Be told when everything queued so far is durable: for a write that turned out to be there already."""
        (self._synced_waiters if synced else self._waiters).append((callback, argument))
        if not self._scheduled:
            self._scheduled = True
            self._scheduler.call_soon(self.flush)

    def unsynced_waiters(self) -> int:
        """How many writes wait for an fsync: the bound on what a slow disk may pile up."""
        return self._unsynced + len(self._held_back) + len(self._synced_waiters)

    def flush(self) -> None:
        """Write the batch now. Called once a turn, and before anything scans the engine."""
        self._scheduled = False
        waiters, self._waiters = self._waiters, []
        synced_waiters, self._synced_waiters = self._synced_waiters, []
        if self._queued or self._hints or (self.failed and (waiters or synced_waiters)):
            batch: list[WriteOperation] = [(_DATA, key, stored) for key, stored in self._queued.items()]
            if self._hints:
                batch += [(Space.HINTS, key, stored) for key, stored in self._hints.items()]
                self._hints = {}
            if self._meta:
                batch += [(Space.META, key, document) for key, document in self._meta.items()]
                self._meta = {}
            try:
                if self.failed:
                    raise StorageError("the node is fenced after a failure of its disk")
                self._engine.write(batch)
            except StorageError as error:
                self._queued = {}
                self._fail(waiters + synced_waiters, error)
                return
            self._queued = {}
        for callback, argument in waiters:
            callback(argument, True)
        if synced_waiters:
            self._sync(synced_waiters)

    def _sync(self, waiters: list[Waiter]) -> None:
        """Tell `waiters` when what was just written is on the disk."""
        if self._syncs_asked >= _SYNCS_ASKED_MAX:
            self._held_back += waiters
            return
        self._syncs_asked += 1
        self._unsynced += len(waiters)

        def synced(error: StorageError | None) -> None:
            self._syncs_asked -= 1
            self._unsynced -= len(waiters)
            held_back, self._held_back = self._held_back, []
            if error is not None:
                self._fail(waiters + held_back, error)
                return
            if held_back:
                self._sync(held_back)
            durable = not self.failed
            for callback, argument in waiters:
                callback(argument, durable)

        try:
            self._engine.sync(synced)
        except StorageError as error:
            synced(error)

    def _fail(self, waiters: list[Waiter], error: StorageError) -> None:
        self.failed = True
        self._on_failure(error)
        for callback, argument in waiters:
            callback(argument, False)
