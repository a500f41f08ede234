"""Staleness as a node tells it: what it measures of its own requests, and that it is worked out bit by bit."""

from __future__ import annotations

from typing import Any

import pytest

from quorate.core.buckets import BucketProperties
from quorate.core.errors import StorageError
from quorate.core.limits import (
    STALENESS_COMMITS,
    STALENESS_GENERATION_MS,
    STALENESS_KEPT_MS,
    STALENESS_SAMPLES_MIN,
    STALENESS_SLICE_REPLICAS,
    STALENESS_TRIALS,
    STALENESS_WAITING_MAX,
)
from quorate.core.staleness.trials import Trials
from quorate.core.store import Admin, Failure, GetResult, PutResult
from tests.unit.small_cluster import SmallCluster

PUTS = STALENESS_SAMPLES_MIN // 2
"""Each is acknowledged by two others."""


def measured_cluster(**options: Any) -> SmallCluster:
    """A cluster whose node 1 has written and read enough."""
    cluster = SmallCluster(3, **options)
    for number in range(PUTS):
        assert isinstance(cluster.put(1, b"key%d" % number), PutResult)
    for number in range(100):
        assert isinstance(cluster.get(1, b"key%d" % number, r=3), GetResult)
    return cluster


def ask(cluster: SmallCluster, bucket: bytes = b"", node: int = 1) -> dict[str, Any]:
    answer = question(cluster, bucket, node)
    cluster.world.run(5_000)
    (found,) = answer
    assert isinstance(found, Admin), found
    return found.document


def question(cluster: SmallCluster, bucket: bytes = b"", node: int = 1) -> list[Admin | Failure]:
    answers: list[Admin | Failure] = []
    cluster.nodes[node].staleness(bucket, answers.append)
    return answers


def test_an_idle_cluster_says_that_it_has_not_measured_enough() -> None:
    cluster = SmallCluster(3)
    found = ask(cluster)
    assert (found["ready"], found["reason"]) == (False, "not enough measurements yet (0 of 1000)")
    assert "configurations" not in found
    cluster.put(1, b"key")
    cluster.world.run(10)
    assert ask(cluster)["reason"] == "not enough measurements yet (2 of 1000)"
    assert ask(cluster, node=2)["measured"]["writes"] == 0, "each node knows of its own requests alone"


def test_every_r_and_w_is_told_of_with_the_present_ones_marked() -> None:
    cluster = measured_cluster()
    found = ask(cluster, b"carts")
    assert (found["ready"], found["bucket"], found["seen_by"]) == (True, "carts", "n1")
    assert (found["n"], found["replicas"], found["r"], found["w"]) == (3, 3, 2, 2)
    assert found["measured"]["writes"] == 2 * PUTS
    assert found["measured"]["reads"] == 200
    assert found["trials"] == STALENESS_TRIALS
    cells = {(cell["r"], cell["w"]): cell for cell in found["configurations"]}
    assert sorted(cells) == [(r, w) for r in (1, 2, 3) for w in (1, 2, 3)]
    assert [pair for pair, cell in cells.items() if cell["current"]] == [(2, 2)]
    assert {pair for pair, cell in cells.items() if cell["certain"]} == {(1, 3), (2, 2), (2, 3), (3, 1), (3, 2), (3, 3)}
    # Each way takes 1 ms here: a write is answered at once for w = 1, and is elsewhere 1 ms later.
    at = {after: place for place, after in enumerate(found["times_ms"])}
    assert cells[1, 1]["fresh_elsewhere"][at[0.5]] == 0.0
    assert cells[1, 1]["fresh_elsewhere"][at[2.0]] == 1.0
    assert cells[2, 1]["fresh_elsewhere"][at[0.2]] == 1.0, "one of two that are asked is the writer, or late enough"
    assert cells[1, 3]["write_wait_ms"]["p50"] == pytest.approx(2.0, rel=0.2)
    assert cells[3, 1]["read_wait_ms"]["p999"] == pytest.approx(2.0, rel=0.2)
    assert cells[1, 1]["write_wait_ms"]["p50"] < 0.1


