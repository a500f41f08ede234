"""`quorate bench` as it is typed: its default command, its options, its lines, its files."""

from __future__ import annotations

import builtins
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from quorate.bench.plots import percentile_points, plot_results
from quorate.bench.results import read_results
from quorate.bench.ycsb import key_name
from quorate.cli.main import run
from tests.unit.bench_fakes import FakeAccess

FEW = ("--seconds", "0.1", "--warm-up", "0", "--keys", "20", "--concurrency", "4")


@pytest.fixture
def access(monkeypatch: pytest.MonkeyPatch) -> FakeAccess:
    """A cluster in memory that `quorate bench` talks with."""
    made = FakeAccess()
    monkeypatch.setattr("quorate.cli.bench_run.ClusterAccess", made)
    return made


@pytest.fixture
def bench(access: FakeAccess, capfd: pytest.CaptureFixture[str]) -> Callable[..., list[dict[str, Any]]]:
    """Runs `quorate bench … --json` and gives its lines."""

    def call(*arguments: str) -> list[dict[str, Any]]:
        capfd.readouterr()
        assert run(["bench", *arguments, *FEW, "--json"]) == 0, capfd.readouterr().err
        return [json.loads(line) for line in capfd.readouterr().out.splitlines()]

    return call


def test_without_a_command_it_is_a_run(access: FakeAccess, bench: Callable[..., list[dict[str, Any]]]) -> None:
    for words in ((), ("run",), ("--value-bytes", "10")):
        put, get = bench(*words)
        assert (put["phase"], get["phase"]) == ("put", "get")
        assert {"ops_per_s", "p50_ms", "p99_ms", "p999_ms", "errors", "success", "failed_puts", "failed_gets"} <= set(
            put
        )
        assert list(put["operations"]) == ["put"]
    assert set(access.buckets) == {b"bench"}
    assert {len(value) for value in access.buckets[b"bench"].values.values()} == {10}


def test_windows_stand_before_their_phase(bench: Callable[..., list[dict[str, Any]]]) -> None:
    *windows, report = bench("--workload", "mixed", "--windows", "0.1")
    assert [window["at_s"] for window in windows] == pytest.approx([0.1 * number for number in range(len(windows))])
    assert all("unix_ms" in window for window in windows)
    assert report["phase"] == "mixed"


def test_ycsb_has_a_load_and_its_own_bucket(access: FakeAccess, bench: Callable[..., list[dict[str, Any]]]) -> None:
    load, a, e, d = bench("--workload", "a,e,D")
    assert [load["phase"], a["phase"], d["phase"]] == ["load", "a", "d"]
    assert load["operations"]["insert"]["count"] == 20
    assert set(a["operations"]) == {"read", "update"}
    assert (e["phase"], e["applicable"]) == ("e", False)
    assert "start key" in e["reason"]
    (name, bucket), *others = access.buckets.items()
    assert (name, others, bucket.declared["conflicts"]) == (b"ycsb", [], "lww")
    assert key_name(0) in bucket.values
    # Ten fields of a hundred bytes, with their names.
    assert {len(value) for value in bucket.values.values()} == {1 + 10 * (7 + 2 + 100)}


def test_a_bucket_of_that_name_keeps_what_it_declares(
    access: FakeAccess, bench: Callable[..., list[dict[str, Any]]]
) -> None:
    bench("--workload", "c", "--bucket", "mine")
    mine = access.buckets[b"mine"]
    assert mine.declared["conflicts"] == "siblings"
    bench("--workload", "a", "--bucket", "mine")
    assert mine.blind == 0, "where siblings are kept, nothing is overwritten blindly"
    bench("--workload", "c", "--bucket", "mine", "--conflicts", "lww")
    assert mine.declared["conflicts"] == "lww"


