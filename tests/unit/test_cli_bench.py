"""The load of `quorate bench` is that of a writer that knows what it wrote; its percentiles are true."""

from __future__ import annotations

import asyncio
import math
import time
from typing import Any

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.bench.arrivals import TICK_S, open_loop
from quorate.bench.histogram import Latencies, decoded
from quorate.bench.load import Bench
from quorate.bench.report import Recorder, report_of, windows_of
from quorate.bench.runner import Load
from quorate.cli.exporter import export_line
from quorate.core.errors import OutcomeUnknown, Unavailable
from tests.unit.bench_fakes import FakeBucket


def run(bucket: FakeBucket, phases: list[str], **options: Any) -> list[Any]:
    async def bench() -> list[Any]:
        load = Load(concurrency=8, seconds=0.05, value_bytes=10, keys=options.get("keys", 50), warm_up_seconds=0.0)
        runner = Bench(bucket, load)
        await runner.load()
        return [report_of(await runner.measure(phase)) for phase in phases]

    return asyncio.run(bench())


@pytest.mark.parametrize("keys", [50, 9])
def test_puts_replace_what_this_run_has_written(keys: int) -> None:
    bucket = FakeBucket()
    put, get = run(bucket, ["put", "get"], keys=keys)
    assert bucket.calls > keys
    assert bucket.siblings == 0
    assert len(bucket.versions) == keys
    assert (put.phase, get.phase) == ("put", "get")
    assert put.errors == get.errors == {}
    assert put.p50_ms <= put.p99_ms <= put.p999_ms


def test_a_later_run_replaces_what_an_earlier_one_left() -> None:
    bucket = FakeBucket()
    run(bucket, ["put"])
    run(bucket, ["put"])
    assert bucket.siblings == 0


def test_failures_are_counted_by_kind_and_leave_no_stale_context() -> None:
    bucket = FakeBucket()

    async def bench() -> Any:
        runner = Bench(bucket, Load(8, 0.1, 10, 50, 0.0))
        await runner.load()
        bucket.fail_every = 7
        return await runner.measure("put")

    result = asyncio.run(bench())
    report = report_of(result)
    assert set(report.errors) == {"OutcomeUnknown", "Unavailable"}
    assert report.failed_puts == sum(report.errors.values())
    assert 0 < report.success < 1
    assert windows_of(result) == []
    assert bucket.siblings == 0


def test_an_open_loop_starts_everything_on_schedule_and_counts_from_there() -> None:
    """One operation holds the loop; those that were due meanwhile count the wait as theirs."""
    recorder = Recorder("get", 10.0)
    started = 0

    async def operation() -> None:
        nonlocal started
        started += 1
        if started == 1:
            begin = time.perf_counter()
            while time.perf_counter() - begin < 0.05:
                pass
        elif started == 2:
            raise Unavailable("down")

    asyncio.run(open_loop(lambda: ("get", operation), 1000, 0.1, recorder))
    assert started == 100
    result = recorder.result(0.1)
    report = report_of(result)
    assert report.errors == {"Unavailable": 1}
    assert (report.failed_gets, report.failed_puts, report.success) == (1, 0, 0.99)
    # 50 arrivals were due while the loop was held, from 50 ms down to 0 ms of waiting; a closed loop would show one.
    (window,) = windows_of(result)
    latencies = decoded([result.kinds["get"].histogram])
    assert sum(latencies.percentile_ms(percent) > 20 for percent in range(1, 101)) >= 25
    assert (window.at_s, window.success, window.errors) == (0.0, 0.99, {"Unavailable": 1})


def test_an_open_loop_does_not_turn_idly_between_arrivals() -> None:
    """A timer of the loop below a millisecond fires at once: waiting for it keeps a processor busy with nothing."""
    waits_s: list[float] = []

    class Listening(uvloop.Loop):
        def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> Any:
            waits_s.append(delay)
            return super().call_later(delay, callback, *args, context=context)

    async def operation() -> None:
        pass

    async def load() -> None:
        await open_loop(lambda: ("get", operation), 9_000, 0.05, Recorder("get"))

    with asyncio.Runner(loop_factory=Listening) as runner:
        runner.run(load())
    assert waits_s
    assert min(waits_s) >= TICK_S


@pytest.mark.sources
def test_arrivals_beyond_the_bound_are_failures_and_not_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quorate.bench.arrivals.IN_FLIGHT_MAX", 10)
    recorder = Recorder("put")
    release = asyncio.Event()
    calls = 0

    async def operation() -> None:
        await release.wait()

    def next_operation() -> Any:
        nonlocal calls
        calls += 1
        if calls == 50:
            release.set()
        return ("put", operation)

    asyncio.run(open_loop(next_operation, 1000, 0.05, recorder))
    report = report_of(recorder.result(0.05))
    assert report.errors["NotSent"] == report.failed_puts
    assert report.failed_puts + report.operations["put"].count == 50
    assert report.failed_puts >= 30