def test_a_replica_that_is_slow_is_seen_in_what_is_told() -> None:
    slow = SmallCluster(3)
    slow.delay_ms[3] = 30
    for number in range(PUTS):
        assert isinstance(slow.put(1, b"key%d" % number), PutResult)
    slow.world.run(100)
    found = {(cell["r"], cell["w"]): cell for cell in ask(slow)["configurations"]}
    assert found[1, 3]["write_wait_ms"]["p50"] == pytest.approx(60.0, rel=0.2)
    assert found[1, 2]["write_wait_ms"]["p99"] == pytest.approx(2.0, rel=0.2)
    assert found[2, 1]["read_wait_ms"] is None, "nothing was read from others"


def test_one_computation_is_for_all_who_look_within_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = measured_cluster()
    runs: list[int] = []
    run = Trials.run
    monkeypatch.setattr(Trials, "run", lambda self, trials: (runs.append(trials), run(self, trials))[1])
    answers = [question(cluster) for _ in range(3)]
    assert runs == [], "nothing is done at once"
    cluster.world.run(5_000)
    assert sum(runs) == STALENESS_TRIALS
    assert max(runs) <= STALENESS_SLICE_REPLICAS // 3, "no turn of the loop takes long"
    assert [len(answer) for answer in answers] == [1, 1, 1]
    assert ask(cluster)["computed_s_ago"] > 0
    assert sum(runs) == STALENESS_TRIALS
    cluster.world.run(STALENESS_KEPT_MS)
    assert ask(cluster)["ready"]
    assert sum(runs) == 2 * STALENESS_TRIALS


def test_a_bucket_of_another_n_is_computed_for_itself_and_another_r_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = measured_cluster()
    made: list[Trials] = []
    monkeypatch.setattr(Trials, "__init__", _noting(Trials.__init__, made))
    ask(cluster)
    for bucket, changes in ((b"quick", {"r": "1", "w": "1"}), (b"two", {"n": "2", "r": "1", "w": "1"})):
        cluster.call(lambda reply, b=bucket, c=changes: cluster.nodes[1].set_bucket(b, c, reply))
    quick = ask(cluster, b"quick")
    assert [(cell["r"], cell["w"]) for cell in quick["configurations"] if cell["current"]] == [(1, 1)]
    assert len(made) == 1
    two = ask(cluster, b"two")
    assert (two["replicas"], len(two["configurations"])) == (2, 4)
    assert len(made) == 2


def _noting(init: Any, made: list[Trials]) -> Any:
    def noting(self: Trials, *arguments: Any) -> None:
        made.append(self)
        init(self, *arguments)

    return noting


def test_a_single_replica_is_certain_without_any_measurement() -> None:
    cluster = SmallCluster(1, defaults=BucketProperties(n=1, r=1, w=1))
    found = ask(cluster)
    assert [(cell["r"], cell["w"], cell["certain"], cell["current"]) for cell in found["configurations"]] == [
        (1, 1, True, True)
    ]


def test_what_is_long_ago_does_not_count() -> None:
    cluster = measured_cluster()
    cluster.world.run(2 * STALENESS_GENERATION_MS + 1)
    assert ask(cluster)["reason"] == "not enough measurements yet (0 of 1000)"


def test_a_fenced_node_says_why_it_tells_nothing() -> None:
    cluster = measured_cluster()
    cluster.nodes[1].fence(StorageError("the disk is gone"))
    assert ask(cluster)["reason"] == "this node takes no writes: the disk is gone"
    assert ask(cluster, node=2)["ready"] is False, "and others are not held up"


def test_commits_are_timed_as_durably_as_the_bucket_asks() -> None:
    cluster = measured_cluster()
    syncs: list[int] = []
    engine = cluster.engines[1]
    sync = engine.sync
    engine.sync = lambda done: (syncs.append(1), sync(done))[1]  # type: ignore[method-assign]
    ask(cluster)
    assert syncs == []
    cluster.call(lambda reply: cluster.nodes[1].set_bucket(b"safe", {"durability": "fsync"}, reply))
    syncs.clear()
    ask(cluster, b"safe")
    assert len(syncs) == STALENESS_COMMITS


def test_bad_buckets_and_too_many_questions_are_refused() -> None:
    cluster = SmallCluster(3)
    (refused,) = question(cluster, b"a:b")
    assert isinstance(refused, Failure) and refused.kind == "caller"
    cluster = measured_cluster()
    answers = [question(cluster) for _ in range(STALENESS_WAITING_MAX + 2)]
    (last,) = answers[-1]
    assert isinstance(last, Failure) and last.kind == "overloaded"
    cluster.world.run(5_000)
    assert all(len(answer) == 1 for answer in answers)