def test_phases_can_be_run_apart(access: FakeAccess, bench: Callable[..., list[dict[str, Any]]]) -> None:
    (load,) = bench("--workload", "a", "--phases", "load")
    assert load["phase"] == "load"
    before = access.buckets[b"ycsb"].calls
    (c,) = bench("--workload", "c", "--phases", "run")
    assert (c["phase"], c["errors"]) == ("c", {})
    assert access.buckets[b"ycsb"].calls == before
    (e,) = bench("--workload", "e")
    assert not e["applicable"], "nothing is loaded for what cannot be run"
    assert access.buckets[b"ycsb"].calls == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--workload", "g"], "'g' is none of put, get, mixed, a, b"),
        (["--workload", "a,put"], "run them apart"),
        (["--workload", "a", "--check"], "--check belongs to put, get and mixed"),
        (["--workload", "put", "--phases", "run"], "--phases belongs to the workloads a to f"),
        (["--fields", "3"], "--fields belongs"),
        (["--workload", "a", "--fields", "3", "--value-bytes", "3"], "either one piece"),
        (["--workload", "a", "--fields", "1000", "--field-bytes", "8388"], "larger than a value may be"),
        (["--processes", "5", "--concurrency", "4"], "share --concurrency"),
        (["--processes", "5", "--keys", "4"], "share --keys"),
        (["--windows", "0.1", "--seconds", "9999"], "make them longer"),
        (["--output", "no/such/folder.json"], "there is no folder no/such"),
    ],
)
def test_contradictions_are_refused(
    words: list[str], said: str, access: FakeAccess, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["bench", *words]) == 2
    assert said in capfd.readouterr().err
    assert access.buckets == {}, "before anything was asked of the cluster"


def test_people_read_lines(access: FakeAccess, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "--workload", "f,e", *FEW]) == 0
    captured = capfd.readouterr()
    assert [line.split()[0] for line in captured.out.splitlines()] == ["load", "f", "read", "read-modify-write", "e"]
    assert captured.err == "", "no bar where nobody looks on"


def test_whoever_looks_on_sees_how_far_it_is(
    access: FakeAccess, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quorate.cli.bench_text.watched", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")  # With this rich takes the pipe for a terminal.
    assert run(["bench", "--workload", "c", *FEW, "--warm-up", "0.1", "--json"]) == 0
    captured = capfd.readouterr()
    assert "c: warm-up" in captured.err
    assert "operations" in captured.err
    assert all(json.loads(line) for line in captured.out.splitlines()), "stdout has the results alone"


def test_a_checked_run_ends_with_a_verdict(bench: Callable[..., list[dict[str, Any]]]) -> None:
    *_, verdict = bench("--workload", "put", "--check")
    assert verdict == {"keys": 20, "lost": 0, "unread": 0, "phase": "check"}


@pytest.fixture
def results(bench: Callable[..., list[dict[str, Any]]], tmp_path: Path) -> tuple[Path, Path]:
    """Two runs, the second with less in it."""
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    bench("--workload", "a,d,e", "--output", str(first), "--password", "secret")
    bench("--workload", "a", "--output", str(second), "--rate", "200")
    return first, second


def test_a_file_of_results_has_everything(results: tuple[Path, Path]) -> None:
    text = results[0].read_text()
    assert "secret" not in text
    found = read_results(results[0])
    assert [phase.report.phase for phase in found.phases] == ["load", "a", "d"]
    assert [missing.phase for missing in found.not_applicable] == ["e"]
    assert (found.options["keys"], found.options["fields"], found.options["value_bytes"]) == (20, 10, None)
    assert found.bucket["conflicts"] == "lww"
    assert found.host.cpus >= 1
    for phase in found.phases:
        latencies = phase.latencies()
        assert latencies.percentile_ms(99) == phase.report.p99_ms
        assert latencies.count == sum(part.count for part in phase.report.operations.values()) > 0
        assert phase.windows, "throughput over time is kept, though no line was asked for"
    assert read_results(results[1]).options["concurrency"] is None, "an open loop has none"


