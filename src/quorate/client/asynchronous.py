"""The asynchronous client as its users see it: `quorate.aio.connect`.

The same names, arguments and errors as the synchronous one (`synchronous`), which differs by the `await`s only.
A client belongs to the event loop that it was made in.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator, Sequence
from itertools import count
from typing import Any

from quorate.client import commands
from quorate.client.asynchronous_calls import AsyncCalls
from quorate.client.commands import Context, Key
from quorate.client.protocol import Command
from quorate.client.values import Codec, Got, got_of_reply, merged_value
from quorate.core.errors import Overloaded, Unavailable
from quorate.core.limits import REQUEST_TIMEOUT_DEFAULT_MS, UPDATE_ATTEMPTS_DEFAULT
from quorate.core.ring.ring import Ring


class Client:
    """A client of a cluster. Made by `connect`."""

    def __init__(self, calls: AsyncCalls) -> None:
        self._calls = calls
        self._operation_ids = count(commands.first_operation_id())

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections. Idempotent. Calls that are under way end as if their connections were lost."""
        await self._calls.close()

    def bucket(self, name: str | bytes, codec: Codec | None = None) -> Bucket:
        """The bucket of that name, which need not exist; `codec` writes and reads its values unless a call gives one.

        Raises `CallerError` if it cannot be a bucket's name.
        """
        return Bucket(self._calls, self._operation_ids, commands.bucket_of(name), codec)

    async def status(self) -> dict[str, Any]:
        """The cluster as one node sees it, with every reachable node's report about itself."""
        return await _document(self._calls, commands.status_command())

    async def ring(self) -> Ring:
        """The ring, asked for now: who owns which partition, as readers see it."""
        command = commands.ring_command(None)
        reply = await self._calls.execute(command, b"", commands.patient_ms(self._calls.timeout_ms))
        return commands.ring_of_reply(reply)[0]

    async def where(self, bucket: str | bytes, key: Key) -> dict[str, Any]:
        """Slot, partition and preference list of a key, and what each replica holds right now."""
        return await _document(self._calls, commands.where_command(commands.bucket_of(bucket), key))

    async def buckets(self) -> dict[str, Any]:
        """The buckets whose properties were set, with their properties."""
        return await _document(self._calls, commands.buckets_command())


