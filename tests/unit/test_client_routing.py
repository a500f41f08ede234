"""The choice of nodes: straight to a replica, around what is slow or silent, along with the ring."""

from collections import Counter

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.client.protocol import NO_SLOT, AttemptFailure, FailureKind
from quorate.client.routing import Node, Router
from quorate.core.errors import CallerError
from quorate.core.limits import RECONNECT_DELAY_MAX_MS, SLOTS
from quorate.core.ring.preference import PreferenceLists
from quorate.core.ring.ring import Member, Ring


def ring_of(numbers: list[int], version: int = 1, partitions: int = 16, cluster_id: str = "c" * 32) -> Ring:
    members = [Member(n, f"{n:032x}", f"n{n}", f"h{n}", "z", 1, "", f"127.0.0.1:{7400 + n}", "") for n in numbers]
    owners = [numbers[(partition * 7) % len(numbers)] for partition in range(partitions)]
    return Ring(cluster_id, version, members, owners)


def router_of(ring: Ring) -> Router[Node]:
    router: Router[Node] = Router(Node)
    router.install(ring)
    return router


def addresses(nodes: tuple[Node, ...]) -> list[str]:
    return [node.address for node in nodes]


@given(
    members=st.integers(1, 7), log_partitions=st.integers(0, 14), slot=st.integers(0, SLOTS - 1), n=st.integers(1, 5)
)
def test_replicas_are_those_of_the_preference_list(members: int, log_partitions: int, slot: int, n: int) -> None:
    ring = ring_of(list(range(1, members + 1)), partitions=1 << log_partitions)
    router = router_of(ring)
    router.set_buckets({b"carts": n})
    expected = PreferenceLists(ring).of(ring.partition_of_slot(slot), n).replicas
    assert addresses(router.replicas(b"carts", slot)) == [f"127.0.0.1:{7400 + number}" for number in expected]
    assert len(router.replicas(b"other", slot)) == min(3, members)


def test_a_command_without_slot_may_go_anywhere() -> None:
    assert len(router_of(ring_of([1, 2, 3, 4, 5])).replicas(b"carts", NO_SLOT)) == 5


def test_the_fastest_replica_is_preferred() -> None:
    router = router_of(ring_of([1, 2, 3]))
    replicas = router.replicas(b"b", 0)
    for node, latency_ms in zip(replicas, (9.0, 1.0, 100.0), strict=True):
        for _ in range(100):
            node.observe(latency_ms)
    assert router.pick(replicas) is replicas[1]


def test_equal_nodes_share_the_load() -> None:
    router = router_of(ring_of([1, 2, 3]))
    replicas = router.replicas(b"b", 0)
    for node in replicas:
        node.observe(1.0)
    picked: Counter[str] = Counter()
    for _ in range(99):
        node = router.pick(replicas)
        assert node is not None
        node.in_flight += 1
        picked[node.address] += 1
    assert set(picked.values()) == {33}


def test_a_node_a_hundred_times_slower_gets_nothing_however_busy_the_others_are() -> None:
    router = router_of(ring_of([1, 2, 3]))
    slow, *fast = router.replicas(b"b", 0)
    slow.observe(100.0)
    for node in fast:
        node.observe(1.0)
        node.in_flight = 200
    assert router.pick(router.replicas(b"b", 0)) in fast


def test_an_unused_nodes_figure_fades_until_it_is_tried_again() -> None:
    router = router_of(ring_of([1, 2, 3]))
    slow, *fast = replicas = router.replicas(b"b", 0)
    slow.observe(100.0)
    now, picked = 0.0, False
    for _ in range(20):
        for node in fast:
            node.observe(1.0)
        now += 1_000
        router.fade(now)
        picked = picked or router.pick(replicas) is slow
    assert picked
    slow.observe(100.0)
    assert router.pick(replicas) is not slow, "one try, not a burst"


def test_a_silent_node_is_avoided_at_once_whatever_its_latency_was() -> None:
    router = router_of(ring_of([1, 2, 3]))
    best, *others = replicas = router.replicas(b"b", 0)
    best.observe(1.0)
    for node in others:
        node.observe(3.0)
        node.in_flight = 10
    assert router.pick(replicas) is best
    best.silent_ms = 25.0
    assert router.pick(replicas) in others
    assert router.pick((), others) is best, "and asked if nobody else is left"
    best.silent_ms = 0.0
    assert router.pick(replicas) is best


def test_if_all_are_silent_nothing_changes() -> None:
    router = router_of(ring_of([1, 2, 3]))
    replicas = router.replicas(b"b", 0)
    for node, latency_ms in zip(replicas, (9.0, 1.0, 5.0), strict=True):
        node.observe(latency_ms)
        node.silent_ms = 40.0
    assert router.pick(replicas) is replicas[1]


