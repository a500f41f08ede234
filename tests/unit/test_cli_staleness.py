"""`quorate staleness` and its line in `quorate status`: nothing is promised that was not measured."""

from __future__ import annotations

import json
from typing import Any

import pytest

from quorate.cli.main import run
from quorate.cli.staleness import share_text, staleness_text
from quorate.core.staleness.trials import TIMES_MS
from tests.unit.test_cli_commands import ScriptedNode

NOTHING = {"p50": 0.0, "p99": 0.0, "p999": 0.0}


def cell(r: int, w: int, shares: dict[float, float], **more: Any) -> dict[str, Any]:
    fresh = [max((share for at, share in shares.items() if at <= after), default=1.0) for after in TIMES_MS]
    return {
        "r": r,
        "w": w,
        "current": False,
        "certain": not shares,
        "fresh": fresh,
        "fresh_elsewhere": fresh,
        "fresh_within_ms": {"p99": 1.0, "p999": 7.5, "p9999": 20.0},
        "read_wait_ms": NOTHING,
        "write_wait_ms": {"p50": 0.52, "p99": 3.25, "p999": 8.0},
        **more,
    }


def document(r: int = 1, w: int = 1) -> dict[str, Any]:
    cells = [
        cell(1, 1, {0.0: 0.4, 1.0: 0.99234, 10.0: 0.99996}),
        cell(1, 2, {0.0: 0.95, 1.0: 1.0}),
        cell(2, 1, {0.0: 0.97, 1.0: 1.0}, read_wait_ms=None),
        cell(2, 2, {}),
    ]
    for found in cells:
        found["current"] = (found["r"], found["w"]) == (r, w)
    return {
        "bucket": None,
        "seen_by": "n2",
        "n": 3,
        "r": r,
        "w": w,
        "replicas": 3,
        "measured": {"writes": 12_000, "reads": 800, "needed": 1_000, "window_s": 74.6},
        "ready": True,
        "reason": "",
        "computed_s_ago": 1.0,
        "trials": 10_000,
        "resolution": 0.0003,
        "times_ms": list(TIMES_MS),
        "configurations": cells,
    }


IDLE = {**document(), "ready": False, "reason": "not enough measurements yet (12 of 1000)"}


@pytest.mark.parametrize(
    ("share", "resolution", "text"),
    [
        (0.0, 0.0003, "0%"),
        (0.4567, 0.0003, "45%"),
        (0.99234, 0.0003, "99.2%"),
        (0.99899, 0.0003, "99.8%"),
        (0.9996, 0.0003, "99.96%"),
        (0.9998, 0.0003, ">99.97%"),
        (1.0, 0.0003, ">99.97%"),
        (1.0, 0.003, ">99.7%"),
    ],
)
def test_a_share_is_cut_and_never_more_than_was_measured(share: float, resolution: float, text: str) -> None:
    assert share_text(share, resolution) == text


def test_one_line_says_how_it_is_now() -> None:
    expected = "n=3 r=1 w=1: 40% of reads fresh at once after the ack, 99.2% within 1 ms, >99.97% within 10 ms"
    assert staleness_text(document()) == expected
    sure = "n=3 r=2 w=2: every read sees every acknowledged write, unless another node stands in for a replica"
    assert staleness_text(document(2, 2)) == sure
    assert staleness_text(IDLE) == "n=3 r=1 w=1: not enough measurements yet (12 of 1000)"
    assert staleness_text({**IDLE, "r": 2, "w": 2}) == sure, "that needs no measurement"
    assert (
        staleness_text({**document(), "configurations": [], "replicas": 2}) == "n=3 r=1 w=1: there are only 2 replicas"
    )


@pytest.fixture
def node(request: pytest.FixtureRequest) -> ScriptedNode:
    answers = {1: document(), 2: IDLE}

    def script(command: list[bytes]) -> bytes:
        assert command[0] == b"KV.STALENESS"
        body = json.dumps(answers[len(command)]).encode()
        return b"$%d\r\n%b\r\n" % (len(body), body)

    found = ScriptedNode(script)
    request.addfinalizer(found.close)
    return found


def test_every_r_and_w_is_a_row(node: ScriptedNode, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["staleness", "--node", node.address]) == 0
    out = capfd.readouterr().out
    assert "n2 has timed 12000 writes and 800 reads of others in the last 75 s" in out
    rows = [line.split() for line in out.splitlines()]
    now = ["1*", "1", "40%", "99.2%", ">99.97%", ">99.97%", "7.5", "ms", "0", "/", "0", "/", "0"]
    assert [*now, "0.52", "/", "3.2", "/", "8"] in rows
    assert any(row[:2] == ["2", "1"] and "measured" in row for row in rows)
    assert any(row[:3] == ["2", "2", "certain"] for row in rows)
    assert max(len(line.rstrip()) for line in out.splitlines()) <= 120


def test_a_bucket_is_asked_about_and_may_not_be_measured(node: ScriptedNode, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["staleness", "carts", "--node", node.address]) == 0
    assert "n=3 r=1 w=1: not enough measurements yet (12 of 1000)" in capfd.readouterr().out
    assert node.commands == [[b"KV.STALENESS", b"carts"]]
    assert run(["staleness", "--json", "--node", node.address]) == 0
    assert json.loads(capfd.readouterr().out) == document()
