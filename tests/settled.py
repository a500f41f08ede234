"""Asking a cluster whether it has settled: who sees whom, which hints still wait, whether all replicas are the same.

Settling has no event that a client could wait for, so these ask again and again; the bound is there for failures only.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

from quorate.cli.hints import hints_document
from quorate.cli.link import Link

SETTLE_TIMEOUT_S = 60.0
_ASK_AGAIN_S = 0.1


def eventually(what: str, holds: Callable[[], bool]) -> None:
    """Wait until `holds()`; fails if it does not come about."""
    until = time.monotonic() + SETTLE_TIMEOUT_S
    while not holds():
        assert time.monotonic() < until, f"it did not come about that {what}"
        time.sleep(_ASK_AGAIN_S)


def hints_kept(link: Link) -> int:
    """By all nodes together; fails if one does not answer."""
    document = hints_document(link.document("KV.STATUS"))
    silent = [name for name, kept in document["nodes"].items() if kept is None]
    assert silent == [], "a node that is silent may keep hints"
    count: int = document["hints"]
    return count


def wait_for_all(link: Link, *, names: Iterable[str]) -> None:
    """Wait until every node is connected with every other one."""
    everyone = set(names)

    def together() -> bool:
        members = link.document("KV.STATUS")["members"]
        return all({member["name"], *member["report"].get("connected_to", [])} == everyone for member in members)

    eventually("all nodes are connected with each other", together)


def wait_until_hints_are_home(link: Link) -> None:
    eventually("all hints are home", lambda: hints_kept(link) == 0)


def differing(link: Link, keys: Sequence[str]) -> list[str]:
    """Those of `keys` ("bucket:key") that are not the same on all their replicas."""
    found = []
    for key in keys:
        replicas = link.document("KV.WHERE", key)["replicas"]
        if len({(replica["state"], replica.get("digest")) for replica in replicas}) != 1:
            found.append(
                f"{key}: {[(replica['node'], replica['state'], replica.get('digest')) for replica in replicas]}"
            )
    return found
