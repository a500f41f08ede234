"""Every call of the HTTP interface, declared once: what routes requests also writes the OpenAPI document.

A new call is a handler and an entry here. Answers that any call may give (a bad Host, a missing password, a malformed
request) stand in `COMMON`, and are not repeated.
"""

from __future__ import annotations

from quorate.api.http import buckets, cluster, dashboard, health, local, membership, metrics, openapi, values
from quorate.api.http import parameters as p
from quorate.api.http.call import Handler
from quorate.api.http.documents import (
    AbortRequest,
    BucketChanges,
    BucketDocument,
    BucketsDocument,
    ClusterDocument,
    ForceRequest,
    HealthDocument,
    HintsDocument,
    IntentDocument,
    JoinRequest,
    KeysDocument,
    LeaveRequest,
    MembersDocument,
    PlanDocument,
    RepairDocument,
    RepairRequest,
    ReplaceRequest,
    RingDocument,
    SiblingsDocument,
    StalenessDocument,
    TransfersDocument,
    WeightRequest,
    WhereDocument,
)
from quorate.api.http.problems import ProblemDocument
from quorate.api.http.routing import Answer, Body, Route
from quorate.core.local_control import LocalNodes

_VALUE_HEADERS = ("Quorate-Context", "ETag", "Last-Modified")


def _problem(status: int, description: str, *headers: str) -> Answer:
    return Answer(status, description, ProblemDocument, headers=headers)


COMMON = (
    _problem(400, "The request is malformed; `detail` says how."),
    _problem(401, "A password is configured, and the request has none, or a wrong one."),
    _problem(421, "The node is not known by the name in Host."),
    _problem(431, "Request line and header fields are too large."),
)
"""Answers that every call may give."""
COMMON_OF_CHANGES = (_problem(403, "The page that asks was served by somebody else (Origin)."),)

_UNAVAILABLE = _problem(503, "Not done: the quorum cannot be met, or the node sheds load.", "Retry-After")
_UNKNOWN = _problem(504, "It may have been done, or not: `outcome` is `unknown`.")
_TOO_LARGE = _problem(413, "The body is too large.")
_NO_DOCUMENT = _problem(415, "The body is compressed, or is no JSON document where one is expected.")
_ENCODED = _problem(415, "The body has a Content-Encoding.")
_REFUSED = _problem(409, "The cluster, as it is, cannot do this; `detail` says why.")
_VALUE = (
    Answer(200, "The value.", media=("*/*",), headers=_VALUE_HEADERS),
    Answer(
        300, "Several concurrent values, as JSON or, if Accept prefers it, one after the other.", SiblingsDocument,
        ("multipart/mixed",), (*_VALUE_HEADERS, "Vary"),
    ),
)  # fmt: skip
_ABSENT = _problem(404, "The key holds no value. If it was deleted, there is a context.", "Quorate-Context")
_DONE = Answer(204, "Done.", headers=("Quorate-Context",))
_GET = (*_VALUE, Answer(304, "Nothing has changed.", headers=_VALUE_HEADERS), _ABSENT, _UNAVAILABLE, _UNKNOWN)
_WRITE = (_DONE, _TOO_LARGE, _ENCODED, _UNAVAILABLE, _UNKNOWN)
_KEY_PATH = "/v1/buckets/{bucket}/keys/{key}"
_WRITE_OPTIONS = (p.W, p.TIMEOUT_MS, p.STRICT, p.RETURN, p.CONTEXT, p.OPERATION)

VALUES = (
    Route(
        "GET", _KEY_PATH, "getValue", "What a key holds.", values.get_value, _GET,
        (p.BUCKET, p.KEY, p.R, p.TIMEOUT_MS, p.IF_NONE_MATCH), group="values",
    ),
    Route(
        "PUT", _KEY_PATH, "putValue", "Put a value, which replaces what its context has seen.", values.put_value,
        (*_VALUE, *_WRITE, _ABSENT), (p.BUCKET, p.KEY, p.TTL, *_WRITE_OPTIONS),
        Body("The value. Its Content-Type is kept with it."), "values",
    ),
    Route(
        "DELETE", _KEY_PATH, "deleteValue", "Delete what the context has seen.", values.delete_value, _WRITE,
        (p.BUCKET, p.KEY, p.W, p.TIMEOUT_MS, p.STRICT, p.CONTEXT, p.OPERATION), group="values",
    ),
)  # fmt: skip


def _look(path: str, name: str, summary: str, handler: Handler, document: object, *parameters: p.Parameter) -> Route:
    """A call that shows a document."""
    answers = (Answer(200, summary, document), _UNAVAILABLE, _UNKNOWN)
    return Route("GET", path, name, summary, handler, answers, parameters, group="cluster")


BUCKETS = (
    _look("/v1/buckets", "listBuckets", "Buckets whose properties were set.", buckets.list_buckets, BucketsDocument),
    _look("/v1/buckets/{bucket}", "getBucket", "What a bucket declares.", buckets.get_bucket, BucketDocument, p.BUCKET),
    Route(
        "PUT", "/v1/buckets/{bucket}", "putBucket", "Change what a bucket declares.", buckets.put_bucket,
        (Answer(200, "As it is now.", BucketDocument), _TOO_LARGE, _NO_DOCUMENT, _UNAVAILABLE, _UNKNOWN), (p.BUCKET,),
        Body("The properties that change.", BucketChanges), "buckets",
    ),
    _look(
        "/v1/buckets/{bucket}/keys", "listKeys", "A page of a bucket's keys.", buckets.list_keys, KeysDocument,
        p.BUCKET, p.PREFIX, p.LIMIT, p.CURSOR, p.TIMEOUT_MS,
    ),
)  # fmt: skip

