"""Ring consensus against every order of events in the smallest case, and against thousands of bad days in larger ones.

The smallest case is exhausted: three voters, two proposers, and a set of messages from which any may arrive at any
time, again, or never; so all losses, duplicates and orders are in it. The larger ones are drawn from seeds
(`ring_network`). Planted bugs show that both would see.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from quorate.core.membership import ring_acceptor, ring_chain, ring_proposer
from quorate.core.membership import ring_consensus as rc
from quorate.core.membership.ring_acceptor import Acceptor
from quorate.core.membership.ring_chain import RingChain
from quorate.core.membership.ring_ledger import LedgerState, Memory
from quorate.core.membership.ring_proposer import Proposer
from tests.property.ring_network import Network, genesis, live, planned

BASE = genesis((1, 2, 3))
VALUES = {1: planned(BASE, ("tag", 1)), 2: planned(BASE, ("tag", 2))}

Monkey = pytest.MonkeyPatch


# --- The smallest case, in every order -----------------------------------------------------------------------------


@dataclass
class World:
    """Acceptors are their durable states; proposers are objects; messages stay in the world for ever."""

    states: dict[int, LedgerState]
    proposers: dict[int, Proposer]
    messages: frozenset[tuple[int, int, Any]]
    """(sender, receiver, message)"""

    def key(self) -> tuple[Any, ...]:
        told = tuple(
            (number, tuple(sorted(p._promises)), None if p._assents is None else tuple(sorted(p._assents)), p.value)
            for number, p in self.proposers.items()
        )
        return (tuple(self.states.values()), told, self.messages)


def first_world() -> World:
    states = {number: LedgerState(BASE, Memory.WHOLE) for number in (1, 2, 3)}
    proposers: dict[int, Proposer] = {}
    messages = set()
    for number in (1, 2):
        held = RingChain(number, states[number]).begin(VALUES[number])
        state = held.take()
        assert state is not None
        states[number] = state
        proposers[number] = held.saved()
        messages |= {(number, to, message) for to, message in proposers[number].start()}
    return World(states, proposers, frozenset(messages))


def after(world: World, event: tuple[int, int, Any], lasting: bool) -> World | None:
    """The world after one message has arrived; None if that is the same world. `lasting` false: nothing is saved."""
    sender, to, message = event
    if isinstance(message, rc.Prepare | rc.Accept):
        chain = RingChain(to, world.states[to])
        question = isinstance(message, rc.Prepare)
        held = chain.on_prepare(sender, message) if question else chain.on_accept(sender, message)  # type: ignore[arg-type]
        state = held.take()
        states = world.states if state is None or not lasting else {**world.states, to: state}
        if isinstance(held.saved(), rc.Refusal):
            return None  # an attempt that is refused merely goes on less far
        return World(states, world.proposers, world.messages | {(to, sender, held.saved())})
    if world.proposers[to].outcome is not None:
        return None
    proposers = {**world.proposers, to: copy.copy(world.proposers[to])}
    proposer = proposers[to]
    proposer._promises = dict(proposer._promises)
    proposer._assents = None if proposer._assents is None else list(proposer._assents)
    sent = {(to, other, question) for other, question in proposer.on_reply(sender, message)}
    return World(world.states, proposers, world.messages | sent)


def explore(lasting: bool = True) -> tuple[int, set[rc.RingValue | None]]:
    """(number of worlds, values decided in any); raises `AssertionError` if one world decides two values."""
    first = first_world()
    seen = {first.key()}
    front = [first]
    outcomes: set[rc.RingValue | None] = set()
    while front:
        world = front.pop()
        decided = {p.outcome.ring for p in world.proposers.values() if p.outcome is not None}
        assert len(decided) <= 1, "two values were decided"
        outcomes |= decided
        for event in world.messages:
            following = after(world, event, lasting)
            if following is not None and (key := following.key()) not in seen:
                seen.add(key)
                front.append(following)
    return len(seen), outcomes


def test_three_voters_and_two_proposers_in_every_order_decide_one_value() -> None:
    worlds, decided = explore()
    assert decided == set(VALUES.values()), "either may win"
    assert worlds > 1_000


def test_every_order_finds_votes_that_are_not_kept() -> None:
    with pytest.raises(AssertionError, match="two values"):
        explore(lasting=False)


def test_every_order_finds_a_proposer_that_overlooks_votes(monkeypatch: Monkey) -> None:
    monkeypatch.setattr(ring_proposer, "chosen", lambda promises, own: own)
    with pytest.raises(AssertionError, match="two values"):
        explore()


# --- Bad days ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", range(4))
def test_bad_days_decide_one_ring_a_version_and_every_command_is_done(block: int) -> None:
    wipes = sum(live(seed).wipes for seed in range(block * 100, block * 100 + 100))
    assert wipes > 20, "disks were lost"


@pytest.mark.parametrize("block", range(3))
def test_a_new_cluster_in_which_all_begin_without_a_memory_decides_as_well(block: int) -> None:
    for seed in range(block * 100, block * 100 + 100):
        live(seed, founding=Memory.LOST)


def test_the_same_seed_is_the_same_day() -> None:
    first, second = live(7), live(7)
    assert first.now_ms == second.now_ms
    assert first.referee.chosen == second.referee.chosen


def no_bug(_: Monkey) -> None:
    pass


def half_is_enough(monkeypatch: Monkey) -> None:
    monkeypatch.setattr(ring_proposer, "majority", lambda voters: max(1, len(voters) // 2))


class OfTheNextVersion(Proposer):
    """Counts the votes of those who would be voters afterwards."""

    def __init__(self, base: rc.RingValue, ballot: rc.Ballot, value: rc.RingValue, own: Any) -> None:
        super().__init__(base, ballot, value, own)
        self._true_base = base
        voters = tuple(v for v in value.voters if v in base.voters)
        self.base = SimpleNamespace(  # type: ignore[assignment]
            id=base.id, position=base.position, voters=voters, cluster_id=base.cluster_id,
            forced=base.forced, version=base.version,
        )  # fmt: skip

    def _question(self, catch_up: Any) -> Any:
        return super()._question(None if catch_up is None else self._true_base)


def majority_of_the_wrong_version(monkeypatch: Monkey) -> None:
    monkeypatch.setattr(ring_chain, "Proposer", OfTheNextVersion)


def the_lowest_vote_wins(monkeypatch: Monkey) -> None:
    def lowest(promises: dict[int, Any], own: rc.RingValue) -> rc.RingValue:
        votes = sorted((a.ballot, n) for n, a in promises.items() if a is not None)
        return promises[votes[0][1]].value if votes else own

    monkeypatch.setattr(ring_proposer, "chosen", lowest)


def votes_are_overlooked(monkeypatch: Monkey) -> None:
    monkeypatch.setattr(ring_proposer, "chosen", lambda promises, own: own)


def promises_do_not_bind(monkeypatch: Monkey) -> None:
    honest = Acceptor.on_accept

    def lax(self: Acceptor, sender: int, message: rc.Accept) -> Any:
        if message.ballot < self._ledger.now.promised:
            self._ledger.now = replace(self._ledger.now, promised=rc.NO_BALLOT)
        return honest(self, sender, message)

    monkeypatch.setattr(Acceptor, "on_accept", lax)


def votes_on_an_older_ring(monkeypatch: Monkey) -> None:
    """A voter that was told the newer ring votes upon the older one all the same."""
    honest = Acceptor._refused

    def lax(self: Acceptor, sender: int, message: Any) -> Any:
        state = self._ledger.now
        if message.base.position >= state.ring.position:
            return honest(self, sender, message)
        if isinstance(message, rc.Prepare):
            return self._ledger.free(rc.Promise(message.base, message.ballot, None))
        return self._ledger.free(rc.Assent(message.base, message.ballot))

    monkeypatch.setattr(ring_acceptor.Acceptor, "_refused", lax)


def hasty(network: Network) -> None:
    network.hasty = True
    network.slow_disk = 0.8


def wiped_votes_at_once(network: Network) -> None:
    network.wiped_memory = Memory.WHOLE


def sound(network: Network) -> None:
    pass


PLANTED: list[tuple[Callable[[Monkey], None], Callable[[Network], None], int]] = [
    (half_is_enough, sound, 100),
    (majority_of_the_wrong_version, sound, 400),
    (the_lowest_vote_wins, sound, 600),
    (votes_are_overlooked, sound, 100),
    (promises_do_not_bind, sound, 100),
    (votes_on_an_older_ring, sound, 100),
    (no_bug, hasty, 400),
    (no_bug, wiped_votes_at_once, 400),
]


@pytest.mark.parametrize(("plant", "spoil", "seeds"), PLANTED)
def test_planted_bugs_are_caught(
    monkeypatch: Monkey, plant: Callable[[Monkey], None], spoil: Callable[[Network], None], seeds: int
) -> None:
    plant(monkeypatch)
    for seed in range(seeds):
        try:
            live(seed, spoil=spoil)
        except AssertionError as caught:
            assert "two rings" in str(caught) or "never chosen" in str(caught) or "two votes" in str(caught)
            return
    pytest.fail("nothing was noticed")
