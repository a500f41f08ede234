"""Who is sent a put: substitution clockwise, orphans, strictness, and a coordinator that is no replica (§4.6)."""

from __future__ import annotations

from quorate.core.store import Failure, PutResult
from quorate.node.cluster_view import Placement
from quorate.node.put_plan import PutPlan, plan_put, stand_in
from tests.unit.small_cluster import SmallCluster

KEY = b"k"


def planned(cluster: SmallCluster, coordinator: int, strict: bool = False) -> PutPlan:
    return plan_put(cluster.nodes[coordinator]._shared, placement(cluster, coordinator), strict)


def placement(cluster: SmallCluster, coordinator: int) -> Placement:
    shared = cluster.nodes[coordinator]._shared
    return cluster.nodes[coordinator]._coordinator.place(shared.view.bucket(b"b"), b"b", KEY)[1]


def test_when_all_is_well_the_homes_are_written_to_and_nobody_else() -> None:
    cluster = SmallCluster(size=5)
    homes, _ = cluster.preference_list(KEY)
    plan = planned(cluster, homes[0])
    assert (plan.direct, plan.hinted, plan.orphans, plan.copies) == (tuple(homes[1:]), {}, [], 3)


def test_each_home_out_of_reach_is_replaced_by_the_next_fallback_in_walking_order() -> None:
    cluster = SmallCluster(size=6)
    homes, fallbacks = cluster.preference_list(KEY)
    cluster.kill(homes[1])
    plan = planned(cluster, homes[0])
    assert plan.hinted == {fallbacks[0]: homes[1]}
    cluster.kill(homes[2])
    plan = planned(cluster, homes[0])
    assert (plan.direct, plan.hinted) == ((), {fallbacks[0]: homes[1], fallbacks[1]: homes[2]})
    assert plan.copies == 3
    cluster.kill(fallbacks[0])
    assert planned(cluster, homes[0]).hinted == {fallbacks[1]: homes[1], fallbacks[2]: homes[2]}


def test_homes_without_a_stand_in_are_orphans_and_add_no_copy() -> None:
    cluster = SmallCluster(size=3)
    homes, _ = cluster.preference_list(KEY)
    cluster.kill(homes[1])
    plan = planned(cluster, homes[0])
    assert (plan.orphans, plan.copies) == ([homes[1]], 2)


def test_a_suspect_is_replaced_while_somebody_can_and_asked_when_nobody_can() -> None:
    cluster = SmallCluster(size=4)
    homes, fallbacks = cluster.preference_list(KEY)
    detector = cluster.nodes[homes[0]]._shared.detector
    for _ in range(3):
        detector.on_timeout(homes[1], 1.0, 1_000.0)
    assert planned(cluster, homes[0]).hinted == {fallbacks[0]: homes[1]}
    cluster.kill(fallbacks[0])
    plan = planned(cluster, homes[0])
    assert (sorted(plan.direct), plan.hinted, plan.orphans) == (sorted(homes[1:]), {}, [])


def test_strict_asks_homes_only_suspects_too_and_keeps_hints_for_those_out_of_reach() -> None:
    cluster = SmallCluster(size=5)
    homes, _ = cluster.preference_list(KEY)
    detector = cluster.nodes[homes[0]]._shared.detector
    for _ in range(3):
        detector.on_timeout(homes[1], 1.0, 1_000.0)
    cluster.kill(homes[2])
    plan = planned(cluster, homes[0], strict=True)
    assert (plan.direct, plan.hinted, plan.orphans, plan.copies) == ((homes[1],), {}, [homes[2]], 2)


def test_strict_fails_where_sloppy_succeeds() -> None:
    cluster = SmallCluster(size=5)
    homes, _ = cluster.preference_list(KEY)
    cluster.kill(homes[1])
    cluster.kill(homes[2])
    refused = cluster.put(homes[0], KEY, b"v", strict=True)
    assert isinstance(refused, Failure)
    assert refused.kind == "unavailable"
    assert sorted(refused.missing) == sorted(f"n{home}" for home in homes[1:])
    assert isinstance(cluster.put(homes[0], KEY, b"v"), PutResult)


def test_a_fallback_that_coordinates_keeps_the_first_unreachable_home_itself() -> None:
    cluster = SmallCluster(size=5)
    homes, fallbacks = cluster.preference_list(KEY)
    for home in homes:
        cluster.kill(home)
    plan = planned(cluster, fallbacks[0])
    assert plan.orphans == [homes[0], homes[2]]
    assert plan.hinted == {fallbacks[1]: homes[1]}
    assert plan.copies == 2


def test_a_fallback_whose_messages_to_connected_homes_did_not_leave_still_has_a_home_to_keep_it_for() -> None:
    cluster = SmallCluster(size=5)
    homes, fallbacks = cluster.preference_list(KEY)
    plan = planned(cluster, fallbacks[0])
    assert plan.orphans == [homes[0]]
    assert sorted(plan.direct) == sorted(homes)


def test_a_stand_in_is_the_next_usable_fallback_that_is_not_taken() -> None:
    cluster = SmallCluster(size=6)
    homes, fallbacks = cluster.preference_list(KEY)
    shared = cluster.nodes[homes[0]]._shared
    assert stand_in(shared, placement(cluster, homes[0]), []) == fallbacks[0]
    assert stand_in(shared, placement(cluster, homes[0]), [fallbacks[0]]) == fallbacks[1]
    cluster.kill(fallbacks[1])
    assert stand_in(shared, placement(cluster, homes[0]), [fallbacks[0]]) == fallbacks[2]
    assert stand_in(shared, placement(cluster, homes[0]), fallbacks) == 0
    own = cluster.nodes[fallbacks[0]]._shared
    assert stand_in(own, placement(cluster, fallbacks[0]), []) == fallbacks[2], "nobody stands in for another twice"
