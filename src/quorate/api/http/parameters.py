"""Parameters of calls: what may stand in a path, a query and a header, each declared once with its check and schema.

A key is any bytes, so paths and queries are taken apart as they came, before anything is decoded: only then is `%2F` in
a key told apart from the slash between two segments. A percent sign that begins no escape is refused, since `%zz` and
`%25zz` would be one key otherwise. In a query `+` is a space, as forms and most libraries write it; a plus is `%2B`.

An unknown query parameter is refused: a misspelt one would silently mean the default. Unknown headers are ignored, as
every proxy adds some.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Literal
from urllib.parse import unquote_to_bytes

import msgspec
from xxhash import xxh3_64_intdigest

from quorate.core.buckets import TTL_S_MAX
from quorate.core.causality.context import decode_context
from quorate.core.errors import CallerError
from quorate.core.keyspace import check_bucket_name, check_key
from quorate.core.limits import (
    BUCKET_NAME_BYTES_MAX,
    CONTEXT_TOKEN_BYTES_MAX,
    KEY_BYTES_MAX,
    LIST_PAGE_KEYS_MAX,
    OPERATION_ID_BYTES_MAX,
    REPLICAS_MAX,
    REQUEST_TIMEOUT_MAX_MS,
)
from quorate.core.local_control import ACTIONS

Place = Literal["path", "query", "header"]
Schema = dict[str, Any]

QUERY_PARAMETERS_MAX = 16
_DIGITS_MAX = 12
_CURSOR_BYTES_MAX = 4 * KEY_BYTES_MAX
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")


class Parameter(msgspec.Struct, frozen=True):
    """One parameter of calls."""

    name: str
    place: Place
    description: str
    schema: Schema
    convert: Callable[[bytes], Any]
    """From its bytes, unescaped, to its value; raises `CallerError`."""
    example: str = ""


def unescape(text: str) -> bytes:
    """The bytes that a segment of a path stands for; raises `CallerError` if an escape is broken."""
    # The parser hands over bytes that are not UTF-8 as surrogates.
    raw = text.encode("utf-8", "surrogateescape")
    if b"%" not in raw:
        return raw
    if _BAD_ESCAPE.search(raw):
        raise CallerError("a % in a path or query begins an escape of two hexadecimal digits; write a bare one as %25")
    return unquote_to_bytes(raw)


def parse_query(query: str, known: Mapping[str, Parameter]) -> dict[str, Any]:
    """The values of the parameters in `query`, by their names; raises `CallerError`."""
    values: dict[str, Any] = {}
    if not query:
        return values
    pairs = query.split("&", QUERY_PARAMETERS_MAX)
    if len(pairs) > QUERY_PARAMETERS_MAX:
        raise CallerError(f"a query has at most {QUERY_PARAMETERS_MAX} parameters")
    for pair in pairs:
        if not pair:
            continue
        raw_name, _, raw_value = pair.partition("=")
        name = unescape(raw_name).decode("utf-8", "replace")
        parameter = known.get(name)
        if parameter is None:
            there_are = ", ".join(known) or "none"
            raise CallerError(f"unknown parameter '{name[:32]}'; there are: {there_are}")
        if name in values:
            raise CallerError(f"parameter '{name}' is given twice")
        values[name] = parameter.convert(unescape(raw_value.replace("+", " ")))
    return values


def _integer(name: str, least: int, most: int) -> Callable[[bytes], int]:
    def convert(text: bytes) -> int:
        if not text.isdigit() or len(text) > _DIGITS_MAX or not least <= int(text) <= most:
            raise CallerError(f"{name} must be a whole number from {least} to {most}; got '{_shown(text)}'")
        return int(text)

    return convert


def _shown(text: bytes) -> str:
    return text[:32].decode("utf-8", "replace")


def _bucket(name: bytes) -> bytes:
    check_bucket_name(name)
    return name


def _key(key: bytes) -> bytes:
    check_key(key)
    return key


def _node(name: bytes) -> str:
    return name.decode("utf-8", "replace")


def _action(text: bytes) -> str:
    name = text.decode("utf-8", "replace")
    if name not in ACTIONS:
        raise CallerError(f"unknown action '{_shown(text)}'; there are: {', '.join(ACTIONS)}")
    return name


def _prefix(prefix: bytes) -> bytes:
    if len(prefix) > KEY_BYTES_MAX:
        raise CallerError(f"prefix has at most {KEY_BYTES_MAX} bytes; this one has {len(prefix)}")
    return prefix


def _cursor(text: bytes) -> str:
    if len(text) > _CURSOR_BYTES_MAX or not text.isascii():
        raise CallerError("cursor is none that an earlier page gave; begin again without it")
    return text.decode("ascii")


def _strict(text: bytes) -> bool:
    if text not in (b"true", b"false"):
        raise CallerError(f"strict must be true or false; got '{_shown(text)}'")
    return text == b"true"


def _return(text: bytes) -> str:
    if text != b"value":
        raise CallerError(f"return must be value; got '{_shown(text)}'")
    return "value"


def operation_id(text: bytes) -> int:
    """An operation id as the record keeps it: 64 bits, never 0, which means none."""
    if not 1 <= len(text) <= OPERATION_ID_BYTES_MAX:
        raise CallerError(f"Quorate-Operation has 1 to {OPERATION_ID_BYTES_MAX} bytes; this one has {len(text)}")
    return xxh3_64_intdigest(text) or 1


def _number(
    name: str, description: str, least: int, most: int, convert: Callable[[bytes], int] | None = None
) -> Parameter:
    schema = {"type": "integer", "minimum": least, "maximum": most}
    return Parameter(name, "query", description, schema, convert or _integer(name, least, most))


_ttl_s = _integer("ttl", 0, TTL_S_MAX)

BUCKET = Parameter(
    "bucket", "path",
    f"A bucket's name: 1 to {BUCKET_NAME_BYTES_MAX} bytes, percent-encoded, without colons and control characters.",
    {"type": "string", "minLength": 1, "maxLength": BUCKET_NAME_BYTES_MAX}, _bucket, "carts",
)  # fmt: skip
OF_BUCKET = Parameter(
    "bucket",
    "query",
    "A bucket's name; without it, one that has the defaults.",
    BUCKET.schema,
    _bucket,
    "carts",
)
KEY = Parameter(
    "key", "path",
    f"A key: any 1 to {KEY_BYTES_MAX} bytes, percent-encoded; a slash in it is written %2F.",
    {"type": "string", "minLength": 1, "maxLength": KEY_BYTES_MAX}, _key, "alice",
)  # fmt: skip
NODE = Parameter(
    "node", "path", "The name of a node.", {"type": "string", "minLength": 1, "maxLength": 64}, _node, "n2",
)  # fmt: skip
ACTION = Parameter(
    "action", "path", "What is done to it.", {"type": "string", "enum": list(ACTIONS)}, _action, "pause",
)  # fmt: skip
FILE = Parameter(
    "file", "path", "The name of a file of the dashboard.",
    {"type": "string", "minLength": 1, "maxLength": 64}, bytes, "app.js",
)  # fmt: skip
R = _number("r", "How many replicas must answer; the default is the bucket's.", 1, REPLICAS_MAX)
W = _number("w", "How many replicas must acknowledge; the default is the bucket's.", 1, REPLICAS_MAX)
TIMEOUT_MS = _number("timeout_ms", "How long it may take at most, in milliseconds.", 1, REQUEST_TIMEOUT_MAX_MS)
TTL = _number(
    "ttl", "Seconds until the value expires; 0: never. The default is the bucket's.", 0, TTL_S_MAX,
    lambda text: _ttl_s(text) * 1000,
)  # fmt: skip
STRICT = Parameter(
    "strict", "query", "`true`: no other node may stand in for a replica that is out of reach.", {"type": "boolean"},
    _strict,
)  # fmt: skip
RETURN = Parameter(
    "return", "query", "`value`: answer with what the key holds after the write, as GET does.",
    {"type": "string", "enum": ["value"]}, _return,
)  # fmt: skip
PREFIX = Parameter("prefix", "query", "Only keys that begin with these bytes.", {"type": "string"}, _prefix)
LIMIT = _number("limit", "How many keys a page has at most; 100 by default.", 1, LIST_PAGE_KEYS_MAX)
CURSOR = Parameter(
    "cursor", "query", "Where the page begins: what the page before gave as `cursor`.", {"type": "string"}, _cursor
)
CONTEXT = Parameter(
    "Quorate-Context", "header",
    "What the writer has seen, and replaces: the header `Quorate-Context` of an earlier answer, unchanged. Without it "
    "a put is concurrent with everything, and a delete deletes what its node has seen.",
    {"type": "string", "maxLength": CONTEXT_TOKEN_BYTES_MAX}, decode_context,
)  # fmt: skip
OPERATION = Parameter(
    "Quorate-Operation", "header",
    "An id that the writer makes up for one write: writes with one id count as one that was retried.",
    {"type": "string", "minLength": 1, "maxLength": OPERATION_ID_BYTES_MAX}, operation_id,
)  # fmt: skip
IF_NONE_MATCH = Parameter(
    "If-None-Match", "header", "Answer 304 if what the key holds still has this `ETag`.", {"type": "string"}, bytes
)
