"""Gossip: what one node says reaches all in O(log n) rounds, and nobody who is not a member is heard (hard case 16)."""

from __future__ import annotations

import math

import msgspec
import pytest
from msgspec.structs import replace

from quorate.core.errors import CallerError, PeerError
from quorate.core.limits import MEMBERS_MAX
from quorate.core.membership.gossip import (
    DIGEST_ENTRY,
    GROUPS,
    INCARNATION_MAX,
    SEQUENCE_MAX,
    STATE_BYTES_MAX,
    STATES_BYTES_MAX,
    Gossip,
    GossipDigest,
    GossipStates,
    GossipSyn,
    Heard,
    MemberState,
    decode_state,
    encode_state,
    next_incarnation,
)
from tests.unit.gossip_cluster import RING, GossipCluster, facts, members, node, uuid

PAIR = members(1, 2)


def tell(gossip: Gossip, *states: MemberState) -> None:
    """Let `gossip` hear these states."""
    gossip.receive(GossipStates(RING, [encode_state(state) for state in states], []))


def said(number: int, incarnation: int, sequence: int = 0, software: str = "0.1.0") -> MemberState:
    return MemberState(number, uuid(number), incarnation, sequence, facts(number, software=software))


# --- one conversation ---


def test_both_sides_of_a_conversation_learn() -> None:
    cluster = GossipCluster(2)
    syn = GossipSyn(RING, cluster.nodes[1]._table.sums)
    assert cluster.converse(1, 2, syn) == 4
    assert cluster.nodes[1].states() == cluster.nodes[2].states() == {1: cluster.nodes[1].own, 2: cluster.nodes[2].own}


def test_equal_tables_end_with_the_syn() -> None:
    cluster = GossipCluster(2)
    cluster.rounds_until_agreed()
    begun = cluster.nodes[1].round(cluster.rng)
    assert begun is not None and cluster.converse(1, *begun) == 1


def test_what_is_announced_again_is_no_change() -> None:
    gossip = node(1, PAIR)
    assert not gossip.announce(gossip.own.facts)
    assert gossip.announce(replace(gossip.own.facts, filled=(0, 4)))
    assert (gossip.own.incarnation, gossip.own.sequence) == (1_000, 1)


def test_a_change_is_told_once() -> None:
    gossip = node(1, PAIR)
    message = GossipStates(RING, [encode_state(said(2, 5))], [])
    assert gossip.receive(message).changed == (2,)
    assert gossip.receive(message).changed == ()


def test_nobody_is_talked_to_who_is_down_and_a_lone_node_talks_to_nobody() -> None:
    cluster = GossipCluster(3)
    picked = {begun[0] for _ in range(50) if (begun := cluster.nodes[1].round(cluster.rng, down={3})) is not None}
    assert picked == {2}
    assert cluster.nodes[1].round(cluster.rng, down={2, 3}) is None
    assert node(1, members(1)).round(cluster.rng) is None
    assert node(1, members(2, 3)).round(cluster.rng) is None, "it is not in the ring that it holds"


# --- rounds ---


@pytest.mark.parametrize(("loss", "per_doubling", "besides"), [(0.0, 1.0, 2.0), (0.2, 2.0, 8.0)])
@pytest.mark.parametrize("size", [8, 16, 64, 256])
def test_states_and_rings_reach_all_in_logarithmically_many_rounds(
    size: int, loss: float, per_doubling: float, besides: float
) -> None:
    cluster = GossipCluster(size, seed=size, loss=loss)
    limit = math.floor(per_doubling * math.log2(size) + besides)
    for attempt in range(12 if size == 256 else 40):
        number = 1 + cluster.rng.below(size)
        gossip, rank = cluster.nodes[number], (0, 2 + attempt)
        gossip.announce(replace(gossip.own.facts, confirmed=rank))
        own = gossip.own
        cluster.rounds_until(lambda other: other.state(number) == own, limit)  # noqa: B023
        cluster.rings[rank] = cluster.rings[RING]
        gossip.set_ring(rank, cluster.rings[rank])
        cluster.rounds_until(lambda other: other.ring == rank, limit)  # noqa: B023


