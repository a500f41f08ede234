"""After the faults: everything runs, hints go home, replicas become equal; then every key is read from all replicas.

Only what an operator could use is used: the nodes' status and `KV.REPAIR`, which is what `quorate repair` runs. Each
wait has a bound, and its error says what is still missing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

from quorate.core.errors import QuorateError
from quorate.trials.cluster import RealCluster, RealNode, TrialError
from quorate.trials.link import ask

HINTS_LIMIT_S: Final = 120.0
REPAIR_LIMIT_S: Final = 180.0
REPAIR_ROUNDS_MAX: Final = 5
STATUS_INTERVAL_S: Final = 0.2
RUNNING: Final = ("verifying", "comparing")


async def heal(cluster: RealCluster, say: Callable[[str], None]) -> None:
    """Wait until the cluster is as if nothing had happened; raises `TrialError` if it does not become so."""
    say("starting what is down")
    await cluster.start_all()
    say("waiting for hints to go home")
    await _until(lambda: _hints(cluster), HINTS_LIMIT_S, "hints are left")
    say("comparing all replicas")
    for _ in range(REPAIR_ROUNDS_MAX):
        moved = [await repair(node, cluster.password) for node in cluster.nodes.values()]
        if sum(moved) == 0:
            return
    raise TrialError(f"replicas still differ after {REPAIR_ROUNDS_MAX} repairs; the last one moved {moved} records")


async def settle(cluster: RealCluster) -> None:
    """What the last reads have set going comes to its end."""
    await _until(lambda: _hints(cluster), HINTS_LIMIT_S, "hints are left")
    for node in cluster.nodes.values():
        await repair(node, cluster.password)


async def repair(node: RealNode, password: str) -> int:
    """One pass of anti-entropy by `node`; gives how many records moved. Raises `TrialError` if it is not complete."""
    address = node.member.client_address
    deadline = time.monotonic() + REPAIR_LIMIT_S
    # A node that is at work answers after a moment, so this loop does not spin.
    found = await ask(address, password, "KV.REPAIR", "START")
    while found["state"] in RUNNING:
        if time.monotonic() > deadline:
            raise TrialError(f"the repair of {node.name} did not end within {REPAIR_LIMIT_S:g} s: {found}")
        found = await ask(address, password, "KV.REPAIR", "STATUS")
    if not found["complete"]:
        raise TrialError(f"the repair of {node.name} is not complete: {found}")
    if found["damaged"]:
        raise TrialError(f"the repair of {node.name} found {found['damaged']} damaged records, and nobody did damage")
    return int(found["received"]) + int(found["sent"])


async def report(cluster: RealCluster, about: RealNode, asked: RealNode | None = None) -> dict[str, Any]:
    """What `about` says of itself to `asked` (itself by default), or why it does not."""
    document = await ask((asked or about).member.client_address, cluster.password, "KV.STATUS")
    found: dict[str, Any] = next(member["report"] for member in document["members"] if member["number"] == about.number)
    return found


async def _hints(cluster: RealCluster) -> str:
    """Who keeps hints for whom; empty if nobody does."""
    kept = []
    for node in cluster.nodes.values():
        homes = (await report(cluster, node))["hints"]["homes"]
        kept += [f"{node.name} keeps {count['hints']} for {home}" for home, count in homes.items()]
    return ", ".join(kept)


async def _until(lacking: Callable[[], Any], limit_s: float, what: str) -> None:
    """Ask again and again until nothing is lacking."""
    deadline = time.monotonic() + limit_s
    while True:
        try:
            found = await lacking()
        except QuorateError as error:
            found = str(error)
        if not found:
            return
        if time.monotonic() > deadline:
            raise TrialError(f"after {limit_s:g} s {what}: {found}")
        # The nodes have no event for this; whoever operates them looks again too.
        await asyncio.sleep(STATUS_INTERVAL_S)
