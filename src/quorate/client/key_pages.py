"""Walking over the pages of a listing. A file of its own, since mypyc does not compile asynchronous generators."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

from quorate.client import commands
from quorate.client.commands import Key

GetPage = Callable[[Key, int, str], Awaitable[tuple[list[str], str]]]
"""get_page(prefix, limit, cursor): (keys, where the next page begins, empty for nowhere)."""


async def all_keys(get_page: GetPage, prefix: Key, limit: int | None) -> AsyncIterator[str]:
    """The keys that start with `prefix`, at most `limit` (None: all)."""
    cursor = ""
    while True:
        page, cursor = await get_page(prefix, commands.page_size(limit), cursor)
        for key in page if limit is None else page[:limit]:
            yield key
        if limit is not None:
            limit -= len(page)
        if not cursor or (limit is not None and limit <= 0):
            return
