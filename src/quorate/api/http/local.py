"""/v1/local: faults on purpose, where the nodes of a cluster run on one machine under `quorate up`."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import msgspec
from aiohttp import web

from quorate.api.http.bodies import read_document
from quorate.api.http.call import Call, json_answer
from quorate.api.http.problems import Problem
from quorate.core.local_control import LocalAction, LocalNodes, LocalRefusal


class EmptyRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Nothing but the path says what is wanted."""


_KINDS = {"unknown": "not-found", "refused": "refused", "unavailable": "unavailable"}


async def get_local(call: Call) -> web.StreamResponse:
    control = call.server.local
    if control is None:
        return json_answer(LocalNodes([]))
    return json_answer(await _answer_of(control.nodes))


async def act(call: Call) -> web.StreamResponse:
    await read_document(call, EmptyRequest)
    control = call.server.local
    if control is None:
        raise Problem("not-found", "this node was not started by `quorate up`, so nobody here can do that")
    action = cast(LocalAction, call.path["action"])
    return json_answer(await _answer_of(control.act, call.path["node"], action))


async def _answer_of(operation: Any, *arguments: Any) -> LocalNodes:
    future: asyncio.Future[LocalNodes | LocalRefusal] = asyncio.get_running_loop().create_future()

    def reply(result: LocalNodes | LocalRefusal) -> None:
        if not future.done():
            future.set_result(result)

    operation(*arguments, reply)
    result = await future
    if isinstance(result, LocalRefusal):
        headers = {"Retry-After": "1"} if result.kind == "unavailable" else {}
        raise Problem(_KINDS[result.kind], result.message, headers)
    return result
