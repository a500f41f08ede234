"""Group commit, step by step, with a disk that waits for the test."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator

import pytest

from quorate.adapters.storage import log_sync
from quorate.adapters.storage.log_sync import LogSyncer
from quorate.core.errors import StorageError

BROKEN = StorageError("EIO")


class Disk:
    """Each `flush` announces itself, then waits to be let through."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.allowed = threading.Semaphore(0)
        self.failure: StorageError | None = None

    def flush(self) -> None:
        self.begun.release()
        self.allowed.acquire()
        if self.failure is not None:
            raise self.failure


class Bench:
    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.disk = Disk()
        self.failures: list[StorageError] = []
        self.answers: list[tuple[str, StorageError | None]] = []
        self.syncer = LogSyncer(self.disk.flush, self.failures.append, self.loop.call_soon_threadsafe)

    def request(self, name: str, then: Callable[[], None] = lambda: None) -> None:
        def done(failure: StorageError | None) -> None:
            self.answers.append((name, failure))
            then()

        self.syncer.request(done)

    def run_until_answered(self, count: int) -> None:
        """Turn the loop, one callback at a time, until `count` requests were answered."""
        timer = self.loop.call_later(20, self.loop.stop)
        while len(self.answers) < count:
            assert timer.when() > self.loop.time(), f"only {self.answers} after 20 s"
            self.loop.run_until_complete(self._turned())
        timer.cancel()

    async def _turned(self) -> None:
        """One turn of the loop."""


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    for _ in range(10):
        made.disk.allowed.release()
    made.syncer.stop()
    made.loop.close()


def test_requests_made_during_a_sync_share_the_next_one(bench: Bench) -> None:
    bench.request("first")
    assert bench.disk.begun.acquire(timeout=20)
    for name in "abcdef":
        bench.request(name)
    bench.disk.allowed.release()
    assert bench.disk.begun.acquire(timeout=20), "what came during a sync is not covered by it"
    bench.run_until_answered(1)
    assert bench.answers == [("first", None)], "nobody is answered before a sync that began after the request"
    bench.disk.allowed.release()
    bench.run_until_answered(7)
    assert bench.answers == [("first", None), *((name, None) for name in "abcdef")]
    assert bench.syncer.syncs == 2


def test_the_first_failure_is_final(bench: Bench) -> None:
    bench.disk.failure = BROKEN
    bench.disk.allowed.release()
    bench.request("a")
    bench.run_until_answered(1)
    bench.disk.failure = None
    bench.request("b")
    bench.run_until_answered(2)
    assert bench.answers == [("a", BROKEN), ("b", BROKEN)]
    assert bench.failures == [BROKEN], "reported once"
    assert bench.disk.begun._value == 1, "no second try"


def test_a_failed_write_overtakes_a_sync_that_runs(bench: Bench) -> None:
    bench.request("a")
    assert bench.disk.begun.acquire(timeout=20)
    bench.syncer.fail(BROKEN)
    bench.disk.allowed.release()
    bench.run_until_answered(1)
    assert bench.answers == [("a", BROKEN)]
    assert bench.syncer.stop()
    assert bench.failures == [BROKEN]


def test_stopping_answers_what_waits(bench: Bench) -> None:
    for name in "abc":
        bench.disk.allowed.release()
        bench.request(name)
    assert bench.syncer.stop()
    bench.run_until_answered(3)
    assert bench.answers == [("a", None), ("b", None), ("c", None)]


def test_waiting_requests_are_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_sync, "IN_FLIGHT_REQUESTS_MAX", 3)
    for name in "abc":
        bench.request(name)
    with pytest.raises(StorageError, match="3 syncs wait for the disk"):
        bench.request("d")
    for _ in range(3):
        bench.disk.allowed.release()
    bench.run_until_answered(3)
    bench.request("e")
    bench.disk.allowed.release()
    bench.run_until_answered(4)


def test_a_closed_loop_ends_the_thread(bench: Bench) -> None:
    bench.request("a")
    bench.loop.close()
    bench.disk.allowed.release()
    assert bench.syncer.stop()
    assert bench.answers == []
