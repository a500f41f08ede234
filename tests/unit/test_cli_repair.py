"""`quorate repair`: every node in turn, what it came to, and what the exit code says of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from quorate.cli.main import run
from quorate.cli.repair import progress_of
from tests.unit.test_cli_commands import ScriptedNode


def document_of(state: str, complete: bool = True, **more: Any) -> dict[str, Any]:
    peers = {"n2": {"state": "done", "shared": 8, "compared": 8, "differed": 1, "received": 3, "sent": 2}}
    found = {"state": state, "reason": "", "partitions": 8, "verified": 8, "damaged": 1, "peers": peers}
    return {**found, "received": 3, "sent": 2, "complete": complete, **more}


def bulk(document: dict[str, Any]) -> bytes:
    body = json.dumps(document).encode()
    return b"$%d\r\n%b\r\n" % (len(body), body)


@pytest.fixture
def node() -> Iterator[Callable[..., ScriptedNode]]:
    """Makes a node whose passes end with the given document, the second time that it is asked about them; the ring
    names it, and whoever else is given."""
    made: list[ScriptedNode] = []

    def make(end: dict[str, Any], *others: str) -> ScriptedNode:
        asked = 0

        def script(command: list[bytes]) -> bytes:
            nonlocal asked
            if command == [b"KV.RING"]:
                addresses = [made[0].address, *others]
                members = [
                    {"name": f"n{place}", "client_address": address} for place, address in enumerate(addresses, 1)
                ]
                return bulk({"members": members})
            if command[1] == b"START":
                asked = 0
            asked += 1
            return bulk(end if asked > 2 else document_of("verifying", complete=False))

        made.append(ScriptedNode(script))
        return made[0]

    yield make
    for each in made:
        each.close()


def test_each_node_is_asked_until_its_pass_has_ended(
    node: Callable[..., ScriptedNode], capfd: pytest.CaptureFixture[str]
) -> None:
    scripted = node(document_of("done"))
    assert run(["repair", "carts", "--json", "--node", scripted.address]) == 0
    status = [b"KV.REPAIR", b"STATUS"]
    assert scripted.commands == [[b"KV.RING"], [b"KV.REPAIR", b"START", b"carts"], status, status]
    found = json.loads(capfd.readouterr().out)
    assert (found["complete"], found["repaired"], found["damaged"]) == (True, 5, 1)
    assert found["nodes"]["n1"]["peers"]["n2"]["compared"] == 8


def test_the_result_as_a_table(node: Callable[..., ScriptedNode], capfd: pytest.CaptureFixture[str]) -> None:
    scripted = node(document_of("done"))
    assert run(["repair", "--node", scripted.address]) == 0
    assert scripted.commands[1] == [b"KV.REPAIR", b"START"]
    out = capfd.readouterr().out
    rows = [line.split() for line in out.splitlines()]
    assert ["n1", "done", "all", "8", "1", "n2", "all", "8", "1", "3", "2"] in rows
    assert "5 records repaired, 1 found damaged" in out
    assert "not everything" not in out


def test_a_node_out_of_reach_is_named_and_the_others_are_still_repaired(
    node: Callable[..., ScriptedNode], capfd: pytest.CaptureFixture[str]
) -> None:
    scripted = node(document_of("done"), "127.0.0.1:1")
    assert run(["repair", "--json", "--node", scripted.address]) == 5
    found = json.loads(capfd.readouterr().out)
    assert not found["complete"]
    assert found["nodes"]["n1"]["state"] == "done"
    assert found["nodes"]["n2"]["state"] == "unreachable"
    assert "127.0.0.1:1" in found["nodes"]["n2"]["reason"]


@pytest.mark.parametrize(
    ("end", "code", "said"),
    [
        (
            document_of("failed", complete=False, reason="this node's disk failed", peers={}),
            1,
            "this node's disk failed",
        ),
        (
            document_of("done", complete=False, peers={"n9": {"state": "unreachable", "reason": "not connected"}}),
            5,
            "n1 with n9: unreachable: not connected",
        ),
    ],
)
def test_a_pass_that_was_not_whole_says_why(
    node: Callable[..., ScriptedNode], capfd: pytest.CaptureFixture[str], end: dict[str, Any], code: int, said: str
) -> None:
    assert run(["repair", "--node", node(end).address]) == code
    out = capfd.readouterr().out
    assert said in out
    assert "not everything was compared" in out


def test_progress_counts_the_scan_and_the_comparisons() -> None:
    waiting = {"n2": {"state": "waiting"}, "n3": {"state": "waiting"}}
    half = {"n2": {"state": "done"}, "n3": {"state": "comparing", "shared": 8, "compared": 4}}
    assert progress_of(document_of("verifying", verified=0, peers=waiting)) == 0.0
    assert progress_of(document_of("verifying", verified=4, peers=waiting)) == 0.25
    assert progress_of(document_of("comparing", peers=half)) == 0.875
    assert progress_of(document_of("done")) == 1.0
    assert progress_of(document_of("done", peers={})) == 1.0
