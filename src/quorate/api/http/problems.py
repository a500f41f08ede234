"""Problems: every answer that is not a success, as RFC 9457 `application/problem+json`.

A problem's `type` names what went wrong for programs, its `detail` says the cause and the next step for people, and its
`instance` is the id of the request, which also stands in the header `Quorate-Request-Id` of every answer.

`outcome` keeps the three outcomes of a request apart (hard case 31): it is "not done", or "unknown" with status 504
alone. An answer that a write was not done is given only when it never will be.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import msgspec

from quorate.core.store import Failure

PROBLEM_TYPE: Final = "application/problem+json"
TYPE_PREFIX: Final = "urn:quorate:problem:"

DETAIL_LENGTH_MAX: Final = 1_024

PROBLEMS: Final[dict[str, tuple[int, str]]] = {
    "bad-request": (400, "The request is malformed"),
    "no-compare-and-set": (400, "This store has no compare-and-set"),
    "authentication-required": (401, "A password is needed"),
    "foreign-origin": (403, "Pages of other origins may not change anything"),
    "not-found": (404, "There is no such thing"),
    "method-not-allowed": (405, "This resource has no such method"),
    "refused": (409, "The cluster, as it is, cannot do this"),
    "too-large": (413, "The body is too large"),
    "unsupported-media-type": (415, "The body is not of a kind that is understood here"),
    "misdirected": (421, "This is not a node by that name"),
    "head-too-large": (431, "The request's head is too large"),
    "internal": (500, "A bug"),
    "unavailable": (503, "Not done: too few replicas can be reached"),
    "overloaded": (503, "Not done: the node has too much to do"),
    "outcome-unknown": (504, "It may have been done, or not"),
}
"""Kind → (status, title)."""


class ProblemDocument(msgspec.Struct, frozen=True, omit_defaults=True, rename={"kind": "type"}):
    """An error, as RFC 9457 has it."""

    kind: str
    """What went wrong, for programs: `urn:quorate:problem:…`."""
    title: str
    status: int
    detail: str
    """The cause, and what to do next."""
    instance: str
    """The request's id."""
    outcome: str = ""
    """`not done`: it never will be; `unknown`: a write may have been done."""
    missing: list[str] = []
    """Names of replicas that did not answer."""
    retry_after_ms: int = 0
    context: str = ""
    """Not found, but there was a delete: the context with which a put replaces that."""


class Problem(Exception):
    """Raised by handlers: the answer is this problem. `kind` is one of `PROBLEMS`; `members` are its further fields."""

    def __init__(
        self,
        kind: str,
        detail: str,
        headers: Mapping[str, str] | None = None,
        close: bool = False,
        **members: Any,
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.status, self.title = PROBLEMS[kind]
        self.detail = detail
        self.headers = dict(headers or {})
        self.close = close
        """End the connection: the rest of the request is not read."""
        self.members = members

    def body(self, request_id: str) -> bytes:
        """The document, for the request with this id. What it quotes of a request is bounded."""
        detail = self.detail.encode(errors="replace").decode()[:DETAIL_LENGTH_MAX]
        document = ProblemDocument(TYPE_PREFIX + self.kind, self.title, self.status, detail, request_id, **self.members)
        return msgspec.json.encode(document)


def of_failure(failure: Failure, caller: str = "bad-request") -> Problem:
    """The problem that stands for a `Failure` of the store.

    `caller`: its kind, if the caller is to blame.
    """
    missing = list(failure.missing)
    match failure.kind:
        case "caller":
            return Problem(caller, failure.message)
        case "unavailable" | "stale":
            return Problem("unavailable", failure.message, {"Retry-After": "1"}, outcome="not done", missing=missing)
        case "overloaded":
            return overloaded(failure.message, failure.retry_after_ms, missing)
        case "unknown":
            return Problem(
                "outcome-unknown",
                f"{failure.message}; read it, or write again with the same context and Quorate-Operation",
                outcome="unknown",
                missing=missing,
            )


def overloaded(message: str, retry_after_ms: int, missing: list[str] | None = None) -> Problem:
    """The node shed the request before doing anything."""
    after_s = max(1, math.ceil(retry_after_ms / 1000))
    return Problem(
        "overloaded",
        message,
        {"Retry-After": str(after_s)},
        outcome="not done",
        missing=missing or [],
        retry_after_ms=retry_after_ms,
    )


def raw_answer(problem: Problem, request_id: str) -> bytes:
    """All of an answer, for a connection that is closed with it and never had a request."""
    body = problem.body(request_id)
    fields = {
        "Content-Type": PROBLEM_TYPE,
        "Content-Length": str(len(body)),
        "Connection": "close",
        "Quorate-Request-Id": request_id,
        **problem.headers,
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}\r\n{head}\r\n".encode() + body
