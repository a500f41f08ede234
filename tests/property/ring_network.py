"""A small network of ring chains with everything that goes wrong, from one seed.

Messages are lost, doubled, late and out of order; partitions come and go; nodes crash before a write, between a write
and the reply that waited for it, and after; disks are wiped. Operators order changes (a tag, a join, a leave) at any
node, several at once. Every vote that is given, and every ring that is believed, is looked at:

- for each base ring, more than half of its voters vote for one value at most;
- what anybody believes to be decided is what they voted for, and one ring a version;
- what a disk holds never goes back.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from typing import Any

import msgspec

from quorate.core.errors import Unavailable
from quorate.core.membership import ring_consensus as rc
from quorate.core.membership.ring_chain import RingChain
from quorate.core.membership.ring_consensus import RingId, RingValue
from quorate.core.membership.ring_ledger import Held, LedgerState, Memory
from quorate.core.membership.ring_proposer import ATTEMPT_TIMEOUT_MS, End, Proposer, retry_delay_ms
from quorate.core.membership.ring_recollection import Recollection

GOSSIP_MS = 1_000.0
Command = tuple[str, int]
"""("tag" | "join" | "leave", number)"""


class SeededRng:
    """`Rng` from a seed."""

    def __init__(self, seed: random.Random) -> None:
        self._seed = seed

    def random(self) -> float:
        return self._seed.random()

    def below(self, bound: int) -> int:
        return self._seed.randrange(bound)

    def token_bytes(self, size: int) -> bytes:
        return self._seed.randbytes(size)


def genesis(voters: tuple[int, ...]) -> RingValue:
    return RingValue("c" * 32, 0, 1, voters, msgspec.msgpack.encode([]))


def applied(ring: RingValue) -> list[Command]:
    return msgspec.msgpack.decode(ring.body, type=list[tuple[str, int]])


def planned(ring: RingValue, command: Command) -> RingValue:
    kind, number = command
    voters = set(ring.voters)
    if kind == "join":
        voters.add(number)
    elif kind == "leave":
        voters.discard(number)
    body = msgspec.msgpack.encode([*applied(ring), command])
    return RingValue(ring.cluster_id, ring.forced, ring.version + 1, tuple(sorted(voters)), body)


class Known(msgspec.Struct, array_like=True, frozen=True):
    """Gossip: the newest ring that the sender has confirmed."""

    ring: RingId


class Referee:
    """Sees every vote and every belief, and objects."""

    def __init__(self, first: RingValue) -> None:
        self.rings: dict[RingId, RingValue] = {first.id: first}
        self.votes: dict[tuple[RingId, rc.Ballot], dict[int, RingValue]] = {}
        self.chosen: dict[RingId, RingValue] = {}
        self.believed: dict[tuple[int, int], RingValue] = {first.position: first}

    def on_vote(self, member: int, base: RingId, accepted: rc.Accepted) -> None:
        votes = self.votes.setdefault((base, accepted.ballot), {})
        assert votes.setdefault(member, accepted.value) == accepted.value, "two votes in one attempt"
        voters = self.rings[base].voters
        same = [voter for voter in voters if votes.get(voter) == accepted.value]
        if 2 * len(same) > len(voters):
            assert self.chosen.setdefault(base, accepted.value) == accepted.value, f"two rings chosen after {base}"
            self.rings[accepted.value.id] = accepted.value

    def on_belief(self, ring: RingValue) -> None:
        assert self.believed.setdefault(ring.position, ring) == ring, f"two rings of {ring.position}"
        assert ring.id in self.rings, f"{ring.position} is believed, and was never chosen"


class Node:
    """One member: a chain, a disk, and commands that an operator repeats until they are in the ring."""

    def __init__(self, network: Network, number: int, saved: LedgerState) -> None:
        self.network = network
        self.number = number
        self.disk = msgspec.msgpack.encode(saved)
        self.life = 0
        self.up = False
        self.commands: list[Command] = []
        self.start()

    def start(self) -> None:
        self.up = True
        self.life += 1
        self.chain = RingChain(self.number, msgspec.msgpack.decode(self.disk, type=LedgerState))
        self.writes: list[bytes] = []
        self.write_free_ms = 0.0
        self.proposer: Proposer | None = None
        self.busy = False
        self.failed = 0
        self.highest = rc.NO_BALLOT
        self.recollection: Recollection | None = None
        self.seen_unfinished: RingValue | None = None
        self.after(self.network.random.uniform(1, GOSSIP_MS), self.tick)

    def crash(self) -> None:
        written = self.network.random.randint(0, len(self.writes))
        for state in self.writes[:written]:
            self.write(state)
        self.up = False
        self.life += 1

    def write(self, state: bytes) -> None:
        before, after = (msgspec.msgpack.decode(raw, type=LedgerState) for raw in (self.disk, state))
        assert after.ring.position >= before.ring.position, "a decided ring was forgotten"
        self.disk = state
        if after.accepted is not None:
            self.network.referee.on_vote(self.number, after.ring.id, after.accepted)

    def after(self, delay_ms: float, action: Callable[[], None]) -> None:
        life = self.life
        self.network.at(delay_ms, lambda: action() if self.life == life else None)

    def once_durable(self, held: Held[Any], then: Callable[[Any], None]) -> None:
        state = held.take()
        if state is None:
            then(held.saved())
            return
        raw = msgspec.msgpack.encode(state)
        self.writes.append(raw)
        slow = not self.network.calm and self.network.random.random() < self.network.slow_disk
        delay_ms = self.network.random.uniform(0, 1_000 if slow else 20)
        delay_ms = max(delay_ms, self.write_free_ms - self.network.now_ms + 0.01)  # writes are done in order
        self.write_free_ms = self.network.now_ms + delay_ms
        if self.network.hasty:
            then(held.saved())

        def written() -> None:
            self.writes.pop(0)
            self.write(raw)
            if not self.network.calm and self.network.random.random() < 0.02:
                self.network.crash(self)
            elif not self.network.hasty:
                then(held.saved())

        self.after(delay_ms, written)
        if not self.network.calm and self.network.random.random() < 0.04:
            self.after(self.network.random.uniform(0, 2 * delay_ms), lambda: self.network.crash(self))

    def send(self, to: int, message: Any) -> None:
        self.network.send(self.number, to, message)

    def receive(self, sender: int, message: Any) -> None:
        def answer(reply: Any) -> None:
            if isinstance(reply, rc.Assent):
                self.network.referee.on_vote(self.number, message.base, rc.Accepted(message.ballot, message.value))
            self.send(sender, reply)

        chain = self.chain
        if isinstance(message, rc.Prepare):
            self.once_durable(chain.on_prepare(sender, message), answer)
        elif isinstance(message, rc.Accept):
            self.once_durable(chain.on_accept(sender, message), answer)
        elif isinstance(message, rc.Announcement):
            self.learn(message.ring)
        elif isinstance(message, rc.RecallQuestion):
            self.send(sender, chain.on_recall(message))
        elif isinstance(message, rc.RecallAnswer):
            self.on_recall_answer(sender, message)
        elif isinstance(message, Known):
            news = chain.news_for(message.ring)
            if news is not None:
                self.send(sender, rc.Announcement(news))
            elif chain.behind(message.ring):
                self.send(sender, Known(chain.confirmed.id))
        elif self.proposer is not None:
            for to, question in self.proposer.on_reply(sender, message):
                self.send(to, question)
            self.look_at(self.proposer)
        self.network.referee.on_belief(chain.ring)

    def learn(self, ring: RingValue) -> None:
        self.network.referee.on_belief(ring)
        self.once_durable(self.chain.learn(ring), lambda _: self.pursue())

    def tick(self) -> None:
        peers = [number for number in self.network.nodes if number != self.number]
        self.send(self.network.random.choice(peers), Known(self.chain.confirmed.id))
        if self.chain.recollects:
            self.recollection = Recollection(self.number, self.chain.ring, self.network.random.getrandbits(64))
            for to, question in self.recollection.questions():
                self.send(to, question)
        unfinished = self.chain.unfinished
        if unfinished is not None and unfinished == self.seen_unfinished and not self.busy:
            self.propose(unfinished)
        self.seen_unfinished = unfinished
        self.pursue()
        self.after(GOSSIP_MS, self.tick)

    def on_recall_answer(self, sender: int, answer: rc.RecallAnswer) -> None:
        recollection = self.recollection
        if recollection is None:
            return
        recollection.on_answer(sender, answer)
        if recollection.newer is not None:
            self.learn(recollection.newer)
        elif recollection.memory is not None:
            self.once_durable(self.chain.recollect(recollection), lambda _: None)

    def pursue(self) -> None:
        """Go on with the operator's commands."""
        done = applied(self.chain.ring)
        self.commands = [command for command in self.commands if command not in done]
        # Two voters, one of them wiped, are a lost majority: nobody leaves before somebody joined.
        possible = [command for command in self.commands if command[0] != "leave" or len(self.chain.ring.voters) > 3]
        if possible and not self.busy:
            self.propose(planned(self.chain.ring, possible[0]))

    def propose(self, value: RingValue) -> None:
        try:
            held = self.chain.begin(value, self.highest)
        except Unavailable:
            self.network.hand_over(self)
            return
        self.busy = True
        self.once_durable(held, self.run)

    def run(self, proposer: Proposer) -> None:
        self.proposer = proposer
        for to, question in proposer.start():
            self.send(to, question)

        def late() -> None:
            proposer.on_timeout()
            self.look_at(proposer)

        self.after(ATTEMPT_TIMEOUT_MS, late)
        self.look_at(proposer)

    def look_at(self, proposer: Proposer) -> None:
        outcome = proposer.outcome
        if outcome is None or self.proposer is not proposer:
            return
        self.proposer = None
        if outcome.ring is not None:
            self.busy = False
            self.failed = 0
            self.highest = rc.NO_BALLOT
            if outcome.end is End.DECIDED:
                for to in sorted({*proposer.base.voters, *outcome.ring.voters}):
                    self.send(to, rc.Announcement(outcome.ring))
            self.learn(outcome.ring)
            return
        self.highest = outcome.highest
        self.failed += 1
        delay_ms = retry_delay_ms(min(self.failed, 10), SeededRng(self.network.random))
        assert delay_ms is not None

        def again() -> None:
            self.busy = False
            self.pursue()

        self.after(delay_ms, again)


