"""Short trials of every kind on real processes, and proof that a trial sees damage."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from quorate.core.ports import Space
from quorate.trials.__main__ import document_of, main
from quorate.trials.cluster import RealCluster
from quorate.trials.judgement import open_stores, stored_in
from quorate.trials.nemesis import NEMESES
from quorate.trials.run import Options, Report, run_trial

pytestmark = pytest.mark.integration

CYCLES = {"kill": 2, "disk-full": 2, "network": 3, "clock": 3}
CLIENTS = 8


def run(trial: str, cycles: int = 1, **options: Any) -> Report:
    return asyncio.run(run_trial(Options(trial, seed=11, cycles=cycles, clients=CLIENTS, **options)))


@pytest.mark.parametrize("trial", NEMESES)
def test_a_trial_finds_nothing(trial: str) -> None:
    report = run(trial, CYCLES.get(trial, 1))
    if not report.cycles and report.skipped:
        pytest.skip(report.skipped[0])
    assert report.violations == [], report.folder
    assert report.cycles == CYCLES.get(trial, 1)
    assert sum(report.faults.values()) >= report.cycles
    assert report.operations["put ok"] > 0
    assert report.changes > report.operations["put ok"], "the nodes' disks were watched"
    assert report.folder == ""
    json.dumps(document_of(report))


def test_an_acknowledged_record_that_is_gone_from_all_stores_is_seen() -> None:
    taken: list[bytes] = []

    def take_one_away(cluster: RealCluster) -> None:
        with ExitStack() as stack:
            engines = open_stores(cluster, stack)
            key = next(key for key in stored_in(engines[1], Space.DATA) if b"hot" in key)
            taken.append(key)
            for engine in engines.values():
                engine.write([(Space.DATA, key, None)])

    report = run("pause", tamper=take_one_away)
    assert {violation.check for violation in report.violations} == {"D", "store"}, report.violations
    assert all(repr(taken[0]) in violation.message for violation in report.violations)
    assert Path(report.folder, "record").is_dir(), "what was found can be looked at"
    shutil.rmtree(report.folder)


def test_a_store_that_forgets_is_seen() -> None:
    program = Path(__file__).with_name("forgetful_node.py")
    report = run("pause", node_command=(sys.executable, str(program)))
    assert {violation.check for violation in report.violations} >= {"store", "C"}, report.violations
    assert all("n2" in found.message for found in report.violations if found.check == "store")
    shutil.rmtree(report.folder)


def test_an_interrupted_trial_leaves_no_process(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WATCHED_TRIAL]
    trial = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "TMPDIR": str(tmp_path)})
    assert trial.stdout is not None
    pids = json.loads(trial.stdout.readline())
    assert len(pids) == 5
    trial.send_signal(signal.SIGINT)
    trial.communicate(timeout=60)
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []


WATCHED_TRIAL = """
import asyncio, json
from quorate.trials import run
from quorate.trials.nemesis import NEMESES, Scene

async def wait_for_ever(scene: Scene) -> None:
    scene.cluster.nodes[2].pause()
    print(json.dumps([node._process.pid for node in scene.cluster.nodes.values()]), flush=True)
    await asyncio.Event().wait()

NEMESES["pause"] = wait_for_ever
asyncio.run(run.run_trial(run.Options("pause", clients=2)))
"""


def test_the_command_line_refuses_what_makes_no_sense(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["nothing"], ["kill", "--cycles", "0"], ["kill", "--clients", "100000"]):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2
    assert "--clients must be from 1 to" in capsys.readouterr().err
