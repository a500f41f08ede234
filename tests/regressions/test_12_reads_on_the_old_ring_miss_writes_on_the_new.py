"""Hard case 12: reads by the old ring missed writes by the new one (scylladb#6128).

Some coordinators had heard of the new ring and some had not: a read that went to R replicas before the change did not
meet the W replicas after it. Here one or two members hear nothing of any ring for a while, from every stage of a plan
on, and the others go on as far as the rules let them. Whoever is behind reads what the others write, and writes what
the others read; an answer has every acknowledged write, or comes when the coordinator has heard of the newer ring.
"""

from __future__ import annotations

from typing import Any

import pytest

from quorate.core.messages import Write
from quorate.core.ring.preference import PreferenceLists
from quorate.core.ring.transition import Stage
from quorate.core.store import GetRequest, GetResult, PutRequest, PutResult, Wish
from tests.regressions.held_messages import HoldingCluster
from tests.unit.membership_cluster import KEYS as ALL_KEYS

GONE, NEWCOMER = 5, 6
BEFORE, READ_OLD, READ_NEW, AFTER = "before", "read old", "read new", "after"
COURSE = [BEFORE, READ_OLD, READ_NEW, AFTER]
STAGES = {BEFORE: None, READ_OLD: Stage.READ_OLD, READ_NEW: Stage.READ_NEW, AFTER: None}
PAIRS = [(older, newer) for older in COURSE for newer in COURSE if COURSE.index(older) < COURSE.index(newer)]
TIMEOUT_MS = 50_000
KEYS = ALL_KEYS[:16]
R = W = 2


def operator(deaf: tuple[int, ...]) -> int:
    """Who is told what shall be done."""
    return next(number for number in (2, 3, 4) if number not in deaf)


def hindered(cluster: HoldingCluster, deaf: tuple[int, ...]) -> bool:
    """Are two of the replicas of some partition deaf that are to change? Then the rules let nobody go on."""
    before = PreferenceLists(cluster.ring)
    replicas = [before.replicas(partition, 3) for partition in range(cluster.ring.partitions)]
    return any(GONE in places and sum(number in places for number in deaf) >= R for places in replicas)


def advance(cluster: HoldingCluster, begin: str, end: str, limit_ms: float) -> bool:
    """All that hear go from one stage to another; false if they do not in this time."""
    if begin == BEFORE:
        cluster.begin(operator(cluster.deaf), Wish("replace", f"n{GONE}", by=f"n{NEWCOMER}"))
    version = 1 + COURSE.index(end)
    until_ms = cluster.world.now_ms + limit_ms
    while cluster.world.now_ms < until_ms:
        hearing = [number for number in cluster.running() if number not in cluster.deaf]
        if NEWCOMER in hearing and all(cluster.nodes[number].ring().version == version for number in hearing):
            return True
        cluster.world.run(1)
    return False


def at_versions(older: str, newer: str, deaf: tuple[int, ...]) -> tuple[HoldingCluster, bool]:
    """(a cluster in which the deaf go by `older` and the others by `newer`, whether they could get there)"""
    cluster = HoldingCluster(5)
    cluster.stock()
    cluster.wait_to_join(NEWCOMER)
    if older != BEFORE:
        assert advance(cluster, BEFORE, older, 60_000)
    for number in deaf if older == BEFORE else ():
        # Away: a newcomer is compared with everybody who can be reached, so whoever has not begun is waited for.
        for other in set(cluster.running()) - set(deaf):
            cluster.cut(number, other)
        cluster._cut |= {(number, NEWCOMER), (NEWCOMER, number)}
    cluster.deaf = deaf
    reached = advance(cluster, older, newer, 20_000)
    cluster.heal()
    cluster.world.run(10)
    for number in deaf:
        assert cluster.nodes[number].ring().version == 1 + COURSE.index(older)
    return cluster, reached


def put_all(cluster: HoldingCluster, node: int, prefix: bytes) -> dict[bytes, Any]:
    answers: dict[bytes, Any] = {}
    for key in KEYS:
        request = PutRequest(b"b", key, prefix + key, w=W, timeout_ms=TIMEOUT_MS)
        cluster.nodes[node].put(request, lambda answer, key=key: answers.update({key: answer}))  # type: ignore[misc]
    cluster.world.run(100)
    return answers


def get_all(cluster: HoldingCluster, node: int, keys: list[bytes]) -> dict[bytes, Any]:
    answers: dict[bytes, Any] = {}
    for key in keys:
        request = GetRequest(b"b", key, R, TIMEOUT_MS)
        cluster.nodes[node].get(request, lambda answer, key=key: answers.update({key: answer}))  # type: ignore[misc]
    cluster.world.run(100)
    return answers


def done(answers: dict[bytes, Any]) -> list[bytes]:
    return [key for key, answer in answers.items() if isinstance(answer, PutResult)]


def check_read(answers: dict[bytes, Any], prefix: bytes) -> None:
    for key, answer in answers.items():
        assert isinstance(answer, GetResult), (key, answer)
        assert prefix + key in [sibling.value for sibling in answer.siblings], f"a read of {key!r} missed {prefix!r}"


@pytest.mark.parametrize("deaf", [(1,), (3,), (4,), (1, 2), (1, 3), (1, 4), (3, 4), (1, 5), (4, 5)])
@pytest.mark.parametrize(("older", "newer"), PAIRS)
def test_no_read_misses_a_write_of_another_version(older: str, newer: str, deaf: tuple[int, ...]) -> None:
    cluster, reached = at_versions(older, newer, deaf)
    if not reached:
        assert hindered(cluster, deaf), "only too many replicas that hear nothing hold up a plan"
        return
    behind, ahead = deaf[0], operator(deaf)
    first = put_all(cluster, ahead, b"1-")
    written = done(first)
    reads = get_all(cluster, behind, written)
    check_read(reads, b"1-")
    second = put_all(cluster, behind, b"2-")
    rewritten = done(second)
    reads_ahead = get_all(cluster, ahead, rewritten)
    check_read(reads_ahead, b"2-")
    assert written and len(reads) < len(written), "some were answered by the newer ring alone, others wait"
    # What the older ring's writers send arrives first at the member that goes.
    cluster.holds = lambda sender, target, message: isinstance(message, Write) and target not in (*deaf, GONE)
    third = put_all(cluster, behind, b"3-")
    cluster.holds = lambda sender, target, message: False
    check_read(get_all(cluster, ahead, done(third)), b"3-")
    cluster.release()
    cluster.deaf = ()
    cluster.run_until(
        lambda: (
            (len(reads), len(reads_ahead)) == (len(written), len(rewritten)) and len(first) == len(second) == len(KEYS)
        ),
        "whoever waits goes on as soon as it hears of the newer ring",
    )
    assert all(done(answers) == list(answers) for answers in (first, second, third))
    check_read(reads, b"1-")
    check_read(reads_ahead, b"2-")
    cluster.until_steady()
    for number in cluster.running():
        for key in KEYS:
            answer = cluster.get(number, key, R)
            check_read({key: answer}, b"1-")
            check_read({key: answer}, b"2-")
            check_read({key: answer}, b"3-")
