"""Gossip against its brute-force twin: the merge is a maximum, tables only rise, and whatever happened, all agree after
a while."""

from __future__ import annotations

from functools import reduce
from operator import xor

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from xxhash import xxh3_64_intdigest

from quorate.core.errors import PeerError
from quorate.core.membership.gossip import (
    GROUPS,
    GossipDigest,
    GossipStates,
    GossipSyn,
    MemberState,
    StateTable,
    encode_state,
    next_incarnation,
)
from tests.unit.gossip_cluster import RING, GossipCluster, facts, members, node, uuid

EVERYONE = members(1, 2, 3, 17)
"""17 is in the group of 1."""

states = st.builds(
    lambda number, incarnation, sequence, software: MemberState(
        number, uuid(number), incarnation, sequence, facts(number, software=software)
    ),
    st.sampled_from(sorted(EVERYONE)),
    st.integers(0, 2),
    st.integers(0, 2),
    st.sampled_from(["a", "b"]),
)

Key = tuple[int, int, bytes]


def key_of(state: MemberState) -> Key:
    return state.incarnation, state.sequence, encode_state(state)


def twin(said: list[MemberState]) -> dict[int, MemberState]:
    """The greatest state of each member, found by looking at all of them."""
    return {
        number: max((state for state in said if state.number == number), key=key_of)
        for number in sorted({state.number for state in said})
    }


def table_of(said: list[MemberState]) -> StateTable:
    table = StateTable()
    table.set_members(EVERYONE)
    for state in said:
        table.take(encode_state(state), state)
    return table


def merge(into: StateTable, other: StateTable) -> None:
    for state in other.states().values():
        into.take(encode_state(state), state)


@settings(max_examples=150, deadline=None)
@given(st.lists(states, max_size=12), st.lists(states, max_size=12), st.randoms(use_true_random=False))
def test_the_merge_is_a_maximum(left: list[MemberState], right: list[MemberState], random: object) -> None:
    """Commutative, associative and idempotent, because it equals the maximum over all that was ever said."""
    expected = twin([*left, *right])
    shuffled = [*left, *right, *left]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other, mixed = table_of(left), table_of(right), table_of(shuffled)
    merge(one, other)
    merge(other, one)
    merge(one, one)
    for table in (one, other, mixed):
        assert table.states() == expected
        assert table.sums == one.sums
    for group in range(GROUPS):
        hashes = [
            xxh3_64_intdigest(encode_state(state)) for state in expected.values() if state.number % GROUPS == group
        ]
        assert int.from_bytes(one.sums[8 * group : 8 * group + 8], "big") == reduce(xor, hashes, 0)


@settings(max_examples=150, deadline=None)
@given(st.lists(states, max_size=12), st.lists(states, max_size=12))
def test_a_comparison_finds_what_each_side_lacks_and_little_else(
    left: list[MemberState], right: list[MemberState]
) -> None:
    here, there = table_of(left), table_of(right)
    ours, theirs = here.states(), there.states()
    groups = here.differing(there.sums)
    assert groups == sum(
        1 << group
        for group in range(GROUPS)
        if any(ours.get(number) != theirs.get(number) for number in EVERYONE if number % GROUPS == group)
    )
    newer, wanted = here.compare(groups, there.digest(groups))
    for number in EVERYONE:
        mine, yours = ours.get(number), theirs.get(number)
        if mine == yours:
            assert number not in newer and number not in wanted
        elif mine is None or (yours is not None and key_of(yours)[:2] > key_of(mine)[:2]):
            assert number in wanted and number not in newer
        elif yours is None or key_of(mine)[:2] > key_of(yours)[:2]:
            assert number in newer and number not in wanted
        else:
            assert number in newer and number in wanted, "one version, two states: both sides have to look"


