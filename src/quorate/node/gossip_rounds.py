"""Gossip between nodes: once a second with one random other member (`core.membership.gossip`; SOSP 2007, §4.8.1).

What this node says of itself is put together here: the ring it goes by, the plan it is filled for, its addresses, its
program. The incarnation, which makes it outrank what an earlier life said, is persisted before the first round.
"""

from __future__ import annotations

import logging
from typing import Final

from quorate.core.errors import StorageError
from quorate.core.membership.gossip import (
    ROUND_INTERVAL_MS,
    Gossip,
    GossipMessage,
    MemberFacts,
    RingRank,
    next_incarnation,
)
from quorate.core.ports import Space
from quorate.core.ring.ring import Member
from quorate.node.context import NodeContext
from quorate.node.documents import load_whole, sealed

log = logging.getLogger(__name__)

INCARNATION_KEY: Final = b"incarnation"
NOTHING_FILLED: Final[RingRank] = (0, 0)


class GossipRounds:
    """This node's conversations, and what it knows of the others by them."""

    def __init__(self, node: NodeContext, own: Member, software: str) -> None:
        self._node = node
        self._own = own
        self._software = software
        self.filled: RingRank = NOTHING_FILLED
        """The ring that began the plan for which this node holds all that it is to own."""
        self._gossip = Gossip(node.self_number, own.id, self._next_incarnation(), self._facts())
        self.on_ring()

    def start(self) -> None:
        self._node.scheduler.call_later(ROUND_INTERVAL_MS * self._node.rng.random(), self._round)

    def on_ring(self) -> None:
        """This node goes by another ring, or is filled: spread it with the next conversation."""
        ring = self._node.view.ring
        rank = self._node.rings.chain.confirmed.position
        self._gossip.set_ring(rank, {member.number: member.id for member in ring.members})
        self._gossip.announce(self._facts())

    def on_gossip(self, member: int, message: GossipMessage) -> None:
        """Raises `PeerError`."""
        heard = self._gossip.receive(message)
        if heard.answer is not None:
            self._node.transport.send(member, heard.answer)
        if heard.ring_newer:
            self._node.rings.ask(member, message.ring[1])
        if heard.refuted:
            self._persist(self._gossip.own.incarnation)
        if heard.ignored:
            self._node.count("gossip_states_ignored", heard.ignored)

    def facts_of(self, member: int) -> MemberFacts | None:
        """What a member said of itself last, as far as this node has heard."""
        if member == self._node.self_number:
            return self._facts()
        state = self._gossip.state(member)
        return None if state is None else state.facts

    def _facts(self) -> MemberFacts:
        own = self._own
        return MemberFacts(
            confirmed=self._node.rings.chain.confirmed.position,
            filled=self.filled,
            leaving=False,
            peer_address=own.peer_address,
            client_address=own.client_address,
            http_address=own.http_address,
            software=self._software,
        )

    def _round(self) -> None:
        node = self._node
        node.scheduler.call_later(ROUND_INTERVAL_MS, self._round)
        connected = node.transport.connected
        begun = self._gossip.round(node.rng, [other for other in node.view.other_numbers if not connected(other)])
        if begun is not None:
            node.transport.send(*begun)

    def _next_incarnation(self) -> int:
        node = self._node
        raw = load_whole(node.engine, INCARNATION_KEY)  # Damaged, it counts as unknown: the clock makes it rise.
        previous = 0 if raw is None else int.from_bytes(raw, "big")
        incarnation = next_incarnation(previous, node.clock.wall_ms())
        self._persist(incarnation)
        return incarnation

    def _persist(self, incarnation: int) -> None:
        try:
            self._node.engine.write([(Space.META, INCARNATION_KEY, sealed(incarnation.to_bytes(8, "big")))])
        except StorageError as error:
            log.error("the incarnation could not be noted: %s", error)
