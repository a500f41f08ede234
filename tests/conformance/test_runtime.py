"""What the runtime ports promise, checked on the system's adapters over asyncio's loop and over uvloop's.

No test measures how long something took; they compare orders, and deadlines with the clock.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator

import pytest
import uvloop

from quorate.adapters.runtime import system
from quorate.adapters.runtime.system import LoopScheduler, SystemClock, SystemRng
from quorate.core.ports import Cancellable

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


class Turns:
    """A loop, a scheduler on it, and what its callbacks noted."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.scheduler = LoopScheduler(loop)
        self.later: list[Cancellable] = []
        self.notes: list[object] = []
        self.failures: list[dict[str, object]] = []
        loop.set_exception_handler(lambda _, context: self.failures.append(context))

    def note(self, what: object) -> Callable[[], None]:
        return lambda: self.notes.append(what)

    def run_until_noted(self, what: object) -> None:
        """Run the loop until `what` is noted, through a timer of the loop's own, behind all others."""

        def look() -> None:
            if what in self.notes:
                self.loop.stop()
            else:
                self.loop.call_later(0.001, look)

        guard = self.loop.call_later(20, self.loop.stop)
        look()
        self.loop.run_forever()
        guard.cancel()
        assert what in self.notes


def freeze(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop the scheduler's clock (not the loop's) until `monkeypatch.undo`."""
    now = time.monotonic()
    monkeypatch.setattr(system, "monotonic", lambda: now)


@pytest.fixture(params=list(LOOPS))
def turns(request: pytest.FixtureRequest) -> Iterator[Turns]:
    loop = LOOPS[request.param]()
    yield Turns(loop)
    loop.close()


def test_the_clocks_agree_with_the_system() -> None:
    clock = SystemClock()
    before, wall, after = time.time(), clock.wall_ms(), time.time()
    assert isinstance(wall, int)
    assert before * 1000 - 1 <= wall <= after * 1000
    readings = [clock.monotonic_ms() for _ in range(1000)]
    assert readings == sorted(readings)
    assert time.monotonic() * 1000 >= readings[-1] > 0


def test_random_draws_stay_in_their_bounds_and_differ() -> None:
    rng = SystemRng()
    assert all(0.0 <= rng.random() < 1.0 for _ in range(1000))
    assert {rng.below(4) for _ in range(1000)} == {0, 1, 2, 3}
    assert rng.below(1) == 0
    assert [len(rng.token_bytes(size)) for size in (0, 1, 32)] == [0, 1, 32]
    assert rng.token_bytes(16) != rng.token_bytes(16)
    assert [SystemRng().random() for _ in range(3)] != [SystemRng().random() for _ in range(3)]


def test_soon_is_later_and_in_order(turns: Turns) -> None:
    for number in range(5):
        turns.scheduler.call_soon(turns.note(number))
    assert turns.notes == []
    turns.run_until_noted(4)
    assert turns.notes == [0, 1, 2, 3, 4]


def test_timers_run_by_deadline(turns: Turns) -> None:
    for delay_ms in (30, 10, 20, 0, 5):
        turns.scheduler.call_later(delay_ms, turns.note(delay_ms))
    assert turns.notes == []
    turns.run_until_noted(30)
    assert turns.notes == [0, 5, 10, 20, 30]


def test_equal_deadlines_run_in_the_order_they_were_made(turns: Turns, monkeypatch: pytest.MonkeyPatch) -> None:
    """Enough of them that a heap which compares deadlines alone would mix them up."""
    freeze(monkeypatch)
    for number in range(200):
        turns.scheduler.call_later(2, turns.note(number))
    monkeypatch.undo()
    turns.run_until_noted(199)
    assert turns.notes == list(range(200))


def test_no_timer_runs_before_its_deadline(turns: Turns) -> None:
    """Not even one that is made late in a long turn, when the loop's own clock is behind (hard case 30)."""
    early: list[float] = []

    def begin() -> None:
        busy_until = time.monotonic() + 0.03
        while time.monotonic() < busy_until:
            pass
        for delay_ms in (0.4, 1.0, 3.7, 12.0):
            deadline = time.monotonic() + delay_ms / 1000
            turns.scheduler.call_later(delay_ms, lambda deadline=deadline: early.append(time.monotonic() - deadline))  # type: ignore[misc]
        turns.scheduler.call_later(13, turns.note("end"))

    turns.scheduler.call_soon(begin)
    turns.run_until_noted("end")
    assert len(early) == 4
    assert min(early) >= 0


def test_a_cancelled_timer_does_not_run(turns: Turns) -> None:
    first = turns.scheduler.call_later(1, turns.note("cancelled"))
    turns.scheduler.call_later(5, turns.note("kept"))
    first.cancel()
    first.cancel()
    assert turns.scheduler.pending() == 1
    turns.run_until_noted("kept")
    assert turns.notes == ["kept"]
    assert turns.scheduler.pending() == 0


def test_timers_of_one_wake_up_can_cancel_each_other(turns: Turns, monkeypatch: pytest.MonkeyPatch) -> None:
    freeze(monkeypatch)
    turns.scheduler.call_later(1, lambda: [timer.cancel() for timer in turns.later])
    turns.later = [turns.scheduler.call_later(1, turns.note("cancelled")) for _ in range(3)]
    monkeypatch.undo()
    turns.scheduler.call_later(3, turns.note("end"))
    turns.run_until_noted("end")
    assert turns.notes == ["end"]
    assert turns.scheduler.pending() == 0


def test_cancelled_timers_do_not_pile_up(turns: Turns) -> None:
    for _ in range(10_000):
        turns.scheduler.call_later(60_000, turns.note("never")).cancel()
    kept = turns.scheduler.call_later(60_000, turns.note("never"))
    assert turns.scheduler.pending() == 1
    assert len(turns.scheduler._timers) < 200
    kept.cancel()


def test_a_timer_that_renews_itself_does_not_hold_the_loop(turns: Turns, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even when its next deadline is due at once, because the clock has not moved."""

    def renew() -> None:
        turns.notes.append("renewed")
        if len(turns.notes) < 100:
            turns.scheduler.call_later(0, renew)

    freeze(monkeypatch)
    turns.scheduler.call_later(0, renew)
    turns.scheduler._on_wake_up()
    assert turns.notes == ["renewed"]
    monkeypatch.undo()
    turns.loop.call_later(0.001, turns.note("others run"))
    turns.run_until_noted("others run")


def test_a_negative_delay_is_none(turns: Turns) -> None:
    turns.scheduler.call_later(-1000, turns.note("ran"))
    assert turns.notes == []
    turns.run_until_noted("ran")


def test_a_failing_callback_is_reported_and_the_others_run(turns: Turns, monkeypatch: pytest.MonkeyPatch) -> None:
    freeze(monkeypatch)
    turns.scheduler.call_later(1, turns.note("first"))
    turns.scheduler.call_later(1, {}.popitem)
    turns.scheduler.call_later(1, turns.note("last"))
    monkeypatch.undo()
    turns.run_until_noted("last")
    assert turns.notes == ["first", "last"]
    assert [type(failure["exception"]) for failure in turns.failures] == [KeyError]


def test_an_earlier_timer_overtakes_a_later_one(turns: Turns) -> None:
    turns.scheduler.call_later(60_000, turns.note("never"))
    turns.scheduler.call_later(1, turns.note("soon"))
    turns.run_until_noted("soon")
    assert turns.notes == ["soon"]
    assert turns.scheduler.pending() == 1
