"""A put that is begun again under a newer ring while its own commit is under way."""

from __future__ import annotations

from typing import Any

import pytest

from quorate.core.buckets import BucketProperties
from quorate.core.store import PutRequest, PutResult
from tests.unit.small_cluster import SmallCluster

COORDINATOR = 1
FSYNC = BucketProperties(n=3, r=2, w=2, durability="fsync")


@pytest.mark.sources
@pytest.mark.parametrize("w", [1, 3])
def test_its_own_copy_counts_when_it_is_durable_and_it_answers_once(w: int) -> None:
    cluster = SmallCluster(3, defaults=FSYNC)
    for other in (2, 3):
        cluster.cut(COORDINATOR, other)
    changed: list[Any] = []
    cluster.nodes[2].set_bucket(b"spare", {"ttl": "7"}, changed.append)
    cluster.world.run(200)
    assert len(changed) == 1 and cluster.nodes[COORDINATOR].ring().version == 1
    engine = cluster.engines[COORDINATOR]
    held: list[Any] = []
    engine.held_syncs = held
    cluster.heal()
    answers: list[Any] = []
    cluster.nodes[COORDINATOR].put(PutRequest(b"b", b"k", b"v", w=w, strict=True, timeout_ms=5_000), answers.append)
    cluster.world.run(50)
    assert len(held) >= 2, "the put's commit, and the ledger"
    ledger, commits = next(sync for sync in held if "settle" in sync.__qualname__), list(held)
    commits.remove(ledger)
    ledger(None)
    cluster.world.run(100)
    assert cluster.counter("requests_begun_again") == 1
    assert len(answers) == (w == 1), "the others have it, and this disk does not yet"
    for sync in commits:
        sync(None)
    cluster.world.run(100)
    assert len(answers) == 1 and isinstance(answers[0], PutResult), answers
