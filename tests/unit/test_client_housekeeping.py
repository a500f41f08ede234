"""Learning the ring, and the timetable of what happens beside the calls; without IO."""

from typing import Any

import hiredis
import msgspec
import pytest

from quorate.client.housekeeping import Timetable, learn_ring, replicas_of_buckets
from quorate.client.protocol import AttemptFailure, Command, FailureKind
from quorate.client.routing import Node, Router
from quorate.core.errors import CallerError, Unavailable
from quorate.core.limits import RING_POLL_INTERVAL_MS
from quorate.core.ring.ring import Member, Ring
from quorate.core.ring.transition import Side, begin, next_stage, staged

REFUSED = AttemptFailure(FailureKind.NOT_SENT, "refused")


def ring_of(numbers: list[int], version: int = 1, cluster_id: str = "c" * 32) -> Ring:
    members = [Member(n, f"{n:032x}", f"n{n}", f"h{n}", "z", 1, "", f"10.0.0.{n}:7401", "") for n in numbers]
    return Ring(cluster_id, version, members, [numbers[p % len(numbers)] for p in range(16)])


def learn(
    router: Router[Node], seeds: list[str], answers: dict[str, Any]
) -> tuple[list[tuple[str, Command]], list[str]]:
    """Run `learn_ring` against `answers` (address → reply); gives what was asked, and whom to close."""
    to_close: list[Node] = []
    asked = []
    steps = learn_ring(router, seeds, to_close)
    try:
        node, command = next(steps)
        while True:
            asked.append((node.address, command))
            reply = answers.get(node.address, REFUSED)
            if isinstance(reply, Ring):
                reply = msgspec.json.encode(reply) if command.verb == "KV.RING" else b"{}"
            node, command = steps.send(reply)
    except StopIteration:
        return asked, [node.address for node in to_close]


def test_the_first_seed_that_answers_tells_the_ring() -> None:
    router: Router[Node] = Router(Node)
    ring = ring_of([1, 2])
    asked, to_close = learn(router, ["10.0.0.9:7401", "10.0.0.1:7401", "10.0.0.2:7401"], {"10.0.0.1:7401": ring})
    assert [(address, command.verb) for address, command in asked] == [
        ("10.0.0.9:7401", "KV.RING"),
        ("10.0.0.1:7401", "KV.RING"),
        ("10.0.0.1:7401", "KV.BUCKETS"),
    ]
    assert router.ring == ring
    assert sorted(to_close) == ["10.0.0.2:7401", "10.0.0.9:7401"], "the node that told the ring is kept and used"


def test_a_seed_known_by_another_address_is_closed() -> None:
    router: Router[Node] = Router(Node)
    _, to_close = learn(router, ["localhost:7401"], {"localhost:7401": ring_of([1])})
    assert to_close == ["localhost:7401"]
    assert list(router.nodes) == ["10.0.0.1:7401"]


def test_members_are_asked_for_a_newer_ring_only() -> None:
    router: Router[Node] = Router(Node)
    router.install(ring_of([1, 2], version=7))
    asked, _ = learn(router, ["10.0.0.1:7401"], {"10.0.0.1:7401": None})
    assert [(address, command.head.endswith(b"$1\r\n7\r\n")) for address, command in asked] == [("10.0.0.1:7401", True)]


def test_members_in_doubt_come_last_and_seeds_after_them() -> None:
    router: Router[Node] = Router(Node)
    router.install(ring_of([1, 2, 3]))
    router.nodes["10.0.0.1:7401"].doubt(0.0)
    with pytest.raises(Unavailable) as caught:
        learn(router, ["10.0.0.8:7401"], {})
    order = [str(caught.value).index(f"10.0.0.{n}:") for n in (2, 3, 1, 8)]
    assert order == sorted(order)


def test_every_member_is_asked_in_its_turn() -> None:
    router: Router[Node] = Router(Node)
    router.install(ring_of([1, 2, 3], version=7))
    asked = [learn(router, [], dict.fromkeys(router.nodes))[0][0][0] for _ in range(6)]
    assert asked == [f"10.0.0.{n}:7401" for n in (1, 2, 3, 1, 2, 3)]


def test_if_all_known_members_are_gone_the_seeds_are_asked_again() -> None:
    router: Router[Node] = Router(Node)
    router.install(ring_of([1, 2]))
    newer = ring_of([8, 9], version=30)
    asked, to_close = learn(router, ["10.0.0.8:7401", "10.0.0.1:7401"], {"10.0.0.8:7401": newer})
    assert [address for address, command in asked if command.verb == "KV.RING"][-1] == "10.0.0.8:7401"
    assert sorted(router.nodes) == ["10.0.0.8:7401", "10.0.0.9:7401"]
    assert sorted(to_close) == ["10.0.0.1:7401", "10.0.0.2:7401"]


def test_while_nodes_join_the_side_that_is_read_is_installed() -> None:
    router: Router[Node] = Router(Node)
    before = staged(ring_of([1, 2, 3]))
    after = ring_of([2, 3, 4])
    joint = begin(before, "plan", Side(after.members, after.owners), [])
    learn(router, ["10.0.0.1:7401"], {"10.0.0.1:7401": joint})
    assert sorted(router.nodes) == ["10.0.0.1:7401", "10.0.0.2:7401", "10.0.0.3:7401"]
    assert router.ring is not None
    assert (router.ring.version, router.ring.owners) == (2, before.owners)
    _, to_close = learn(router, [], {"10.0.0.2:7401": next_stage(joint)})
    assert to_close == ["10.0.0.1:7401"], "n1 is not read any more"
    assert sorted(router.nodes) == ["10.0.0.2:7401", "10.0.0.3:7401", "10.0.0.4:7401"]
    assert (router.ring.version, router.ring.owners) == (3, after.owners)
    learn(router, [], {"10.0.0.2:7401": next_stage(next_stage(joint))})
    assert router.ring.version == 4


