"""The state of the cluster, to look at: as the commands of the terminal show it."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from quorate.api.http.call import Call, ask, json_answer
from quorate.api.http.documents import RingDocument, RingMember
from quorate.core.ring.metadata import read_ring


async def get_cluster(call: Call) -> web.StreamResponse:
    return json_answer((await ask(call.store.status)).document)


async def get_ring(call: Call) -> web.StreamResponse:
    ring = read_ring(call.store.ring())
    members = [RingMember(**msgspec.structs.asdict(member)) for member in ring.members]
    return json_answer(RingDocument(ring.cluster_id, ring.version, ring.partitions, members, ring.owners))


async def get_staleness(call: Call) -> web.StreamResponse:
    return json_answer((await ask(call.store.staleness, call.options.get("bucket", b""))).document)


async def get_members(call: Call) -> web.StreamResponse:
    return json_answer((await ask(call.store.members)).document)


async def get_transfers(call: Call) -> web.StreamResponse:
    return json_answer((await ask(call.store.transfers)).document)


async def get_repair(call: Call) -> web.StreamResponse:
    return json_answer((await ask(call.store.repair_status)).document)


async def get_hints(call: Call) -> web.StreamResponse:
    return json_answer(hints_document((await ask(call.store.status)).document))


async def get_where(call: Call) -> web.StreamResponse:
    return json_answer((await ask(call.store.where, call.path["bucket"], call.path["key"])).document)


def hints_document(status: dict[str, Any]) -> dict[str, Any]:
    """What the nodes' reports say about hints (see `documents.HintsDocument`).

    The figures come from the holders, so one that does not answer is null: what it keeps is not counted as nothing.
    """
    nodes = {member["name"]: member["report"].get("hints") for member in status["members"]}
    homes: dict[str, dict[str, int]] = {}
    for kept in nodes.values():
        for home, count in (kept["homes"] if kept else {}).items():
            total = homes.setdefault(home, {"hints": 0, "bytes": 0})
            total["hints"] += count["hints"]
            total["bytes"] += count["bytes"]
    in_all = {what: sum(total[what] for total in homes.values()) for what in ("hints", "bytes")}
    return {**in_all, "nodes": nodes, "homes": dict(sorted(homes.items()))}