def test_compare_gives_ratios(results: tuple[Path, Path], capfd: pytest.CaptureFixture[str]) -> None:
    capfd.readouterr()
    assert run(["bench", "compare", *map(str, results), "--json"]) == 0
    head, *rows = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert head["different"]["rate"] == [None, 200.0]
    assert head["different"]["workload"] == [["a", "d", "e"], ["a"]]
    assert (head["only_first"], head["only_second"]) == (["d"], [])
    assert [(row["phase"], row["operation"]) for row in rows] == [
        ("load", "all"), ("a", "all"), ("a", "read"), ("a", "update"),
    ]  # fmt: skip
    ours, theirs = (read_results(path).phases[1].report for path in results)
    assert rows[1]["p99_ms"] == {
        "first": ours.p99_ms, "second": theirs.p99_ms, "ratio": round(theirs.p99_ms / ours.p99_ms, 4),
    }  # fmt: skip
    assert run(["bench", "compare", *map(str, results)]) == 0
    shown = capfd.readouterr().out
    assert "not the same: rate None and 200.0" in shown
    assert "only in first.json: d" in shown
    assert "p999_ms" in shown
    assert "success" not in shown, "where nothing failed there is nothing to compare"


def test_compare_with_itself_is_one(results: tuple[Path, Path], capfd: pytest.CaptureFixture[str]) -> None:
    capfd.readouterr()
    assert run(["bench", "compare", str(results[0]), str(results[0]), "--json"]) == 0
    head, *rows = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert head == {"different": {}, "only_first": [], "only_second": []}
    assert {row[figure]["ratio"] for row in rows for figure in ("ops_per_s", "p999_ms", "success")} == {1.0}


@pytest.mark.parametrize("text", ["", "{}", '{"format": 1}', "[" * 100_000])
def test_what_is_no_result_is_refused(text: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    assert run(["bench", "compare", str(path), str(path)]) == 1
    assert "is no result of quorate bench" in capfd.readouterr().err


def test_a_result_with_a_broken_histogram_or_another_format_is_refused(
    results: tuple[Path, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    whole = json.loads(results[0].read_text())
    for broken, said in (({"format": 2}, "has format 2"), ({}, "not an HDR histogram")):
        document = whole | broken
        if not broken:
            document["phases"][0]["recorded"]["kinds"]["insert"]["histogram"] = "HISTFAAA"
        results[1].write_text(json.dumps(document))
        assert run(["bench", "compare", *map(str, results)]) == 1
        assert said in capfd.readouterr().err


def test_plots(results: tuple[Path, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    svg, png = tmp_path / "plot.svg", tmp_path / "plot.png"
    assert run(["bench", "plot", *map(str, results), "--output", str(svg)]) == 0
    assert run(["bench", "plot", str(results[0]), "--output", str(png), "--json"]) == 0
    assert json.loads(capfd.readouterr().out.splitlines()[-1]) == {"output": str(png)}
    text = "".join(ElementTree.fromstring(svg.read_text()).itertext())
    for words in ("Latency by percentile", "Throughput", "first: a", "second: load", "operations per second", "90"):
        assert words in text
    assert png.read_bytes().startswith(b"\x89PNG")
    drawn = svg.read_bytes()
    plot_results({path.stem: read_results(path) for path in results}, svg)
    assert svg.read_bytes() == drawn, "equal results give equal files"


def test_percentiles_reach_as_far_as_there_are_operations(results: tuple[Path, Path]) -> None:
    load = read_results(results[0]).phases[0]
    nines, latencies_ms = percentile_points(load)
    # 20 operations: the last that can be told from the greatest is the percentile 95.
    assert nines[0] == 0
    assert 1.2 <= nines[-1] <= 1.302
    assert latencies_ms == sorted(latencies_ms)
    assert latencies_ms[nines.index(1.0)] == load.latencies().percentile_ms(90)


@pytest.mark.parametrize(
    ("name", "said"), [("plot.pdf", "name a file that ends in .svg or .png"), ("no/such/plot.svg", "cannot write")]
)
def test_a_plot_that_cannot_be_drawn_says_why(
    name: str, said: str, results: tuple[Path, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["bench", "plot", str(results[0]), "--output", str(tmp_path / name)]) == 1
    assert said in capfd.readouterr().err


def test_plots_say_how_to_install_what_they_need(
    results: tuple[Path, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    imported = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ModuleNotFoundError(name)
        return imported(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    assert run(["bench", "plot", str(results[0]), "--output", str(tmp_path / "plot.svg")]) == 1
    assert "pip install 'quorate[plots]'" in capfd.readouterr().err
