"""What docs/http.md shows is what happens: its transcripts are run, in their order, against a real cluster.

Of the headers of an answer the page shows those that matter there; these, the status and the whole body are compared.
Contexts, tags, ids and times differ from run to run and are masked.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ENVIRONMENT, EVENT_TIMEOUT_S, Cluster
from tests.integration.test_readme import on_ports_of, steps

pytestmark = pytest.mark.integration

TEXT = (Path(__file__).parents[2] / "docs" / "http.md").read_text(encoding="utf-8")
CONSOLE = re.findall(r"^```console\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
MASKS = (
    (r"\bAZ[\w-]{30,}", "CONTEXT"),
    (r"\b[0-9a-f]{8}-[0-9a-f]+\b", "REQUEST"),
    (r"\b[0-9a-f]{16}\b", "HASH"),
    (r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME"),
    (r"\w{3}, \d\d \w{3} \d{4} [\d:]{8} GMT", "DATE"),
    (r'"ring_version":\d+', '"ring_version":N'),
)


def masked(text: str) -> str:
    text = text.replace("\r", "")
    for pattern, mask in MASKS:
        text = re.sub(pattern, mask, text)
    return text


def taken_apart(output: str) -> tuple[str, set[str], str]:
    """(status line, header lines, body) of what curl printed; without -i there is only a body."""
    if not output.startswith("HTTP/"):
        return "", set(), output.strip()
    head, _, body = output.partition("\n\n")
    status, *headers = head.strip().split("\n")
    return status, set(headers), body.strip()


def test_there_are_transcripts() -> None:
    assert len(CONSOLE) >= 10
    assert TEXT.count("$ curl") >= 20


def test_transcripts(shared_cluster: Cluster) -> None:
    base_port = int(shared_cluster.address(1).rpartition(":")[2]) - 1
    for block in CONSOLE:
        found = steps(on_ports_of(block, base_port))
        script = "exec 2>&1\n" + "".join(f"{command}\nprintf '\\036'\n" for command, _ in found)
        done = subprocess.run(
            ["bash", "-c", script],
            capture_output=True,
            env=ENVIRONMENT,
            timeout=EVENT_TIMEOUT_S,
            check=True,
        )
        outputs = done.stdout.decode().split("\036")
        assert len(outputs) == len(found) + 1
        for (command, shown), output in zip(found, outputs, strict=False):
            status, headers, body = taken_apart(masked(output))
            shown_status, shown_headers, shown_body = taken_apart(masked(shown))
            assert (status, body) == (shown_status, shown_body), command
            assert shown_headers <= headers, command
