"""Members are wiped, ask, decide, and operators force, in thousands of random orders: whom may a forced ring find?

The judge keeps what a member forgets: every ring that it adopted in a former life, where it may have voted. A member
that comes to a forced ring with a vote, and was there in a former life, could give a second one. Operators keep their
word (`core.membership.ring_memory`): who is given up never comes back, and while a force spreads nobody else decides or
forces. They do not all keep to lost *majorities*, and may force at a member that lags, or that was wiped just now.

Rings have no other content than their position and voters, so that a forced ring may be made again, the very same.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from quorate.core.membership import ring_consensus as rc
from quorate.core.membership import ring_memory
from quorate.core.membership.ring_chain import RingChain
from quorate.core.membership.ring_consensus import RingId, RingValue
from quorate.core.membership.ring_ledger import Held, LedgerState, Memory
from quorate.core.membership.ring_proposer import Proposer
from quorate.core.membership.ring_recollection import Recollection
from quorate.core.ring.transition import FORCED_VERSIONS

RUNS = 3_000
STEPS = 40
SIZES = (3, 4, 5, 6, 7)
Monkey = pytest.MonkeyPatch


class World:
    """The members of one cluster; all that a member says is durable at once."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        numbers = tuple(range(1, 1 + self.random.choice(SIZES)))
        self.genesis = RingValue("c" * 32, 0, 1, numbers, b"")
        memory = self.random.choice((Memory.WHOLE, Memory.LOST))
        self.chains = {number: RingChain(number, LedgerState(self.genesis, memory)) for number in numbers}
        """Of those that are alive."""
        self.asking: dict[int, Recollection] = {}
        self.former: dict[int, set[RingId]] = {number: set() for number in numbers}
        """Member → the rings that it stood at in lives which it knows nothing of."""
        self.life: dict[int, set[RingId]] = {number: set() for number in numbers}
        """The same of its present life."""
        self.kept: dict[Memory, int] = dict.fromkeys(Memory, 0)
        """How many members came to a forced ring with which memory."""
        self.told = 0
        """How many of them were told of more than one force at once, and have a vote."""

    def pick(self) -> int:
        return self.random.choice(list(self.chains))

    def step(self) -> None:
        actions: list[tuple[int, Callable[[], None]]] = [
            (2, self.wipe),
            (1, self.die),
            (9, self.ask),
            (5, self.tell),
            (3, self.decide),
            (3, self.force),
        ]
        self.random.choices([action for _, action in actions], [weight for weight, _ in actions])[0]()

    # --- what happens ---

    def wipe(self) -> None:
        number = self.pick()
        self.former[number] |= self.life[number]
        self.life[number] = set()
        self.asking.pop(number, None)
        self.chains[number] = RingChain(number, LedgerState(self.genesis, Memory.LOST))

    def die(self) -> None:
        """For good."""
        if len(self.chains) > 2:
            del self.chains[self.pick()]

    def ask(self) -> None:
        """One member asks some that are within its reach, and goes by what it has heard up to now."""
        number = self.pick()
        chain = self.chains[number]
        if not chain.recollects:
            return
        recollection = self.asking.get(number)
        if recollection is None or recollection.base.id != chain.ring.id:
            recollection = self.asking[number] = Recollection(number, chain.ring, self.random.getrandbits(60))
        for voter, question in recollection.questions():
            if voter in self.chains and self.random.random() < 0.8:
                recollection.on_answer(voter, self.chains[voter].on_recall(question))
        if recollection.newer is not None:
            self.adopt(number, recollection.newer)
        elif recollection.brings_something:
            done(chain.recollect(recollection))

    def tell(self) -> None:
        ring = self.chains[self.pick()].ring
        for number in list(self.chains):
            if self.random.random() < 0.5:
                self.adopt(number, ring)

    def adopt(self, number: int, ring: RingValue) -> None:
        chain = self.chains[number]
        known = chain.ring
        done(chain.learn(ring))
        if chain.ring.forced > known.forced:
            self.kept[chain.memory] += 1
            self.told += ring.forced > known.forced + 1 and chain.memory is Memory.RECALLED
            if chain.memory is not Memory.LOST:
                assert ring.id not in self.former[number], "it may have voted upon this forced ring already"
        self.life[number].add(chain.ring.id)

    def decide(self) -> None:
        """One attempt, which some voters do not hear of."""
        number = self.pick()
        chain = self.chains[number]
        base = chain.ring
        if base.forced < max(other.ring.forced for other in self.chains.values()):
            return  # The operators' word: not while a force spreads.
        if number not in base.voters or chain.memory in (Memory.LOST, Memory.ABSTAINING):
            return
        heard = [to for to in base.voters if to == number or (to in self.chains and self.random.random() < 0.8)]
        value = RingValue(base.cluster_id, base.forced, base.version + 1, base.voters, b"")
        proposer: Proposer = done(chain.begin(value))
        questions = proposer.start()
        while questions and proposer.outcome is None:
            to, question = questions.pop(0)
            if to in heard:
                voter = self.chains[to]
                ask: Any = voter.on_prepare if isinstance(question, rc.Prepare) else voter.on_accept
                questions += proposer.on_reply(to, done(ask(number, question)))
        if proposer.outcome is None:
            proposer.on_timeout()
        assert proposer.outcome is not None
        if proposer.outcome.ring is not None:
            self.adopt(number, proposer.outcome.ring)

    def force(self) -> None:
        number = self.pick()
        chain = self.chains[number]
        ring = chain.ring
        survivors = tuple(voter for voter in ring.voters if voter in self.chains)
        if number not in survivors or survivors == ring.voters:
            return
        for other in self.chains.values():
            alive = [voter for voter in other.ring.voters if voter in self.chains]
            ahead = other.ring.position > ring.position
            if other.ring.forced > ring.forced or (ahead and 2 * len(alive) > len(other.ring.voters)):
                return  # The operators' word: others could decide.
        version = ring.version + FORCED_VERSIONS
        done(chain.force(RingValue(ring.cluster_id, ring.forced + 1, version, survivors, b"")))
        self.life[number].add(chain.ring.id)


