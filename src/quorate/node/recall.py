"""Recall: how a store that lost its disk learns how the cluster stands, before it answers anything.

Its member may have confirmed a ring, and may have voted, in a life that it knows nothing of; acting by an older ring
would break what others build on that (`core.ring.advance`, rule F). So it asks all voters of the ring it knows; who is
ahead sends the newer one, and the questions are put again there (`core.membership.ring_recollection`).

It serves as soon as it is certain. If some voters stay out of reach for `PATIENCE_MS`, a majority (itself included)
that stands where it stands is enough to serve, though not to vote: a write must not be refused because one disk was
lost while another node is down. What that risks is named in decision 0018.
"""

from __future__ import annotations

import logging
from typing import Final

from quorate.core.membership.ring_consensus import RecallAnswer, RecallQuestion, majority
from quorate.core.membership.ring_ledger import Memory
from quorate.core.membership.ring_recollection import NONCE_BYTES, Recollection
from quorate.node.context import NodeContext

log = logging.getLogger(__name__)

ASK_INTERVAL_MS: Final = 250.0
PATIENCE_MS: Final = 5_000.0


class Recall:
    """Both sides: the wiped node's questions, and everybody's answers."""

    def __init__(self, node: NodeContext) -> None:
        self._node = node
        self._round: Recollection | None = None
        self._began_ms = 0.0
        self._asking = False

    def start(self) -> None:
        """Ask until the memory is whole enough to vote. Does nothing in a store that has lost nothing.

        To be called again with each newer ring: a forced one, or a gap, may be more than the memory reaches over.
        """
        if not self._asking and self._node.rings.chain.recollects:
            self._asking = True
            self._began_ms = self._node.clock.monotonic_ms()
            self._ask()

    def on_connected(self) -> None:
        """Somebody more can be asked."""
        if self._asking and self._round is not None:
            self._put(self._round)

    def _ask(self) -> None:
        chain = self._node.rings.chain
        self._asking = chain.recollects and not self._node.rings.failed
        if not self._asking:
            return
        if chain.memory is Memory.ABSTAINING:
            self._round = None  # What was heard of a moment ago is no reason to vote now.
        self._ask_once()
        self._judge()
        self._node.scheduler.call_later(ASK_INTERVAL_MS, self._ask)

    def _ask_once(self) -> None:
        """Put the question upon the newest ring that this node knows."""
        node = self._node
        base = node.rings.chain.ring
        if self._round is None or self._round.base.id != base.id:
            nonce = int.from_bytes(node.rng.token_bytes(NONCE_BYTES), "big") ^ node.rng.below(1 << 62)
            self._round = Recollection(node.self_number, base, nonce)
        self._put(self._round)

    def _put(self, recollection: Recollection) -> None:
        for member, question in recollection.questions():
            self._node.transport.send(member, question)

    def on_question(self, member: int, message: RecallQuestion) -> None:
        self._node.transport.send(member, self._node.rings.chain.on_recall(message))

    def on_answer(self, member: int, message: RecallAnswer) -> None:
        recollection = self._round
        if recollection is None or not self._asking:
            return
        recollection.on_answer(member, message)
        newer = recollection.newer
        if newer is not None:
            self._round = None
            self._node.rings.learn(newer)
            self._node.scheduler.call_soon(self._ask_anew)
        else:
            self._judge()

    def _ask_anew(self) -> None:
        """Beside the regular round: a newer ring was heard of."""
        if self._asking and self._round is None:
            self._ask_once()

    def _judge(self) -> None:
        recollection, node = self._round, self._node
        if recollection is None or recollection.base.id != node.rings.chain.ring.id:
            return
        if recollection.brings_something:
            node.rings.settle(node.rings.chain.recollect(recollection), self._recalled)
        if recollection.memory is None and not node.view.told and node.view.version == recollection.base.version:
            enough = 1 + recollection.heard >= majority(recollection.base.voters)
            if enough and node.clock.monotonic_ms() - self._began_ms >= PATIENCE_MS:
                log.warning("this store is new and not all members answer: it serves by what a majority says")
                node.view.be_told()

    def _recalled(self, _: None) -> None:
        if self._node.rings.chain.memory is not Memory.LOST:
            self._node.view.be_told()
