"""`quorate hints`, `quorate status` and `strict`: what people are told about nodes out of reach."""

from __future__ import annotations

import json
from typing import Any

import pytest

from quorate.cli.main import run
from quorate.cli.tables import size_text
from tests.unit.test_cli_commands import ScriptedNode

BOUND = 1 << 30
COMPARED = {"partitions": 64, "compared": 64, "all_compared_within_s": 72}


def member(name: str, **report: Any) -> dict[str, Any]:
    return {"name": name, "host": "h", "client_address": f"{name}:7401", "tokens": 16, "report": report}


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
    known = ([b"KV.STATUS"], [b"KV.TRANSFERS"])
    node = ScriptedNode(
        lambda command: b"$%d\r\n%b\r\n" % (len(body), body) if command in known else b"-ERR unknown command\r\n"
    )
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


def test_status_tells_of_a_plan_of_lagging_rings_and_of_several_versions(
    request: pytest.FixtureRequest, capfd: pytest.CaptureFixture[str]
) -> None:
    reports = [
        {"ring_version": 7, "version": "1.1", "connected_to": ["n2", "n3"], "anti_entropy": COMPARED},
        {"ring_version": 6, "version": "1.0", "connected_to": ["n1"], "anti_entropy": COMPARED},
        {"ring_version": 7, "version": "1.1", "connected_to": ["n1", "n2"], "anti_entropy": COMPARED},
    ]
    figures = {"in_flight_requests": 8192, "requests_in_flight_max": 8192, "background_rate_per_s": 1250}
    figures |= {"uptime_s": 5000, "disk_free_fraction": 0.31}
    members = [member(f"n{n}", **report_of({}, **figures, **report)) for n, report in enumerate(reports, start=1)]
    opinion = {"state": "up", "reason": "", "latency_ms": 102.5}
    members[0]["report"]["peers"] = {"n2": opinion, "n3": opinion}
    transfers = {"ring_version": 7, "plan": "p9", "joining": [], "leaving": ["n3"], "stage": "read old"}

    freshness = {"n": 3, "r": 1, "w": 1, "ready": False, "reason": "not enough measurements yet (2 of 1000)"}
    documents = {
        b"KV.STATUS": {**STATUS, "members": members},
        b"KV.TRANSFERS": transfers,
        b"KV.STALENESS": freshness,
    }

    def script(command: list[bytes]) -> bytes:
        body = json.dumps(documents[command[0]]).encode()
        return b"$%d\r\n%b\r\n" % (len(body), body)

    node = ScriptedNode(script)
    request.addfinalizer(node.close)
    assert run(["status", "--node", node.address]) == 0
    out = capfd.readouterr().out
    assert "plan p9 is under way: n3 leaves (ring version 7); `quorate transfers` shows how far it is" in out
    assert "n2 goes by ring version 6; the newest is 7" in out
    assert "n1 goes by" not in out
    assert "freshness, as n1 has measured it: n=3 r=1 w=1: not enough measurements yet (2 of 1000)" in out
    assert "version 1.1 on n1 n3, version 1.0 on n2" in out
    assert "n2 is not connected to n3" in out
    assert "n3 is not connected" not in out
    assert max(len(line.rstrip()) for line in out.splitlines()) <= 120
    assert run(["status", "--json", "--node", node.address]) == 0
    found = json.loads(capfd.readouterr().out)
    assert (found["transfers"], found["staleness"]) == (transfers, freshness)


def test_status_of_a_node_that_knows_no_transfers(
    request: pytest.FixtureRequest, capfd: pytest.CaptureFixture[str]
) -> None:
    body = json.dumps(STATUS).encode()
    reply = b"$%d\r\n%b\r\n" % (len(body), body)
    node = ScriptedNode(lambda command: reply if command == [b"KV.STATUS"] else b"-ERR unknown command\r\n")
    request.addfinalizer(node.close)
    assert run(["status", "--node", node.address]) == 1
    out = capfd.readouterr().out
    assert "under way" not in out
    assert "freshness" not in out


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
