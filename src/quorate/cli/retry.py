"""Patience: long jobs outlast the restart of a node, and end with a clear message when nothing comes back.

The measure is the job as a whole: as long as anything succeeds now and then, the job goes on; once nothing has
succeeded for `patience_s`, it stops. A count of attempts for each row was rejected: with a thousand rows in flight and
one node slow, some row is always unlucky.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from quorate.core.errors import OutcomeUnknown, Overloaded, Unavailable

PATIENCE_S_DEFAULT = 60.0
DELAY_MIN_S = 0.05
DELAY_MAX_S = 2.0
T = TypeVar("T")


class Patience:
    """Retries what may be retried, for as long as the job as a whole gets anywhere."""

    def __init__(self, patience_s: float = PATIENCE_S_DEFAULT) -> None:
        self._patience_s = patience_s
        self._succeeded_at = time.monotonic()
        self.retries = 0

    async def call(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """The result of `attempt`, which must be safe to repeat.

        Raises `Unavailable` or `OutcomeUnknown`, as the last attempt did, once patience is used up.
        """
        delay_s = DELAY_MIN_S
        while True:
            try:
                result = await attempt()
            except (Unavailable, OutcomeUnknown) as error:
                if time.monotonic() - self._succeeded_at > self._patience_s:
                    raise type(error)(
                        f"nothing succeeded for {self._patience_s:.0f} s; the last error: {error}"
                    ) from None
                self.retries += 1
                least_s = error.retry_after_ms / 1000 if isinstance(error, Overloaded) else 0.0
                # Rows that failed together must not come back together.
                await asyncio.sleep(max(least_s, delay_s * (0.5 + random.random() / 2)))
                delay_s = min(delay_s * 2, DELAY_MAX_S)
            else:
                self._succeeded_at = time.monotonic()
                return result
