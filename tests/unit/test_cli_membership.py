"""join, leave, replace, weight, abort, force, transfers, members, ring: against nodes that answer from a script."""

from __future__ import annotations

import io
import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from quorate.cli import cluster_link, confirmation, membership
from quorate.cli.main import run
from tests.unit.test_cli_commands import ScriptedNode

CLUSTER_ID = "abcdef0123456789abcdef0123456789"
JOIN = {"kind": "join", "node": "n4"}


def bulk(document: Any) -> bytes:
    body = json.dumps(document).encode()
    return b"$%d\r\n%b\r\n" % (len(body), body)


def steady(version: int) -> dict[str, Any]:
    return {"ring_version": version, "forced": False, "plan": None}


def under_way(version: int, plan: str, stage: str = "read old", left: int = 100, **more: Any) -> dict[str, Any]:
    filled = left == 0
    figures = {"filled": filled, "partitions": 200, "partitions_left": left, "received_records": 12}
    figures |= {
        "received_bytes": 3 << 20,
        "bytes_per_s": 0 if filled else 1 << 20,
        "seconds_left": None if filled else 90,
    }
    waits = [] if filled else [{"partitions": "0-3 7", "members": ["n1"], "reason": "it is overloaded"}]
    nobody = {"partitions": 0, "partitions_left": 0, "received_records": 0, "received_bytes": 0, "bytes_per_s": 0}
    members = [
        {"name": "n1", "confirmed": version, "filled": None, **nobody, "seconds_left": None, "waits_for": []},
        {"name": "n4", "confirmed": version - 1, **figures, "waits_for": waits},
    ]
    fields = {"plan": plan, "stage": stage, "began_version": 2, "joining": ["n4"], "leaving": [], "stopped": []}
    return {**steady(version), **fields, "waiting": ["n4 to be filled"], "members": members, **more}


