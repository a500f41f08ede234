"""A bucket in memory that loads can be run against, and a cluster that has no other."""

from __future__ import annotations

import asyncio
from typing import Any

from quorate.core.errors import OutcomeUnknown, Unavailable


class FakeSibling:
    def __init__(self, data: bytes) -> None:
        self.data = data


class Got:
    def __init__(self, context: str, data: bytes | None) -> None:
        self.context = context
        self.siblings = [] if data is None else [FakeSibling(data)]

    def __bool__(self) -> bool:
        return bool(self.siblings)


class FakeBucket:
    """One version a key; a put with another context than the key's would be a sibling."""

    def __init__(self, fail_every: int = 0) -> None:
        self.versions: dict[bytes, int] = {}
        self.values: dict[bytes, bytes] = {}
        self.siblings = 0
        self.blind = 0
        """Puts without a context over what is there."""
        self.calls = 0
        self.gets = 0
        self.fail_every = fail_every
        self.declared = {"n": 3, "r": 2, "w": 2, "conflicts": "siblings", "ttl": 0, "durability": "os", "strict": False}

    async def get(self, key: bytes) -> Any:
        self.gets += 1
        await asyncio.sleep(0)
        return Got(str(self.versions.get(key, "")), self.values.get(key))

    async def put(self, key: bytes, value: Any, context: Any = None) -> str:
        self.calls += 1
        await asyncio.sleep(0)
        if context is None and key in self.versions:
            self.blind += 1
        if (context or "") != str(self.versions.get(key, "")):
            self.siblings += 1
        self.versions[key] = self.versions.get(key, 0) + 1
        self.values[key] = value
        if self.fail_every and self.calls % self.fail_every == 0:
            raise OutcomeUnknown("lost") if self.calls % 2 else Unavailable("down")
        return str(self.versions[key])

    async def properties(self) -> dict[str, Any]:
        return self.declared

    async def set(self, **changes: Any) -> dict[str, Any]:
        self.declared = self.declared | changes
        return self.declared


class FakeAccess:
    """Stands for `ClusterAccess`; its buckets outlive it."""

    def __init__(self) -> None:
        self.buckets: dict[bytes, FakeBucket] = {}

    def __call__(self, node: str, password: str | None, timeout_ms: float) -> FakeAccess:
        return self

    async def __aenter__(self) -> FakeAccess:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    def bucket(self, name: bytes) -> FakeBucket:
        return self.buckets.setdefault(name, FakeBucket())
