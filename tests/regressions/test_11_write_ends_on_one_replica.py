"""Hard case 11: after a topology change an acknowledged quorum write was on one replica only (scylladb#5252, #2308).

A coordinator had sent its writes by the old ring. They reached a replica that was none any more, which took and
acknowledged them all the same: with the coordinator's own copy that made W, and the new replicas had one copy. Here the
writes of puts are held back over one or more stages of a plan, and those to the member that goes arrive first.
"""

from __future__ import annotations

from typing import Any

import pytest

from quorate.core.envelope import unpack
from quorate.core.keyspace import split_storage_key
from quorate.core.messages import Write
from quorate.core.ports import Space
from quorate.core.record import decode_record
from quorate.core.ring.transition import Stage
from quorate.core.store import PutRequest, PutResult, Wish
from tests.regressions.held_messages import HoldingCluster
from tests.unit.membership_cluster import KEYS

LEAVER, NEWCOMER = 5, 6
BEFORE, READ_OLD, READ_NEW, AFTER = "before", "read old", "read new", "after"
STAGES = {BEFORE: None, READ_OLD: Stage.READ_OLD, READ_NEW: Stage.READ_NEW, AFTER: None}
W = 2


def values_at(cluster: HoldingCluster, number: int) -> dict[bytes, list[bytes]]:
    """Key → the values that the member's own store has of it."""
    cluster.nodes[number]._shared.commits.flush()
    found = {}
    for (space, place), stored in cluster.engines[number].data.items():
        if space == Space.DATA:
            record = decode_record(unpack(place, stored)[2])
            found[split_storage_key(place)[2]] = [sibling.value for sibling in record.siblings]
    return found


def copies(cluster: HoldingCluster, key: bytes) -> int:
    """How many replicas that the key has after the plan hold the new value."""
    view = cluster.nodes[1]._shared.view
    assert view.ring.transition is None
    replicas = cluster.nodes[1]._coordinator.place(view.bucket(b"b"), b"b", key)[1].replicas
    return sum(b"new-" + key in values_at(cluster, number).get(key, []) for number in replicas)


class Puts:
    """A put of every key, each begun at one of its replicas, whose writes to the others are held."""

    def __init__(self, cluster: HoldingCluster, turn: int) -> None:
        self.answers: dict[bytes, Any] = {}
        view = cluster.nodes[1]._shared.view
        for key in KEYS:
            replicas = cluster.nodes[1]._coordinator.place(view.bucket(b"b"), b"b", key)[1].replicas
            request = PutRequest(b"b", key, b"new-" + key, w=W, overwrite_seen=True, timeout_ms=60_000)
            node = cluster.nodes[replicas[turn % len(replicas)]]
            node.put(request, lambda answer, key=key: self.answers.update({key: answer}))  # type: ignore[misc]
        cluster.hold(Write, 3)
        assert self.answers == {} and len(cluster.held) >= 2 * len(KEYS)

    def acknowledged(self) -> list[bytes]:
        return [key for key, answer in self.answers.items() if isinstance(answer, PutResult)]


@pytest.mark.parametrize("turn", range(3))
@pytest.mark.parametrize(
    ("begun", "arriving"),
    [
        (BEFORE, READ_OLD),
        (BEFORE, READ_NEW),
        (BEFORE, AFTER),
        (READ_OLD, READ_NEW),
        (READ_OLD, AFTER),
        (READ_NEW, AFTER),
    ],
)
def test_writes_that_are_late_by_some_stages_are_on_a_quorum_of_the_new_replicas(
    begun: str, arriving: str, turn: int
) -> None:
    cluster = HoldingCluster(5)
    cluster.stock()
    cluster.wait_to_join(NEWCOMER)
    puts: Puts | None = None
    if begun == BEFORE:
        puts = Puts(cluster, turn)
    cluster.begin(1, Wish("replace", f"n{LEAVER}", by=f"n{NEWCOMER}"))
    for stage in (READ_OLD, READ_NEW, AFTER):
        cluster.until_stage(STAGES[stage])
        cluster.run_until(
            lambda stage=stage: all(  # type: ignore[misc]
                cluster.stage(number) == STAGES[stage] for number in cluster.running()
            ),
            "all go by the stage",
        )
        if stage == begun:
            puts = Puts(cluster, turn)
        if stage == arriving:
            assert puts is not None and puts.acknowledged() == []
            cluster.release(lambda envelope: envelope[1] == LEAVER)
            cluster.world.run(30)
            early = puts.acknowledged()
            if stage == AFTER:
                assert [key for key in early if copies(cluster, key) < W] == [], "when it was acknowledged"
            cluster.release()
    assert puts is not None
    cluster.run_until(lambda: len(puts.answers) == len(KEYS), "all are answered")
    cluster.until_steady()
    assert puts.acknowledged() == list(puts.answers), "the clients saw nothing of it"
    assert [key for key in KEYS if copies(cluster, key) < W] == [], "and when the plan is over"
    assert cluster.counter("requests_begun_again") > 0
