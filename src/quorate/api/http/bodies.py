"""Bodies of requests, taken in within bounds.

A length that is announced is checked before anything is read, one that is not (chunked) is counted as it comes; past
its bound a body is refused with 413 and the connection ends, since its rest is not read. What all bodies together hold
is bounded too (`limits.HTTP_HELD_BYTES_MAX`), and counted as it arrives: a promise takes no memory, so that slow
uploads which announce much keep nobody out. A body that stops coming is the connection's concern (`HttpConnection`).

Compressed bodies are refused. They would be kept as they came, and readers would not learn of the encoding; and one
that is unpacked here may grow a thousandfold.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from aiohttp.http_exceptions import HttpProcessingError

from quorate.api.http.call import JSON_TYPE, Call
from quorate.api.http.problems import Problem
from quorate.core.limits import HTTP_DOCUMENT_BYTES_MAX

Document = TypeVar("Document")


async def read_body(call: Call, bytes_max: int) -> bytes:
    """The request's body, of at most `bytes_max` bytes; raises `Problem`."""
    request = call.request
    headers = request.headers
    if "Content-Encoding" in headers:
        raise Problem(
            "unsupported-media-type",
            f"Content-Encoding {headers['Content-Encoding'][:32]} is not kept with a value, so its readers would not "
            "know of it; send the body as it is, or name the compressed form by its Content-Type",
            close=True,
        )
    length = request.content_length
    if length is not None and length > bytes_max:
        raise _too_large(bytes_max, f"this one has {length}")
    content = request.content
    if content.at_eof() or not request.body_exists:
        return b""
    if headers.get("Expect", "").lower() == "100-continue":
        call.connection.write_continue()
    pieces: list[bytes] = []
    size = 0
    call.connection.body_begins()
    try:
        while not content.at_eof():
            piece = await content.readany()
            size += len(piece)
            if size > bytes_max:
                raise _too_large(bytes_max, "this one goes on after that")
            call.hold(len(piece))
            pieces.append(piece)
    except HttpProcessingError as error:
        raise Problem("bad-request", f"the body is malformed: {error.message}", close=True) from None
    finally:
        call.connection.body_ends()
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


async def read_document(call: Call, kind: type[Document]) -> Document:
    """The request's body, a JSON document of the type `kind`; raises `Problem`."""
    content_type = call.request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if content_type != JSON_TYPE:
        raise Problem("unsupported-media-type", f"a JSON document is expected here; send Content-Type: {JSON_TYPE}")
    body = await read_body(call, HTTP_DOCUMENT_BYTES_MAX)
    try:
        return msgspec.json.decode(body, type=kind)
    except (ValueError, RecursionError) as error:
        raise Problem("bad-request", f"the document is not as expected: {error}") from None


def _too_large(bytes_max: int, what: str) -> Problem:
    members: dict[str, Any] = {"outcome": "not done"}
    return Problem("too-large", f"a body has at most {bytes_max} bytes here; {what}", close=True, **members)