def test_a_quiet_cluster_costs_each_node_the_same_at_any_size() -> None:
    costs = []
    for size in (4, 64, 256):
        cluster = GossipCluster(size)
        cluster.rounds_until_agreed()
        cluster.bytes = cluster.messages = 0
        for _ in range(3):
            cluster.round()
        assert cluster.messages == 3 * size
        costs.append(cluster.bytes / size / 3)
    assert costs[0] == costs[1] == costs[2] < 200


def test_a_change_costs_a_small_part_of_the_table() -> None:
    cluster = GossipCluster(256)
    cluster.rounds_until_agreed()
    cluster.largest_bytes = 0
    gossip = cluster.nodes[9]
    gossip.announce(replace(gossip.own.facts, leaving=True))
    cluster.rounds_until_agreed()
    assert cluster.largest_bytes < 256 * DIGEST_ENTRY.size / GROUPS + 50


def test_states_that_fill_many_messages_arrive_page_by_page() -> None:
    size = 300
    everyone = members(*range(1, size + 1))
    full, empty = node(1, everyone), node(2, everyone)
    long = "a" * 250
    for number in range(3, size + 1):
        crowded = replace(facts(number), peer_address=long, client_address=long, http_address=long)
        tell(full, MemberState(number, uuid(number), 1, 0, crowded))
    cluster = GossipCluster(2)
    cluster.nodes = {1: full, 2: empty}
    conversations = 0
    while empty.states() != full.states():
        conversations += 1
        cluster.converse(2, 1, GossipSyn(RING, empty._table.sums))
        assert conversations < 10
    assert conversations > 3
    assert cluster.largest_bytes < STATES_BYTES_MAX + 4 * size


def test_pages_begin_where_the_last_one_ended() -> None:
    """Else a peer that is told the same first page by everybody would wait long for the last member's state."""
    everyone = members(*range(1, 301))
    full = node(1, everyone)
    long = "a" * 250
    for number in range(2, 301):
        crowded = replace(facts(number), peer_address=long, client_address=long, http_address=long)
        tell(full, MemberState(number, uuid(number), 1, 0, crowded))
    heard: dict[int, bool] = {}
    for _ in range(5):
        answer = full.receive(GossipStates(RING, [], sorted(everyone))).answer
        assert isinstance(answer, GossipStates) and answer.states
        for encoded in answer.states:
            state = decode_state(encoded)
            assert state is not None
            heard[state.number] = True
    assert sorted(heard) == sorted(everyone)


# --- lives of a node ---


def test_a_restarted_nodes_state_wins_though_its_clock_went_back() -> None:
    cluster = GossipCluster(3)
    old = cluster.nodes[1]
    for version in range(2, 9):
        old.announce(replace(old.own.facts, confirmed=(0, version)))
    cluster.rounds_until_agreed()
    incarnation = next_incarnation(old.own.incarnation, wall_ms=17)
    cluster.nodes[1] = node(1, cluster.rings[RING], incarnation, software="0.2.0")
    cluster.rounds_until_agreed()
    state = cluster.nodes[3].state(1)
    assert state is not None and state.facts.software == "0.2.0"
    assert cluster.nodes[1].own.incarnation == 1_001, "it had nothing to refute"


@pytest.mark.parametrize(
    ("previous", "wall_ms", "incarnation"),
    [
        (0, 1_700_000_000_000, 1_700_000_000_000),
        (1_700_000_000_000, 1_600_000_000_000, 1_700_000_000_001),
        (7, -5, 8),
        (7, 2**60, 8),
        (INCARNATION_MAX, 5, INCARNATION_MAX),
    ],
)
def test_incarnations_rise_whatever_the_clock_says(previous: int, wall_ms: int, incarnation: int) -> None:
    assert next_incarnation(previous, wall_ms) == incarnation


def test_a_wiped_node_with_its_clock_back_goes_above_its_earlier_life() -> None:
    cluster = GossipCluster(3)
    old = cluster.nodes[1]
    old.announce(replace(old.own.facts, filled=(0, 9)))
    cluster.rounds_until_agreed()
    fresh = cluster.nodes[1] = node(1, cluster.rings[RING], next_incarnation(0, wall_ms=5))
    cluster.rounds_until_agreed()
    assert fresh.own.incarnation == 1_001
    state = cluster.nodes[2].state(1)
    assert state is not None and state.facts.filled == (0, 0), "nobody believes the earlier life any more"


