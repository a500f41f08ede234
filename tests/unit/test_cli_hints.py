"""`quorate hints`, `quorate status` and `strict`: what people are told about nodes out of reach."""

from __future__ import annotations

import json
from typing import Any

import pytest

from quorate.cli.main import run
from quorate.cli.tables import size_text
from tests.unit.test_cli_commands import ScriptedNode

BOUND = 1 << 30


def member(name: str, **report: Any) -> dict[str, Any]:
    return {"name": name, "client_address": f"{name}:7401", "tokens": 16, "report": report}


def report_of(homes: dict[str, dict[str, int]], **more: Any) -> dict[str, Any]:
    size_bytes = sum(count["bytes"] for count in homes.values())
    return {"state": "up", "reason": "", "hints": {"bytes": size_bytes, "bytes_max": BOUND, "homes": homes}, **more}


STATUS = {
    "cluster_id": "c",
    "ring_version": 1,
    "partitions": 64,
    "seen_by": "n1",
    "members": [
        member(
            "n1",
            **report_of(
                {"n3": {"hints": 2, "bytes": 3000}, "n4": {"hints": 1, "bytes": 100}},
                in_flight_requests=7,
                requests_in_flight_max=320,
                background_rate_per_s=1250,
                peers={
                    "n2": {"state": "up", "reason": "", "latency_ms": 1.25},
                    "n3": {"state": "down", "reason": "connection lost", "latency_ms": 0.0},
                    "n4": {"state": "suspected", "reason": "5 requests unanswered lately", "latency_ms": 900.0},
                },
            ),
        ),
        member("n2", **report_of({"n3": {"hints": 4, "bytes": 500}})),
        member("n3", state="unreachable", reason="no connection"),
        member("n4", **report_of({})),
    ],
}


@pytest.fixture
def asked(request: pytest.FixtureRequest) -> ScriptedNode:
    body = json.dumps(STATUS).encode()
    node = ScriptedNode(lambda command: b"$%d\r\n%b\r\n" % (len(body), body))
    request.addfinalizer(node.close)
    return node


def test_hints_are_summed_by_home_and_a_silent_node_is_not_counted_as_empty(
    asked: ScriptedNode, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["hints", "--json", "--node", asked.address]) == 0
    found = json.loads(capfd.readouterr().out)
    assert (found["hints"], found["bytes"]) == (7, 3600)
    assert found["homes"] == {"n3": {"hints": 6, "bytes": 3500}, "n4": {"hints": 1, "bytes": 100}}
    assert found["nodes"]["n3"] is None
    assert found["nodes"]["n4"] == {"bytes": 0, "bytes_max": BOUND, "homes": {}}
    assert asked.commands == [[b"KV.STATUS"]]


def test_hints_as_a_table(asked: ScriptedNode, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["hints", "--node", asked.address]) == 0
    out = capfd.readouterr().out
    rows = [line.split() for line in out.splitlines()]
    assert ["n1", "n3", "2", "2.9", "KiB", "0.0%", "of", "1.0", "GiB"] in rows
    assert ["n4", "1", "100", "bytes"] in rows
    assert ["n3", "no", "answer", "?", "?", "?"] in rows
    assert "7 hints wait for their homes: n3 6, n4 1" in out


def test_status_tells_the_opinion_of_the_asked_node_with_its_reason(
    asked: ScriptedNode, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["status", "--node", asked.address]) == 1
    out = capfd.readouterr().out
    rows = {line.split()[0]: line for line in out.splitlines() if "7401" in line}
    assert "7 of 320" in rows["n1"]
    assert "1250/s" in rows["n1"]
    assert "n1 takes n3 for down: connection lost" in out
    assert "n1 takes n4 for suspected: 5 requests unanswered lately" in out
    assert "n1 takes n2" not in out
    assert "1.2 ms" in rows["n2"]
    assert "n3 is unreachable: no connection" in out


def test_strict_is_a_property_that_can_be_set(
    request: pytest.FixtureRequest, capfd: pytest.CaptureFixture[str]
) -> None:
    node = ScriptedNode(lambda command: b'$15\r\n{"strict":true}\r\n')
    request.addfinalizer(node.close)
    assert run(["bucket", "set", "b", "strict=true", "--json", "--node", node.address]) == 0
    assert node.commands == [[b"KV.BUCKET", b"b", b"strict=true"]]
    capfd.readouterr()
    run(["bucket", "set", "--help"])
    assert "strict" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (5 << 20, "5.0 MiB"), (BOUND, "1.0 GiB")],
)
def test_sizes(size_bytes: int, text: str) -> None:
    assert size_text(size_bytes) == text
