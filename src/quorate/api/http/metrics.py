"""/metrics: what this node measures, for a scraper."""

from __future__ import annotations

from aiohttp import web

from quorate.api.http.call import Call


async def get_metrics(call: Call) -> web.StreamResponse:
    content_type, text = call.server.metrics()
    headers = {"Content-Type": content_type, "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    return web.Response(body=text, headers=headers)
