"""How a change of membership is put into words and figures."""

from __future__ import annotations

from typing import Any

from quorate.cli.membership_text import PlanProgress, is_granted, waits_of
from tests.unit.test_cli_membership import JOIN, under_way


def test_progress_in_figures_and_words() -> None:
    progress = PlanProgress()
    assert progress.told(under_way(2, "p", left=50), 0.0) == (
        0.75,
        "n4: 50 partitions left, 1.0 MiB/s, about 1.5 min left",
    )
    assert progress.told(under_way(2, "p", left=0), 1.0) == (1.0, "stage 1 of 2, n4 to be filled")
    assert progress.told(under_way(3, "p", "read new"), 2.0)[0] == 1.0


def test_progress_goes_on_when_a_member_is_done_and_nodes_tell_no_time() -> None:
    def two(left: int, other_left: int) -> dict[str, Any]:
        document = under_way(2, "p", left=left)
        fields = {"filled": other_left == 0, "partitions": 100 if other_left else 0, "partitions_left": other_left}
        document["members"].append({**document["members"][1], "name": "n5", **fields, "seconds_left": None})
        return document

    progress = PlanProgress()
    assert progress.told(two(200, 100), 10.0) == (0.0, "n4, n5: 300 partitions left, 2.0 MiB/s, time left unknown")
    fraction, text = progress.told(two(150, 50), 20.0)
    assert (round(fraction, 3), text.split(", ")[-1]) == (0.333, "about 20 s left")
    fraction, text = progress.told(two(75, 0), 30.0)
    assert fraction == 0.75, "what n5 took in still counts"
    assert text.startswith("n4: 75 partitions left")


def test_long_lists_of_partitions_are_shortened() -> None:
    long = under_way(2, "p", left=50)
    long["members"][1]["waits_for"][0]["partitions"] = "0 3 6 9 12 " * 50
    (_, wait) = waits_of(long)
    assert wait.startswith("n4: partitions 0 3 6")
    assert "… from n1" in wait
    assert len(wait) < 120


def test_what_was_granted_is_read_from_the_members() -> None:
    def members(**sides: str) -> dict[str, Any]:
        return {"members": [{"name": name, "id": name * 2, "side": side, "weight": 2} for name, side in sides.items()]}

    assert is_granted(JOIN, members(n4="stays"))
    assert is_granted({"kind": "join", "node": "n4n4"}, members(n4="leaves")), "and another plan lets it go"
    assert not is_granted(JOIN, members(n4="joins")), "by another plan"
    assert not is_granted(JOIN, members(n1="stays"))
    for kind in ("leave", "replace"):
        assert is_granted({"kind": kind, "node": "n1"}, members(n2="stays"))
        assert not is_granted({"kind": kind, "node": "n1"}, members(n1="stays"))
    assert is_granted({"kind": "weight", "node": "n1", "weight": 2}, members(n1="stays"))
    assert not is_granted({"kind": "weight", "node": "n1", "weight": 3}, members(n1="stays"))