def done(held: Held[Any]) -> Any:
    held.take()
    return held.saved()


def explore(runs: int = RUNS) -> tuple[dict[Memory, int], int]:
    """(memory → how many came to a forced ring with it, how many with a vote to more than one force at once)."""
    kept, told = dict.fromkeys(Memory, 0), 0
    for seed in range(runs):
        world = World(seed)
        for _ in range(STEPS):
            world.step()
        kept = {memory: count + world.kept[memory] for memory, count in kept.items()}
        told += world.told
    return kept, told


def test_nobody_votes_upon_a_forced_ring_that_it_has_forgotten() -> None:
    kept, told = explore()
    assert kept[Memory.WHOLE] and kept[Memory.LOST] and kept[Memory.RECALLED] and told
    assert not kept[Memory.ABSTAINING] and not kept[Memory.FOUNDING]


def every_memory_is_kept(monkeypatch: Monkey) -> None:
    monkeypatch.setattr(ring_memory, "_is_younger", lambda state, ring: True)


def who_abstains_counts_as_if_all_had_answered(monkeypatch: Monkey) -> None:
    monkeypatch.setattr(ring_memory, "_younger_from", lambda state: state.younger_from or state.ring.version)


def who_is_lost_need_not_have_heard_of_all(monkeypatch: Monkey) -> None:
    honest = ring_memory._is_younger

    def is_younger(state: LedgerState, ring: RingValue) -> bool:
        sure = LedgerState(state.ring, state.memory, younger_from=state.ring.version)
        return honest(sure if state.memory == Memory.LOST else state, ring)

    monkeypatch.setattr(ring_memory, "_is_younger", is_younger)


@pytest.mark.parametrize(
    "plant",
    [
        every_memory_is_kept,
        who_abstains_counts_as_if_all_had_answered,
        who_is_lost_need_not_have_heard_of_all,
    ],
)
def test_what_a_memory_is_judged_by_is_needed(monkeypatch: Monkey, plant: Callable[[Monkey], None]) -> None:
    plant(monkeypatch)
    with pytest.raises(AssertionError, match="voted upon this forced ring"):
        explore()