def test_a_ring_whose_read_side_cannot_be_walked_is_passed_over() -> None:
    router: Router[Node] = Router(Node)
    before = staged(ring_of([1, 2]))
    joint = begin(before, "plan", Side(before.members, [7] * 16), [])
    with pytest.raises(Unavailable, match="an owner that is no member"):
        learn(router, ["10.0.0.1:7401"], {"10.0.0.1:7401": next_stage(joint)})


def test_the_defaults_n_comes_with_the_ring_and_nonsense_is_no_n() -> None:
    encoded = msgspec.to_builtins(ring_of([1, 2, 3, 4]))
    for told, n in ((1, 1), (0, 3), (99, 3)):
        router: Router[Node] = Router(Node)
        learn(router, ["10.0.0.1:7401"], {"10.0.0.1:7401": msgspec.json.encode({**encoded, "default_n": told})})
        assert len(router.replicas(b"b", 0)) == n


def test_a_node_known_by_another_name_tells_of_buckets_and_silence_about_them_changes_nothing() -> None:
    router: Router[Node] = Router(Node)
    ring = ring_of([1, 2, 3])

    def follow(version: int, answer: object) -> None:
        steps = learn_ring(router, ["localhost:7401"], [])
        next(steps)
        steps.send(msgspec.json.encode(msgspec.structs.replace(ring, version=version)))
        with pytest.raises(StopIteration):
            steps.send(answer)

    follow(1, b'{"carts": {"n": 1}}')
    assert len(router.replicas(b"carts", 0)) == 1
    follow(2, REFUSED)
    assert len(router.replicas(b"carts", 0)) == 1


def test_a_seed_of_another_cluster_is_not_followed() -> None:
    router: Router[Node] = Router(Node)
    router.install(ring_of([1]))
    stranger = ring_of([8], version=99, cluster_id="d" * 32)
    steps = learn_ring(router, ["10.0.0.8:7401"], [])
    next(steps)
    node, command = steps.send(REFUSED)
    assert node.address == "10.0.0.8:7401"
    assert command.head == b"*1\r\n$7\r\nKV.RING\r\n", "it has to show its ring, not only to say that it is no newer"
    with pytest.raises(Unavailable, match="belongs to cluster"):
        steps.send(msgspec.json.encode(stranger))
    assert list(router.nodes) == ["10.0.0.1:7401"]


@pytest.mark.parametrize(
    "reply",
    [b"{}", b"not json", None, 5, [b"x"]]
    + [msgspec.json.encode(msgspec.structs.replace(ring_of([1]), owners=owners)) for owners in ([], [1, 1, 1], [2, 2])],
)
def test_what_is_no_ring_is_passed_over(reply: object) -> None:
    router: Router[Node] = Router(Node)
    learn(router, ["10.0.0.8:7401", "10.0.0.1:7401"], {"10.0.0.8:7401": reply, "10.0.0.1:7401": ring_of([1])})
    assert list(router.nodes) == ["10.0.0.1:7401"]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("WRONGPASS wrong password", "wrong password"),
        ("NOAUTH Authentication required.", "pass password="),
        ("ERR unknown command 'KV.RING'", "not the client port of a Quorate node"),
    ],
)
def test_a_refusal_is_told_and_not_tried_elsewhere(error: str, words: str) -> None:
    router: Router[Node] = Router(Node)
    with pytest.raises(CallerError, match=words):
        learn(router, ["10.0.0.8:7401", "10.0.0.1:7401"], {"10.0.0.8:7401": hiredis.ReplyError(error)})


def test_replicas_of_buckets() -> None:
    assert replicas_of_buckets(b'{"carts":{"n":1,"r":1},"x":{"n":99},"y":{}}') == {b"carts": 1}
    assert replicas_of_buckets(b'{"buckets":{"carts":{"n":2}}}') == {b"carts": 2}
    for useless in (b"[]", b"{", None, REFUSED, 7):
        assert replicas_of_buckets(useless) == {}


def test_the_ring_is_polled_at_its_interval_and_sooner_when_wanted() -> None:
    router: Router[Node] = Router(Node)
    router.install(ring_of([1, 2]))
    timetable = Timetable(0.0)
    assert not timetable.poll_is_due(router, RING_POLL_INTERVAL_MS - 1.0)
    assert timetable.poll_is_due(router, RING_POLL_INTERVAL_MS)
    router.ring_wanted = True
    assert not timetable.poll_is_due(router, RING_POLL_INTERVAL_MS + 10.0), "a thousand failures are one question"
    assert timetable.poll_is_due(router, RING_POLL_INTERVAL_MS + 500.0)
    assert not router.ring_wanted


def test_it_wakes_for_the_next_probe() -> None:
    router: Router[Node] = Router(Node)
    router.install(ring_of([1, 2]))
    timetable = Timetable(0.0)
    calm_ms = timetable.wait_ms(router, 0.0)
    router.nodes["10.0.0.1:7401"].doubt(0.0)
    assert timetable.wait_ms(router, 0.0) == router.nodes["10.0.0.1:7401"].probe_at_ms < calm_ms
    assert timetable.wait_ms(router, 10_000.0) > 0, "never a loop without a pause"
