"""Faults on purpose: what a node passes on to its supervisor, and what that does."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import msgspec
import pytest

from quorate.api.http.problems import TYPE_PREFIX
from quorate.cli.up_control import Control, state_of
from quorate.core.local_control import MAY_FOLLOW, LocalNode, LocalNodes, LocalRefusal
from quorate.server.supervision import QUESTIONS_MAX, TIMEOUT_MS, Supervision
from tests.peer_cluster import ManualTime
from tests.unit.http_session import Session, run

ALL = LocalNodes([LocalNode("n1", "running"), LocalNode("n2", "paused")])


class Node:
    """A node's side, with everything that it says and hears."""

    def __init__(self) -> None:
        self.time = ManualTime()
        self.events: list[dict[str, Any]] = []
        self.cuts: list[bool] = []
        self.replies: list[LocalNodes | LocalRefusal] = []
        self.supervision = Supervision(
            "n1", lambda event, **fields: self.events.append({"event": event, **fields}), self.time, self.cuts.append
        )

    def hear(self, document: Any) -> None:
        self.supervision.on_line(msgspec.json.encode(document))


def test_a_question_is_passed_on_and_answered() -> None:
    node = Node()
    node.supervision.nodes(node.replies.append)
    node.supervision.act("n2", "kill", node.replies.append)
    assert node.events == [
        {"event": "control", "id": 1},
        {"event": "control", "id": 2, "node": "n2", "action": "kill"},
    ]
    node.hear({"id": 2, "refusal": {"kind": "refused", "message": "no"}})
    node.hear({"id": 1, "answer": ALL})
    node.hear({"id": 1, "answer": ALL})
    assert node.replies == [LocalRefusal("refused", "no"), ALL], "each is answered once"
    node.time.advance(2 * TIMEOUT_MS)
    assert len(node.replies) == 2


def test_a_supervisor_that_says_nothing_is_not_waited_for_and_not_asked_without_end() -> None:
    node = Node()
    for _ in range(QUESTIONS_MAX + 1):
        node.supervision.nodes(node.replies.append)
    assert len(node.events) == QUESTIONS_MAX
    assert [reply.kind for reply in node.replies if isinstance(reply, LocalRefusal)] == ["unavailable"]
    node.time.advance(TIMEOUT_MS)
    assert [reply.kind for reply in node.replies if isinstance(reply, LocalRefusal)] == ["unavailable"] * 17
    node.supervision.nodes(node.replies.append)
    assert len(node.events) == QUESTIONS_MAX + 1, "there is room again"


@pytest.mark.parametrize("action", ["pause", "kill"])
def test_a_node_does_not_take_away_its_own_answer(action: Any) -> None:
    node = Node()
    node.supervision.act("n1", action, node.replies.append)
    assert isinstance(node.replies[0], LocalRefusal)
    assert node.events == []


@pytest.mark.parametrize("line", [b"", b"no json", b"[1]", b'{"id":"one"}', b"\xff", b'{"do":"explode"}', b'{"id":99}'])
def test_what_is_none_of_a_supervisors_lines_does_nothing(line: bytes) -> None:
    node = Node()
    node.supervision.on_line(line)
    assert (node.cuts, node.replies) == ([], [])


def test_a_node_is_told_to_cut_itself_off_and_to_come_back() -> None:
    node = Node()
    node.hear({"do": "cut"})
    node.hear({"do": "heal"})
    assert node.cuts == [True, False]


class Pipe:
    def __init__(self) -> None:
        self.lines: list[Any] = []

    def is_closing(self) -> bool:
        return False

    def write(self, line: bytes) -> None:
        self.lines.append(msgspec.json.decode(line))


class Process:
    def __init__(self, child: Child) -> None:
        self.stdin = Pipe()
        self.signals: list[signal.Signals] = []
        self._child = child

    def send_signal(self, number: signal.Signals) -> None:
        self.signals.append(number)

    def kill(self) -> None:
        self._child.ended.set()