actions = st.one_of(
    st.tuples(st.just("round"), st.just(0), st.just(0)),
    st.tuples(st.just("announce"), st.integers(1, 5), st.integers(0, 3)),
    st.tuples(st.just("restart"), st.integers(1, 5), st.integers(0, 3_000)),
    st.tuples(st.just("wipe"), st.integers(1, 5), st.integers(0, 3_000)),
    st.tuples(st.just("remove"), st.integers(3, 5), st.integers(1, 2)),
)


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 1_000), st.lists(actions, max_size=25))
def test_whatever_happens_all_agree_in_the_end_and_no_table_ever_goes_back(
    seed: int, history: list[tuple[str, int, int]]
) -> None:
    """Restarts and wiped disks with clocks that jump both ways, removals, changes, and a third of all messages lost."""
    cluster = GossipCluster(5, seed, loss=0.3)
    seen: dict[tuple[int, int], tuple[Key, object]] = {}

    def no_table_went_back() -> None:
        for owner, gossip in cluster.nodes.items():
            for number, state in gossip.states().items():
                before, life = seen.get((owner, number), (key_of(state), gossip))
                assert life is not gossip or key_of(state) >= before
                seen[owner, number] = key_of(state), gossip

    for action, number, argument in history:
        gossip = cluster.nodes.get(number)
        if action == "round":
            cluster.round()
        elif gossip is None:
            continue
        elif action == "announce":
            gossip.announce(replace(gossip.own.facts, filled=(0, argument)))
        elif action == "remove":
            rank = (0, cluster.nodes[argument].ring[1] + 1)
            cluster.rings.setdefault(rank, members(*(n for n in cluster.rings[0, rank[1] - 1] if n != number)))
            cluster.nodes[argument].set_ring(rank, cluster.rings[rank])
            if number not in cluster.rings[rank]:
                del cluster.nodes[number]
        else:
            previous = gossip.own.incarnation if action == "restart" else 0
            cluster.nodes[number] = node(number, cluster.rings[RING], next_incarnation(previous, argument))
            cluster.nodes[number].set_ring(gossip.ring, cluster.rings[gossip.ring])
        no_table_went_back()
    cluster.loss = 0.0
    # Whoever the newest ring has removed is not told, and is no part of the agreement.
    newest = max(gossip.ring for gossip in cluster.nodes.values())
    for number in sorted(cluster.nodes):
        if number not in cluster.rings[newest]:
            del cluster.nodes[number]
    cluster.rounds_until(lambda gossip: gossip.ring == newest)
    cluster.rounds_until_agreed()
    no_table_went_back()


counts = st.integers(0, 2**63 - 1)
garbage = st.one_of(
    st.builds(GossipSyn, st.tuples(counts, counts), st.binary(min_size=8 * GROUPS, max_size=8 * GROUPS)),
    st.builds(
        GossipDigest,
        st.tuples(counts, counts),
        st.integers(0, 2**GROUPS - 1),
        st.integers(0, 30).flatmap(lambda entries: st.binary(min_size=20 * entries, max_size=20 * entries)),
    ),
    st.builds(
        GossipStates,
        st.tuples(counts, counts),
        st.lists(st.one_of(st.binary(max_size=40), states.map(encode_state)), max_size=8),
        st.lists(st.integers(1, 2**32 - 1), max_size=8),
    ),
    st.builds(GossipDigest, st.just(RING), st.just(3), st.binary(max_size=100)),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(garbage, max_size=20))
def test_garbage_finds_no_room_and_breaks_nothing(messages: list[GossipSyn | GossipDigest | GossipStates]) -> None:
    gossip, peer = node(1, EVERYONE), node(2, EVERYONE)
    for message in messages:
        try:
            heard = gossip.receive(message)
        except PeerError:
            continue
        assert heard.answer is None or len(msgspec.msgpack.encode(heard.answer)) < 2_000
    assert set(gossip.states()) <= set(EVERYONE)
    assert gossip.ring == RING and gossip.own.facts == facts(1)
    cluster = GossipCluster(2)
    cluster.nodes = {1: gossip, 2: peer}
    for _ in range(2):
        cluster.converse(2, 1, GossipSyn(RING, peer._table.sums))
    assert gossip.states() == peer.states()


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 80), st.integers(0, 255))
def test_a_damaged_state_is_read_as_some_state_or_not_at_all(junk: bytes, place: int, byte: int) -> None:
    damaged = bytearray(encode_state(MemberState(2, uuid(2), 5, 0, facts(2))))
    damaged[place % len(damaged)] = byte
    gossip = node(1, EVERYONE)
    heard = gossip.receive(GossipStates(RING, [junk, bytes(damaged)], []))
    assert len(heard.changed) + heard.ignored + heard.refuted >= 1
    assert set(gossip.states()) <= set(EVERYONE)
