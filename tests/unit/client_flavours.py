"""One way to drive both clients: the synchronous one behind a proxy that makes every call on a thread."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import quorate
import quorate.aio


class OnThread:
    """A synchronous object whose calls are made on a thread and awaited."""

    def __init__(self, target: Any) -> None:
        self.target = target

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.target, name)
        if name == "bucket":
            return lambda *arguments, **named: OnThread(method(*arguments, **named))
        if name == "keys":
            return lambda *arguments, **named: each(method(*arguments, **named))

        async def call(*arguments: Any, **named: Any) -> Any:
            return await asyncio.to_thread(method, *arguments, **named)

        return call


async def each(items: Any) -> AsyncIterator[Any]:
    for item in await asyncio.to_thread(list, items):
        yield item


@asynccontextmanager
async def connected(flavour: str, seeds: str, **named: Any) -> AsyncIterator[Any]:
    if flavour == "async":
        async with quorate.aio.connect(seeds, **named) as client:
            yield client
        return
    client = await asyncio.to_thread(lambda: quorate.connect(seeds, **named))
    try:
        yield OnThread(client)
    finally:
        client.close()
