"""`quorate bench` with several processes against a real cluster: its figures add up, and it leaves nobody behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from quorate.bench.results import read_results
from tests.conftest import ENVIRONMENT, EVENT_TIMEOUT_S, QUORATE, Cluster, run_cli

pytestmark = pytest.mark.integration
LOAD = ("--processes", "2", "--keys", "200", "--concurrency", "8", "--json")


def test_workload_a_by_two_processes(shared_cluster: Cluster, tmp_path: Path) -> None:
    kept, drawn = tmp_path / "a.json", tmp_path / "a.svg"
    run = ("--workload", "a,e,d", "--seconds", "1", "--warm-up", "0.2", "--windows", "0.5", "--output", str(kept))
    done = shared_cluster.cli("bench", *run, *LOAD)
    assert done.returncode == 0, done.stderr.decode()
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    phases = {line["phase"]: line for line in lines if "at_s" not in line}
    assert list(phases) == ["load", "a", "e", "d"]
    assert phases["load"]["operations"]["insert"]["count"] == 200
    for phase, kinds in (("a", {"read", "update"}), ("d", {"read", "insert"})):
        assert set(phases[phase]["operations"]) == kinds
        assert phases[phase]["errors"] == {}
        windows = [line for line in lines if line["phase"] == phase and "at_s" in line]
        assert [window["at_s"] for window in windows] == [0.0, 0.5]
        assert all(window["ops_per_s"] > 0 for window in windows)
    keys = shared_cluster.cli("keys", "ycsb").stdout.split()
    results = read_results(kept)
    inserted = next(phase for phase in results.phases if phase.report.phase == "d").report.operations["insert"].count
    assert len(set(keys)) == len(keys) >= 200 + inserted, "those of the warm-up are there too"
    assert results.bucket["conflicts"] == "lww"
    for command in (("compare", str(kept), str(kept)), ("plot", str(kept), "--output", str(drawn))):
        done = run_cli("bench", *command)
        assert done.returncode == 0, done.stderr.decode()
    assert drawn.read_bytes().startswith(b"<?xml")


def test_two_processes_check_what_they_wrote(shared_cluster: Cluster) -> None:
    done = shared_cluster.cli("bench", "--workload", "mixed", "--check", "--seconds", "0.5", "--warm-up", "0", *LOAD)
    assert done.returncode == 0, done.stderr.decode()
    report, verdict = [json.loads(line) for line in done.stdout.splitlines()]
    assert report["errors"] == {}
    assert verdict == {"keys": 200, "lost": 0, "unread": 0, "phase": "check"}


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_nobody_is_left_behind(shared_cluster: Cluster, end: signal.Signals) -> None:
    """Ctrl-C ends all and reports; and if the first process is killed, the others notice and leave."""
    command = [*QUORATE, "bench", "--workload", "a", "--seconds", "600", *LOAD, "--node", shared_cluster.address()]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT, start_new_session=True
    ) as bench:
        assert bench.stdout is not None
        assert json.loads(bench.stdout.readline())["phase"] == "load"
        if end == signal.SIGINT:
            os.killpg(bench.pid, end)  # As a terminal does: to all that were not set apart.
        else:
            bench.send_signal(end)
        # All of them hold the pipe of errors: it ends when the last of them has.
        out, err = bench.communicate(timeout=EVENT_TIMEOUT_S)
    assert err == b""
    if end == signal.SIGINT:
        assert bench.returncode == 0
        assert json.loads(out)["phase"] == "a"
