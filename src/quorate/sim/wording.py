"""How a transcript tells of requests, answers and messages: what a person needs to follow one key, and nothing else.

A dot is `n3/417:2`, the second event of an actor of n3, whose epoch ends in 417. A clock is the last dot of each actor
in braces. A record is its siblings in brackets; `†` is a tombstone. Times, ids and versions of the ring that every
message carries are left out, but for an id's last digits, by which a reply is found.
"""

from __future__ import annotations

from typing import Any

import msgspec

from quorate.core.causality.actor import epoch_of, member_of
from quorate.core.errors import QuorateError
from quorate.core.keyspace import split_storage_key
from quorate.core.messages import Message, Status
from quorate.core.record import VALUE, Clock, Context, Sibling, decode_record
from quorate.core.store import Failure, GetRequest, GetResult, KeysPage, KeysRequest, PutRequest, PutResult

FIELD_LENGTH_MAX = 60
ID_DIGITS = 1_000_000
_UNTOLD = frozenset(
    {"id", "remaining_ms", "ring_version", "flags", "base", "status", "key", "body", "digest", "request", "result"}
)
"""What is told in another way, or not at all."""


def describe_request(request: GetRequest | PutRequest | KeysRequest) -> str:
    """What a client asks."""
    within = f"within {request.timeout_ms} ms"
    if isinstance(request, KeysRequest):
        return f"LIST {_text(request.bucket)}:{_text(request.prefix)}*  {within}"
    name = f"{_text(request.bucket)}:{_text(request.key)}"
    if isinstance(request, GetRequest):
        return f"GET {name}{f' r={request.r}' if request.r else ''}  {within}"
    parts = ["DELETE" if request.delete else "PUT", name]
    if not request.delete:
        parts.append(f'"{_text(request.value)}"')
    if request.context is not None:
        parts.append(f"replacing {describe_clock(request.context.clock)}")
    parts += ["replacing what is seen"] if request.overwrite_seen else []
    parts += [f"w={request.w}"] if request.w else []
    parts += ["strict"] if request.strict else []
    parts += [f"ttl={request.ttl_ms} ms"] if request.ttl_ms >= 0 else []
    parts += [f"operation {request.operation >> 32}.{request.operation & 0xFFFFFFFF}"] if request.operation else []
    return f"{' '.join(parts)}  {within}"


def describe_result(result: GetResult | PutResult | KeysPage | Failure) -> str:
    """What a client, or a node that forwarded its request, is told."""
    if isinstance(result, GetResult):
        return f"FOUND {describe_siblings(result.siblings)} {describe_clock(result.context.clock)}"
    if isinstance(result, PutResult):
        several = f", {result.siblings} siblings" if result.siblings != 1 else ""
        return f"DONE {describe_clock(result.context.clock)}{several}"
    if isinstance(result, KeysPage):
        return f"LISTED {len(result.keys)} keys{', and there are more' if result.cursor else ''}"
    missing = f" (no answer: {', '.join(result.missing)})" if result.missing else ""
    return f"{'UNKNOWN' if result.kind == 'unknown' else f'NOT DONE, {result.kind}'}: {result.message}{missing}"


def describe_message(message: Message) -> str:
    """One message of a frame: its type, id and key first, then its status and what it carries."""
    parts: list[str] = [type(message).__name__]
    parts += [f"#{message.id % ID_DIGITS}"] if hasattr(message, "id") else []
    key = getattr(message, "key", None)
    parts += [describe_key(key)] if isinstance(key, bytes) and len(key) > 2 else []
    status = getattr(message, "status", None)
    if isinstance(status, int):
        parts.append(Status(status).name if status in Status._value2member_map_ else f"status {status}")
    body = getattr(message, "body", None)
    parts += [describe_body(body)] if isinstance(body, bytes) and body else []
    request = getattr(message, "request", None)
    parts += [describe_request(request)] if isinstance(request, GetRequest | PutRequest) else []
    result = getattr(message, "result", None)
    parts += [describe_result(result)] if isinstance(result, GetResult | PutResult | Failure) else []
    digest = getattr(message, "digest", None)
    parts += [f"digest …{digest & 0xFFFF:04x}"] if isinstance(digest, int) else []
    for name in message.__struct_fields__:
        value = getattr(message, name)
        if name not in _UNTOLD and value not in (0, "", b"", [], None):
            parts.append(f"{name}={_short(value)}")
    return " ".join(parts)


def describe_key(stored_key: bytes) -> str:
    """A storage key as bucket:key."""
    _, bucket, key = split_storage_key(stored_key)
    return f"{_text(bucket)}:{_text(key)}"


def describe_body(body: bytes) -> str:
    """A record as it stands in messages."""
    try:
        record = decode_record(body)
    except (QuorateError, ValueError):
        return f"{len(body)} bytes"
    return f"{describe_siblings(record.siblings)} {describe_clock(record.clock)}"


def describe_siblings(siblings: list[Sibling]) -> str:
    told = []
    for one in siblings:
        what = f'"{_text(one.value)}"' if one.kind == VALUE else "†"
        expiry = f" until {one.expiry_ms}" if one.expiry_ms else ""
        told.append(f"{_dot(one.actor, one.counter)}={what}{expiry}")
    return f"[{', '.join(told)}]"


def describe_clock(clock: Clock) -> str:
    return f"{{{' '.join(_dot(actor, counter) for actor, counter in sorted(clock.items()))}}}"


def _dot(actor: int, counter: int) -> str:
    return f"n{member_of(actor)}/{epoch_of(actor) % 1000:03}:{counter}"


def _text(name: bytes) -> str:
    text = name[: FIELD_LENGTH_MAX + 1].decode("utf-8", "backslashreplace")
    return text if len(name) <= FIELD_LENGTH_MAX else f"{text[:12]}… ({len(name)} bytes)"


def _short(value: Any) -> str:
    if isinstance(value, Context):
        return describe_clock(value.clock)
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    text = repr(value) if not isinstance(value, msgspec.Struct) else type(value).__name__
    return text if len(text) <= FIELD_LENGTH_MAX else f"{text[: FIELD_LENGTH_MAX - 1]}…"
