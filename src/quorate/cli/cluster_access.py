"""The asynchronous client, as the long-running commands use it: overwriting puts, gets, pages of keys."""

from __future__ import annotations

from itertools import count
from typing import Any

from quorate.client import commands
from quorate.client.asynchronous import Bucket
from quorate.client.asynchronous_calls import AsyncCalls
from quorate.core.errors import CallerError

JSON_TYPE = "application/json"
TIMEOUT_MS = 5_000
"""Of one attempt, longer than a service would wait: an import prefers to wait for a busy cluster."""


class ClusterAccess:
    """Enter it to connect, leave it to disconnect; raises `Unavailable` if no node answers."""

    def __init__(self, node: str, password: str | None, timeout_ms: float = TIMEOUT_MS) -> None:
        self.calls = AsyncCalls(commands.seed_addresses(node), password, timeout_ms)

    async def __aenter__(self) -> ClusterAccess:
        await self.calls.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.calls.close()

    @property
    def cluster_id(self) -> str:
        """Of the cluster that it is connected with."""
        return self.calls.cluster_id

    def bucket(self, name: bytes) -> Bucket:
        return Bucket(self.calls, count(commands.first_operation_id()), name, None)


class OverwritingBucket:
    """A bucket in which every put replaces what is there (see `importer`)."""

    def __init__(self, access: ClusterAccess, name: bytes) -> None:
        self._calls = access.calls
        self._name = name
        self._bucket = access.bucket(name)

    async def put(self, key: bytes, value: bytes, operation: int) -> None:
        """Read the context, write with it. Raises `CallerError`, `Unavailable` or `OutcomeUnknown`."""
        got = await self._bucket.get(key)
        if got.context is None:
            raise CallerError("the node gave no context")
        command: Any = commands.put_command(
            self._name, key, value, operation, got.context, None, None, JSON_TYPE, None, False
        )
        await self._calls.execute(command, self._name, None)
