"""A voter loses its disk in the middle of two attempts, and comes to vote again: in every order of events.

Three voters, of which 1 and 2 each try to have a ring decided, and 3 is wiped once. Messages stay in the world for
ever and may arrive at any time, again, or never: also those of 3's former life. 1 and 2 do not hear each other's first
question, so both want 3's promise, which is where it matters what 3 forgot. (If they may, there are 247,052 worlds, in
which no second ring is decided either.) Planted bugs show that each part of what lets 3 vote again is needed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import pytest

from quorate.core.membership import ring_consensus as rc
from quorate.core.membership.ring_chain import RingChain
from quorate.core.membership.ring_ledger import Held, LedgerState, Memory
from quorate.core.membership.ring_proposer import Proposer
from quorate.core.membership.ring_recollection import Recollection
from tests.property.ring_network import genesis, planned

BASE = genesis((1, 2, 3))
VALUES = {1: planned(BASE, ("tag", 1)), 2: planned(BASE, ("tag", 2))}
WIPED = 3
QUESTION = rc.RecallQuestion(BASE.id, 9)
WORLDS_MAX = 50_000

Monkey = pytest.MonkeyPatch
Event = tuple[Any, ...]
Mail = tuple[int, int, Any]
"""(sender, receiver, message)"""


@dataclass(frozen=True)
class World:
    states: tuple[LedgerState, ...]
    """Of the voters 1, 2 and 3: what they know, which is always durable here."""
    proposers: tuple[Proposer, Proposer]
    messages: tuple[Mail, ...]
    """Each once, in the order in which they were sent first."""
    wiped: bool = False
    answers: frozenset[tuple[int, rc.RecallAnswer]] = frozenset()
    """What 3 was told since it lost its memory."""

    def key(self) -> Any:
        told = tuple(
            (tuple(sorted(p._promises)), None if p._assents is None else tuple(sorted(p._assents)), p.value, p.outcome)
            for p in self.proposers
        )
        return self.states, told, frozenset(self.messages), self.wiped, self.answers

    def sent(self, messages: Iterable[Mail]) -> tuple[Mail, ...]:
        return tuple(dict.fromkeys([*self.messages, *messages]))

    def chain(self, number: int) -> RingChain:
        chain = RingChain(number, self.states[number - 1])
        if number != WIPED:
            chain._attempt = self.proposers[number - 1]
        return chain

    def saved(self, number: int, held: Held[Any]) -> World:
        """The world after what `held` rests on is durable."""
        state = held.take()
        held.saved()
        if state is None:
            return self
        return replace(self, states=tuple(state if at == number else s for at, s in enumerate(self.states, 1)))


def first_world() -> World:
    world = World((LedgerState(BASE, Memory.WHOLE),) * 3, (None, None), ())  # type: ignore[arg-type]
    proposers = []
    messages: list[Mail] = []
    for number in (1, 2):
        held = RingChain(number, world.states[number - 1]).begin(VALUES[number])
        world = world.saved(number, held)
        proposers.append(held.saved())
        messages += [(number, to, message) for to, message in proposers[-1].start() if to == WIPED]
    return replace(world, proposers=(proposers[0], proposers[1]), messages=tuple(messages))


def events(world: World) -> list[Event]:
    found: list[Event] = [("late", 1), ("late", 2), *(("deliver", *message) for message in world.messages)]
    if not world.wiped:
        return [*found, ("wipe",)]
    if Memory(world.states[WIPED - 1].memory) in (Memory.LOST, Memory.ABSTAINING):
        asked = [voter for voter, _ in world.answers]
        found += [("ask", voter) for voter in (1, 2) if voter not in asked] + [("recollect",)]
    return found


def after(world: World, event: Event) -> World | None:
    """The world after `event`; None if nothing comes of it."""
    if event[0] == "deliver":
        return deliver(world, *event[1:])
    if event[0] == "late":
        proposers, proposer = copied(world, event[1])
        proposer.on_timeout()
        return replace(world, proposers=proposers)
    if event[0] == "wipe":
        states = (*world.states[:2], LedgerState(BASE, Memory.LOST))
        return replace(world, states=states, wiped=True)
    if event[0] == "ask":
        outcome = world.proposers[event[1] - 1].outcome
        if outcome is not None and outcome.ring is not None:
            return None  # It has learned the ring that it made decided, and tells of that.
        answer = world.chain(event[1]).on_recall(QUESTION)
        return replace(world, answers=world.answers | {(event[1], answer)})
    recollection = Recollection(WIPED, BASE, QUESTION.nonce)
    for voter, answer in world.answers:
        recollection.on_answer(voter, answer)
    if recollection.memory is None:
        return None
    return world.saved(WIPED, world.chain(WIPED).recollect(recollection))


def copied(world: World, number: int) -> tuple[tuple[Proposer, Proposer], Proposer]:
    """(the proposers, of which that of `number` is a copy to be changed, and that copy)."""
    proposer = copy.copy(world.proposers[number - 1])
    proposer._promises = dict(proposer._promises)
    proposer._assents = None if proposer._assents is None else list(proposer._assents)
    return ((proposer, world.proposers[1]) if number == 1 else (world.proposers[0], proposer)), proposer


def deliver(world: World, sender: int, to: int, message: Any) -> World | None:
    if isinstance(message, rc.Prepare | rc.Accept):
        chain = world.chain(to)
        held: Held[Any] = (
            chain.on_prepare(sender, message) if isinstance(message, rc.Prepare) else chain.on_accept(sender, message)
        )
        following = world.saved(to, held)
        if isinstance(held.saved(), rc.Refusal):
            return None  # An attempt that is refused merely goes on less far.
        return replace(following, messages=world.sent([(to, sender, held.saved())]))
    if world.proposers[to - 1].outcome is not None:
        return None
    proposers, proposer = copied(world, to)
    sent = [(to, other, question) for other, question in proposer.on_reply(sender, message)]
    return replace(world, proposers=proposers, messages=world.sent(sent))


def check(world: World) -> set[rc.RingValue]:
    """The rings that were decided in this world: one at most, or `AssertionError`."""
    decided = {p.outcome.ring for p in world.proposers if p.outcome is not None and p.outcome.ring is not None}
    assert len(decided) <= 1, "two rings were decided"
    return decided


def explore() -> tuple[int, set[Memory], set[rc.RingValue]]:
    """(number of worlds, memories that 3 came to have after its loss, rings decided with its new vote).

    Raises `AssertionError` if two rings are decided in one world.
    """
    first = first_world()
    seen = {first.key()}
    front = [first]
    memories: set[Memory] = set()
    outcomes: set[rc.RingValue] = set()
    while front:
        world = front.pop()
        decided = check(world)
        if world.wiped:
            memories.add(Memory(world.states[WIPED - 1].memory))
            outcomes |= decided if Memory(world.states[WIPED - 1].memory) is Memory.RECALLED else set()
        for event in events(world):
            following = after(world, event)
            if following is not None and (key := following.key()) not in seen:
                seen.add(key)
                front.append(following)
        assert len(seen) <= WORLDS_MAX, "this model is too large to be explored"
    return len(seen), memories, outcomes


def test_a_voter_that_is_wiped_at_any_moment_decides_no_second_ring() -> None:
    worlds, memories, outcomes = explore()
    assert worlds > 10_000
    assert memories == {Memory.LOST, Memory.ABSTAINING, Memory.RECALLED}
    assert outcomes == set(VALUES.values()), "it comes to vote, and its vote counts"


def votes_as_soon_as_it_may_abstain(monkeypatch: Monkey) -> None:
    monkeypatch.setattr(Recollection, "memory", property(lambda self: Memory.RECALLED if self.done else None))


def forgotten_promises_do_not_bind(monkeypatch: Monkey) -> None:
    honest = RingChain.on_recall

    def silent(self: RingChain, question: rc.RecallQuestion) -> rc.RecallAnswer:
        return msgspec.structs.replace(honest(self, question), promised=rc.NO_BALLOT)

    monkeypatch.setattr(RingChain, "on_recall", silent)


def who_counts_votes_does_not_say_so(monkeypatch: Monkey) -> None:
    monkeypatch.setattr(Proposer, "counting", property(lambda _: False))


@pytest.mark.parametrize(
    "plant", [votes_as_soon_as_it_may_abstain, forgotten_promises_do_not_bind, who_counts_votes_does_not_say_so]
)
def test_what_lets_it_vote_is_needed(monkeypatch: Monkey, plant: Callable[[Monkey], None]) -> None:
    plant(monkeypatch)
    with pytest.raises(AssertionError, match="two rings"):
        explore()