class Network:
    """The nodes, the wires between them, virtual time, and the faults that `seed` brings."""

    def __init__(self, seed: int, voters: int = 3, joiners: int = 2, founding: Memory = Memory.WHOLE) -> None:
        self.random = random.Random(seed)
        self.hasty = False
        """A planted bug: replies leave before the state that they tell of is durable."""
        self.slow_disk = 0.1
        self.calm = False
        self.now_ms = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._made = 0
        self.loss = self.random.choice([0.0, 0.05, 0.2])
        self.cut: frozenset[tuple[int, int]] = frozenset()
        self.wiped_memory = Memory.LOST
        self.wipes = 0
        first = genesis(tuple(range(1, voters + 1)))
        self.referee = Referee(first)
        self.nodes: dict[int, Node] = {}
        for number in range(1, voters + joiners + 1):
            memory = founding if number <= voters else Memory.WHOLE
            self.nodes[number] = Node(self, number, LedgerState(first, memory))

    def at(self, delay_ms: float, action: Callable[[], None]) -> None:
        self._made += 1
        heapq.heappush(self._events, (self.now_ms + delay_ms, self._made, action))

    def send(self, sender: int, to: int, message: Any) -> None:
        kind, raw = type(message), msgspec.msgpack.encode(message)
        copies = 1
        if not self.calm and sender != to:
            copies = 0 if self.random.random() < self.loss else 2 if self.random.random() < 0.1 else 1
        for _ in range(copies):
            slow = not self.calm and self.random.random() < 0.1
            delay_ms = self.random.uniform(0, 3_000) if slow else self.random.uniform(1, 30)
            self.at(delay_ms, lambda: self._deliver(sender, to, msgspec.msgpack.decode(raw, type=kind)))

    def _deliver(self, sender: int, to: int, message: Any) -> None:
        node = self.nodes[to]
        if node.up and (sender, to) not in self.cut:
            node.receive(sender, message)

    def hand_over(self, node: Node) -> None:
        """The operator turns to another node."""
        commands, node.commands = node.commands, []
        others = [number for number in sorted(self.nodes) if number != node.number]
        self.nodes[self.random.choice(others)].commands += commands

    def crash(self, node: Node) -> None:
        if not node.up:
            return
        node.crash()
        self.at(self.random.uniform(10, 4_000), lambda: None if node.up else node.start())

    def wipe(self, node: Node) -> None:
        """`node` loses its disk, and hears of some ring from some peer, which may lag."""
        states = [msgspec.msgpack.decode(other.disk, type=LedgerState) for other in self.nodes.values()]
        unsure = (Memory.LOST, Memory.ABSTAINING, Memory.FOUNDING)
        if any(state.memory in unsure or len(state.ring.voters) < 3 for state in states):
            return  # more than one voter without a memory is a lost majority
        if node.up:
            node.crash()
        rings = [state.ring for state in states]
        told = self.random.choice([self.random.choice(rings), min(rings, key=lambda ring: ring.position)])
        node.disk = msgspec.msgpack.encode(LedgerState(told, self.wiped_memory))
        node.start()
        self.wipes += 1

    def fault(self) -> None:
        """One random fault, and the next one later."""
        if self.calm:
            return
        numbers = sorted(self.nodes)
        roll = self.random.random()
        if roll < 0.45:
            self.crash(self.nodes[self.random.choice(numbers)])
        elif roll < 0.6:
            self.wipe(self.nodes[self.random.choice(numbers)])
        elif roll < 0.8:
            side = {number for number in numbers if self.random.random() < 0.5}
            both = self.random.random() < 0.7
            pairs = [(a, b) for a in numbers for b in numbers]
            self.cut = frozenset(
                (a, b) for a, b in pairs if (a in side and b not in side) or (both and a not in side and b in side)
            )
        else:
            self.cut = frozenset()
        self.at(self.random.uniform(50, 1_500), self.fault)

    def order(self, command: Command, number: int, at_ms: float) -> None:
        """An operator gives `command` to a node at some time."""

        def ordered() -> None:
            node = self.nodes[number]
            node.commands.append(command)
            if node.up:
                node.pursue()

        self.at(at_ms, ordered)

    def run_until(self, end_ms: float, done: Callable[[], bool] = lambda: False) -> None:
        while self._events and self._events[0][0] <= end_ms and not done():
            self.now_ms, _, action = heapq.heappop(self._events)
            action()

    def heal(self) -> None:
        """No more faults; who is down comes up."""
        self.calm = True
        self.cut = frozenset()
        for node in self.nodes.values():
            if not node.up:
                node.start()

    def settled(self, commands: list[Command]) -> bool:
        """Every command is in the ring, and every node has confirmed that ring."""
        rings = [node.chain.confirmed for node in self.nodes.values()]
        return all(ring == rings[0] for ring in rings) and sorted(applied(rings[0])) == sorted(commands)


def live(seed: int, *, spoil: Callable[[Network], None] = lambda _: None, founding: Memory = Memory.WHOLE) -> Network:
    """A whole life: faults with commands in between, then peace, in which all must come to be done.

    `founding` is what the first voters remember: LOST in a cluster that cannot tell whether it is new.
    """
    network = Network(seed, voters=3 + seed % 3, joiners=2, founding=founding)
    spoil(network)
    voters, numbers = 3 + seed % 3, sorted(network.nodes)
    commands: list[Command] = [
        ("join", voters + 1),
        ("join", voters + 2),
        ("leave", 1),
        *[("tag", n) for n in range(6)],
    ]
    for command in commands:
        choice = network.random.choice(numbers)
        network.order(command, choice, network.random.choice([1_000.0, network.random.uniform(0, 12_000)]))
    network.at(500, network.fault)
    network.run_until(15_000)
    network.heal()
    network.run_until(200_000, lambda: network.settled(commands))
    found = [
        (node.number, node.chain.ring.version, node.chain.memory, node.commands) for node in network.nodes.values()
    ]
    assert network.settled(commands), f"never settled: {found}"
    assert len(network.referee.chosen) == len(commands), "each command made one version"
    return network