class Bucket:
    """Keys and values under one set of properties. Made by `Client.bucket`.

    Every call raises `CallerError` for wrong arguments, `Unavailable` (`Overloaded`) when it was certainly not done,
    and, if it writes, `OutcomeUnknown` when it may have been done. `timeout_ms` limits a call with all its retries.
    """

    __slots__ = ("_calls", "_codec", "_name", "_operation_ids")

    def __init__(self, calls: AsyncCalls, operation_ids: count[int], name: bytes, codec: Codec | None) -> None:
        self._calls = calls
        self._operation_ids = operation_ids
        self._name = name
        self._codec = codec

    async def put(
        self,
        key: Key,
        value: Any,
        context: Context | None = None,
        w: int | None = None,
        ttl: int | None = None,
        content_type: str | None = None,
        codec: Codec | None = None,
        timeout_ms: float | None = None,
        strict: bool = False,
    ) -> str:
        """Store `value`; gives the context that covers it.

        `context`, from a get or a put, says what the writer has seen and so replaces; without it the value stands
        beside whatever else there is. `w`: replicas that must have it; `ttl`: seconds until it expires, 0 for ever
        (both as the bucket says by default); `strict`: no replicas but the key's own count.
        """
        command = commands.put_command(
            self._name,
            key,
            value,
            next(self._operation_ids),
            context,
            w,
            ttl,
            content_type,
            codec or self._codec,
            strict,
        )
        reply: bytes = await self._calls.execute(command, self._name, timeout_ms)
        return reply.decode("ascii", "replace")

    async def get(
        self, key: Key, r: int | None = None, codec: Codec | None = None, timeout_ms: float | None = None
    ) -> Got:
        """What is stored: falsy when absent. `r`: replicas that must answer (as the bucket says by default)."""
        command = commands.get_command(self._name, key, r)
        return got_of_reply(await self._calls.execute(command, self._name, timeout_ms), codec or self._codec)

    async def delete(
        self,
        key: Key,
        context: Context | None = None,
        w: int | None = None,
        timeout_ms: float | None = None,
        strict: bool = False,
    ) -> str:
        """Delete what `context` has seen; gives the context that covers the deletion.

        Without a context it deletes what the coordinator has seen of the key, so a write that has not reached it yet
        stays. `w` and `strict` as for `put`.
        """
        command = commands.delete_command(self._name, key, next(self._operation_ids), context, w, strict)
        reply: bytes = await self._calls.execute(command, self._name, timeout_ms)
        return reply.decode("ascii", "replace")

    async def update(
        self,
        key: Key,
        change: Callable[[Any], Any],
        merge: Callable[[Any, Any], Any] | None = None,
        attempts: int = UPDATE_ATTEMPTS_DEFAULT,
        timeout_ms: float | None = None,
    ) -> Any:
        """Read, merge siblings, apply `change`, write with the context; gives the value written.

        `change` gets None when the key is absent. Siblings are folded by `merge(a, b)`; without it they raise
        `SiblingsError`. If nothing was done (`Unavailable`), all is tried again, reading anew, at most `attempts`
        times, each with its own `timeout_ms`. `OutcomeUnknown` is raised at once: a second try could apply `change`
        twice. This is no lock: of two updates at once both are kept, as siblings, and the next one merges them.
        """
        for left in reversed(range(commands.check_attempts(attempts))):
            try:
                got = await self.get(key, timeout_ms=timeout_ms)
                value = change(merged_value(got, merge))
                await self.put(key, value, got.context, timeout_ms=timeout_ms)
                return value
            except Unavailable as error:
                if not left:
                    raise
                if isinstance(error, Overloaded):
                    await asyncio.sleep(error.retry_after_ms / 1000)
        raise AssertionError("the last attempt returns or raises")

    async def keys(self, prefix: Key = "", limit: int | None = None) -> AsyncIterator[str]:
        """The keys that start with `prefix`, at most `limit`, page by page. Bytes that are not UTF-8 are escaped."""
        cursor = ""
        while True:
            page, cursor = await self.keys_page(prefix, commands.page_size(limit), cursor)
            for key in page if limit is None else page[:limit]:
                yield key
            if limit is not None:
                limit -= len(page)
            if not cursor or (limit is not None and limit <= 0):
                return

    async def keys_page(self, prefix: Key = "", limit: int = 100, cursor: str = "") -> tuple[list[str], str]:
        """(keys, where the next page begins); an empty cursor: this was the last page."""
        command = commands.keys_command(self._name, prefix, commands.page_size(limit), cursor)
        reply = await self._calls.execute(command, self._name, commands.patient_ms(self._calls.timeout_ms))
        return commands.page_of_reply(reply)

    async def properties(self) -> dict[str, Any]:
        """What the bucket declares: n, r, w, conflicts, ttl, durability."""
        return await _document(self._calls, commands.bucket_command(self._name, {}))

    async def set(self, **changes: Any) -> dict[str, Any]:
        """Change properties (`n=3, r=2, w=2, conflicts="lww", ttl=60, durability="fsync"`); gives them all."""
        return await _document(self._calls, commands.bucket_command(self._name, changes))


async def _document(calls: AsyncCalls, command: Command) -> dict[str, Any]:
    reply = await calls.execute(command, b"", commands.patient_ms(calls.timeout_ms))
    return commands.object_of_reply(command, reply)


class Connecting:
    """What `connect` gives: await it for a `Client`, or enter it with `async with`."""

    def __init__(self, seeds: Sequence[str], password: str | None, timeout_ms: float) -> None:
        self._arguments = (seeds, password, timeout_ms)
        self._client: Client | None = None

    def __await__(self) -> Generator[Any, None, Client]:
        return self._connect().__await__()

    async def __aenter__(self) -> Client:
        self._client = await self._connect()
        return self._client

    async def __aexit__(self, *_: object) -> None:
        if self._client is not None:
            await self._client.close()

    async def _connect(self) -> Client:
        calls = AsyncCalls(*self._arguments)
        await calls.start()
        return Client(calls)


def connect(
    seeds: str | Sequence[str] = "127.0.0.1:7401",
    password: str | None = None,
    timeout_ms: float = REQUEST_TIMEOUT_DEFAULT_MS,
) -> Connecting:
    """Connect to the cluster that the seeds ("host:port,host:port") belong to; one of them has to answer.

    Raises `CallerError` for malformed seeds or a wrong password, `Unavailable` if no seed answers in time.
    """
    return Connecting(commands.seed_addresses(seeds), password, commands.check_timeout(timeout_ms))