CLUSTER = (
    _look("/v1/cluster", "getCluster", "The cluster as this node sees it.", cluster.get_cluster, ClusterDocument),
    _look("/v1/cluster/ring", "getRing", "Who owns which partition.", cluster.get_ring, RingDocument),
    _look("/v1/cluster/staleness", "getStaleness", "How soon reads see writes, by what this node has measured.",
          cluster.get_staleness, StalenessDocument, p.OF_BUCKET),
    _look("/v1/cluster/members", "getMembers", "Who belongs to the cluster.", cluster.get_members, MembersDocument),
    _look("/v1/cluster/transfers", "getTransfers", "The change that is under way.", cluster.get_transfers,
          TransfersDocument),
    _look("/v1/cluster/hints", "getHints", "What nodes keep for others.", cluster.get_hints, HintsDocument),
    _look("/v1/cluster/repair", "getRepair", "How far a repair has come here.", cluster.get_repair, RepairDocument),
    _look("/v1/where/{bucket}/{key}", "getWhere", "What each replica of a key holds.", cluster.get_where,
          WhereDocument, p.BUCKET, p.KEY),
)  # fmt: skip


def _act(kind: str, summary: str, handler: Handler, request: object, plan: object, result: object) -> Route:
    """An operator's action: planned first, committed with the plan's id."""
    answers = (
        Answer(200, "The plan: nothing has been done yet.", plan),
        Answer(202, "Begun.", result),
        *(_REFUSED, _TOO_LARGE, _NO_DOCUMENT, _UNAVAILABLE, _UNKNOWN),
    )
    body = Body("What is wanted; with `commit`, the plan's id, it is done.", request)
    return Route("POST", f"/v1/cluster/{kind}", kind, summary, handler, answers, body=body, group="operators")


OPERATORS = (
    _act("join", "Join a candidate.", membership.join, JoinRequest, PlanDocument, TransfersDocument),
    _act("leave", "Let a member go.", membership.leave, LeaveRequest, PlanDocument, TransfersDocument),
    _act("replace", "Replace a member.", membership.replace, ReplaceRequest, PlanDocument, TransfersDocument),
    _act("weight", "Change a member's share.", membership.weight, WeightRequest, PlanDocument, TransfersDocument),
    _act("repair", "Compare all replicas of this node now.", membership.repair, RepairRequest, IntentDocument,
         RepairDocument),
    _act("abort", "Take the change under way back.", membership.abort, AbortRequest, IntentDocument, TransfersDocument),
    _act("force", "Go on without a lost majority.", membership.force, ForceRequest, IntentDocument, TransfersDocument),
)  # fmt: skip

_HEALTH_ANSWER = Answer(200, "Yes.", HealthDocument)
HEALTH = (
    Route("GET", "/healthz", "healthz", "Is the process alive?", health.healthz, (_HEALTH_ANSWER,), group="health",
          open=True),
    Route("GET", "/readyz", "readyz", "Are requests served here?", health.readyz, (_HEALTH_ANSWER, _UNAVAILABLE),
          group="health", open=True),
)  # fmt: skip

METRICS = (
    Route("GET", "/metrics", "metrics", "What this node measures, for Prometheus.", metrics.get_metrics,
          (Answer(200, "All series, in the text format.", media=("text/plain",)),), group="health"),
)  # fmt: skip

_ASSET = (
    Answer(200, "The file.", media=("text/html", "text/css", "text/javascript", "image/svg+xml"), headers=("ETag",)),
    Answer(304, "Nothing has changed.", headers=("ETag",)),
)
_TO_PAGE = (Answer(308, "To the page.", media=("text/plain",), headers=("Location",)),)
DASHBOARD = (
    Route("GET", "/", "root", "To the dashboard.", dashboard.go_to_page, _TO_PAGE, group="dashboard"),
    Route("GET", "/ui", "ui", "To the dashboard.", dashboard.go_to_page, _TO_PAGE, group="dashboard"),
    Route("GET", "/ui/", "dashboard", "The dashboard.", dashboard.get_asset, _ASSET, group="dashboard"),
    Route("GET", "/ui/{file}", "dashboardFile", "A file of the dashboard.", dashboard.get_asset,
          (*_ASSET, _problem(404, "There is no such file.")), (p.FILE,), group="dashboard"),
)  # fmt: skip

LOCAL = (
    Route("GET", "/v1/local", "getLocal", "The nodes that can be controlled here; none but under `quorate up`.",
          local.get_local, (Answer(200, "The nodes.", LocalNodes), _UNAVAILABLE), group="local"),
    Route(
        "POST", "/v1/local/{node}/{action}", "actLocally", "Do something to a node of this machine.", local.act,
        (Answer(200, "Done.", LocalNodes), _problem(404, "No such node can be controlled here."), _REFUSED, _TOO_LARGE,
         _NO_DOCUMENT, _UNAVAILABLE),
        (p.NODE, p.ACTION), Body("An empty document.", local.EmptyRequest), "local",
    ),
)  # fmt: skip

OPENAPI = (
    Route("GET", "/openapi.json", "openapi", "This document.", openapi.get_openapi,
          (Answer(200, "An OpenAPI 3.1 document.", dict),), group="health"),
)  # fmt: skip

ROUTES: tuple[Route, ...] = (*VALUES, *BUCKETS, *CLUSTER, *OPERATORS, *HEALTH, *METRICS, *DASHBOARD, *LOCAL, *OPENAPI)
