"""`quorate sim`: what it prints, what it exits with, and that a failing seed can be replayed."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from click.testing import CliRunner, Result

from quorate.cli import sim_command as module
from quorate.sim.batch import replay_command, run_batch
from quorate.sim.faults import KINDS
from quorate.sim.history import Violation
from quorate.sim.run import Outcome, SimOptions, run

QUICK = ["--seconds", "2", "--nodes", "3", "--clients", "2"]
OPTIONS = SimOptions(seconds=2, nodes=3, clients=2)


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


def test_workers_give_the_same_outcomes_in_the_order_of_the_seeds() -> None:
    assert list(run_batch(range(4), OPTIONS, jobs=2)) == list(run_batch(range(4), OPTIONS, jobs=1))


def test_a_failing_seed_is_shown_with_the_command_that_replays_it(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = Outcome(9, "0" * 32, 1, 1, "os", {}, {}, [Violation("D", f"write {n} is lost") for n in range(7)])

    def batch(seeds: range, options: SimOptions, jobs: int) -> Iterator[Outcome]:
        yield failed

    monkeypatch.setattr(module, "run_batch", batch)
    result = invoke("--seed", "9", "--seconds", "5", "--faults", "kill,slow disk")
    assert result.return_value == 1
    assert "seed 9: FAILED" in result.output
    assert "D: write 0 is lost" in result.output and "… and 2 more" in result.output
    assert "replay: quorate sim --seed 9 --trace --seconds 5 --faults 'kill,slow disk'" in result.output
    assert "1 of 1 runs failed" in result.output


def test_a_replay_command_gives_the_options_back(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, SimOptions]] = []

    def fake_run(seed: int, options: SimOptions, transcript: object) -> Outcome:
        seen.append((seed, options))
        return Outcome(seed, "", 0, 0, "os", {}, {}, [])

    monkeypatch.setattr(module, "run", fake_run)
    for options in (SimOptions(), SimOptions(4, 7.5, 3, 2, "fsync", ("kill",)), SimOptions(faults=())):
        words = replay_command(31, options).replace("'", "").split(" --")[1:]
        arguments = [part for word in words for part in f"--{word}".split(" ", 1)]
        assert invoke(*arguments).return_value == 0
        assert seen[-1] == (31, options)


def test_a_transcript_tells_what_happened() -> None:
    result = invoke("--seed", "3", "--trace", *QUICK)
    assert "n1  connected to n2" in result.output
    assert "PutRequest" in result.output and "WriteReply" in result.output
    assert "FAULT  heal" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--faults", "kill,quake"], "unknown fault 'quake'"),
        (["--runs", "2", "--trace"], "--trace prints the transcript of one run"),
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