def test_outcomes_are_filed_under_the_window_in_which_they_were_due() -> None:
    recorder = Recorder("mixed", 2.0)
    recorder.succeeded(0.5, "put", 3.0)  # It ended in the next window, and was waited for in this one.
    recorder.succeeded(1.9, "get", 0.001)
    recorder.failed(6.0, "put", "Unavailable")
    recorder.failed(7.9, "get", "Overloaded")
    first, second, third, fourth = windows_of(recorder.result(8.0))
    assert [window.at_s for window in (first, second, third, fourth)] == [0, 2, 4, 6]
    assert fourth.unix_ms - first.unix_ms == 6000
    assert (first.ops_per_s, first.success, first.p99_ms) == (1, 1.0, pytest.approx(3000, rel=2e-3))
    assert (second.ops_per_s, second.success, third.errors) == (0, 1.0, {})
    assert (fourth.success, fourth.failed_puts, fourth.failed_gets) == (0.0, 1, 1)
    assert fourth.errors == {"Overloaded": 1, "Unavailable": 1}


def test_arrivals_that_take_turns_are_never_early() -> None:
    """Of several processes each begins its schedule a little later; what is due later must not be done before."""
    recorder = Recorder("get")
    began = time.perf_counter()
    started: list[float] = []

    async def operation() -> None:
        started.append(time.perf_counter() - began)

    asyncio.run(open_loop(lambda: ("get", operation), 50, 0.1, recorder, first_s=0.015))
    assert len(started) == 5
    assert all(at_s >= 0.015 + 0.02 * number for number, at_s in enumerate(started))


def test_processes_have_keys_of_their_own() -> None:
    bucket = FakeBucket()

    async def bench() -> None:
        whole = Load(8, 0.02, 10, 50, 0.0)
        runners = [Bench(bucket, whole.share(process, 3)) for process in range(3)]
        for runner in runners:
            await runner.load()
        assert bucket.calls == len(bucket.versions) == 50
        for runner in runners:
            await runner.measure("put")

    asyncio.run(bench())
    assert len(bucket.versions) == 50
    assert bucket.siblings == 0


def test_a_share_is_what_the_others_leave() -> None:
    whole = Load(concurrency=7, rate_per_s=90.0)
    shares = [whole.share(process, 3) for process in range(3)]
    assert [share.concurrency for share in shares] == [3, 2, 2]
    assert sum(share.rate_per_s for share in shares) == 90
    assert [(share.process, share.processes) for share in shares] == [(0, 3), (1, 3), (2, 3)]


def test_mixed_is_puts_and_gets() -> None:
    bucket = FakeBucket()
    (mixed,) = run(bucket, ["mixed"])
    assert (mixed.phase, mixed.errors, bucket.siblings) == ("mixed", {}, 0)
    assert min(bucket.calls, bucket.gets) > 50, "more of both than the preload makes"


def test_a_preload_survives_a_busy_moment_and_names_what_never_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quorate.bench.runner.PRELOAD_PAUSE_S", 0)

    async def preload(bucket: FakeBucket) -> None:
        await Bench(bucket, Load(8, 0.1, 10, 50, 0.0)).load()

    busy = FakeBucket(fail_every=3)
    asyncio.run(preload(busy))
    assert len(busy.versions) == 50
    with pytest.raises((Unavailable, OutcomeUnknown)):
        asyncio.run(preload(FakeBucket(fail_every=1)))


@given(st.lists(st.floats(1e-6, 100), min_size=1, max_size=200))
@settings(max_examples=50, deadline=None)
def test_percentiles_equal_those_of_the_sorted_list(seconds: list[float]) -> None:
    """Within the three digits that the histogram keeps."""
    latencies = Latencies()
    for each in seconds:
        latencies.record(each)
    ordered = sorted(seconds)
    for percentile in (50.0, 99.0, 99.9, 100.0):
        exact_ms = ordered[max(0, math.ceil(len(ordered) * percentile / 100) - 1)] * 1000
        assert latencies.percentile_ms(percentile) == pytest.approx(exact_ms, rel=2e-3, abs=2e-3)


@pytest.mark.parametrize(
    ("key", "values", "line"),
    [
        (b"a", [(b'{"x": 1.10,\n "y": 1e400}', "application/json")],
         b'{"key":"a","content_type":"application/json","value":{"x":1.10,"y":1e400}}\n'),
        (b"a", [(b"not json", "application/json")],
         b'{"key":"a","content_type":"application/json","value_base64":"bm90IGpzb24="}\n'),
        (b"a", [(b"text", "text/plain")], b'{"key":"a","content_type":"text/plain","value":"text"}\n'),
        (b"\xff", [(b"\xff", "")],
         b'{"key_base64":"/w==","content_type":"application/octet-stream","value_base64":"/w=="}\n'),
        (b"a", [(b"1", "t/p"), (b"2", "t/p")],
         b'{"key":"a","siblings":[{"content_type":"t/p","value":"1"},{"content_type":"t/p","value":"2"}]}\n'),
    ],
)  # fmt: skip
def test_export_lines_lose_nothing(key: bytes, values: list[tuple[bytes, str]], line: bytes) -> None:
    assert export_line(key, values) == line
