"""The membership of one node, put together: who learns of rings, decides on them, and does what they ask.

`RingKeeper` says by which ring the node goes; here everybody else is told when that changes, in one fixed order: the
transport first, so that new members can be reached, then what is known of members, then the work that follows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from quorate.core.membership import gossip as gossiped
from quorate.core.membership import ring_consensus as consensus
from quorate.core.membership.gossip import RingRank
from quorate.core.messages import StandingAsk, StandingReply
from quorate.core.ring.ring import Member
from quorate.node.bucket_changes import BucketChanges
from quorate.node.candidates import Candidates
from quorate.node.context import NodeContext
from quorate.node.departure import Departure
from quorate.node.gossip_rounds import GossipRounds
from quorate.node.plan_filling import PlanFilling
from quorate.node.recall import Recall
from quorate.node.reconfiguration import Reconfiguration
from quorate.node.ring_decisions import RingDecisions
from quorate.node.steward import Steward

LINGER_MAX_MS: Final = 1_800_000.0
"""How long a member that has left may keep its connections, to hand over what it holds for others."""

Handler = Callable[[int, Any, float], None]


class Membership:
    """All parts of it; made once by `Node`."""

    def __init__(
        self,
        node: NodeContext,
        own: Member,
        software: str,
        on_departed: Callable[[], None],
        on_member_connected: Callable[[int], None],
    ) -> None:
        """`on_member_connected(number)`: somebody who has become a member is connected already."""
        self._node = node
        self._own = own
        self._on_member_connected = on_member_connected
        self.on_ring: list[Callable[[], None]] = []
        """Called, in this order, when the node goes by a newer ring, after all that is here."""
        self._lingering: dict[int, float] = {}
        """Members that departed and may still have something to hand over → until when (monotonic milliseconds)."""
        self._stopped = node.view.ring.stopped
        """Who has stopped for good by the ring before the next one: it has nothing to hand over, and is refused."""
        self._known = dict(node.view.names)
        """The members of the ring before the next one."""
        self.decisions = RingDecisions(node)
        self._recall = Recall(node)
        self._gossip = GossipRounds(node, own, software)
        self._plan_filling = node.plan_filling = PlanFilling(node, self._on_filled)
        self._steward = Steward(node, self.decisions, self._gossip, self._plan_filling)
        self.candidates = Candidates(node)
        self.reconfiguration = Reconfiguration(
            node, self.decisions, self.candidates, self._gossip, self._plan_filling, self._steward
        )
        self.buckets = BucketChanges(node, self.decisions)
        self.departure = Departure(node, on_departed)
        node.rings.on_adopted = self._on_ring

    def start(self) -> None:
        """Begin to take part."""
        self._set_members()
        self.decisions.start()
        self._recall.start()
        self._gossip.start()
        self._plan_filling.start()
        self._steward.start()
        self.reconfiguration.announce_address(self._own)
        self.departure.on_ring()

    def on_connected(self) -> None:
        """A member has connected."""
        self._recall.on_connected()

    def handlers(self, on_reply: Handler) -> dict[type, Handler]:
        """Of the messages about the ring. No deadline matters for them, so their age does not."""

        def plain(handler: Callable[[int, Any], None]) -> Handler:
            return lambda member, message, age_ms: handler(member, message)

        rings, decisions, recall = self._node.rings, self.decisions, self._recall
        gossip, voted = plain(self._gossip.on_gossip), plain(decisions.on_reply)
        return {
            consensus.Prepare: plain(decisions.on_prepare),
            consensus.Accept: plain(decisions.on_accept),
            consensus.Promise: voted,
            consensus.Assent: voted,
            consensus.Refusal: voted,
            consensus.Announcement: plain(rings.on_announcement),
            consensus.RingAsk: plain(rings.on_ring_ask),
            consensus.RecallQuestion: plain(recall.on_question),
            consensus.RecallAnswer: plain(recall.on_answer),
            gossiped.GossipSyn: gossip,
            gossiped.GossipDigest: gossip,
            gossiped.GossipStates: gossip,
            StandingAsk: plain(self._steward.on_ask),
            StandingReply: on_reply,
        }

    # --- inside ---

    def _on_ring(self) -> None:
        """The node goes by a newer ring."""
        node = self._node
        view, now_ms = node.view, node.clock.monotonic_ms()
        before, self._known = self._known, dict(view.names)
        stopped, self._stopped = self._stopped, view.ring.stopped
        for number in before:
            if number not in view.names:
                node.disconnected.pop(number, None)
                node.detector.forget(number)
                if number not in stopped:
                    self._lingering[number] = now_ms + LINGER_MAX_MS
                node.rings.tell(number)  # It is in no ring that is announced to members.
        node.trees.buckets_changed()
        self._set_members()
        for number in view.other_numbers:
            if number not in before:
                node.disconnected[number] = True
                if node.transport.connected(number):
                    self._on_member_connected(number)
        self._recall.start()
        self.decisions.on_ring()
        self._gossip.on_ring()
        self._plan_filling.on_ring()
        for tell in self.on_ring:
            tell()
        self.departure.on_ring()

    def _set_members(self) -> None:
        """Have the transport connect with the ring's members."""
        node = self._node
        now_ms, ring = node.clock.monotonic_ms(), node.view.ring
        self._lingering = {number: until for number, until in self._lingering.items() if until > now_ms}
        node.transport.set_members(ring.members, ring.departed, list(self._lingering))
        if self._lingering:
            node.scheduler.call_later(LINGER_MAX_MS, self._set_members)

    def _on_filled(self, rank: RingRank) -> None:
        self._gossip.filled = rank
        self._gossip.on_ring()
