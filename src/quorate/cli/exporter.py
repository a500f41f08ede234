"""The export of a bucket: every key with its values, one JSON object a line.

    {"key": "alice", "content_type": "application/json", "value": {"milk": 1}}
    {"key": "bob", "context": …}                        never: a key without a value is left out
    {"key": "carol", "siblings": [{"content_type": …, "value": …}, …]}

A JSON value stands in its line as it was written, digit for digit; text is text; other bytes are `value_base64`, and so
is the key, as `key_base64`, if it is not text. A value that is written while the export runs may be in it or not.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, Protocol

import msgspec

from quorate.cli.documents import JSON_TYPE, key_fields, value_fields
from quorate.cli.retry import Patience
from quorate.core.limits import LIST_PAGE_KEYS_MAX

CONCURRENCY_DEFAULT = 64


class Source(Protocol):
    """A bucket to read, such as `quorate.aio.Bucket`."""

    async def keys_page(self, prefix: Any = ..., limit: int = ..., cursor: str = ...) -> tuple[list[str], str]: ...

    async def get(self, key: Any) -> Any: ...


class Exporter:
    """Reads all of `source`; `on_page(keys so far)` is called after each page."""

    def __init__(
        self,
        source: Source,
        patience: Patience,
        concurrency: int = CONCURRENCY_DEFAULT,
        on_page: Callable[[int], None] = lambda count: None,
    ) -> None:
        self._source = source
        self._patience = patience
        self._free = asyncio.Semaphore(concurrency)
        self._on_page = on_page

    async def lines(self) -> AsyncIterator[bytes]:
        """The lines, each with its newline. Raises `Unavailable` if the cluster stays away."""
        cursor, count = "", 0
        while True:
            page, cursor = await self._patience.call(partial(self._source.keys_page, "", LIST_PAGE_KEYS_MAX, cursor))
            for line in await asyncio.gather(*(self._line(key) for key in page)):
                if line:
                    count += 1
                    yield line
            self._on_page(count)
            if not cursor:
                return

    async def _line(self, key: str) -> bytes:
        async with self._free:
            got = await self._patience.call(partial(self._source.get, key))
        if not got:
            return b""  # Deleted since it was listed.
        return export_line(
            key.encode("utf-8", "surrogateescape"), [(each.data, each.content_type) for each in got.siblings]
        )


def export_line(key: bytes, values: list[tuple[bytes, str]]) -> bytes:
    """The line of a key that holds `values` (bytes, content type)."""
    fields = [exported_fields(data, content_type) for data, content_type in values]
    document = {**key_fields(key), **(fields[0] if len(fields) == 1 else {"siblings": fields})}
    return msgspec.json.encode(document) + b"\n"


def exported_fields(data: bytes, content_type: str) -> dict[str, Any]:
    """`content_type` and the value: a JSON one as it is, in one line."""
    if content_type != JSON_TYPE:
        return value_fields(data, content_type)
    try:
        data.decode("utf-8")
        msgspec.json.decode(data, type=msgspec.Raw)  # Checks the form only: no number is too large to pass through.
        value = msgspec.Raw(msgspec.json.format(data, indent=-1))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return value_fields(data, content_type, as_base64=True)
    return {"content_type": content_type, "value": value}
