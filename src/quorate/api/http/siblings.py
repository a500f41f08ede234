"""What a key holds, as an HTTP answer: its one value, or (300) all of its concurrent values.

The entity tag is strong: it is made of the context, which covers every event that was seen, of the dots of the values
that are live (one may have expired, which is no event), and of the form of the answer. The boundary of a multipart
answer follows from it too, so that equal tags mean equal bytes.

Values are whatever somebody has put, and come from the origin that the dashboard comes from. So a browser is told to
treat them as documents without an origin and without scripts, and not to guess at their type.
"""

from __future__ import annotations

from email.utils import formatdate
from functools import lru_cache
from typing import Final

import msgspec
from aiohttp import web
from multidict import CIMultiDict
from xxhash import xxh3_64_hexdigest

from quorate.api.http.call import JSON_TYPE, Call
from quorate.api.http.documents import SiblingDocument, SiblingsDocument, timestamp
from quorate.api.http.problems import Problem
from quorate.core.causality.context import encode_context
from quorate.core.limits import HTTP_PIECE_BYTES
from quorate.core.record import Sibling
from quorate.core.store import GetResult

MULTIPART_TYPE: Final = "multipart/mixed"
CONTENT_TYPE_DEFAULT: Final = "application/octet-stream"
_SAFE_HEADERS: Final = {
    "Cache-Control": "no-cache",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_encode = msgspec.json.Encoder().encode


async def answer(call: Call, result: GetResult) -> web.StreamResponse:
    """The answer to a get that gave `result`; raises a `Problem` if the key holds nothing."""
    siblings = result.siblings
    token = encode_context(result.context)
    if not siblings:
        raise _absent(token)
    multipart = len(siblings) > 1 and _prefers_multipart(call.request.headers.get("Accept", ""))
    tag = _tag(token, siblings, multipart)
    headers = CIMultiDict(_SAFE_HEADERS)
    headers["Quorate-Context"] = token
    headers["ETag"] = f'"{tag}"'
    headers["Last-Modified"] = http_date(max([sibling.time for sibling in siblings]) >> 16)
    if len(siblings) > 1:
        headers["Vary"] = "Accept"
    if _matches(call.options.get("If-None-Match"), tag):
        return web.Response(status=304, headers=headers)
    if len(siblings) == 1:
        headers["Content-Type"] = siblings[0].content_type.strip() or CONTENT_TYPE_DEFAULT
        return await _send(call, 200, headers, siblings[0].value)
    if multipart:
        boundary = boundary_of(tag, siblings)
        headers["Content-Type"] = f"{MULTIPART_TYPE}; boundary={boundary}"
        return await _send(call, 300, headers, multipart_body(siblings, boundary))
    headers["Content-Type"] = JSON_TYPE
    return await _send(call, 300, headers, json_body(token, siblings))


def json_body(token: str, siblings: list[Sibling]) -> bytes:
    """All values in one JSON document: text where a value is UTF-8, else base64."""
    documents = []
    for sibling in siblings:
        content_type = sibling.content_type or CONTENT_TYPE_DEFAULT
        changed = timestamp(sibling.time >> 16)
        try:
            documents.append(SiblingDocument(content_type, changed, value=sibling.value.decode()))
        except UnicodeDecodeError:
            documents.append(SiblingDocument(content_type, changed, value_base64=sibling.value))
    return _encode(SiblingsDocument(token, documents))


def multipart_body(siblings: list[Sibling], boundary: str) -> bytes:
    """All values as they are, each a part with its type and its time (RFC 2046, §5.1)."""
    pieces: list[bytes] = []
    for sibling in siblings:
        head = (
            f"--{boundary}\r\nContent-Type: {sibling.content_type.strip() or CONTENT_TYPE_DEFAULT}\r\n"
            f"Last-Modified: {http_date(sibling.time >> 16)}\r\nContent-Length: {len(sibling.value)}\r\n\r\n"
        )
        pieces += [head.encode(), sibling.value, b"\r\n"]
    pieces.append(f"--{boundary}--\r\n".encode())
    return b"".join(pieces)


def boundary_of(tag: str, siblings: list[Sibling]) -> str:
    """A boundary that stands in none of the values, the same for equal tags."""
    boundary = f"quorate-{tag}"
    while any(boundary.encode() in sibling.value for sibling in siblings):
        boundary = f"quorate-{xxh3_64_hexdigest(boundary.encode())}"
    return boundary


@lru_cache(maxsize=1024)
def _date_of_second(second: int) -> str:
    return formatdate(second, usegmt=True)


def http_date(unix_ms: int) -> str:
    """A time as HTTP's headers have it, to the second."""
    return _date_of_second(unix_ms // 1000)


async def _send(call: Call, status: int, headers: CIMultiDict[str], body: bytes) -> web.StreamResponse:
    """Answer with `body`: at once if it is small, else piece by piece as the client takes it."""
    if len(body) <= HTTP_PIECE_BYTES or call.request.method == "HEAD":
        return web.Response(status=status, headers=headers, body=body)
    call.hold(len(body))
    response = web.StreamResponse(status=status, headers=headers)
    response.content_length = len(body)
    response.headers["Quorate-Request-Id"] = call.request_id
    response.headers["Server"] = "Quorate"
    if call.server.closing:
        response.force_close()
    await response.prepare(call.request)
    view = memoryview(body)
    for start in range(0, len(view), HTTP_PIECE_BYTES):
        # Waits until the client has taken most of the piece before.
        await response.write(view[start : start + HTTP_PIECE_BYTES])
    await response.write_eof()
    return response


def _absent(token: str) -> Problem:
    if not token:
        return Problem("not-found", "the key holds no value, and none of the replicas knows of one")
    detail = "the key was deleted, or its value has expired; put with this context to replace that"
    return Problem("not-found", detail, {"Quorate-Context": token}, context=token)


def _tag(token: str, siblings: list[Sibling], multipart: bool) -> str:
    form = "".join([f"|{sibling.actor}:{sibling.counter}" for sibling in siblings])
    return xxh3_64_hexdigest(f"{token}{form}{'|multipart' if multipart else ''}".encode())


def _matches(given: bytes | None, tag: str) -> bool:
    """Is `tag` among those of an If-None-Match (RFC 9110, §13.1.2)? The comparison is the weak one."""
    if given is None:
        return False
    tags = [part.strip().removeprefix(b"W/") for part in given.split(b",", 64)]
    return b"*" in tags or f'"{tag}"'.encode() in tags


def _prefers_multipart(accept: str) -> bool:
    """Does the header Accept want `multipart/mixed` rather than JSON?"""
    if "multipart" not in accept:
        return False
    quality = {"multipart": 0.0, "json": 0.0}
    for part in accept.split(",", 32):
        media, *parameters = [piece.strip().lower() for piece in part.split(";")]
        form = {MULTIPART_TYPE: "multipart", "multipart/*": "multipart", JSON_TYPE: "json"}.get(media)
        if form is not None:
            quality[form] = max(quality[form], _quality(parameters))
    return quality["multipart"] > 0 and quality["multipart"] >= quality["json"]


def _quality(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return min(1.0, max(0.0, float(value)))
            except ValueError:
                return 0.0
    return 1.0
