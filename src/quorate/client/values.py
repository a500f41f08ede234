"""Values: Python objects to bytes with a content type, and back, and what a get returns.

`bytes` and `str` pass through, JSON is the default for the rest, and a codec takes over wherever one is given. The
content type travels with the value, so a reader decodes by what was written, not by what it expects.

JSON is the standard library's: what it writes it reads back equal, big integers included. Rejected: a faster encoder
that turns NaN into null without a word.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from functools import reduce
from typing import Any, Final, Protocol

from quorate.core.errors import CallerError, PeerError, SiblingsError
from quorate.core.limits import CONTENT_TYPE_BYTES_MAX

BYTES_TYPE: Final = "application/octet-stream"
TEXT_TYPE: Final = "text/plain; charset=utf-8"
JSON_TYPE: Final = "application/json"

_encode_json: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


class Codec(Protocol):
    """How to write and read values that are neither bytes, text nor JSON."""

    def encode(self, value: Any) -> tuple[bytes, str]:
        """(bytes, content type) of `value`."""
        ...

    def decode(self, data: bytes, content_type: str) -> Any: ...


def encode_value(value: Any, content_type: str | None, codec: Codec | None) -> tuple[bytes, str]:
    """(bytes, content type) to store; raises `CallerError` if there is no way to write `value`.

    An empty content type means `application/octet-stream`. `content_type` overrides what the value's type implies.
    """
    if codec is not None:
        data, implied = codec.encode(value)
    elif isinstance(value, bytes | bytearray | memoryview):
        data, implied = bytes(value), ""
    elif isinstance(value, str):
        data, implied = _encode_text(value), TEXT_TYPE
    elif value is None or isinstance(value, dict | list | tuple | int | float):
        data, implied = _encode_as_json(value), JSON_TYPE
    else:
        raise CallerError(f"cannot store a {type(value).__name__}: give bytes, str, a JSON value, or a codec")
    chosen = implied if content_type is None else content_type
    if not (chosen.isascii() and (not chosen or chosen.isprintable()) and len(chosen) <= CONTENT_TYPE_BYTES_MAX):
        raise CallerError(f"a content type has at most {CONTENT_TYPE_BYTES_MAX} printable ASCII characters: {chosen!r}")
    return data, chosen


def decode_value(data: bytes, content_type: str, codec: Codec | None) -> Any:
    """The object in `data`; bytes as they are if the content type is none that we know."""
    if codec is not None:
        return codec.decode(data, content_type)
    if not content_type or content_type == BYTES_TYPE:
        return data
    media, _, parameters = content_type.partition(";")
    media = media.strip().lower()
    try:
        if media == JSON_TYPE or media.endswith("+json"):
            return json.loads(data)
        if media == "text/plain":
            _, _, charset = parameters.partition("charset=")
            return data.decode(charset.split(";")[0].strip().strip('"') or "utf-8")
    except (ValueError, LookupError, RecursionError) as error:
        raise CallerError(
            f"the value is not valid {content_type}: {error}; its bytes are in .siblings[…].data"
        ) from None
    return data


def _encode_text(value: str) -> bytes:
    try:
        return value.encode()
    except UnicodeEncodeError as error:
        raise CallerError(f"text that is not valid Unicode cannot be stored: {error}") from None


def _encode_as_json(value: Any) -> bytes:
    try:
        return _encode_json(value).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise CallerError(f"the value cannot be written as JSON: {error}; give bytes, or a codec") from None


class Sibling:
    """One of the concurrent values of a key. `value` decodes when asked, `data` is the bytes as stored."""

    __slots__ = ("_codec", "content_type", "data", "last_modified_ms")

    def __init__(self, data: bytes, content_type: str, last_modified_ms: int, codec: Codec | None = None) -> None:
        self.data = data
        self.content_type = content_type
        """As it was written; empty means application/octet-stream."""
        self.last_modified_ms = last_modified_ms
        """Unix milliseconds, by the hybrid logical clock of the node that took the write."""
        self._codec = codec

    @property
    def value(self) -> Any:
        """Raises `CallerError` if the bytes are not what their content type says."""
        return decode_value(self.data, self.content_type, self._codec)

    @property
    def last_modified(self) -> datetime:
        return datetime.fromtimestamp(self.last_modified_ms / 1000, UTC)

    def __repr__(self) -> str:
        return f"Sibling({self.data[:60]!r}, {self.content_type!r}, {self.last_modified_ms})"


class Got:
    """What a get found. Falsy when there is no value; `context` is what to pass to the put that replaces it."""

    __slots__ = ("_codec", "_rows", "context")

    def __init__(self, context: str, rows: list[list[Any]], codec: Codec | None = None) -> None:
        self.context = context
        """Opaque. Not empty after a delete, though there is no value."""
        self._rows = rows
        self._codec = codec

    def __bool__(self) -> bool:
        return bool(self._rows)

    def __len__(self) -> int:
        """How many siblings there are: 0 absent, 1 a value, more a conflict."""
        return len(self._rows)

    @property
    def siblings(self) -> list[Sibling]:
        """All values, in an order that is the same for every reader."""
        return [
            Sibling(data, kind.decode("utf-8", "replace"), time_ms, self._codec) for data, kind, time_ms in self._rows
        ]

    @property
    def value(self) -> Any:
        """The value; None when absent; raises `SiblingsError` if there are several."""
        if not self._rows:
            return None
        if len(self._rows) > 1:
            raise SiblingsError(
                f"{len(self._rows)} concurrent values: look at .siblings, then put the merged value with its .context"
            )
        data, kind, _ = self._rows[0]
        return decode_value(data, kind.decode("utf-8", "replace"), self._codec)

    def __repr__(self) -> str:
        return f"Got({self.siblings!r})"


def got_of_reply(reply: list[Any], codec: Codec | None) -> Got:
    """The `Got` of a reply to KV.GET; raises `PeerError` unless it has the shape [context, [[value, type, ms] …]]."""
    try:
        context, rows = reply
        for data, kind, time_ms in rows:
            if data.__class__ is not bytes or kind.__class__ is not bytes or time_ms.__class__ is not int:
                raise TypeError
        return Got(context.decode("ascii"), rows, codec)
    except (TypeError, ValueError, AttributeError):
        raise PeerError("the node's reply to KV.GET has not the shape [context, [[value, type, ms] …]]") from None


def merged_value(got: Got, merge: Callable[[Any, Any], Any] | None) -> Any:
    """The one value to go on from: None when absent, several folded by `merge` in an order all readers share.

    Raises `SiblingsError` if there are several and no `merge`.
    """
    if len(got) > 1 and merge is not None:
        return reduce(merge, [sibling.value for sibling in got.siblings])
    return got.value
