"""One request on its way through a handler, and how handlers ask the store.

The store answers through a callback; a handler waits for it in a future, one for each question. Here, unlike on the
client port, a request costs a task anyway (the HTTP library's), so that a future more does not show.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

import msgspec
from aiohttp import web
from multidict import CIMultiDict

from quorate.api.http.problems import of_failure
from quorate.core.store import Failure

if TYPE_CHECKING:
    from quorate.api.http.connection import HttpConnection
    from quorate.api.http.server import HttpServer

Result = TypeVar("Result")
Arguments = TypeVarTuple("Arguments")

JSON_TYPE = "application/json"
_encode = msgspec.json.Encoder().encode


class Call:
    """A request that was let in, with its parameters checked."""

    __slots__ = ("connection", "held_bytes", "options", "path", "request", "request_id", "server", "store")

    def __init__(
        self,
        server: HttpServer,
        connection: HttpConnection,
        request: web.BaseRequest,
        request_id: str,
        path: dict[str, Any],
        options: dict[str, Any],
    ) -> None:
        self.server = server
        self.store = server.store
        self.connection = connection
        self.request = request
        self.request_id = request_id
        self.path = path
        """Parameters of the path, by name."""
        self.options = options
        """Those parameters of the query and the header that were given, by name."""
        self.held_bytes = 0
        """What this call has taken of `limits.HTTP_HELD_BYTES_MAX`."""

    def hold(self, size: int) -> None:
        """Count `size` more bytes as held for this call until it ends; raises a `Problem` if there is no room."""
        self.server.hold(size)
        self.held_bytes += size


Handler = Callable[[Call], Awaitable[web.StreamResponse]]


async def ask(
    operation: Callable[[*Arguments, Callable[[Result | Failure], None]], None],
    *arguments: *Arguments,
    refused: str = "bad-request",
) -> Result:
    """What the store answers; raises the `Problem` that stands for a failure (see `problems.of_failure`)."""
    future: asyncio.Future[Result | Failure] = asyncio.get_running_loop().create_future()

    def reply(result: Result | Failure) -> None:
        # The client may have gone, and the future with it.
        if not future.done():
            future.set_result(result)

    operation(*arguments, reply)
    result = await future
    if isinstance(result, Failure):
        raise of_failure(result, refused)
    return result


def json_answer(document: Any, status: int = 200) -> web.Response:
    """An answer with the JSON of `document` (anything that msgspec encodes)."""
    headers = CIMultiDict({"Content-Type": JSON_TYPE, "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"})
    return web.Response(body=_encode(document), status=status, headers=headers)
