"""What operators do: a plan first, and then, with the plan's id, the deed.

The first request changes nothing; the second is the first with `commit` added. So nobody changes a cluster by one
request, and a plan that was shown by one node can be committed at another, since nothing is kept between the two: a
plan follows from the request and the ring, and its id names both. What has no plan of the store's own (repair, abort,
force) gets one here, which says what it would do.
"""

from __future__ import annotations

from aiohttp import web
from xxhash import xxh3_64_hexdigest

from quorate.api.http.bodies import read_document
from quorate.api.http.call import Call, ask, json_answer
from quorate.api.http.documents import (
    AbortRequest,
    ForceRequest,
    IntentDocument,
    JoinRequest,
    LeaveRequest,
    RepairRequest,
    ReplaceRequest,
    WeightRequest,
)
from quorate.api.http.problems import Problem
from quorate.core.keyspace import check_bucket_name
from quorate.core.ring.workers import called
from quorate.core.store import Wish

ACCEPTED = 202
_REFUSED = "refused"


async def join(call: Call) -> web.StreamResponse:
    request = await read_document(call, JoinRequest)
    return await _grant(call, Wish("join", request.node), request.commit)


async def leave(call: Call) -> web.StreamResponse:
    request = await read_document(call, LeaveRequest)
    return await _grant(call, Wish("leave", request.node, stopped=request.stopped), request.commit)


async def replace(call: Call) -> web.StreamResponse:
    request = await read_document(call, ReplaceRequest)
    wish = Wish("replace", request.node, by=request.by, stopped=request.stopped)
    return await _grant(call, wish, request.commit)


async def weight(call: Call) -> web.StreamResponse:
    request = await read_document(call, WeightRequest)
    return await _grant(call, Wish("weight", request.node, weight=request.weight), request.commit)


async def repair(call: Call) -> web.StreamResponse:
    request = await read_document(call, RepairRequest)
    bucket = b"" if request.bucket is None else request.bucket.encode()
    if request.bucket is not None:
        check_bucket_name(bucket)
    what = f"of bucket {request.bucket}" if request.bucket is not None else "of all buckets"
    warning = f"every record {what} on this node is read; ask each other node for its own"
    intent = _intent(call, "repair", [bucket.hex()], [warning])
    if request.commit is None:
        return json_answer(intent)
    _check_commit(request.commit, intent)
    return json_answer((await ask(call.store.repair, bucket, refused=_REFUSED)).document, ACCEPTED)


async def abort(call: Call) -> web.StreamResponse:
    request = await read_document(call, AbortRequest)
    plan = (await ask(call.store.transfers)).document["plan"]
    if plan is None:
        raise Problem(_REFUSED, "no change of membership is under way; there is nothing to take back")
    warning = f"plan {plan} is taken back, and what was copied for it is dropped"
    intent = _intent(call, "abort", [plan], [warning], versioned=False)
    if request.commit is None:
        return json_answer(intent)
    _check_commit(request.commit, intent)
    return json_answer((await ask(call.store.abort, refused=_REFUSED)).document, ACCEPTED)


async def force(call: Call) -> web.StreamResponse:
    request = await read_document(call, ForceRequest)
    lost = sorted(set(request.lost))
    members = call.store.ring().members
    found = {name: called(members, name) for name in lost}
    unknown = [name for name in lost if not found[name]]
    if unknown:
        raise Problem(_REFUSED, f"no member is called '{unknown[0]}'; /v1/cluster/members lists them")
    gone = [member.number for those in found.values() for member in those]
    staying = [member.name for member in members if member.number not in gone]
    warnings = [
        f"{', '.join(lost)}: removed without asking anybody, and what only they hold is given up",
        f"{', '.join(staying) or 'nobody'}: what is left; never do this while one of the lost may still run",
    ]
    intent = _intent(call, "force", lost, warnings)
    if request.commit is None:
        return json_answer(intent)
    _check_commit(request.commit, intent)
    return json_answer((await ask(call.store.force, lost, refused=_REFUSED)).document, ACCEPTED)


async def _grant(call: Call, wish: Wish, plan_id: str | None) -> web.StreamResponse:
    if plan_id is None:
        return json_answer((await ask(call.store.plan, wish, refused=_REFUSED)).document)
    return json_answer((await ask(call.store.commit, wish, plan_id, refused=_REFUSED)).document, ACCEPTED)


def _intent(call: Call, kind: str, parts: list[str], warnings: list[str], versioned: bool = True) -> IntentDocument:
    """What `kind` would do. Its id changes with `parts`, and (`versioned`) with the ring."""
    version = call.store.ring().version
    text = "\n".join([kind, str(version if versioned else ""), *parts])
    return IntentDocument(xxh3_64_hexdigest(text.encode()), kind, version, warnings)


def _check_commit(plan_id: str, intent: IntentDocument) -> None:
    if plan_id != intent.id:
        raise Problem(_REFUSED, f"plan {plan_id} does not hold any more, or is of another request; plan again")
