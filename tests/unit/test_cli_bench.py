"""The load of `quorate bench` is that of a writer that knows what it wrote; its percentiles are true."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.bench.histogram import Latencies
from quorate.bench.load import Bench, Load
from quorate.cli.exporter import export_line
from quorate.core.errors import OutcomeUnknown, Unavailable


class Got:
    def __init__(self, context: str, there: bool) -> None:
        self.context = context
        self._there = there

    def __bool__(self) -> bool:
        return self._there


class FakeBucket:
    """One version a key; a put with another context than the key's would be a sibling."""

    def __init__(self, fail_every: int = 0) -> None:
        self.versions: dict[bytes, int] = {}
        self.siblings = 0
        self.calls = 0
        self.fail_every = fail_every

    async def get(self, key: bytes) -> Any:
        await asyncio.sleep(0)
        return Got(str(self.versions.get(key, "")), key in self.versions)

    async def put(self, key: bytes, value: Any, context: Any = None) -> str:
        self.calls += 1
        await asyncio.sleep(0)
        if (context or "") != str(self.versions.get(key, "")):
            self.siblings += 1
        self.versions[key] = self.versions.get(key, 0) + 1
        if self.fail_every and self.calls % self.fail_every == 0:
            raise OutcomeUnknown("lost") if self.calls % 2 else Unavailable("down")
        return str(self.versions[key])


def run(bucket: FakeBucket, phases: list[str], **options: Any) -> list[Any]:
    async def bench() -> list[Any]:
        load = Load(concurrency=8, seconds=0.05, value_bytes=10, keys=options.get("keys", 50), warm_up_seconds=0.0)
        runner = Bench(bucket, load)
        await runner.preload()
        return [await runner.run(phase) for phase in phases]

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
        await runner.preload()
        bucket.fail_every = 7
        return await runner.run("put")

    report = asyncio.run(bench())
    assert set(report.errors) == {"OutcomeUnknown", "Unavailable"}
    assert bucket.siblings == 0


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
