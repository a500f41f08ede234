"""What README.md shows is what happens: its transcripts and its Python snippets are run against a real cluster.

Ports, contexts, ids and times differ from run to run and are masked; everything else is compared.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import ENVIRONMENT, EVENT_TIMEOUT_S, free_base_port

pytestmark = [pytest.mark.integration, pytest.mark.foreign]

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
CONSOLE = [text for kind, text in BLOCKS if kind == "console"]
PYTHON = [(text, BLOCKS[index + 1][1]) for index, (kind, text) in enumerate(BLOCKS) if kind == "python"]
"""(program, what it prints): the block after it."""
FIRST_COMMAND = "make run"
MASKS = (
    (r"(?m)^ *(n\d+)( +\d+ +\d+ +(?:[\d.e+]+ / [\d.e+]+ / [\d.e+]+|–)){2} *$", r"\1 REQUESTS"),
    (r"(?<= )(\d+\.\d+ ms|–)(?= )", "LATENCY"),
    (r"\d+/s(?= )", "RATE"),
    (r"\bAZ[\w-]{30,}", "CONTEXT"),
    (r"\b[0-9a-f]{32}\b", "ID"),
    (r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME"),
    (r"\b\d+(\.\d)? (s|min)\b", "UPTIME"),
    (r"(?<![\d.])\d+%", "FREE"),
    (r"─+", "─"),
)


class Running(NamedTuple):
    base_port: int
    folder: Path
    announcement: str


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A cluster started as `make run` does: by a program in .venv that is not on the PATH."""
    folder, base_port = tmp_path_factory.mktemp("readme"), free_base_port()
    program = folder / ".venv" / "bin" / "quorate"
    program.parent.mkdir(parents=True)
    program.symlink_to(Path(sys.executable).with_name("quorate"))
    with (folder / "up.log").open("wb") as log:
        process = subprocess.Popen(
            [".venv/bin/quorate", "up", "--port", str(base_port)],
            stdout=subprocess.PIPE, stderr=log, text=True, cwd=folder, env={**ENVIRONMENT, "PATH": "/usr/bin:/bin"},
        )  # fmt: skip
    assert process.stdout is not None
    announcement = ""
    try:
        while "Ctrl-C stops" not in announcement:
            line = process.stdout.readline()
            assert line, (folder / "up.log").read_text()
            announcement += line
        yield Running(base_port, folder, announcement)
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=EVENT_TIMEOUT_S)


def on_ports_of(text: str, base_port: int) -> str:
    """`text` with the default ports (7401, 7602, …) moved to those of the cluster under test."""
    return re.sub(r"\b7([456]0\d)\b", lambda found: str(base_port + int(found[1]) - 400), text)


def masked(text: str) -> list[str]:
    """The lines of `text` that are not blank, without what differs from run to run."""
    for pattern, mask in MASKS:
        text = re.sub(pattern, mask, text)
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


def steps(block: str) -> list[tuple[str, str]]:
    """The commands of a transcript, each with the output that it claims."""
    found = re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE)
    assert "".join(f"$ {command}\n{output}" for command, output in found) == block, "nothing is left out"
    return found


def test_the_readme_has_what_is_tested_here() -> None:
    assert len(CONSOLE) >= 5
    assert len(PYTHON) == 2
    assert steps(CONSOLE[0])[0][0] == FIRST_COMMAND


def test_a_cluster_announces_itself_as_shown(running: Running) -> None:
    _, shown = steps(CONSOLE[0])[0]
    told = running.announcement.replace(f" --node 127.0.0.1:{running.base_port + 1}", "")  # Not the default port here.
    assert masked(told) == masked(on_ports_of(shown, running.base_port))


@pytest.mark.parametrize("block", CONSOLE[1:], ids=lambda block: steps(block)[-1][0][:40])
def test_transcripts(running: Running, block: str) -> None:
    if "redis-cli" in block and not shutil.which("redis-cli"):
        pytest.skip("redis-cli is not installed")
    block = on_ports_of(block, running.base_port)
    script = "exec 2>&1\n" + "".join(
        f"{command}\nstatus=$?; printf '\\036'; (exit $status)\n" for command, _ in steps(block)
    )
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=running.folder,
        env={
            **ENVIRONMENT,
            "PATH": f"{running.folder / '.venv' / 'bin'}:{os.environ['PATH']}",
            "QUORATE_NODE": f"127.0.0.1:{running.base_port + 1}",
        },
        stdout=subprocess.PIPE,
        timeout=EVENT_TIMEOUT_S,
        check=False,
        text=True,
    )
    outputs = done.stdout.split("\036")
    for (command, shown), output in zip(steps(block), outputs, strict=False):
        assert masked(output) == masked(shown), command
    assert len(outputs) == len(steps(block)) + 1


@pytest.mark.parametrize(("program", "shown"), PYTHON, ids=["synchronous", "asynchronous"])
def test_python_snippets(running: Running, program: str, shown: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", on_ports_of(program, running.base_port)],
        capture_output=True, timeout=EVENT_TIMEOUT_S, check=False, text=True, env=ENVIRONMENT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    # The order of a merged dict's members is that of its siblings, which no one promises.
    assert [sorted(line.split()) for line in words(done.stdout)] == [sorted(line.split()) for line in words(shown)]


def words(text: str) -> list[str]:
    return re.sub(r"[{},:']", " ", text).splitlines()


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert len(links) > 5
    assert [link for link in links if "://" not in link and not (ROOT / link).exists()] == []
