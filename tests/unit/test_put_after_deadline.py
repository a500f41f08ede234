"""A node so busy that a put's deadline comes before its commit: the record still spreads, and as it is.

Found with real processes at three times their capacity: the operation had let its record go at the deadline, the commit
came after it, and what left for the replicas was an empty record. One that vouched for its base took it unread.
"""

from __future__ import annotations

import pytest

from quorate.core.errors import PeerError
from quorate.core.messages import HintedWrite, Write
from quorate.core.store import Failure, PutResult
from tests.unit.small_cluster import SmallCluster

KEY = b"k"


@pytest.mark.parametrize("isolated", [False, True])
def test_a_commit_after_the_deadline_spreads_the_whole_record(isolated: bool) -> None:
    """`isolated`: no fallback is in reach either, so hints for some homes are the coordinator's from the start."""
    cluster = SmallCluster(5)
    homes, fallbacks = cluster.preference_list(KEY)
    first = cluster.put(homes[0], KEY, b"old", w=3)
    assert isinstance(first, PutResult)
    if isolated:
        for other in (*homes[2:], *fallbacks):
            cluster.cut(homes[0], other)
    ports = cluster.ports[homes[0]]
    ports.call_soon = lambda callback: cluster.world.at(100, callback)  # type: ignore[method-assign]
    result = cluster.put(homes[0], KEY, b"new", first.context, timeout_ms=20, w=2)
    assert isinstance(result, Failure)
    assert result.kind == "unknown"
    del ports.call_soon  # type: ignore[method-assign]
    cluster.world.run(200)
    cluster.heal()
    cluster.world.run(10_000)
    bodies = [body for body in cluster.bodies(KEY) if body is not None]
    assert (len(bodies), len(set(bodies))) == (3, 1)
    assert cluster.values(homes[1], KEY, r=3) == [b"new"]
    assert cluster.hints() == {}


def test_a_replica_takes_no_empty_record() -> None:
    cluster = SmallCluster(5)
    homes, fallbacks = cluster.preference_list(KEY)
    assert isinstance(cluster.put(homes[0], KEY, b"v", w=3), PutResult)
    write = next(message for _, _, message in cluster.sent if isinstance(message, Write))
    with pytest.raises(PeerError, match="empty"):
        cluster.nodes[homes[1]].on_message(homes[0], Write(9, 100, 1, write.key, b"", 0, write.base), 0.0)
    with pytest.raises(PeerError):
        cluster.nodes[fallbacks[0]].on_message(homes[0], HintedWrite(9, 100, 1, homes[1], write.key, b"", 0), 0.0)
    assert cluster.values(homes[1], KEY, r=3) == [b"v"]
