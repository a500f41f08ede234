"""Changes of membership in words and figures: what the documents of KV.PLAN, KV.TRANSFERS and KV.MEMBERS say.

No terminal and no connection here, so that `status`, `transfers` and the commands that change something say the same.
"""

from __future__ import annotations

from typing import Any

from quorate.cli.tables import duration_text, size_text
from quorate.core.ring.workers import split_worker_name

RANGES_LENGTH_MAX = 40
_STAGES = {
    "read old": "stage 1 of 2: both sides are written, the side before is read, and new replicas are filled",
    "read new": "stage 2 of 2: both sides are written, the side after is read",
}


def change_text(document: dict[str, Any]) -> str:
    """Who comes and who goes in a plan under way: "n4 joins, n1 leaves"."""
    parts = [f"{name} joins" for name in document["joining"]]
    parts += [f"{name} leaves" for name in document["leaving"]]
    return ", ".join(parts) or "weights change"


def plan_text(document: dict[str, Any]) -> str:
    """One line about what KV.TRANSFERS says."""
    version = f"ring version {document['ring_version']}" + (", forced" if document.get("forced") else "")
    if document["plan"] is None:
        return f"no change of membership is under way ({version})"
    return f"plan {document['plan']} is under way: {change_text(document)} ({version})"


def stage_text(document: dict[str, Any]) -> str:
    return _STAGES.get(document["stage"], f"stage: {document['stage']}")


class PlanProgress:
    """How far a plan is, from one document of KV.TRANSFERS to the next.

    A member that is filled says no more how much it took in, so the most that each has said is remembered. Where
    nodes give no time left, it is estimated from how fast partitions became fewer since the first document.
    """

    def __init__(self) -> None:
        self._wanted: dict[str, int] = {}
        self._first: tuple[float, int] | None = None

    def told(self, document: dict[str, Any], now_s: float) -> tuple[float, str]:
        """(the part of what has to be copied that is there, 0 to 1; the same in words) at the moment `now_s`."""
        members = document["members"]
        if document["stage"] != "read old":
            return 1.0, _stage_and_wait(document)
        for member in members:
            name = member["name"]
            self._wanted[name] = max(self._wanted.get(name, 0), member.get("partitions") or 0)
        wanted = sum(self._wanted.values())
        filling = [member for member in members if member.get("filled") is False]
        left = sum(member.get("partitions_left") or 0 for member in filling)
        if self._first is None:
            self._first = (now_s, left)
        fraction = max(0.0, (wanted - left) / wanted) if wanted else 1.0
        if left == 0:
            return fraction, _stage_and_wait(document)
        names = ", ".join(member["name"] for member in filling if member.get("partitions_left"))
        rate = rate_text(sum(member.get("bytes_per_s") or 0 for member in filling))
        return fraction, f"{names}: {left} partitions left, {rate}, {self._time_left(filling, left, now_s)}"

    def _time_left(self, filling: list[dict[str, Any]], left: int, now_s: float) -> str:
        """Members are filled side by side, so the slowest one counts."""
        told = [member.get("seconds_left") for member in filling]
        known = [seconds for seconds in told if seconds is not None]
        if len(known) < len(told):
            assert self._first is not None, "there is a first document"
            since_s, gone = now_s - self._first[0], self._first[1] - left
            known = [left * since_s / gone] if gone > 0 and since_s > 0 else []
        return f"about {duration_text(max(known))} left" if known else "time left unknown"


def _stage_and_wait(document: dict[str, Any]) -> str:
    return ", ".join([stage_text(document).split(":", maxsplit=1)[0], *waits_of(document)[:1]])


def rate_text(bytes_per_s: float) -> str:
    return f"{size_text(int(bytes_per_s))}/s"


def waits_of(document: dict[str, Any]) -> list[str]:
    """What a plan waits for, a line each."""
    found: list[str] = list(document.get("waiting", []))
    for member in document["members"]:
        for wait in member.get("waits_for", []):
            members = ", ".join(wait["members"]) or "nobody"
            what = f"partitions {_shortened(wait['partitions'])} from {members}: " if wait["partitions"] else ""
            found.append(f"{member['name']}: {what}{wait['reason']}")
    return found


def _shortened(ranges: str) -> str:
    """The beginning of a list of partitions, which may be as long as the ring; documents have all of it."""
    if len(ranges) <= RANGES_LENGTH_MAX:
        return ranges
    return ranges[:RANGES_LENGTH_MAX].rsplit(" ", 1)[0] + " …"


def is_granted(wish: dict[str, Any], document: dict[str, Any], plan: dict[str, Any] | None = None) -> bool:
    """Does the document of KV.MEMBERS, told after `plan` has ended, show what `wish` asked for?

    Who joins only now, by another plan, did not join by this one. A plan that says nothing of who joins and leaves is
    that of a node of an earlier version, and about the one that the wish names.
    """
    there = [member for member in document["members"] if member["side"] != "joins"]
    if plan is not None and "joining" in plan and wish["kind"] != "weight":
        ids = {member["id"] for member in there}
        wanted = {member["id"] for member in plan["joining"]}
        unwanted = {member["id"] for member in plan["leaving"]}
        return wanted <= ids if wish["kind"] == "join" else not unwanted & ids
    named = [member for member in there if is_called(member, wish["node"])]
    if wish["kind"] == "join":
        return bool(named)
    if wish["kind"] == "weight":
        return bool(named) and all(member["weight"] == wish["weight"] for member in named)
    return not named


def is_called(member: dict[str, Any], name: str) -> bool:
    """Is this member meant by `name`, by itself or as a worker of the host of that name?"""
    parts = split_worker_name(member["name"])
    return name in (member["name"], member["id"]) or (parts is not None and parts[0] == name)


def wish_text(wish: dict[str, Any], plan: dict[str, Any] | None = None) -> str:
    """What an operator asks for: "n4 joins", or of a host with several workers "n4 (n4.1, n4.2) joins"."""
    gone = " (it has stopped for good)" if wish.get("stopped") else ""
    match wish["kind"]:
        case "join":
            return f"{_with_workers(wish['node'], plan, 'joining')} joins"
        case "leave":
            return f"{_with_workers(wish['node'], plan, 'leaving')} leaves{gone}"
        case "replace":
            by = _with_workers(wish["by"], plan, "joining")
            return f"{by} takes the place of {_with_workers(wish['node'], plan, 'leaving')}{gone}"
        case _:
            return f"{wish['node']} gets the weight {wish['weight']}"


def _with_workers(name: str, plan: dict[str, Any] | None, side: str) -> str:
    names = [member["name"] for member in (plan or {}).get(side, [])]
    parts = [split_worker_name(each) for each in names]
    is_host = bool(parts) and all(part is not None and part[0] == name for part in parts)
    return f"{name} ({', '.join(names)})" if is_host else name
