"""Group commit: one thread that brings the log to the disk, for everybody who waits at that moment.

The loop must not wait for a disk. Requests go to the thread through a queue; the thread takes all that are there, syncs
once, and reports to all of them in one callback on the loop. Requests made meanwhile are served together by the next
sync. So a slow disk makes groups larger, not the queue longer in syncs.

Invariants:
- a request is answered exactly once, on the loop, in the order of the requests, unless the loop is closed;
- a sync that starts after a request covers every write made before it: requests leave the queue before the sync begins;
- after the first failure no further sync is tried: the kernel reports lost pages once and then calls the file synced,
  so a second try could succeed falsely. Every later request is answered with that first error.

Rejected: a thread pool (syncs of one log queue up behind each other in the kernel anyway), and a lock shared with the
loop (a queue of the C library needs none, and an idle thread costs nothing).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from queue import Empty, SimpleQueue

from quorate.core.errors import StorageError
from quorate.core.limits import IN_FLIGHT_REQUESTS_MAX

Done = Callable[[StorageError | None], None]
Deliver = Callable[[Callable[[], None]], object]
"""Runs a callback on the loop's thread, called from any thread: `loop.call_soon_threadsafe`."""

STOP_TIMEOUT_SECONDS = 30.0


class LogSyncer:
    """Serves `request` with `flush`, which runs in this object's own thread and raises `StorageError` on failure.

    `on_failure` runs in that thread too, once, before the failure is reported.
    """

    def __init__(
        self,
        flush: Callable[[], None],
        on_failure: Callable[[StorageError], None],
        deliver: Deliver,
    ) -> None:
        self._flush = flush
        self._on_failure = on_failure
        self._deliver = deliver
        self._requests: SimpleQueue[Done | None] = SimpleQueue()
        self._unanswered = 0
        self._failure: StorageError | None = None
        self.syncs = 0
        """Syncs done so far: fewer than requests when groups form."""
        self._thread = threading.Thread(target=self._run, name="quorate-log-sync", daemon=True)
        self._thread.start()

    def request(self, done: Done) -> None:
        """Call `done` on the loop when all that is written by now is on the disk, or cannot be brought there.

        Raises `StorageError` if more requests wait than the node admits: then the disk has been hanging for long.
        """
        if self._unanswered >= IN_FLIGHT_REQUESTS_MAX:
            raise StorageError(
                f"{self._unanswered} syncs wait for the disk: look into the kernel's log, then restart the node"
            )
        self._unanswered += 1
        self._requests.put(done)

    def fail(self, error: StorageError) -> None:
        """A write has failed: let no later sync be reported as done. Called on the loop."""
        if self._failure is None:
            self._failure = error
            self._requests.put(self._nobody)
            self._unanswered += 1

    def stop(self) -> bool:
        """Answer what waits, then end the thread. False if the disk hangs and the thread with it."""
        self._requests.put(None)
        self._thread.join(STOP_TIMEOUT_SECONDS)
        return not self._thread.is_alive()

    def _run(self) -> None:
        told = False
        while True:
            group, last = self._take_group()
            if group:
                failure = self._sync_once()
                if failure is not None and not told:
                    told = True
                    self._on_failure(failure)
                try:
                    self._deliver(partial(self._answer, group, failure))
                except RuntimeError:
                    return  # The loop is closed: nobody is left to be told.
            if last:
                return

    def _take_group(self) -> tuple[list[Done], bool]:
        """Wait for a request and take all that came by then; (them, is this the end?)."""
        group: list[Done] = []
        request = self._requests.get()
        try:
            while request is not None:
                group.append(request)
                request = self._requests.get_nowait()
        except Empty:
            return group, False
        return group, True

    def _sync_once(self) -> StorageError | None:
        if self._failure is None:
            try:
                self._flush()
                self.syncs += 1
            except StorageError as error:
                self._failure = error
        return self._failure

    def _answer(self, group: list[Done], failure: StorageError | None) -> None:
        self._unanswered -= len(group)
        for done in group:
            done(failure)

    @staticmethod
    def _nobody(_failure: StorageError | None) -> None:
        """Stands in the queue for `fail`, so that the thread wakes up."""