def test_a_node_in_doubt_is_avoided_until_it_answers_a_probe() -> None:
    router = router_of(ring_of([1, 2, 3]))
    replicas = router.replicas(b"b", 0)
    router.failed(replicas[0], AttemptFailure(FailureKind.TIMED_OUT, ""), 125.0, 0.0)
    assert router.ring_wanted
    assert router.pick(replicas) in replicas[1:]
    assert router.due_probes(0.0) == []
    assert router.due_probes(10_000.0) == [replicas[0]]
    assert router.due_probes(10_000.0) == [], "a probe has a backoff of its own"
    replicas[0].probed()
    assert not replicas[0].in_doubt


def test_probes_back_off_up_to_a_bound() -> None:
    node = Node("127.0.0.1:1")
    delays = []
    for _ in range(40):
        node.doubt(0.0)
        delays.append(node.probe_at_ms)
    assert delays[0] < delays[1] < delays[2]
    assert delays[-1] == RECONNECT_DELAY_MAX_MS


def test_an_answer_that_is_an_error_speaks_for_the_node() -> None:
    router = router_of(ring_of([1, 2, 3]))
    node = next(iter(router.nodes.values()))
    router.failed(node, AttemptFailure(FailureKind.UNAVAILABLE, ""), 125.0, 0.0)
    assert not node.in_doubt
    assert node.latency_ms >= 125.0, "but it is no fast node"


def test_without_replicas_any_other_node_forwards() -> None:
    router = router_of(ring_of([1, 2, 3, 4]))
    replicas = router.replicas(b"b", 0)
    for node in replicas:
        node.doubt(0.0)
    (other,) = (node for node in router.nodes.values() if node not in replicas)
    assert router.pick(replicas) is other


def test_if_all_are_in_doubt_the_one_due_first_is_asked_all_the_same() -> None:
    router = router_of(ring_of([1, 2, 3]))
    for delay, node in enumerate(router.nodes.values()):
        node.doubt(1_000.0 - delay)
    nodes = list(router.nodes.values())
    assert router.pick(tuple(nodes)) is nodes[2]
    assert router.pick(tuple(nodes), nodes) is None


def test_a_newer_ring_keeps_known_nodes_and_gives_back_departed_ones() -> None:
    router = router_of(ring_of([1, 2, 3]))
    before = dict(router.nodes)
    departed = router.install(ring_of([2, 3, 4], version=2))
    assert addresses(tuple(departed)) == ["127.0.0.1:7401"]
    assert router.nodes["127.0.0.1:7402"] is before["127.0.0.1:7402"]
    assert "127.0.0.1:7404" in router.nodes
    assert all(node in router.nodes.values() for slot in range(0, SLOTS, 512) for node in router.replicas(b"b", slot))


def test_a_member_that_has_moved_is_another_node_with_the_same_partitions() -> None:
    router = router_of(ring_of([1, 2, 3]))
    before = dict(router.nodes)
    before["127.0.0.1:7402"].doubt(0.0)
    ring = ring_of([1, 2, 3], version=2)
    moved = msgspec.structs.replace(ring.members[1], client_address="127.0.0.1:9402")
    departed = router.install(msgspec.structs.replace(ring, members=[ring.members[0], moved, ring.members[2]]))
    assert departed == [before["127.0.0.1:7402"]]
    assert router.nodes["127.0.0.1:7401"] is before["127.0.0.1:7401"]
    there = router.nodes["127.0.0.1:9402"]
    assert not there.in_doubt, "what was thought of the old address does not hold for the new one"
    assert all(there in router.replicas(b"b", slot) for slot in range(0, SLOTS, 512))


def test_the_defaults_are_what_the_cluster_says_whoever_is_in_it() -> None:
    router: Router[Node] = Router(Node)
    router.install(ring_of([1]), default_n=1)
    assert len(router.replicas(b"b", 0)) == 1
    router.install(ring_of([1, 2, 3, 4], version=2), default_n=1)
    assert len(router.replicas(b"b", 0)) == 1, "a cluster that was created with one node keeps n=1"
    router.set_buckets({b"carts": 2})
    assert (len(router.replicas(b"b", 0)), len(router.replicas(b"carts", 0))) == (1, 2)
    router.install(ring_of([1, 2, 3, 4], version=3))
    assert len(router.replicas(b"b", 0)) == 3, "and if nobody says, it is guessed from the members"


def test_an_older_ring_is_ignored() -> None:
    router = router_of(ring_of([1, 2, 3], version=5))
    assert router.install(ring_of([4, 5], version=4)) == []
    assert router.ring is not None and router.ring.version == 5


def test_another_clusters_ring_is_refused() -> None:
    router = router_of(ring_of([1, 2, 3]))
    with pytest.raises(CallerError, match="belongs to cluster"):
        router.install(ring_of([4], version=9, cluster_id="d" * 32))
    assert len(router.nodes) == 3


def test_members_without_a_usable_address_are_left_out() -> None:
    ring = ring_of([1, 2, 3])
    broken = Member(2, "2" * 32, "n2", "h2", "z", 1, "", "nowhere", "")
    router = router_of(Ring(ring.cluster_id, 1, [ring.members[0], broken, ring.members[2]], ring.owners))
    assert sorted(router.nodes) == ["127.0.0.1:7401", "127.0.0.1:7403"]
    assert len(router.replicas(b"b", 0)) == 2
