"""A small cluster in which a test keeps messages back: held for later, or never delivered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from quorate.core.buckets import default_properties
from quorate.core.membership import ring_consensus
from quorate.core.messages import Message
from tests.unit.membership_cluster import MembershipCluster

ABOUT_RINGS = (
    ring_consensus.Prepare,
    ring_consensus.Accept,
    ring_consensus.Promise,
    ring_consensus.Assent,
    ring_consensus.Refusal,
    ring_consensus.Announcement,
    ring_consensus.RecallQuestion,
    ring_consensus.RecallAnswer,
    ring_consensus.RingAsk,
)
"""All that brings a ring. Gossip only says that there is a newer one."""

Envelope = tuple[int, int, Message]
"""(sender, receiver, message)"""


class HoldingCluster(MembershipCluster):
    """Its default bucket is strict, so that W acknowledgements are W replicas."""

    def __init__(self, size: int, strict: bool = True) -> None:
        self.held: list[Envelope] = []
        self.holds: Callable[[int, int, Message], bool] = lambda sender, target, message: False
        self.deaf: tuple[int, ...] = ()
        """Members that no ring reaches, and that have no part in decisions."""
        super().__init__(size, defaults=msgspec.structs.replace(default_properties(size), strict=strict))

    def transmit(self, sender: int, target: int, message: Message) -> None:
        if isinstance(message, ABOUT_RINGS) and (sender in self.deaf or target in self.deaf):
            return
        if self.holds(sender, target, message):
            self.held.append((sender, target, message))
        else:
            super().transmit(sender, target, message)

    def hold(self, kind: type[Any], milliseconds: float) -> None:
        """Run on, and keep back what is sent of this kind meanwhile."""
        self.holds = lambda sender, target, message: isinstance(message, kind)
        self.world.run(milliseconds)
        self.holds = lambda sender, target, message: False

    def release(self, chosen: Callable[[Envelope], bool] = lambda envelope: True) -> None:
        """Deliver what was held and is `chosen`; the rest stays."""
        going = [envelope for envelope in self.held if chosen(envelope)]
        self.held = [envelope for envelope in self.held if not chosen(envelope)]
        for envelope in going:
            self.transmit(*envelope)