class Child:
    def __init__(self, state: str = "running") -> None:
        self.process: Any = Process(self)
        self.ready = state != "starting"
        self.ended = asyncio.Event()
        self.paused = state == "paused"
        self.cut = state == "cut"
        self.killed = False
        if state == "ended":
            self.ended.set()


def ask(state: str, action: str, name: str = "n2") -> tuple[dict[str, Child], Any]:
    """What becomes of n2 in this state when n1 passes this on, and what n1 is told."""
    children = {"n1": Child(), "n2": Child(state)}

    async def start(name: str) -> None:
        children[name] = Child("starting")

    control = Control(lambda: children, start, lambda text: None)
    asyncio.run(control.answer(children["n1"], {"id": 7, "node": name, "action": action}))
    (line,) = children["n1"].process.stdin.lines
    assert line["id"] == 7
    return children, line


@pytest.mark.parametrize(
    ("state", "action", "after"),
    [
        ("running", "pause", "paused"),
        ("paused", "resume", "running"),
        ("running", "kill", "ended"),
        ("paused", "kill", "ended"),
        ("ended", "start", "starting"),
        ("running", "cut", "cut"),
        ("cut", "heal", "running"),
    ],
)
def test_what_is_possible_is_done(state: str, action: str, after: str) -> None:
    children, line = ask(state, action)
    assert state_of(children["n2"]) == after
    assert line["answer"]["nodes"] == [{"name": "n1", "state": "running"}, {"name": "n2", "state": after}]


@pytest.mark.parametrize("state", list(MAY_FOLLOW))
def test_what_is_not_possible_is_refused_and_not_done(state: str) -> None:
    for action in {"pause", "resume", "kill", "start", "cut", "heal"} - set(MAY_FOLLOW[state]):
        children, line = ask(state, action)
        assert line["refusal"]["kind"] == "refused"
        assert state_of(children["n2"]) == state
        assert children["n2"].process.signals == []


@pytest.mark.parametrize(("name", "action"), [("n9", "kill"), ("n2", "explode")])
def test_what_there_is_not_is_unknown(name: str, action: str) -> None:
    assert ask("running", action, name)[1]["refusal"]["kind"] == "unknown"


class FakeControl:
    def nodes(self, reply: Any) -> None:
        reply(ALL)

    def act(self, node: str, action: str, reply: Any) -> None:
        kinds: dict[str, Any] = {"n9": "unknown", "n1": "refused", "n3": "unavailable"}
        reply(LocalRefusal(kinds[node], "because") if node in kinds else ALL)


def test_over_http() -> None:
    async def story(http: Session) -> None:
        assert (await http.get("/v1/local")).json() == msgspec.to_builtins(ALL)
        assert (await http.post("/v1/local/n2/pause", {})).json() == msgspec.to_builtins(ALL)
        for path, status, kind in (
            ("n9/pause", 404, "not-found"), ("n1/pause", 409, "refused"), ("n3/pause", 503, "unavailable"),
            ("n2/explode", 400, "bad-request"),
        ):  # fmt: skip
            reply = await http.post(f"/v1/local/{path}", {})
            assert (reply.status, reply.json()["type"]) == (status, TYPE_PREFIX + kind)
        assert (await http.post("/v1/local/n2/pause", {"more": 1})).status == 400
        assert (await http.get("/v1/local/n2/pause")).status == 405
        foreign = {"Origin": "http://elsewhere.example", "Content-Type": "application/json"}
        assert (await http.ask("POST", "/v1/local/n2/pause", b"{}", foreign)).status == 403

    run(story, local=FakeControl())


def test_without_a_supervisor_there_are_no_nodes_to_control() -> None:
    async def story(http: Session) -> None:
        assert (await http.get("/v1/local")).json() == {"nodes": []}
        assert (await http.post("/v1/local/n2/kill", {})).status == 404

    run(story)