def test_who_hears_an_earlier_life_answers_with_the_present_one_at_once() -> None:
    gossip = node(1, PAIR)
    heard = gossip.receive(GossipStates(RING, [encode_state(said(1, 1_000, 6))], []))
    assert heard.refuted and heard.changed == ()
    assert gossip.own.incarnation == 1_001
    assert heard.answer == GossipStates(RING, [encode_state(gossip.own)], [])
    assert not gossip.receive(GossipStates(RING, [encode_state(said(1, 1_000, 6))], [])).refuted


def test_another_state_of_the_same_version_is_refuted_or_settled_the_same_way_everywhere() -> None:
    """Two processes under one identity, or a disk that was copied: nobody is convinced back and forth."""
    one, other = said(3, 5, software="0.1.0"), said(3, 5, software="0.1.1")
    everyone = members(1, 2, 3)
    first, second = node(1, everyone), node(2, everyone)
    tell(first, one, other)
    tell(second, other, one)
    assert first.state(3) == second.state(3) == other
    cluster = GossipCluster(3)
    cluster.nodes = {1: node(1, everyone), 2: node(2, everyone)}
    tell(cluster.nodes[1], one)
    tell(cluster.nodes[2], other)
    for _ in range(2):
        cluster.round()
    assert cluster.nodes[1].state(3) == cluster.nodes[2].state(3) == other
    assert node(1, PAIR).receive(GossipStates(RING, [encode_state(said(1, 1_000, software="0.1.1"))], [])).refuted


def test_an_incarnation_that_nothing_is_above_does_no_harm() -> None:
    gossip = node(1, PAIR)
    heard = gossip.receive(GossipStates(RING, [encode_state(said(1, INCARNATION_MAX, SEQUENCE_MAX))], []))
    assert not heard.refuted and gossip.own.incarnation == 1_000


def test_the_sequence_runs_over_into_the_next_incarnation() -> None:
    gossip = node(1, PAIR)
    gossip._own = replace(gossip.own, sequence=SEQUENCE_MAX)
    assert gossip.announce(replace(gossip.own.facts, leaving=True))
    assert (gossip.own.incarnation, gossip.own.sequence) == (1_001, 0)


# --- members ---


def test_a_removed_member_is_dropped_with_the_ring_and_does_not_come_back() -> None:
    cluster = GossipCluster(4)
    cluster.rounds_until_agreed()
    cluster.rings[0, 2] = members(1, 2, 3)
    cluster.nodes[1].set_ring((0, 2), cluster.rings[0, 2])
    del cluster.nodes[4]
    assert 4 not in cluster.nodes[1].states()
    heard = cluster.nodes[1].receive(GossipStates(RING, [encode_state(said(4, 99_999))], []))
    assert (heard.changed, heard.ignored) == ((), 1)
    cluster.rounds_until(lambda gossip: gossip.ring == (0, 2))
    cluster.rounds_until_agreed()
    assert all(list(gossip.states()) == [1, 2, 3] for gossip in cluster.nodes.values())
    late = GossipCluster(3)
    late.rings, late.nodes[1] = cluster.rings, cluster.nodes[1]
    for gossip in (late.nodes[2], late.nodes[3]):
        gossip.set_ring((0, 2), late.rings[0, 2])
    late.rounds_until_agreed()
    assert late.converse(1, 2, GossipSyn((0, 2), late.nodes[1]._table.sums)) == 1, "nothing of it is left in the sums"


def test_states_of_strangers_are_not_taken_in() -> None:
    gossip = node(1, PAIR)
    impostor = MemberState(2, uuid(77), 99, 0, facts(2))
    heard = gossip.receive(GossipStates(RING, [encode_state(said(3, 5)), encode_state(impostor)], []))
    assert (heard.changed, heard.ignored) == ((), 2)
    assert list(gossip.states()) == [1]
    digest = GossipDigest(RING, 1 << 3, DIGEST_ENTRY.pack(3, 5, 0, 0))
    assert gossip.receive(digest).answer is None, "and nobody is asked for them"


def test_a_number_under_another_identity_loses_its_state() -> None:
    gossip = node(1, PAIR)
    tell(gossip, said(2, 5))
    gossip.set_ring((1, 1), {1: uuid(1), 2: uuid(88)})
    assert gossip.state(2) is None


