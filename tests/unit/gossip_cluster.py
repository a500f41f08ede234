"""A cluster of nothing but gossip: rounds in a seeded order, with messages lost, and every byte counted.

In a round each node begins one conversation, in an order drawn anew, and a conversation ends before the next begins:
its messages take milliseconds, a round takes a second. Messages pass through their encoding. A node that hears of a
newer ring fetches it at once from the one that told it, if none of the two messages that this takes is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from quorate.core.membership.gossip import Gossip, GossipMessage, MemberFacts, RingRank
from quorate.sim.random_streams import SeededRng

RING = (0, 1)


def uuid(number: int) -> str:
    return f"{number:032x}"


def facts(number: int = 1, confirmed: RingRank = RING, leaving: bool = False, software: str = "0.1.0") -> MemberFacts:
    host = f"10.0.{number >> 8 & 255}.{number & 255}"
    return MemberFacts(confirmed, (0, 0), leaving, f"{host}:7600", f"{host}:7400", f"{host}:7500", software)


def members(*numbers: int) -> dict[int, str]:
    return {number: uuid(number) for number in numbers}


def node(number: int, ring_members: Mapping[int, str], incarnation: int = 1_000, software: str = "0.1.0") -> Gossip:
    gossip = Gossip(number, uuid(number), incarnation, facts(number, software=software))
    gossip.set_ring(RING, ring_members)
    return gossip


class GossipCluster:
    """`size` members that hold the ring `RING`, numbered from 1, and know only themselves."""

    def __init__(self, size: int, seed: int = 1, loss: float = 0.0) -> None:
        self.rng = SeededRng(seed)
        self.loss = loss
        self.rings: dict[RingRank, dict[int, str]] = {RING: members(*range(1, size + 1))}
        self.nodes = {number: node(number, self.rings[RING]) for number in self.rings[RING]}
        self.bytes = 0
        self.messages = 0
        self.largest_bytes = 0

    def round(self) -> None:
        for number in self.rng.sample(sorted(self.nodes), len(self.nodes)):
            begun = self.nodes[number].round(self.rng)
            if begun is not None:
                self.converse(number, *begun)

    def converse(self, sender: int, receiver: int, message: GossipMessage) -> int:
        """Deliver `message` and what is answered; gives the number of messages sent."""
        sent = 0
        answer: GossipMessage | None = message
        while answer is not None:
            sent += 1
            encoded = msgspec.msgpack.encode(answer)
            self.bytes += len(encoded)
            self.messages += 1
            self.largest_bytes = max(self.largest_bytes, len(encoded))
            if receiver not in self.nodes or self.rng.chance(self.loss):
                break
            heard = self.nodes[receiver].receive(msgspec.msgpack.decode(encoded, type=type(answer)))
            if heard.ring_newer and not (self.rng.chance(self.loss) or self.rng.chance(self.loss)):
                rank = self.nodes[sender].ring
                self.nodes[receiver].set_ring(rank, self.rings[rank])
            sender, receiver, answer = receiver, sender, heard.answer
        return sent

    def rounds_until(self, reached: Callable[[Gossip], bool], limit: int = 60) -> int:
        """Rounds until it is so at every node."""
        for rounds in range(limit):
            if all(map(reached, self.nodes.values())):
                return rounds
            self.round()
        raise AssertionError(f"not everywhere after {limit} rounds")

    def agree(self) -> bool:
        """Does every node know the present state of every member?"""
        present = {number: gossip.own for number, gossip in self.nodes.items()}
        return all(
            gossip.states() == {number: present[number] for number in sorted(self.rings[gossip.ring])}
            for gossip in self.nodes.values()
        )

    def rounds_until_agreed(self, limit: int = 60) -> int:
        """Rounds until every node knows the present state of every member."""
        for rounds in range(limit):
            if self.agree():
                return rounds
            self.round()
        raise AssertionError(f"no agreement after {limit} rounds")
