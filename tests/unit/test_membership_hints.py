"""Hints when members go: those for a member that left, and those that the leaver itself keeps (hard case 14)."""

from __future__ import annotations

from quorate.core.ring.transition import Stage
from quorate.core.store import PutResult, Wish
from tests.unit.membership_cluster import KEYS, MembershipCluster

AWAY = 2
"""A home that is down."""
LEAVER = 5
REPLACE = Wish("replace", "n5", by="n6")
"""Only n6 is new anywhere, so nothing waits for `AWAY`."""


def with_hints() -> MembershipCluster:
    """`AWAY` missed every write, and some of its hints are with `LEAVER`."""
    cluster = MembershipCluster(5)
    cluster.stock()
    cluster.kill(AWAY)
    for key in KEYS:
        assert isinstance(cluster.put(1, key, b"new", w=3, overwrite_seen=True), PutResult)
    assert cluster.hints()[LEAVER][AWAY] > 0
    return cluster


def replaced(cluster: MembershipCluster) -> None:
    cluster.wait_to_join(6)
    cluster.begin(1, REPLACE)
    cluster.until_steady()


def test_hints_for_a_member_that_left_go_to_its_successors() -> None:
    cluster = MembershipCluster(5)
    cluster.stock()
    cluster.kill(AWAY)
    for key in KEYS:
        assert isinstance(cluster.put(1, key, b"new", w=3, overwrite_seen=True), PutResult)
    assert sum(by_home.get(AWAY, 0) for by_home in cluster.hints().values()) > 0
    cluster.begin(1, Wish("leave", "n2", stopped=True))
    cluster.until_steady()
    cluster.run_until(lambda: cluster.hints() == {}, "no hint stays for one that is gone")
    assert cluster.counter("hints_delivered") > 0
    cluster.check_agreement()
    cluster.check_data(KEYS, lambda key: b"new")
    cluster.check_places()


def test_a_leaver_hands_over_what_it_kept_before_it_ends() -> None:
    cluster = with_hints()
    kept = cluster.hints()[LEAVER][AWAY]
    cluster.wait_to_join(6)
    cluster.begin(1, REPLACE)
    cluster.until_stage(Stage.READ_NEW)
    assert cluster.hints()[LEAVER] == {AWAY: kept}
    cluster.join(AWAY)
    seen: list[int] = []
    while not cluster.ended:
        seen.append(len(cluster.hints().get(LEAVER, {})))
        cluster.world.run(10)
        assert len(seen) < 10_000, "it ends"
    assert cluster.ended == [LEAVER] and seen[-1] == 0
    cluster.check_agreement()
    cluster.check_data(KEYS, lambda key: b"new")
    for key in KEYS:
        if AWAY in cluster.preference_list(key)[0]:
            assert cluster.read(AWAY, key, 1) == [b"new"]


def test_a_leaver_does_not_wait_for_a_home_that_stays_away() -> None:
    """The other replicas of the key take what it kept: it holds the only copy that is not theirs."""
    cluster = with_hints()
    replaced(cluster)
    cluster.run_until(lambda: LEAVER not in cluster.hints(), "they are handed over")
    cluster.run_until(lambda: cluster.ended == [LEAVER], "it ends", 180_000)
    cluster.join(AWAY)
    cluster.check_agreement()
    cluster.check_data(KEYS, lambda key: b"new")


def test_a_leaver_that_is_killed_on_its_way_out_goes_on_when_it_is_started_again() -> None:
    cluster = with_hints()
    kept = cluster.hints()[LEAVER]
    cluster.wait_to_join(6)
    cluster.begin(1, REPLACE)
    cluster.until_stage(None)
    cluster.kill(LEAVER)
    cluster.world.run(5_000)
    assert cluster.hints()[LEAVER] == kept
    cluster.join(LEAVER)
    cluster.run_until(lambda: cluster.ended == [LEAVER], "it ends")
    assert LEAVER not in cluster.hints()


def test_the_only_copy_of_a_write_leaves_with_nobody() -> None:
    """Acknowledged with W=1 by the leaver as a fallback, for homes of which one stays away."""
    cluster = MembershipCluster(5)
    keys = [
        key for key in KEYS if LEAVER in cluster.preference_list(key)[1] and AWAY in cluster.preference_list(key)[0]
    ]
    assert len(keys) > 3
    cluster.kill(AWAY)
    for number in (1, 3, 4):
        cluster.cut(LEAVER, number)
    for key in keys:
        assert isinstance(cluster.put(LEAVER, key, b"only here", w=1), PutResult)
    hints = cluster.hints()[LEAVER]
    # What was kept for the homes that are up is lost with a sector of the disk: the hint for the one away is left.
    cluster.nodes[LEAVER]._shared.commits.flush()
    for place in [place for place in cluster.engines[LEAVER].data if place[0].name == "HINTS"]:
        if int.from_bytes(place[1][:2], "big") != AWAY:
            del cluster.engines[LEAVER].data[place]
    cluster.kill(LEAVER)
    cluster.join(LEAVER)
    for number in (1, 3, 4):
        cluster._cut -= {(LEAVER, number), (number, LEAVER)}
        cluster.connect(LEAVER, number)
    assert AWAY in hints and cluster.hints()[LEAVER] == {AWAY: len(keys)}
    replaced(cluster)
    cluster.run_until(lambda: cluster.ended == [LEAVER], "it ends", 180_000)
    for key in keys:
        assert cluster.read(1, key, 2) == [b"only here"]


def test_a_leaver_keeps_what_its_home_refuses() -> None:
    """The home is there, and its disk takes nothing for the moment."""
    cluster = with_hints()
    kept = cluster.hints()[LEAVER][AWAY]
    cluster.wait_to_join(6)
    cluster.begin(1, REPLACE)
    cluster.until_stage(Stage.READ_NEW)
    cluster.join(AWAY)
    home = cluster.nodes[AWAY]._shared
    home.fenced_because = "a test"
    cluster.until_steady()
    cluster.world.run(40_000)
    assert cluster.hints()[LEAVER] == {AWAY: kept} and cluster.ended == []
    home.fenced_because = ""
    cluster.run_until(lambda: cluster.ended == [LEAVER], "it ends")
    assert LEAVER not in cluster.hints()


def test_a_leaver_that_nobody_can_be_reached_from_keeps_everything() -> None:
    cluster = with_hints()
    kept = cluster.hints()[LEAVER][AWAY]
    cluster.wait_to_join(6)
    cluster.begin(1, REPLACE)
    cluster.until_stage(None)
    cluster.world.run(1)
    for number in (1, 3, 4, 6):
        cluster.cut(LEAVER, number)
    assert not cluster.nodes[LEAVER]._shared.view.is_member
    cluster.world.run(40_000)
    assert cluster.ended == []
    cluster.world.run(120_000)
    assert cluster.hints()[LEAVER] == {AWAY: kept}, "whether it ends at last or not"