def test_an_older_ring_is_ignored_and_a_forced_one_is_newer_than_any_other() -> None:
    gossip = node(1, PAIR)
    gossip.set_ring((1, 1), members(1, 2, 3))
    gossip.set_ring((0, 99), PAIR)
    assert gossip.ring == (1, 1)
    assert not gossip.receive(GossipStates((0, 99), [], [])).ring_newer
    assert gossip.receive(GossipStates((1, 2), [], [])).ring_newer


def test_a_joiner_is_heard_once_the_ring_holds_it() -> None:
    cluster = GossipCluster(3)
    cluster.rounds_until_agreed()
    cluster.rings[0, 2] = members(1, 2, 3, 4)
    cluster.nodes[4] = node(4, cluster.rings[0, 2])
    cluster.nodes[2].set_ring((0, 2), cluster.rings[0, 2])
    cluster.rounds_until(lambda gossip: gossip.ring == (0, 2) and gossip.state(4) == cluster.nodes[4].own)


def test_equal_tables_still_tell_of_a_newer_ring() -> None:
    ahead, behind = node(1, PAIR), node(2, PAIR)
    tell(ahead, behind.own)
    tell(behind, ahead.own)
    ahead.set_ring((0, 2), PAIR)
    heard = ahead.receive(GossipSyn(RING, behind._table.sums))
    assert heard.answer == GossipDigest((0, 2), 0, b"")
    assert behind.receive(heard.answer) == Heard(ring_newer=True)
    heard = behind.receive(GossipSyn((0, 2), ahead._table.sums))
    assert heard.ring_newer and heard.answer is None


# --- what comes from outside ---


def test_an_older_program_relays_what_it_does_not_know() -> None:
    """Rolling upgrade: a state with fields of a newer wire version keeps them, and its hash, on its way."""
    everyone = members(1, 2, 3)
    relay, end = node(1, everyone), node(2, everyone)
    array = msgspec.msgpack.decode(encode_state(said(3, 5)))
    array[-1].append("a fact of the next version")
    newer = msgspec.msgpack.encode(array)
    relay.receive(GossipStates(RING, [newer], []))
    answer = relay.receive(GossipStates(RING, [], [3])).answer
    assert isinstance(answer, GossipStates) and answer.states == [newer]
    end.receive(answer)
    tell(relay, end.own)
    tell(end, relay.own)
    assert relay._table.sums == end._table.sums


@pytest.mark.parametrize(
    "message",
    [
        GossipSyn(RING, b""),
        GossipSyn(RING, bytes(8 * GROUPS + 8)),
        GossipDigest(RING, 1, bytes(DIGEST_ENTRY.size - 1)),
        GossipDigest(RING, 1, bytes(DIGEST_ENTRY.size * (MEMBERS_MAX + 1))),
        GossipStates(RING, [bytes(STATES_BYTES_MAX // 2)] * 3, []),
        GossipStates(RING, [b""] * (MEMBERS_MAX + 1), []),
        GossipStates(RING, [], [1] * (MEMBERS_MAX + 1)),
    ],
)
def test_messages_longer_than_any_node_sends_are_refused(message: GossipSyn | GossipDigest | GossipStates) -> None:
    with pytest.raises(PeerError):
        node(1, PAIR).receive(message)


def test_malformed_states_are_passed_over_and_the_others_taken() -> None:
    gossip = node(1, PAIR)
    good = encode_state(said(2, 5))
    negative = msgspec.msgpack.encode([2, uuid(2), -1, 0, []])
    too_large = msgspec.msgpack.encode([*msgspec.msgpack.decode(good), "x" * STATE_BYTES_MAX])
    heard = gossip.receive(GossipStates(RING, [b"", b"\xc1", good[:-1], negative, too_large, good], []))
    assert (heard.changed, heard.ignored) == ((2,), 5)


def test_a_node_says_nothing_that_its_peers_would_not_take() -> None:
    gossip = node(1, PAIR)
    too_long = replace(gossip.own.facts, peer_address="x" * 300 + ":1")
    many_bytes = replace(gossip.own.facts, **{f"{port}_address": "€" * 250 for port in ("peer", "client", "http")})
    for refused in (too_long, many_bytes):
        with pytest.raises(CallerError, match="shorten"):
            gossip.announce(refused)
    assert gossip.own.facts == facts(1) and gossip.own.sequence == 0
