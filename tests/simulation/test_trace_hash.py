"""The same seed gives the same trace in another process, whatever its string hashes are; another seed another one."""

from __future__ import annotations

import os
import subprocess
import sys

from quorate.sim.run import SimOptions, run

SEEDS = (1, 2, 3)
OPTIONS = SimOptions(seconds=10)
PROGRAM = """
from quorate.sim.run import SimOptions, run
for seed in (1, 2, 3):
    print(run(seed, SimOptions(seconds=10)).trace_hash)
"""


def hashes_in_a_process_of_its_own(hash_seed: str) -> list[str]:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    finished = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    return finished.stdout.split()


def test_equal_seeds_give_equal_traces_across_processes() -> None:
    here = [run(seed, OPTIONS).trace_hash for seed in SEEDS]
    assert hashes_in_a_process_of_its_own("1") == here
    assert hashes_in_a_process_of_its_own("4242") == here
    assert len(set(here)) == len(SEEDS)


def test_a_transcript_changes_nothing() -> None:
    lines: list[str] = []
    assert run(2, OPTIONS, lines.append).trace_hash == run(2, OPTIONS).trace_hash
    assert len(lines) == run(2, OPTIONS).events


def test_every_option_is_part_of_the_run() -> None:
    base = run(2, OPTIONS).trace_hash
    for other in (
        SimOptions(seconds=11),
        SimOptions(seconds=10, nodes=4),
        SimOptions(seconds=10, clients=4),
        SimOptions(seconds=10, keys=4),
        SimOptions(seconds=10, faults=()),
    ):
        assert run(2, other).trace_hash != base
