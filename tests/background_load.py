"""Users who keep shopping while a test breaks things: they write new keys, read them back, and note every failure.

They run in a thread with a loop of their own, so that a test reads as the story of what happens to the nodes. What they
were told stays known: a test asks at the end whether it was true.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from types import TracebackType

import quorate.aio
from quorate.core.errors import QuorateError

PATIENCE_S = 60.0
USERS = 6


class Users:
    """Enter it to let them begin, leave it to let them finish what they are doing."""

    def __init__(self, addresses: Sequence[str], bucket: str = "orders") -> None:
        self._addresses = addresses
        self._bucket = bucket
        self._lock = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=lambda: asyncio.run(self._work()), daemon=True)
        self.written: dict[str, int] = {}
        """Acknowledged writes: key → value."""
        self.failures: list[str] = []

    def __enter__(self) -> Users:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping = True
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive(), "a user never got an answer"

    def wait_for(self, writes: int) -> None:
        """Wait until so many more writes have been acknowledged; fails if one is not."""
        enough = self.served(writes)
        assert self.failures == []
        assert enough, f"{writes} writes did not come about"

    def served(self, writes: int) -> bool:
        """Wait until so many more writes have been acknowledged, or one has failed."""
        with self._lock:
            target = len(self.written) + writes
            self._lock.wait_for(lambda: len(self.written) >= target or bool(self.failures), PATIENCE_S)
            return len(self.written) >= target and not self.failures

    async def _work(self) -> None:
        async with await quorate.aio.connect(list(self._addresses)) as db:
            bucket = db.bucket(self._bucket)
            await asyncio.gather(*(self._shop(bucket, user) for user in range(USERS)))

    async def _shop(self, bucket: quorate.aio.Bucket, user: int) -> None:
        number = 0
        while not self._stopping:
            number += 1
            key = f"order-{user}-{number}"
            try:
                await bucket.put(key, number)
                found = await bucket.get(key)
                if [sibling.value for sibling in found.siblings] != [number]:
                    self._failed(f"{key} was written and reads as {found.siblings}")
            except QuorateError as error:
                self._failed(f"{key}: {type(error).__name__}: {error}")
            else:
                with self._lock:
                    self.written[key] = number
                    self._lock.notify_all()
            await asyncio.sleep(0.005)  # Users think; this is no benchmark.

    def _failed(self, what: str) -> None:
        with self._lock:
            self.failures.append(what)
            self._lock.notify_all()
