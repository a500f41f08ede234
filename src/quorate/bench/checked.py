"""Load whose history is checked: each get must show the newest put of its key that was acknowledged before it began.

Every value begins with a number that its key's writer counts up. A key has one writer at a time, so the numbers of
acknowledged puts only rise; and with R+W>N a get that shows less than the floor it began with has missed an
acknowledged write. In the end every key is read once more.

What it costs is a dictionary entry for each key, so it runs at the rates that the plain load runs at.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from quorate.bench.load import Bench
from quorate.bench.runner import Load, Target
from quorate.core.errors import QuorateError

NUMBER_BYTES: Final = 8
VERIFIED_AT_ONCE: Final = 64
ATTEMPTS: Final = 20
PAUSE_S: Final = 0.25


class StaleRead(QuorateError):
    """A get missed a put that had been acknowledged before it began."""


class Verdict(msgspec.Struct, frozen=True):
    """What the last look at every key found."""

    keys: int
    lost: int
    """Keys whose newest acknowledged put is not there."""
    unread: int
    """Keys that could not be read."""
    phase: str = "check"


class CheckedBench(Bench):
    """A `Bench` that counts stale reads as errors of the kind `StaleRead`."""

    def __init__(self, bucket: Target, load: Load) -> None:
        super().__init__(bucket, load)
        self._written: dict[bytes, int] = {}
        """Key → the highest number that was ever put under it, acknowledged or not."""
        self._acknowledged: dict[bytes, int] = {}

    async def verify(self) -> Verdict:
        """Read every key."""
        lost = unread = 0
        keys = iter(self._keys)

        async def worker() -> None:
            nonlocal lost, unread
            for key in keys:
                for attempt in range(ATTEMPTS):
                    try:
                        found = newest(await self._bucket.get(key))
                        lost += found < self._acknowledged.get(key, 0)
                        break
                    except QuorateError:
                        unread += attempt == ATTEMPTS - 1
                        await asyncio.sleep(PAUSE_S)

        async with asyncio.TaskGroup() as group:
            for _ in range(VERIFIED_AT_ONCE):
                group.create_task(worker())
        return Verdict(len(self._keys), lost, unread)

    async def _put(self, key: bytes) -> None:
        contexts = self._contexts
        self._busy.add(key)
        try:
            if key not in contexts:
                got = await self._bucket.get(key)
                contexts[key] = got.context or None
                self._written[key] = max(self._written.get(key, 0), newest(got))
            number = self._written[key] = self._written.get(key, 0) + 1
            value = number.to_bytes(NUMBER_BYTES, "big") + self._value
            contexts[key] = await self._bucket.put(key, value, contexts[key])
            self._acknowledged[key] = number
        except QuorateError:
            contexts.pop(key, None)
            raise
        finally:
            self._busy.discard(key)

    async def _get_random(self) -> None:
        key = random.choice(self._keys)
        floor = self._acknowledged.get(key, 0)
        found = newest(await self._bucket.get(key))
        if found < floor:
            raise StaleRead(f"{key!r} shows put {found}, and put {floor} was acknowledged before the get began")


def newest(got: Any) -> int:
    """The highest number among the siblings of a get; 0 if there are none."""
    siblings: Iterable[Any] = got.siblings
    return max((int.from_bytes(sibling.data[:NUMBER_BYTES], "big") for sibling in siblings), default=0)
