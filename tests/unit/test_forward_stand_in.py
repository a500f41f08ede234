"""A node that holds no replica takes a write itself when the replicas are connected and silent, if that is safe.

So it is in the first second of a partition: packets are lost without a word, and nobody has noticed yet.
"""

from __future__ import annotations

import pytest

from quorate.core.store import Failure, GetResult, PutResult
from tests.unit.small_cluster import SmallCluster

KEY = b"k"


@pytest.fixture
def silent() -> SmallCluster:
    """A cluster whose homes of KEY are connected and never answer."""
    cluster = SmallCluster(5)
    cluster.muted = set(cluster.preference_list(KEY)[0])
    return cluster


def outsider(cluster: SmallCluster) -> int:
    return cluster.preference_list(KEY)[1][0]


@pytest.mark.parametrize("w", [1, 2])
def test_a_write_that_may_be_repeated_is_taken_by_fallbacks(silent: SmallCluster, w: int) -> None:
    node = outsider(silent)
    assert isinstance(silent.put(node, KEY, b"v", operation=7, w=w), PutResult)
    silent.muted = set()
    silent.world.run(10_000)
    assert silent.hints() == {}
    assert silent.values(node, KEY) == [b"v"]
    held = [body for body in silent.bodies(KEY) if body is not None]
    assert (len(held), len(set(held))) == (3, 1)


@pytest.mark.parametrize("more", [{}, {"operation": 7, "strict": True}])
def test_a_write_that_must_not_be_repeated_is_not(silent: SmallCluster, more: dict[str, int]) -> None:
    result = silent.put(outsider(silent), KEY, b"v", w=1, **more)
    assert isinstance(result, Failure)
    assert result.kind == "unknown"
    assert silent.hints() == {}


def test_what_may_have_been_done_elsewhere_never_becomes_not_done() -> None:
    """The stand-in can be refused too, and its refusal says nothing of the node that fell silent (hard case 31)."""
    cluster = SmallCluster(5)
    homes, (node, other) = cluster.preference_list(KEY)
    cluster.muted = set(homes)

    def later() -> None:
        # What is left is one node, and W=2 cannot be met any more.
        cluster.kill(other)
        for home in homes[1:]:
            cluster.cut(node, home)

    cluster.world.at(500, later)
    result = cluster.put(node, KEY, b"v", operation=7, w=3)
    assert isinstance(result, Failure)
    assert result.kind == "unknown"


def test_a_read_waits_for_replicas(silent: SmallCluster) -> None:
    """Nothing that a fallback does not hold is proof of absence."""
    assert not isinstance(silent.get(outsider(silent), KEY), GetResult)