class Cluster:
    """Some nodes that tell the same story: `transfers` is told line by line, the last one again and again."""

    def __init__(self, nodes: int = 1) -> None:
        self.version = 1
        self.transfers: list[dict[str, Any]] = [steady(1)]
        self.after_commit: list[dict[str, Any]] = []
        self.names = ["n1", "n2", "n3"]
        self.names_after = ["n1", "n2", "n3", "n4"]
        self.commits: list[bytes] = []
        self.dies_at: tuple[int, bytes] | None = None
        """(which node, at which command): it says nothing from then on."""
        self.dead: set[int] = set()
        self.nodes = [ScriptedNode(lambda command, n=n: self.answer(n, command)) for n in range(nodes)]

    def answer(self, index: int, command: list[bytes]) -> bytes:
        if (index, command[0]) == self.dies_at:
            self.dead.add(index)
        if index in self.dead:
            return b""
        replies = {b"KV.PLAN": self.plan, b"KV.COMMIT": self.commit, b"KV.TRANSFERS": self.tell, b"KV.ABORT": self.tell}
        replies |= {b"KV.MEMBERS": self.members, b"KV.FORCE": self.tell, b"KV.RING": self.ring}
        return replies[command[0]](command)

    def plan(self, command: list[bytes]) -> bytes:
        owns = {"weight": 1, "owns_before": 64, "owns_after": 48, "copies_before": 192, "copies_after": 144}
        newcomer = {"weight": 2, "owns_before": 0, "owns_after": 64, "copies_before": 0, "copies_after": 192}
        members = [{"name": "n1", **owns}, {"name": "n4", **newcomer}]
        counts = {"partitions_moved": 16, "fewest_moves": 15, "copies": 48, "bytes": 5 << 20}
        lists = {"flows": [{"from": "n1", "to": "n4", "partitions": 16}], "members": members, "warnings": ["mind this"]}
        return bulk({"id": f"p{self.version}", "kind": "join", "ring_version": self.version, **counts, **lists})

    def commit(self, command: list[bytes]) -> bytes:
        self.commits.append(command[1])
        if command[1] != f"p{self.version}".encode():
            return b"-ERR that plan was made for another ring version: plan again\r\n"
        self.transfers = list(self.after_commit)
        self.names = self.names_after
        return bulk(self.transfers[0])

    def tell(self, command: list[bytes]) -> bytes:
        return bulk(self.transfers.pop(0) if len(self.transfers) > 1 else self.transfers[0])

    def members(self, command: list[bytes]) -> bytes:
        fields = {"host": "h", "zone": "", "peer_address": "h:1", "http_address": "h:2", "owns": 5, "reason": ""}
        fields |= {"state": "up", "side": "stays", "confirmed": 3, "software": "1.0", "wire_version": 1}
        members = [
            {
                **fields,
                "name": name,
                "number": number,
                "id": f"{number:032x}",
                "weight": number,
                "client_address": self.nodes[number % len(self.nodes)].address,
            }
            for number, name in enumerate(self.names)
        ]
        candidate = {"name": "n9", "id": "9" * 32, "host": "h9", "zone": "z9", "weight": 2, "heard_s_ago": 0.5}
        candidate |= {"peer_address": "h9:1", "client_address": "h9:2"}
        departed = [{"number": 7, "id": "7" * 32}]
        version = self.transfers[0]["ring_version"]
        return bulk({"ring_version": version, "members": members, "candidates": [candidate], "departed": departed})

    def ring(self, command: list[bytes]) -> bytes:
        return bulk({"cluster_id": CLUSTER_ID, "version": 1, "members": [], "owners": []})

    def sent(self, verb: bytes) -> list[list[bytes]]:
        return [command for node in self.nodes for command in node.commands if command[0] == verb]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """Three nodes; the commands do not wait between two questions."""
    monkeypatch.setattr(cluster_link, "POLL_INTERVAL_S", 0.0)
    made = Cluster(3)
    yield made
    for node in made.nodes:
        node.close()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A terminal at which the answers in the list are given."""
    answers: list[str] = []
    monkeypatch.setattr(confirmation, "check_answerable", lambda yes, as_json: None)
    monkeypatch.setattr(membership, "check_answerable", lambda yes, as_json: None)
    monkeypatch.setattr("quorate.cli.force.check_answerable", lambda yes, as_json: None)
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda prompt: answers.pop(0))
    return answers


def call(cluster: Cluster, *arguments: str) -> int:
    return run([*arguments, "--node", cluster.nodes[0].address])


def test_a_plan_is_shown_and_nothing_done(cluster: Cluster, capfd: pytest.CaptureFixture[str]) -> None:
    assert call(cluster, "join", "n4", "--plan-only") == 0
    out = capfd.readouterr().out
    rows = [line.split() for line in out.splitlines()]
    assert ["n1", "1", "64", "48", "42.9%", "192", "144"] in rows
    assert ["n1", "n4", "16"] in rows
    assert "plan p1: n4 joins (made for ring version 1)" in out
    assert (
        "16 of 64 partitions get another owner (at least 15 must); 48 copies of partitions are made, about 5.0 MiB"
        in out
    )
    assert "warning: mind this" in out
    assert cluster.sent(b"KV.PLAN") == [[b"KV.PLAN", json.dumps(JOIN).encode()]]
    assert not cluster.commits
    assert call(cluster, "join", "n4", "--plan-only", "--json") == 0
    assert json.loads(capfd.readouterr().out)["id"] == "p1"


@pytest.mark.parametrize(
    ("arguments", "wish"),
    [
        (["leave", "n1", "--stopped"], {"kind": "leave", "node": "n1", "stopped": True}),
        (["leave", "n1"], {"kind": "leave", "node": "n1", "stopped": False}),
        (["replace", "n1", "--by", "n9"], {"kind": "replace", "node": "n1", "by": "n9", "stopped": False}),
        (["weight", "n1", "3"], {"kind": "weight", "node": "n1", "weight": 3}),
    ],
)
def test_wishes(cluster: Cluster, arguments: list[str], wish: dict[str, Any]) -> None:
    assert call(cluster, *arguments, "--plan-only") == 0
    ((_, body),) = cluster.sent(b"KV.PLAN")
    assert json.loads(body) == wish


def test_a_plan_is_begun_and_followed_to_its_end(cluster: Cluster, capfd: pytest.CaptureFixture[str]) -> None:
    cluster.after_commit = [under_way(2, "p1"), under_way(2, "p1", left=0), under_way(3, "p1", "read new"), steady(4)]
    assert call(cluster, "join", "n4", "--yes") == 0
    assert cluster.commits == [b"p1"]
    assert "done: n4 joins (ring version 4)" in capfd.readouterr().out


def test_with_json_the_last_document_is_all_that_is_printed(
    cluster: Cluster, capfd: pytest.CaptureFixture[str]
) -> None:
    cluster.after_commit = [under_way(2, "p1"), steady(4)]
    assert call(cluster, "join", "n4", "--yes", "--json") == 0
    assert json.loads(capfd.readouterr().out) == steady(4)


@pytest.mark.parametrize("arguments", [["join", "n4"], ["force", "--lost", "n2"], ["join", "n4", "--json"]])
def test_nobody_to_ask_is_wrong_usage_and_nothing_is_sent(
    cluster: Cluster, capfd: pytest.CaptureFixture[str], arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert call(cluster, *arguments) == 2
    assert "--yes" in capfd.readouterr().err
    assert not any(node.commands for node in cluster.nodes)


def test_without_a_yes_nothing_is_begun(
    cluster: Cluster, terminal: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    terminal.append("n")
    assert call(cluster, "join", "n4") == 1
    assert "nothing was changed" in capfd.readouterr().err
    assert not cluster.commits
    cluster.after_commit = [steady(2)]
    terminal.append("y")
    assert call(cluster, "join", "n4") == 0
    assert cluster.commits == [b"p1"]


def test_a_plan_that_was_taken_back_is_told_from_one_that_was_done(
    cluster: Cluster, capfd: pytest.CaptureFixture[str]
) -> None:
    cluster.after_commit = [under_way(2, "p1"), steady(3)]
    cluster.names_after = ["n1", "n2", "n3"]
    assert call(cluster, "join", "n4", "--yes") == 1
    assert "plan p1 was aborted" in capfd.readouterr().err


def test_a_change_under_way_is_waited_for(cluster: Cluster, capfd: pytest.CaptureFixture[str]) -> None:
    cluster.transfers = [under_way(2, "other"), under_way(3, "other", "read new"), steady(4)]
    cluster.version = 4
    cluster.after_commit = [under_way(5, "p4"), steady(7)]
    assert call(cluster, "join", "n4", "--yes") == 0
    out, err = capfd.readouterr()
    assert "plan other is under way: n4 joins (ring version 2); waiting for its end" in err
    assert "ring version 7" in out
    assert cluster.commits == [b"p4"]


def test_a_ring_that_changes_before_the_commit_is_planned_for_again(
    cluster: Cluster, capfd: pytest.CaptureFixture[str]
) -> None:
    cluster.after_commit = [under_way(4, "p2"), steady(6)]
    plan = cluster.plan

    def overtaken(command: list[bytes]) -> bytes:
        reply = plan(command)
        cluster.version = 2
        cluster.transfers = [steady(2)]
        return reply

    cluster.plan = overtaken  # type: ignore[method-assign]
    assert call(cluster, "join", "n4", "--yes") == 0
    assert cluster.commits == [b"p1", b"p2"]
    assert "planning again" in capfd.readouterr().err


def test_a_change_that_the_node_goes_by_a_moment_later_is_the_reason_all_the_same(cluster: Cluster) -> None:
    """Two operators at once: who comes second waits for the first, and then plans anew."""
    cluster.after_commit = [under_way(4, "p3"), steady(6)]
    cluster.transfers = [steady(1), steady(1), under_way(2, "other"), under_way(2, "other"), steady(3)]
    begin = cluster.commit

    def refuse_once(command: list[bytes]) -> bytes:
        if not cluster.commits:
            cluster.version = 3
        return begin(command)

    cluster.commit = refuse_once  # type: ignore[method-assign]
    assert call(cluster, "join", "n4", "--yes") == 0
    assert cluster.commits == [b"p1", b"p3"]


def test_a_commit_that_is_refused_for_good_ends(
    cluster: Cluster, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(membership, "CHANGE_SEEN_WITHIN_S", 0.0)
    cluster.commit = lambda command: b"-ERR no candidate 'n4' any more\r\n"  # type: ignore[method-assign]
    assert call(cluster, "join", "n4", "--yes") == 1
    assert "no candidate" in capfd.readouterr().err


def test_a_plan_that_has_begun_already_is_followed(cluster: Cluster, capfd: pytest.CaptureFixture[str]) -> None:
    begin = cluster.commit
    cluster.after_commit = [under_way(2, "p1"), under_way(2, "p1"), steady(4)]
    cluster.commit = lambda command: begin(command) and b"-ERR plan p1 has begun already\r\n"  # type: ignore[method-assign]
    assert call(cluster, "join", "n4", "--yes") == 0
    assert "ring version 4" in capfd.readouterr().out
    assert cluster.commits == [b"p1"]


def test_a_refusal_is_not_tried_again(cluster: Cluster, capfd: pytest.CaptureFixture[str]) -> None:
    cluster.plan = lambda command: b"-ERR 'n4' was removed from this cluster\r\n"  # type: ignore[method-assign]
    assert call(cluster, "join", "n4", "--yes") == 1
    assert "'n4' was removed" in capfd.readouterr().err
    assert len(cluster.sent(b"KV.PLAN")) == 1


def test_the_node_that_was_asked_may_go_away(cluster: Cluster, capfd: pytest.CaptureFixture[str]) -> None:
    cluster.after_commit = [under_way(2, "p1"), under_way(2, "p1", left=0), under_way(3, "p1", "read new"), steady(4)]
    begun = cluster.commit

    def commit(command: list[bytes]) -> bytes:
        cluster.dies_at = (0, b"KV.TRANSFERS")
        return begun(command)

    cluster.commit = commit  # type: ignore[method-assign]
    cluster.names = cluster.names_after = ["n1", "n2", "n3"]
    cluster.names_after = ["n2", "n3"]
    assert call(cluster, "leave", "n1", "--yes") == 0
    assert cluster.dead == {0}
    assert any(command[0] == b"KV.TRANSFERS" for node in cluster.nodes[1:] for command in node.commands)
    assert "done: n1 leaves" in capfd.readouterr().out


def test_an_older_answer_from_another_member_is_no_news(cluster: Cluster) -> None:
    cluster.after_commit = [
        under_way(2, "p1"),
        steady(1),
        steady(1),
        under_way(3, "p1", "read new"),
        steady(2),
        steady(4),
    ]
    assert call(cluster, "join", "n4", "--yes") == 0
    assert len(cluster.transfers) == 1, "steady before the plan had begun does not end it"


def test_an_unknown_outcome_of_the_commit_is_looked_into(cluster: Cluster, capfd: pytest.CaptureFixture[str]) -> None:
    begin = cluster.commit
    cluster.after_commit = [under_way(2, "p1"), steady(4)]
    cluster.commit = lambda command: begin(command) and b"-UNKNOWN no majority in time\r\n"  # type: ignore[method-assign]
    assert call(cluster, "join", "n4", "--yes") == 0
    cluster.commit = lambda command: b"-UNKNOWN no majority in time\r\n"  # type: ignore[method-assign]
    cluster.transfers = [steady(1)]
    assert call(cluster, "join", "n4", "--yes") == 6
    assert "no majority in time" in capfd.readouterr().err


def test_interrupted_the_plan_goes_on(
    cluster: Cluster, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.after_commit = [under_way(2, "p1")]

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", interrupt)
    assert call(cluster, "join", "n4", "--yes") == 130
    assert "plan p1 goes on without you" in capfd.readouterr().err
    assert not cluster.sent(b"KV.ABORT")


def test_nobody_left_to_look_on_through(
    cluster: Cluster, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_link, "PATIENCE_S", 0.0)
    cluster.transfers = [under_way(2, "p1")]
    for index in range(3):
        cluster.dead.add(index)
    cluster.dead.remove(0)
    members = cluster.members

    def last_words(command: list[bytes]) -> bytes:
        cluster.dead.add(0)
        return members(command)

    cluster.members = last_words  # type: ignore[method-assign]
    assert call(cluster, "transfers", "--watch") == 5


def test_transfers_tell_who_is_filled_and_what_is_waited_for(
    cluster: Cluster, capfd: pytest.CaptureFixture[str]
) -> None:
    cluster.transfers = [under_way(3, "p1")]
    assert call(cluster, "transfers") == 0
    out = capfd.readouterr().out
    rows = [line.split() for line in out.splitlines()]
    assert "plan p1 is under way: n4 joins (ring version 3)" in out
    assert "stage 1 of 2" in out
    row = ["n4", "2", "not", "yet", "100", "of", "200", "12", "records,", "3.0", "MiB", "1.0", "MiB/s"]
    assert [*row, "about", "1.5", "min"] in rows
    assert "waiting: n4 to be filled" in out
    assert "n4: partitions 0-3 7 from n1: it is overloaded" in out
    silent = under_way(3, "p1")
    silent["members"][0]["confirmed"] = None
    silent["members"][0]["waits_for"] = [{"partitions": "", "members": ["n1"], "reason": "it does not answer"}]
    cluster.transfers = [silent]
    assert call(cluster, "transfers") == 0
    out = capfd.readouterr().out
    assert "n1: it does not answer" in out
    assert "None" not in out
    cluster.transfers = [steady(9)]
    assert call(cluster, "transfers", "--watch") == 0
    assert "no change of membership is under way (ring version 9)" in capfd.readouterr().out


def test_watching_ends_with_the_plan(cluster: Cluster, capfd: pytest.CaptureFixture[str]) -> None:
    cluster.transfers = [under_way(2, "p1"), under_way(2, "p1"), under_way(3, "p2")]
    assert call(cluster, "transfers", "--watch", "--json") == 0
    assert json.loads(capfd.readouterr().out)["plan"] == "p2", "another plan is the end of this one"


def test_abort(cluster: Cluster, capfd: pytest.CaptureFixture[str]) -> None:
    cluster.transfers = [under_way(2, "p1"), steady(3)]
    assert call(cluster, "abort") == 0
    assert "plan p1 was taken back" in capfd.readouterr().out
    assert len(cluster.sent(b"KV.ABORT")) == 1


def test_members_and_candidates(cluster: Cluster, capfd: pytest.CaptureFixture[str]) -> None:
    assert call(cluster, "members") == 0
    out = capfd.readouterr().out
    assert [line.split()[0] for line in out.splitlines() if "stays" in line] == ["n1", "n2", "n3"]
    assert "candidates, which `quorate join NODE` takes in:" in out
    assert any(line.split()[:4] == ["n9", "h9", "z9", "2"] for line in out.splitlines())
    assert "1 members have left for good" in out
    assert call(cluster, "members", "--json") == 0
    assert len(json.loads(capfd.readouterr().out)["members"]) == 3


@pytest.mark.parametrize(
    ("typed", "code"), [("lost", 0), (CLUSTER_ID[:6], 0), (CLUSTER_ID, 0), ("yes", 1), ("", 1), (CLUSTER_ID[:5], 1)]
)
def test_force_wants_a_word_that_is_not_typed_by_habit(
    cluster: Cluster, terminal: list[str], capfd: pytest.CaptureFixture[str], typed: str, code: int
) -> None:
    terminal.append(typed)
    cluster.transfers = [{**steady(1 << 20), "forced": True}]
    assert call(cluster, "force", "--lost", "n2", "--lost", "n3") == code
    out, err = capfd.readouterr()
    assert "THIS CAN LOSE DATA" in err
    assert "Without n2, n3, the cluster goes on with n1 alone" in err
    assert cluster.sent(b"KV.FORCE") == ([] if code else [[b"KV.FORCE", b'["n2", "n3"]']])
    assert ("forced" in out) == (code == 0)


@pytest.mark.parametrize("lost", [["n8"], ["n1", "n2", "n3"]])
def test_force_names_members_and_leaves_one(
    cluster: Cluster, capfd: pytest.CaptureFixture[str], lost: list[str]
) -> None:
    arguments = [part for name in lost for part in ("--lost", name)]
    assert call(cluster, "force", "--yes", *arguments) == 1
    assert not cluster.sent(b"KV.FORCE")


def test_the_first_node_has_to_answer(capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"127.0.0.1:{closed.getsockname()[1]}"
    assert run(["transfers", "--node", address]) == 5
    assert "no node answers" in capfd.readouterr().err


def test_the_ring_shows_both_sides(cluster: Cluster, capfd: pytest.CaptureFixture[str]) -> None:
    def member(number: int, weight: int) -> dict[str, Any]:
        return {"name": f"n{number}", "number": number, "host": "h", "zone": "", "weight": weight, "id": "f"}

    before = {"members": [member(1, 1), member(2, 1)], "owners": [1, 1, 2, 2]}
    after = {"members": [member(1, 2), member(3, 2)], "owners": [1, 3, 3, 1]}
    both = [member(1, 2), member(2, 1), member(3, 2)]
    transition = {"plan": "p1", "stage": 1, "before": before, "after": after}
    ring = {"cluster_id": "c", "version": 2, "members": both, "owners": before["owners"], "transition": transition}
    cluster.ring = lambda command: bulk(ring)  # type: ignore[method-assign]
    assert call(cluster, "ring") == 0
    out = capfd.readouterr().out
    rows = {line.split()[0]: line.split() for line in out.splitlines() if line.strip().startswith("n")}
    assert rows["n1"][4:] == ["1", "→", "2", "2", "50.0%", "100.0%", "f"]
    assert rows["n2"][4:] == ["1", "→", "–", "2", "→", "0", "0.0%", "–", "f"]
    assert rows["n3"][4:] == ["–", "→", "2", "0", "→", "2", "50.0%", "100.0%", "f"]
    assert "plan p1 is under way: the side before is read" in out
