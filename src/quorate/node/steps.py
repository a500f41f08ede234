"""Protocols of many steps, written as coroutines and driven by callbacks alone.

Anti-entropy waits for answers, for admission and for timers dozens of times in one exchange. As callbacks its order
would be scattered over as many functions; as a coroutine it reads from top to bottom. What drives it is the loop that
is there anyway: a coroutine awaits `Wait` objects only, each of which starts something and is resumed by its callback.
So nothing here has an order of its own, the simulator runs it as it is, and what is waited for is always bounded by
the deadline of whatever was started.

Invariants: a coroutine runs in one thread, never inside itself, and is resumed exactly once for each `Wait`; one whose
node is gone is simply never resumed.
Rejected: `asyncio` tasks (futures and a loop of their own in code that the simulator has to run deterministically).
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator, Iterable, Sequence
from typing import Any, Generic, TypeVar

from quorate.core.messages import Message
from quorate.node.context import NodeContext
from quorate.node.gather import Answers, ask

T = TypeVar("T")


class Wait(Generic[T]):
    """Something to await: `start(resume)` begins it, and `resume(value)` is called exactly once when it is done,
    possibly at once."""

    __slots__ = ("start",)

    def __init__(self, start: Callable[[Callable[[T], None]], None]) -> None:
        self.start = start

    def __await__(self) -> Generator[Wait[T], T, T]:
        return (yield self)


class _Run:
    """One coroutine on its way. A loop, not a recursion: a thousand waits that end at once take no stack."""

    __slots__ = ("_coroutine", "_done", "_running", "_value", "_waiting")

    def __init__(self, coroutine: Coroutine[Any, Any, Any], done: Callable[[Any], None]) -> None:
        self._coroutine = coroutine
        self._done = done
        self._value: Any = None
        self._waiting = False
        self._running = False

    def resume(self, value: Any) -> None:
        assert self._waiting, "a step is resumed once"
        self._waiting = False
        self._value = value
        if not self._running:
            self.go_on()

    def go_on(self) -> None:
        self._running = True
        try:
            while not self._waiting:
                value, self._value = self._value, None
                try:
                    wait = self._coroutine.send(value)
                except StopIteration as end:
                    self._done(end.value)
                    return
                self._waiting = True
                wait.start(self.resume)
        finally:
            self._running = False


def run(coroutine: Coroutine[Any, Any, T], done: Callable[[T], None]) -> None:
    """Begin `coroutine` now; `done(result)` is called when it has ended. What it raises comes out of the callback
    that resumed it, so it has to handle everything that may go wrong in the world."""
    _Run(coroutine, done).go_on()


def pause(node: NodeContext, delay_ms: float) -> Wait[None]:
    """Wait for `delay_ms`; 0: until the next turn of the loop."""

    def start(resume: Callable[[None], None]) -> None:
        if delay_ms > 0:
            node.scheduler.call_later(delay_ms, lambda: resume(None))
        else:
            node.scheduler.call_soon(lambda: resume(None))

    return Wait(start)


def admission(node: NodeContext, operations: int) -> Wait[None]:
    """Wait until so many operations of background work have been admitted (see `core.admission.background`)."""

    def start(resume: Callable[[None], None]) -> None:
        left = operations

        def take() -> None:
            nonlocal left
            left -= node.background.take(left, node.clock.monotonic_ms())
            if left <= 0:
                resume(None)
            else:
                node.scheduler.call_later(node.background.delay_ms(), take)

        take()

    return Wait(start)


def answer(node: NodeContext, member: int, question: Callable[[int], Message], timeout_ms: float) -> Wait[Any]:
    """Ask `member` the message that `question(id)` makes; its reply, or None if none came in time."""

    def start(resume: Callable[[Any], None]) -> None:
        ask(node, [member], question, timeout_ms, lambda found: resume(found.get(member)))

    return Wait(start)


def answers(
    node: NodeContext, members: Sequence[int], question: Callable[[int], Message], timeout_ms: float
) -> Wait[Answers]:
    """Ask all `members` the message that `question(id)` makes; what came in time."""
    return Wait(lambda resume: ask(node, members, question, timeout_ms, resume))


def together(waits: Iterable[Wait[T]]) -> Wait[list[T]]:
    """Start all of `waits` and wait for every one; their values in the same order. The caller bounds how many."""

    def start(resume: Callable[[list[T]], None]) -> None:
        started = list(waits)
        values: dict[int, T] = {}
        if not started:
            resume([])
            return

        def one(place: int, value: T) -> None:
            values[place] = value
            if len(values) == len(started):
                resume([values[place] for place in range(len(started))])

        for place, wait in enumerate(started):
            wait.start(lambda value, place=place: one(place, value))  # type: ignore[misc]

    return Wait(start)
