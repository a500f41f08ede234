"""Virtual time: order, death, pauses, fuses, and clocks that are wrong in known ways."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from quorate.sim.clocks import WALL_START_MS, MachineClock
from quorate.sim.loop import Process, VirtualLoop


def test_callbacks_of_equal_time_run_in_the_order_they_were_made_across_processes() -> None:
    loop = VirtualLoop()
    first, second = Process(loop), Process(loop)
    ran: list[str] = []
    first.call_later(5, lambda: ran.append("a"))
    second.call_later(5, lambda: ran.append("b"))
    first.call_later(5, lambda: ran.append("c"))
    second.call_later(1, lambda: ran.append("early"))
    loop.run_until(10_000)
    assert ran == ["early", "a", "b", "c"]
    assert loop.now_us == 10_000


def test_call_soon_runs_after_what_is_already_due() -> None:
    loop = VirtualLoop()
    process = Process(loop)
    ran: list[str] = []

    def first() -> None:
        ran.append("first")
        process.call_soon(lambda: ran.append("next turn"))

    process.call_soon(first)
    process.call_soon(lambda: ran.append("second"))
    loop.run_until(0)
    assert ran == ["first", "second", "next turn"]


@given(st.lists(st.tuples(st.integers(0, 50), st.booleans()), max_size=30))
def test_order_is_that_of_a_stable_sort(timers: list[tuple[int, bool]]) -> None:
    loop = VirtualLoop()
    ran: list[int] = []
    for number, (time_us, cancelled) in enumerate(timers):
        timer = loop.at(time_us, lambda number=number: ran.append(number))  # type: ignore[misc]
        if cancelled:
            timer.cancel()
    loop.run_until(50)
    left = [number for number, (_, cancelled) in enumerate(timers) if not cancelled]
    assert ran == sorted(left, key=lambda number: timers[number][0])


def test_what_a_dead_process_had_scheduled_never_runs() -> None:
    loop = VirtualLoop()
    process = Process(loop)
    ran: list[str] = []
    process.call_later(1, lambda: ran.append("before"))
    process.call_later(3, lambda: ran.append("after"))
    loop.run_until(2_000)
    process.kill()
    loop.run_until(5_000)
    assert ran == ["before"]


def test_a_paused_process_catches_up_in_order() -> None:
    loop = VirtualLoop()
    process = Process(loop)
    ran: list[tuple[str, int]] = []
    process.call_later(1, lambda: ran.append(("a", loop.now_us)))
    process.call_later(2, lambda: ran.append(("b", loop.now_us)))
    process.pause(50_000)
    loop.run_until(60_000)
    assert ran == [("a", 50_000), ("b", 50_000)]


def test_a_fuse_burns_between_two_turns_of_one_moment() -> None:
    loop = VirtualLoop()
    process = Process(loop)
    ran: list[str] = []
    for name in ("a", "b", "c"):
        process.call_soon(lambda name=name: ran.append(name))  # type: ignore[misc]
    process.light_fuse(2, process.kill)
    loop.run_until(0)
    assert ran == ["a"]


def test_a_fuse_that_spares_the_process_loses_no_callback() -> None:
    loop = VirtualLoop()
    process = Process(loop)
    ran: list[str] = []
    process.call_soon(lambda: ran.append("a"))
    process.light_fuse(1, lambda: ran.append("bang"))
    loop.run_until(0)
    assert ran == ["bang", "a"]


@given(st.floats(0.9, 1.1), st.floats(0, 10_000))
def test_a_timer_is_never_early_by_the_clock_of_its_own_machine(rate: float, delay_ms: float) -> None:
    loop = VirtualLoop()
    clock = MachineClock(loop, rate, 0.0, 123.0)
    process = Process(loop, rate)
    started_ms = clock.monotonic_ms()
    rang: list[float] = []
    process.call_later(delay_ms, lambda: rang.append(clock.monotonic_ms()))
    loop.run_until(20_000_000)
    assert len(rang) == 1
    assert rang[0] - started_ms >= delay_ms - 1e-6
    assert rang[0] - started_ms < delay_ms + 0.01


def test_a_jump_moves_the_wall_clock_only() -> None:
    loop = VirtualLoop()
    clock = MachineClock(loop, 1.0, 40.0, 7.0)
    assert (clock.wall_ms(), clock.monotonic_ms()) == (WALL_START_MS + 40, 7.0)
    clock.jump(-3_600_000)
    loop.run_until(1_000)
    assert (clock.wall_ms(), clock.monotonic_ms()) == (WALL_START_MS + 41 - 3_600_000, 8.0)
