"""`quorate sim`: what it prints, what it exits with, and that a failing seed can be replayed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from quorate.cli import sim_batch
from quorate.cli import sim_command as module
from quorate.cli.exit_codes import INTERRUPTED
from quorate.core.errors import CallerError
from quorate.sim.batch import Difference, replay_command
from quorate.sim.faults import KINDS
from quorate.sim.history import Violation
from quorate.sim.run import Outcome, SimOptions, run
from quorate.sim.summary import Summary
from quorate.sim.transcript import LEGEND, MARK
from tests.conftest import EVENT_TIMEOUT_S

QUICK = ["--seconds", "2", "--nodes", "3", "--clients", "2"]
OPTIONS = SimOptions(seconds=2, nodes=3, clients=2)
BUSY = ["--seconds", "10", "--nodes", "3", "--clients", "5", "--cold-keys", "0", "--faults", "none"]


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(module.sim_command, arguments, standalone_mode=False)


def test_one_run_prints_its_verdict_and_its_hash() -> None:
    result = invoke("--seed", "3", *QUICK)
    assert result.return_value == 0
    assert f"seed 3: ok  trace {run(3, OPTIONS).trace_hash}" in result.output
    assert "all 1 runs passed" in result.output


def test_json_has_a_line_for_each_run_and_one_for_the_sum() -> None:
    result = invoke("--seed", "5", "--runs", "3", "--jobs", "1", "--json", *QUICK)
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["seed"] for line in lines[:3]] == [5, 6, 7]
    assert all(line["ok"] and len(line["trace_hash"]) == 32 for line in lines[:3])
    assert (lines[3]["first_seed"], lines[3]["runs"], lines[3]["failed"]) == (5, 3, [])
    assert lines[3]["operations"]["put ok"] == sum(line["operations"]["put ok"] for line in lines[:3])


def test_a_failing_seed_is_shown_with_the_command_that_replays_it(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = Outcome(9, "0" * 32, 1, 1, "os", {}, {}, [Violation("D", f"write {n} is lost") for n in range(7)])

    def batch(seeds: range, options: SimOptions, jobs: int) -> Iterator[Outcome]:
        yield failed

    monkeypatch.setattr(sim_batch, "run_batch", batch)
    result = invoke("--seed", "9", "--seconds", "5", "--faults", "kill,slow disk")
    assert result.return_value == 1
    assert "seed 9: FAILED" in result.output
    assert "D: write 0 is lost" in result.output and "… and 2 more" in result.output
    assert "replay: quorate sim --seed 9 --trace --seconds 5 --faults 'kill,slow disk'" in result.output
    assert "1 of 1 runs failed" in result.output


@pytest.mark.sources
def test_a_replay_command_gives_the_options_back(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, SimOptions]] = []

    def fake_tell(seed: int, options: SimOptions, about: str, only: tuple[str, ...]) -> int:
        seen.append((seed, options))
        return 0

    monkeypatch.setattr(module, "tell", fake_tell)
    skipped = ("f1", "f2", "f3", "m2")
    for options in (
        SimOptions(),
        SimOptions(4, 7.125, 3, 2, "fsync", ("kill",), 0),
        SimOptions(faults=(), skipped=skipped, mutant="acknowledge-one-replica-early"),
    ):
        words = replay_command(31, options).replace("'", "").split(" --")[1:]
        arguments = [part for word in words for part in f"--{word}".split(" ", 1)]
        assert invoke(*arguments).return_value == 0
        assert seen[-1] == (31, options)


def test_a_transcript_tells_what_happened_after_a_legend() -> None:
    result = invoke("--seed", "3", "--trace", *QUICK)
    assert result.output.startswith(LEGEND)
    assert "n1  connected to n2" in result.output and "FAULT  heal" in result.output
    assert "PUT carts:key" in result.output and "WriteReply #" in result.output and "DONE {n" in result.output


def test_a_transcript_about_a_key_tells_of_nothing_else() -> None:
    result = invoke("--seed", "3", "--trace", "--about", "carts:key1", "--keys", "12", *BUSY)
    lines = [line for line in result.output.removeprefix(LEGEND).splitlines() if "FAULT" not in line]
    assert any("PUT carts:key1 " in line for line in lines) and any("Write #" in line for line in lines)
    assert any(" disk  record carts:key1," in line for line in lines) and any("DONE" in line for line in lines)
    for other in ("carts:key11", "carts:key2", "sessions:", "Gossip", "connected"):
        assert not any(other in line for line in lines), other


def test_a_transcript_of_some_subjects() -> None:
    faults = invoke("--seed", "3", "--trace", "--only", "faults", *QUICK).output.removeprefix(LEGEND)
    assert "FAULT  heal" in faults and "→" not in faults
    disk = invoke("--seed", "3", "--trace", "--only", "disk", *QUICK).output.removeprefix(LEGEND)
    assert "n1 disk  metadata" in disk and "→" not in disk
    unknown = invoke("--seed", "3", "--trace", "--about", "carts:nokey", *QUICK)
    assert isinstance(unknown.exception, CallerError) and "carts:key0" in str(unknown.exception)


@pytest.mark.sources
def test_a_transcript_changes_nothing_and_marks_where_a_check_failed() -> None:
    planted = ("--mutant", "acknowledge-one-replica-early")
    result = invoke("--seed", "3", "--trace", *planted, *QUICK)
    assert result.return_value == 1
    outcome = run(3, msgspec.structs.replace(OPTIONS, mutant=planted[1]))
    assert f"trace {outcome.trace_hash}" in result.output
    lines = result.output.splitlines()
    marks = [index for index, line in enumerate(lines) if f"  {MARK} W: write #" in line]
    assert marks and "DONE" in lines[marks[0] - 1], "right after the answer that should not have been"
    assert "violation found by" in result.output


@pytest.mark.sources
def test_the_smallest_run_that_fails_is_told_with_its_command() -> None:
    result = invoke("--seed", "3", "--shrink", "--jobs", "1", "--mutant", "acknowledge-one-replica-early", *QUICK)
    assert result.return_value == 1
    assert "1 clients, 1 + 0 keys" in result.output and LEGEND in result.output and f"{MARK} W: " in result.output
    assert result.output.rstrip().endswith("--mutant acknowledge-one-replica-early --faults 'none'")
    passing = invoke("--seed", "3", "--shrink", "--jobs", "1", *QUICK)
    assert passing.return_value == 0 and "nothing to make smaller" in passing.output


def test_a_report_is_one_document(tmp_path: Path) -> None:
    report = tmp_path / "build" / "sim.json"
    result = invoke("--seed", "5", "--runs", "3", "--jobs", "1", "--report", str(report), *QUICK)
    assert result.return_value == 0 and "cluster-hours" in result.output
    summary = msgspec.json.decode(report.read_bytes(), type=Summary)
    assert (summary.first_seed, summary.seeds, summary.runs, summary.passed) == (5, 3, 3, 3)
    assert summary.options == OPTIONS and summary.nodes == {3: 3} and not summary.interrupted
    assert summary.operations["put ok"].runs == 3 and summary.operations["put ok"].times > 20


def test_runs_that_prove_little_are_pointed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def batch(seeds: range, options: SimOptions, jobs: int) -> Iterator[Outcome]:
        for seed in seeds:
            yield Outcome(seed, "0" * 32, 1, 1, "os", {"put ok": 60 if seed else 1}, {"kill": 1}, [], {"hints_kept": 1})

    monkeypatch.setattr(sim_batch, "run_batch", batch)
    result = invoke("--seed", "0", "--runs", "100")
    assert result.return_value == 0
    assert "seed 0 shows nothing: only 1 operations were acknowledged" in result.output
    assert "not reached in 100 runs" in result.output and "a hint goes home" in result.output


def test_two_runs_of_a_seed_that_differ_are_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def twice(seeds: range, options: SimOptions, jobs: int) -> Iterator[tuple[Outcome, Difference | None]]:
        for seed in seeds:
            yield run(seed, OPTIONS), Difference(seed, "1" * 32, "2" * 32, "event 7 is …") if seed == 5 else None

    monkeypatch.setattr(sim_batch, "run_twice", twice)
    result = invoke("--seed", "4", "--runs", "2", "--twice", *QUICK)
    assert result.return_value == 1
    assert f"seed 5: DIFFERENT  traces {'1' * 32} and {'2' * 32}" in result.output
    assert "event 7 is" in result.output and "1 of 2 runs failed" in result.output


def test_an_interrupt_ends_a_batch_with_the_summary_of_what_has_run(tmp_path: Path) -> None:
    report = tmp_path / "sim.json"
    command = [
        sys.executable,
        "-m",
        "quorate.cli.main",
        "sim",
        "--seed",
        "1",
        "--runs",
        "100000",
        "--jobs",
        "2",
        "--json",
    ]
    process = subprocess.Popen([*command, "--report", str(report), *QUICK], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    first = json.loads(process.stdout.readline())
    assert first["seed"] == 1
    os.kill(process.pid, signal.SIGINT)
    rest, _ = process.communicate(timeout=EVENT_TIMEOUT_S)
    assert process.returncode == INTERRUPTED
    summary = msgspec.json.decode(report.read_bytes(), type=Summary)
    assert summary.interrupted and 1 <= summary.runs < summary.seeds
    assert json.loads(rest.splitlines()[-1])["runs"] == summary.runs


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--faults", "kill,quake"], "unknown fault 'quake'"),
        (["--runs", "2", "--trace"], "--trace prints the transcript of one run"),
        (["--shrink"], "name it with --seed"),
        (["--about", "carts:key1"], "add --trace"),
        (["--trace", "--twice"], "print for a person"),
        (["--trace", "--only", "faults,noise"], "unknown subject 'noise'"),
        (["--skip", "f9-f1"], "empty range"),
        (["--mutant", "no-such"], "unknown mutant 'no-such'"),
        (["--seconds", "0"], "is not in the range"),
        (["--nodes", "none"], "is not a valid integer"),
    ],
)
def test_bad_input_is_a_usage_error_that_says_why(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(module.sim_command, arguments)
    assert result.exit_code == 2
    assert message in result.output


def test_faults_none_means_none() -> None:
    assert run(1, SimOptions(seconds=2, faults=())).faults == {"heal": 1}
    assert len(KINDS) == len(set(KINDS))
