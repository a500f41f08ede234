"""Several processes carry a load: their steps are in step, and one that is lost is no silence."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from quorate.bench.crew import Crew, ProcessLost
from quorate.bench.job import Job
from quorate.bench.report import report_of
from quorate.bench.runner import Load
from quorate.core.errors import Unavailable

JOB = Job("127.0.0.1:1", None, 1000, b"b", Load(concurrency=5, rate_per_s=30.0, keys=30), "plain")
STAND_IN = Path(__file__).with_name("bench_stand_in.py")


def command(tmp_path: Path, manner: str) -> tuple[str, ...]:
    return (sys.executable, str(STAND_IN), manner, str(tmp_path / "said"))


def said(tmp_path: Path) -> list[list[Any]]:
    """(process, what it read or wrote), in the order in which it happened."""
    return [json.loads(line) for line in (tmp_path / "said").read_text().splitlines()]


def test_every_step_begins_when_all_have_ended_the_one_before(tmp_path: Path) -> None:
    async def story() -> None:
        async with Crew(JOB, 3, command(tmp_path, "diligent")) as crew:
            assert await crew.load() is None
            await crew.warm_up("put")
            report = report_of(await crew.measure("put"))
            assert report.operations["put"].count == 1 + 2 + 3, "what all of them recorded"
            verdict = await crew.verify()
            assert (verdict.keys, verdict.lost) == (30, 3)

    asyncio.run(story())
    told = said(tmp_path)
    assert sorted((process, what) for process, what in told[:3]) == [
        (0, [2, 10.0, 0, 3]),
        (1, [2, 10.0, 1, 3]),
        (2, [1, 10.0, 2, 3]),
    ]
    for number, step in enumerate(["load", "warm_up", "measure", "verify"], 1):
        assert sorted(told[3 * number : 3 * number + 3]) == [[process, step] for process in range(3)]


def test_a_stop_reaches_those_that_work(tmp_path: Path) -> None:
    async def story() -> None:
        async with Crew(JOB, 2, command(tmp_path, "until told")) as crew:
            measuring = asyncio.create_task(crew.measure("put"))
            await asyncio.sleep(0)  # Now they are told to begin.
            crew.stop()
            assert crew.stopped
            assert report_of(await measuring).operations["put"].count == 3
            assert crew.done == 2, "how far they said that they were"

    asyncio.run(story())


def test_a_failure_of_one_is_that_of_all(tmp_path: Path) -> None:
    async def story() -> None:
        async with Crew(JOB, 2, command(tmp_path, "failing")) as crew:
            with pytest.raises(Unavailable, match="no node answers"):
                await crew.load()

    asyncio.run(story())


@pytest.mark.parametrize("manner", ["dying", "stillborn"])
def test_a_process_that_is_lost_is_told(tmp_path: Path, manner: str) -> None:
    async def story() -> None:
        async with Crew(JOB, 2, command(tmp_path, manner)) as crew:
            await crew.measure("put")

    with pytest.raises(ProcessLost, match="ended with code 3"):
        asyncio.run(story())


def test_a_process_that_does_not_leave_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quorate.bench.crew.LEAVE_S", 0.05)

    async def story() -> None:
        async with Crew(JOB, 1, command(tmp_path, "deaf")) as crew:
            process = crew._members[0]._process
        assert process.returncode == -9

    asyncio.run(story())
