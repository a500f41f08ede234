"""One command on several keys: a bounded number of requests at once, and one truthful answer in the end.

The keys of MGET, MSET or DEL may lie anywhere: any node answers for any key, so the command is answered, where Redis
Cluster would refuse it as CROSSSLOT. It is not atomic: each key is its own request. If some keys of a write fail while
others are done, the outcome of the command as a whole is neither "done" nor "not done", so it is reported as unknown.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from quorate.core.limits import FAN_OUT_REQUESTS_MAX
from quorate.core.store import Failure

Ask = Callable[[int, Callable[[Any], None]], None]
"""Start the request with this index; call back once with its result or `Failure`, now or later."""


class FanOut:
    """Asks for each index below `count`, then calls `done` with all results in order, or with one `Failure`.

    `writes` says that the requests change something. Once one has failed no further ones are started.
    """

    def __init__(self, count: int, ask: Ask, done: Callable[[list[Any] | Failure], None], writes: bool) -> None:
        assert count > 0, "a fan-out over nothing has no answer"
        self._ask = ask
        self._done = done
        self._writes = writes
        self._results: list[Any] = [None] * count
        self._next = 0
        self._in_flight = 0
        self._succeeded = 0
        self._failures: list[Failure] = []
        self._starting = False
        self._start()

    def _start(self) -> None:
        """Start what the bound allows. A loop, not recursion: requests may be answered at once."""
        if self._starting:
            return
        self._starting = True
        while self._next < len(self._results) and self._in_flight < FAN_OUT_REQUESTS_MAX and not self._failures:
            index = self._next
            self._next += 1
            self._in_flight += 1
            self._ask(index, lambda result, index=index: self._on_result(index, result))  # type: ignore[misc]
        self._starting = False
        if self._in_flight == 0:
            self._done(self._verdict())

    def _on_result(self, index: int, result: Any) -> None:
        self._in_flight -= 1
        if isinstance(result, Failure):
            self._failures.append(result)
        else:
            self._succeeded += 1
            self._results[index] = result
        self._start()

    def _verdict(self) -> list[Any] | Failure:
        if not self._failures:
            return self._results
        worst = next((failure for failure in self._failures if failure.kind == "unknown"), self._failures[0])
        if self._writes and self._succeeded and len(self._results) > 1:
            done = f"{self._succeeded} of {len(self._results)} keys are done"
            message = f"{done}, the others are not, or may be: {worst.message}"
            return Failure("unknown", message, worst.missing, worst.retry_after_ms)
        return worst
