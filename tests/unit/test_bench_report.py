"""What several processes recorded adds up to what one would have recorded."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.bench.histogram import RECENT_MAX, Latencies, decoded
from quorate.bench.report import PhaseResult, Recorder, merged, report_of, windows_of

OUTCOMES = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.sampled_from(["read", "update", "insert", "read_modify_write"]),
        st.floats(0, 5),
        st.one_of(st.floats(1e-6, 100), st.sampled_from(["Unavailable", "OutcomeUnknown"])),
    ),
    max_size=60,
)


def recorded(outcomes: list[Any], process: int | None) -> PhaseResult:
    recorder = Recorder("a", 1.0)
    for by, kind, due_s, outcome in outcomes:
        if process not in (None, by):
            continue
        if isinstance(outcome, str):
            recorder.failed(due_s, kind, outcome)
        else:
            recorder.succeeded(due_s, kind, outcome)
    result = recorder.result(6.0)
    # Each process has its own clock; here it does not matter which.
    result.began_unix_ms = 1000
    return result


@given(OUTCOMES)
def test_processes_together_are_as_one(outcomes: list[Any]) -> None:
    one = recorded(outcomes, None)
    parts = [recorded(outcomes, process) for process in range(3)]
    # As they come over the pipe.
    together = merged([msgspec.json.decode(msgspec.json.encode(part), type=PhaseResult) for part in parts])
    assert report_of(together) == report_of(one)
    assert windows_of(together) == windows_of(one)
    assert together.kinds == one.kinds


def test_processes_that_took_different_times_are_over_when_the_last_is() -> None:
    first, second = recorded([], None), recorded([], None)
    first.seconds, second.seconds, second.began_unix_ms = 3.0, 2.0, 999
    both = merged([first, second])
    assert (both.seconds, both.began_unix_ms) == (3.0, 999)


def test_kinds_are_told_apart() -> None:
    outcomes = [(0, "read", 0.0, 0.001)] * 3 + [(0, "update", 0.0, 0.1), (0, "update", 0.0, "Unavailable")]
    report = report_of(recorded(outcomes, None))
    assert (report.failed_puts, report.failed_gets, report.success) == (1, 0, 0.8)
    read, update = report.operations["read"], report.operations["update"]
    assert (read.count, read.errors, update.count, update.errors) == (3, {}, 1, {"Unavailable": 1})
    assert read.p999_ms == pytest.approx(1, rel=1e-2)
    assert update.p50_ms == report.p999_ms == pytest.approx(100, rel=1e-2)


@pytest.mark.sources
def test_recent_latencies_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert RECENT_MAX * 8 <= 32_000_000
    monkeypatch.setattr("quorate.bench.histogram.RECENT_MAX", 10)
    latencies = Latencies()
    for _ in range(25):
        latencies.record(0.01)
        assert len(latencies._recent) < 10
    assert latencies.count == 25
    assert decoded([latencies.encoded(), latencies.encoded()]).count == 50


@pytest.mark.parametrize("text", ["junk", "HISTFAAA", "äöü"])
def test_what_is_no_histogram_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not an HDR histogram"):
        decoded([text])
