"""/healthz and /readyz: for whoever restarts nodes, and whoever spreads load over them.

They are answered without a password and by whatever name the node is asked for, for a probe knows neither; they tell
nothing but yes or no. Liveness says that the loop turns: a fenced node is alive, and restarting it would not mend its
disk. Readiness says that requests are served here.
"""

from __future__ import annotations

from aiohttp import web

from quorate.api.http.call import Call, json_answer
from quorate.api.http.documents import HealthDocument
from quorate.api.http.problems import Problem

_WELL = HealthDocument("ok")


async def healthz(call: Call) -> web.StreamResponse:
    return json_answer(_WELL)


async def readyz(call: Call) -> web.StreamResponse:
    if call.server.closing or not call.store.reachable(call.store.self_number()):
        detail = "this node is stopping, or has fenced itself because of its disk; ask another one, and see its log"
        raise Problem("unavailable", detail, {"Retry-After": "1"})
    return json_answer(_WELL)
