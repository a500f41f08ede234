"""The steward: takes a plan through its stages (`core.ring.advance`), on whichever member is there to do it.

Every voter looks once a second whether the next stage may be decided, first by what gossip told. If so, it waits a
moment longer the higher it stands among the voters, so that usually one proposes; then it asks the members themselves,
since what gossip told may be of a former life of a wiped node (decision 0017), and proposes the next ring. If the
proposer dies, the next one in the row goes on (hard case 19): a plan is never stuck for want of the node that the
operator spoke to.

Rejected: a lease or a leader for plans (Paxos settles who wins; two proposals at once cost a round trip).
"""

from __future__ import annotations

import logging
from typing import Any, Final

import msgspec

from quorate.core.errors import CallerError
from quorate.core.messages import StandingAsk, StandingReply
from quorate.core.ring.advance import Waiting, may_advance
from quorate.core.ring.metadata import ClusterMetadata
from quorate.core.ring.transition import Stage, next_stage
from quorate.core.store import Failure
from quorate.node.context import NodeContext
from quorate.node.gather import Answers, ask
from quorate.node.gossip_rounds import GossipRounds
from quorate.node.plan_filling import PlanFilling
from quorate.node.ring_decisions import RingDecisions

log = logging.getLogger(__name__)

LOOK_INTERVAL_MS: Final = 500.0
RANK_DELAY_MS: Final = 2_000.0
STANDING_TIMEOUT_MS: Final = 1_000
LEAVER_PATIENCE_MS: Final = 60_000.0
"""How long the last stage waits for a member that leaves and is out of reach at that moment."""


class Steward:
    """One node's part in moving plans on."""

    def __init__(
        self, node: NodeContext, decisions: RingDecisions, gossip: GossipRounds, plan_filling: PlanFilling
    ) -> None:
        self._node = node
        self._decisions = decisions
        self._gossip = gossip
        self._plan_filling = plan_filling
        self._may_since_ms: float | None = None
        """Since when the next stage could be decided, as far as gossip tells."""
        self._busy = False

    def start(self) -> None:
        self._node.scheduler.call_later(LOOK_INTERVAL_MS, self._look)

    def waiting(self) -> Waiting | None:
        """What the next stage waits for as far as this node knows; None: for nothing. Only during a plan."""
        return self._judge({})

    def on_ask(self, member: int, message: StandingAsk) -> None:
        node = self._node
        told = node.view.told
        confirmed = node.rings.chain.confirmed.position if told else (0, 0)
        filled = self._plan_filling.filled if told else (0, 0)
        node.transport.send(member, StandingReply(message.id, confirmed, filled))

    def _judge(self, answers: dict[int, Any]) -> Waiting | None:
        """By gossip, and by what members have answered just now, which counts more."""
        node = self._node
        forced = node.rings.chain.confirmed.forced
        confirmed: dict[int, int] = {}
        filled: dict[int, int] = {}
        for member in node.view.ring.members:
            standing = answers.get(member.number) or self._gossip.facts_of(member.number)
            if standing is None:
                continue
            if standing.confirmed[0] == forced:
                confirmed[member.number] = standing.confirmed[1]
            if standing.filled[0] == forced:
                filled[member.number] = standing.filled[1]
        return may_advance(node.view.joint, confirmed, filled, node.view.quorums)

    def _look(self) -> None:
        node = self._node
        node.scheduler.call_later(LOOK_INTERVAL_MS, self._look)
        voters = sorted(node.rings.chain.ring.voters)
        if node.view.ring.transition is None or node.self_number not in voters or self._busy or not node.view.told:
            self._may_since_ms = None
            return
        if self._judge({}) is not None:
            self._may_since_ms = None
            return
        now_ms = node.clock.monotonic_ms()
        if self._may_since_ms is None:
            self._may_since_ms = now_ms
        waited_ms = now_ms - self._may_since_ms
        if waited_ms < LEAVER_PATIENCE_MS and self._leaver_is_away():
            return
        usable = [member for member in voters if node.usable(member)]
        rank = usable.index(node.self_number) if node.self_number in usable else len(usable)
        if waited_ms >= rank * RANK_DELAY_MS:
            self._busy = True
            self._ask()

    def _leaver_is_away(self) -> bool:
        """Is a member out of reach that this plan lets go at its next stage? It may hold hints, and once it is gone it
        is refused (hard case 14). One that has stopped for good is named as such by the operator."""
        node = self._node
        transition = node.view.ring.transition
        if transition is None or transition.stage != Stage.READ_NEW:
            return False
        return any(number not in transition.stopped and not node.usable(number) for number in transition.leaving)

    def _ask(self) -> None:
        ask(self._node, self._node.view.other_numbers, StandingAsk, STANDING_TIMEOUT_MS, self._asked)

    def _asked(self, answers: Answers) -> None:
        node = self._node
        transition = node.view.ring.transition
        if transition is None or self._judge(answers) is not None:
            self._busy = False
            self._may_since_ms = None
            return
        plan, stage = transition.plan, transition.stage

        def advance(present: ClusterMetadata) -> ClusterMetadata:
            now = present.ring.transition
            if now is None or (now.plan, now.stage) != (plan, stage):
                raise CallerError("somebody else has moved the plan on")
            return msgspec.structs.replace(present, ring=next_stage(present.ring))

        def done(failure: Failure | None) -> None:
            self._busy = False
            self._may_since_ms = None
            if failure is None:
                log.info("plan %s has passed the stage %s", plan, stage.name)

        self._decisions.decide(advance, done)
