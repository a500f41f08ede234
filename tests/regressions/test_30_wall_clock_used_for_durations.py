"""Hard case 30: durations were measured with the wall clock, and a jump fired every timeout at once (voldemort#139).

Deadlines follow the monotonic clock alone: a jump of an hour either way changes no request's end.
"""

from __future__ import annotations

import pytest

from quorate.core.store import Failure, GetRequest, GetResult, PutRequest, PutResult
from tests.unit.small_cluster import SmallCluster

HOUR_MS = 3_600_000


@pytest.mark.parametrize("jump_ms", [HOUR_MS, -HOUR_MS])
def test_a_jump_of_the_wall_clock_fires_no_timeout_early_and_none_late(jump_ms: int) -> None:
    cluster = SmallCluster()
    cluster.muted = {2, 3}
    replies: list[GetResult | PutResult | Failure] = []
    cluster.nodes[1].put(PutRequest(b"b", b"k", b"v"), replies.append)
    cluster.nodes[1].get(GetRequest(b"b", b"other"), replies.append)
    cluster.world.run(100)
    cluster.ports[1].skew_ms = jump_ms
    cluster.world.run(850)
    assert not replies
    cluster.world.run(100)
    kinds = [reply.kind for reply in replies if isinstance(reply, Failure)]
    assert sorted(kinds) == ["unavailable", "unknown"]
