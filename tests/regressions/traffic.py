"""Clients of a small cluster, in virtual time, who write down what they were told, and what must hold of it at the end.

A client reads a key and writes it with the context that it got, one request after the other, each through any node that
runs. Every value is written once, so what a write has replaced is known without a look into contexts: the siblings that
its reader saw, and whatever those have replaced. W + R > N: a read must find what was acknowledged before it began.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from quorate.core.buckets import default_properties
from quorate.core.messages import Message
from quorate.core.store import Failure, GetRequest, GetResult, PutRequest, PutResult
from tests.unit.membership_cluster import MembershipCluster

BUCKET = b"b"
THINK_MS = 1_000.0
DELAY_MAX_MS = 200.0
TIMEOUT_MS = 10_000


class SlowNetwork(MembershipCluster):
    """Messages take 1 to `DELAY_MAX_MS` milliseconds, most of them few; those of one connection stay in order.

    Buckets are strict: where a fallback counts for a home that is merely slow, R + W > N promises nothing.
    """

    def __init__(self, size: int, seed: int = 1) -> None:
        self._delays = random.Random(f"delays {seed}")
        self._arrivals: dict[tuple[int, int], float] = {}
        self.slow = False
        super().__init__(size, defaults=msgspec.structs.replace(default_properties(size), strict=True))
        self.slow = True

    def transmit(self, sender: int, target: int, message: Message) -> None:
        now_ms = self.world.now_ms
        delay_ms = DELAY_MAX_MS ** self._delays.random() if self.slow else 1.0
        arrival_ms = max(now_ms + delay_ms, self._arrivals.get((sender, target), 0.0))
        self._arrivals[sender, target] = arrival_ms
        self.delay_ms = {sender: arrival_ms - now_ms}
        super().transmit(sender, target, message)


class Traffic:
    """`clients` of one cluster; each thinks for about a second between two of its turns."""

    def __init__(self, cluster: MembershipCluster, keys: Iterable[bytes], clients: int, seed: int = 1) -> None:
        self.cluster = cluster
        self.keys = list(keys)
        self.acknowledged: dict[bytes, bytes] = {}
        """Value → key."""
        self.failures: list[Failure] = []
        self.answered = 0
        self._replaced_by: dict[bytes, list[bytes]] = {}
        """Value → values of writes, all but those that were refused, whose writers had seen it."""
        self._newest: dict[bytes, dict[bytes, bool]] = {}
        """Key → acknowledged values that no acknowledged write is known to have replaced."""
        self._random = random.Random(seed)
        self._written = 0
        self._stopped = False
        self.pending = 0
        for _ in range(clients):
            cluster.world.at(self._random.random() * THINK_MS, self._turn)

    def stop(self) -> None:
        """No new turns; those under way are waited for."""
        self._stopped = True
        self.cluster.run_until(lambda: self.pending == 0, "every request is answered")

    def _turn(self) -> None:
        if self._stopped:
            return
        key = self._random.choice(self.keys)
        request = GetRequest(BUCKET, key, 2, TIMEOUT_MS)
        before = list(self._newest.get(key, {}))
        self._ask(lambda node, reply: node.get(request, reply), lambda result: self._on_read(key, before, result))

    def _on_read(self, key: bytes, before: list[bytes], result: GetResult | Failure) -> None:
        """`before`: what had been acknowledged when the read began, without what was known to be replaced."""
        if not isinstance(result, GetResult):
            self.failures.append(result)
            self._think()
            return
        present = {sibling.value: True for sibling in result.siblings}
        for value in before:
            assert self._lives_on(value, present), f"a read of {key!r} missed {value!r}, and got {list(present)}"
        self._written += 1
        value = b"%s:%d" % (key, self._written)
        seen = list(present)
        for replaced in seen:
            self._replaced_by.setdefault(replaced, []).append(value)
        request = PutRequest(BUCKET, key, value, context=result.context, w=2, timeout_ms=TIMEOUT_MS)
        self._ask(
            lambda node, reply: node.put(request, reply), lambda answer: self._on_written(key, value, seen, answer)
        )

    def _on_written(self, key: bytes, value: bytes, seen: list[bytes], result: PutResult | Failure) -> None:
        if isinstance(result, PutResult):
            self.acknowledged[value] = key
            newest = self._newest.setdefault(key, {})
            for replaced in seen:
                newest.pop(replaced, None)
            newest[value] = True
        else:
            self.failures.append(result)
        if isinstance(result, Failure) and result.kind != "unknown":
            for replaced in seen:
                self._replaced_by[replaced].remove(value)
        self._think()

    def _think(self) -> None:
        self.cluster.world.at(THINK_MS * (0.5 + self._random.random()), self._turn)

    def _ask(self, start: Callable[[Any, Callable[[Any], None]], None], done: Callable[[Any], None]) -> None:
        """Through any node that runs. One that dies over it has done no one knows what."""
        cluster = self.cluster
        running = cluster.running()
        if not running:
            done(Failure("unavailable", "nobody runs"))
            return
        number = self._random.choice(running)
        answers: list[Any] = []
        self.pending += 1

        def answer(result: Any) -> None:
            if not answers:
                answers.append(result)
                self.pending -= 1
                self.answered += 1
                done(result)

        def look() -> None:
            if not answers and cluster.nodes[number] is node and cluster.ports[number].alive:
                cluster.world.at(100, look)
            elif not answers:
                answer(Failure("unknown", "the node died"))

        node = cluster.nodes[number]
        start(node, answer)
        look()

    # --- what must hold ---

    def check_nothing_lost(self) -> None:
        """D: every acknowledged write is there, or was replaced by writes that lead to one that is."""
        present: dict[bytes, bool] = {}
        for key in self.keys:
            answers = [self.cluster.values(number, key, r=2) for number in self.cluster.running()]
            assert all(answer == answers[0] for answer in answers), (key, answers)
            present.update(dict.fromkeys(answers[0], True))
        for value in self.acknowledged:
            assert self._lives_on(value, present), f"{value!r} was acknowledged and is gone"

    def _lives_on(self, value: bytes, present: dict[bytes, bool]) -> bool:
        reached, left = {value: True}, [value]
        while left:
            one = left.pop()
            if one in present:
                return True
            for later in self._replaced_by.get(one, []):
                if later not in reached:
                    reached[later] = True
                    left.append(later)
        return False
