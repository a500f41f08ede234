"""How values appear in JSON: text as text, JSON as JSON, everything else as base64, and nothing ambiguous."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any

JSON_TYPE = "application/json"


def value_fields(value: bytes, content_type: str, as_base64: bool = False) -> dict[str, Any]:
    """`content_type` with either `value` (text) or `value_base64`, as the HTTP interface writes siblings."""
    fields: dict[str, Any] = {"content_type": content_type or "application/octet-stream"}
    text = None if as_base64 else _text(value)
    if text is None:
        fields["value_base64"] = base64.b64encode(value).decode()
    else:
        fields["value"] = text
    return fields


def key_fields(key: bytes) -> dict[str, str]:
    """`key` (text) or `key_base64`."""
    text = _text(key)
    return {"key_base64": base64.b64encode(key).decode()} if text is None else {"key": text}


def sibling_fields(row: list[Any]) -> dict[str, Any]:
    """One row of a reply to KV.GET: value, content type, Unix milliseconds."""
    value, content_type, time_ms = row
    return {**value_fields(value, content_type.decode("ascii", "replace")), "last_modified": iso_time(time_ms)}


def iso_time(unix_ms: int) -> str:
    """RFC 3339 with milliseconds, UTC."""
    try:
        return datetime.fromtimestamp(unix_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except (OverflowError, ValueError, OSError):
        return f"{unix_ms} ms"


def _text(body: bytes) -> str | None:
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        return None
