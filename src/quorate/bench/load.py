"""Puts, gets or both over random keys, as plain as can be: the load that is compared with a floor.

What it adds to a bare loop is what a real writer does: it passes the context of what it last wrote under a key, for a
put without one stands beside everything else and would only measure growing siblings. Each key belongs to one writer
at a time while it is written; two that meet on a key take turns by choosing again. Of several processes each has keys
of its own, for the same reason; as keys are chosen uniformly, nothing else changes by that.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from random import random

from quorate.bench.arrivals import Operation
from quorate.bench.report import PhaseResult
from quorate.bench.runner import Load, MissingValue, Runner, Target
from quorate.core.errors import QuorateError


class Bench(Runner):
    """Phases "put", "get" and "mixed" (as many puts as gets); remembers what it wrote from one to the next."""

    def __init__(self, bucket: Target, load: Load) -> None:
        super().__init__(bucket, load)
        self._keys = [b"user%012d" % number for number in range(load.process, load.keys, load.processes)]
        self._value = os.urandom(load.value_bytes)
        self._contexts: dict[bytes, str | None] = {}
        self._busy: set[bytes] = set()

    async def load(self) -> PhaseResult | None:
        """Write every key that this run has not written, so that each get finds a value."""
        missing = [key for key in self._keys if key not in self._contexts]
        await self._each(missing, self._put, lambda error: None)
        return None

    def operations(self, phase: str) -> Callable[[], Operation]:
        put: Operation = ("put", self._put_random)
        get: Operation = ("get", self._get_random)
        if phase == "mixed":
            return lambda: put if random() < 0.5 else get
        only = {"put": put, "get": get}[phase]
        return lambda: only

    async def _put_random(self) -> None:
        keys, busy = self._keys, self._busy
        # `random.choice` takes several times as long.
        key = keys[int(random() * len(keys))]
        if len(busy) < len(keys):
            while key in busy:
                key = keys[int(random() * len(keys))]
        await self._put(key)

    async def _put(self, key: bytes) -> None:
        """Replace what this run knows under `key`; the first put of a key reads what an earlier run left there."""
        contexts = self._contexts
        self._busy.add(key)
        try:
            if key not in contexts:
                contexts[key] = (await self._bucket.get(key)).context or None
            contexts[key] = await self._bucket.put(key, self._value, contexts[key])
        except QuorateError:
            contexts.pop(key, None)
            raise
        finally:
            self._busy.discard(key)

    async def _get_random(self) -> None:
        keys = self._keys
        if not await self._bucket.get(keys[int(random() * len(keys))]):
            raise MissingValue("a key that was written holds no value")
