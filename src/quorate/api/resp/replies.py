"""Encoders of replies, RESP2 and RESP3.

Each gives the finished bytes of one reply. The two protocol versions differ, for us, in the null and in the map (RESP2
has a flat array instead). RESP3's attributes and pushes are never sent: clients lose count of their replies over them.

Rejected: sending text as RESP3 verbatim strings. No client needs them, and some hand the format prefix to the caller.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from quorate.core.limits import ERROR_REPLY_BYTES_MAX
from quorate.core.store import Admin, Failure

OK: Final = b"+OK\r\n"
EMPTY_ARRAY: Final = b"*0\r\n"
EMPTY_BULK: Final = b"$0\r\n\r\n"
_NULL_RESP2: Final = b"$-1\r\n"
_NULL_RESP3: Final = b"_\r\n"
_NOT_IN_A_LINE: Final = bytes.maketrans(b"\r\n\0", b"   ")
_json: Final = msgspec.json.Encoder()


def null(resp3: bool) -> bytes:
    return _NULL_RESP3 if resp3 else _NULL_RESP2


def bulk(body: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(body), body)


def integer(number: int) -> bytes:
    return b":%d\r\n" % number


def array(encoded: Iterable[bytes]) -> bytes:
    """An array of elements that are encoded already."""
    elements = list(encoded)
    return b"*%d\r\n%b" % (len(elements), b"".join(elements))


def encode(value: Any, resp3: bool) -> bytes:
    """Encode None, bool, int, str, bytes, and lists and dicts of them."""
    match value:
        case None:
            return null(resp3)
        case bytes():
            return bulk(value)
        case str():
            return bulk(value.encode())
        case int():
            return integer(value)
        case list() | tuple():
            return array(encode(element, resp3) for element in value)
        case dict():
            return _encode_map(value, resp3)
        case _:
            raise AssertionError(f"no reply is made of {type(value).__name__}")


def _encode_map(mapping: Mapping[Any, Any], resp3: bool) -> bytes:
    body = b"".join(encode(part, resp3) for pair in mapping.items() for part in pair)
    return (b"%%%d\r\n%b" % (len(mapping), body)) if resp3 else b"*%d\r\n%b" % (2 * len(mapping), body)


def json(document: Any) -> bytes:
    """A bulk string with the JSON of `document` (anything that msgspec encodes)."""
    return bulk(_json.encode(document))


def error(code: str, message: str) -> bytes:
    """An error reply: one line, of bounded length, whatever the message quotes."""
    line = f"{code} {message}".encode(errors="replace").translate(_NOT_IN_A_LINE)
    return b"-%b\r\n" % line[:ERROR_REPLY_BYTES_MAX]


def caller_error(problem: Exception) -> bytes:
    """What the caller did wrong, as `-ERR`."""
    return error("ERR", str(problem))


def failure(result: Failure) -> bytes:
    """The first word tells what became of the request: ERR, UNAVAILABLE and OVERLOADED: not done; UNKNOWN: maybe."""
    message = result.message
    if result.missing:
        message = f"{message} (no answer from {', '.join(result.missing)})"
    match result.kind:
        case "caller":
            return error("ERR", message)
        case "unavailable" | "stale":
            return error("UNAVAILABLE", message)
        case "overloaded":
            return error("OVERLOADED", f"retry-after-ms={result.retry_after_ms} {message}")
        case "unknown":
            return error("UNKNOWN", message)


def document(result: Admin | Failure) -> bytes:
    """The answer of a command for people and tools: its JSON, or why there is none."""
    return failure(result) if isinstance(result, Failure) else json(result.document)
