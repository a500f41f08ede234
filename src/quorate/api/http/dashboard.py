"""/ui/: the files of the dashboard, which the assembly hands in.

The page may load what this node serves and nothing else, and may not be framed; so even if some text from the store
were taken for markup one day, it could neither run nor tell anybody.
"""

from __future__ import annotations

from typing import Protocol

from aiohttp import web

from quorate.api.http.call import Call
from quorate.api.http.problems import Problem

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


class Asset(Protocol):
    """One file of the page."""

    @property
    def body(self) -> bytes: ...

    @property
    def content_type(self) -> str: ...

    @property
    def etag(self) -> str: ...


async def go_to_page(call: Call) -> web.StreamResponse:
    """Where people look first, or who leaves out the slash."""
    return web.Response(status=308, text="see /ui/\n", headers={"Location": "/ui/", "Cache-Control": "no-cache"})


async def get_asset(call: Call) -> web.StreamResponse:
    raw: bytes = call.path.get("file", b"")
    asset = call.server.assets.get(raw.decode(errors="replace"))
    if asset is None:
        raise Problem("not-found", "the dashboard has no such file; it begins at /ui/")
    headers = {**_HEADERS, "ETag": asset.etag}
    known = call.request.headers.get("If-None-Match", "").split(",")
    if asset.etag in [tag.strip().removeprefix("W/") for tag in known]:
        return web.Response(status=304, headers=headers)
    return web.Response(body=asset.body, headers={**headers, "Content-Type": asset.content_type})
