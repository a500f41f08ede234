"""GET, HEAD, PUT and DELETE of a key.

A put without a context is concurrent with everything there is, and leaves a sibling. A delete without one would then
delete nothing, so it takes what its node has seen. Both as on the client port, and in Python.

Conditions on a write (If-Match and its kin) are refused: they promise compare-and-set, and this store accepts writes on
both sides of a partition. What they are wanted for is done with a context: nothing is lost that the writer has not
seen. If-Modified-Since is ignored, since two values may have been put within its one second; If-None-Match does it.
"""

from __future__ import annotations

from aiohttp import web

from quorate.api.http.bodies import read_body
from quorate.api.http.call import Call, ask
from quorate.api.http.problems import Problem
from quorate.api.http.siblings import answer
from quorate.core.causality.context import encode_context
from quorate.core.limits import CONTENT_TYPE_BYTES_MAX
from quorate.core.store import GetRequest, PutRequest

_CONDITIONS = ("If-Match", "If-None-Match", "If-Unmodified-Since", "If-Modified-Since")
_NO_BODY_MAX = 64 * 1024


async def get_value(call: Call) -> web.StreamResponse:
    options = call.options
    request = GetRequest(call.path["bucket"], call.path["key"], options.get("r", 0), options.get("timeout_ms", 0))
    return await answer(call, await ask(call.store.get, request))


async def put_value(call: Call) -> web.StreamResponse:
    _refuse_conditions(call)
    content_type = _content_type(call.request.headers.get("Content-Type", ""))
    value = await read_body(call, call.server.value_bytes_max)
    options = call.options
    request = PutRequest(
        call.path["bucket"],
        call.path["key"],
        value,
        content_type,
        options.get("Quorate-Context"),
        options.get("w", 0),
        options.get("ttl", -1),
        options.get("Quorate-Operation", 0),
        options.get("timeout_ms", 0),
        strict=options.get("strict", False),
    )
    return await _put(call, request)


async def delete_value(call: Call) -> web.StreamResponse:
    _refuse_conditions(call)
    if call.request.body_exists:
        await read_body(call, _NO_BODY_MAX)
    options = call.options
    context = options.get("Quorate-Context")
    request = PutRequest(
        call.path["bucket"],
        call.path["key"],
        context=context,
        w=options.get("w", 0),
        operation=options.get("Quorate-Operation", 0),
        timeout_ms=options.get("timeout_ms", 0),
        delete=True,
        overwrite_seen=context is None,
        strict=options.get("strict", False),
    )
    return await _put(call, request)


async def _put(call: Call, request: PutRequest) -> web.StreamResponse:
    result = await ask(call.store.put, request)
    if "return" in call.options:
        try:
            read = GetRequest(request.bucket, request.key, timeout_ms=request.timeout_ms)
            return await answer(call, await ask(call.store.get, read))
        except Problem:
            # The write is done, whatever became of the read: the answer must not say otherwise.
            pass
    return web.Response(status=204, headers={"Quorate-Context": encode_context(result.context)})


def _refuse_conditions(call: Call) -> None:
    for name in _CONDITIONS:
        if name in call.request.headers:
            raise Problem(
                "no-compare-and-set",
                f"{name} on a write asks for compare-and-set, which a store that is always writable cannot give; send "
                "Quorate-Context, which replaces what its reader has seen and keeps everything else as a sibling",
                close=True,
                outcome="not done",
            )


def _content_type(text: str) -> str:
    if len(text) > CONTENT_TYPE_BYTES_MAX or not (text.isascii() and text.isprintable()):
        raise Problem("bad-request", f"Content-Type has at most {CONTENT_TYPE_BYTES_MAX} printable ASCII characters")
    return text
