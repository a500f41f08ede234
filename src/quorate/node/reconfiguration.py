"""Reconfiguration: what operators do to the membership, and what they are told about it.

`plan` shows what a wish would do and does nothing. `commit` works the plan out again, on the ring as it is then, and
begins it only if it is still the very one that was shown (plans of equal rings and wishes are equal, id included).
From there the stewards of all members take it through its stages; nobody needs the node that was spoken to.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from quorate.core.errors import CallerError
from quorate.core.messages import StatusRequest
from quorate.core.ring.metadata import ClusterMetadata, quorums
from quorate.core.ring.plan import Plan, plan_force, plan_join, plan_leave, plan_replace, plan_weight, start
from quorate.core.ring.ring import Member
from quorate.core.ring.transition import Stage, abort, move_member
from quorate.core.ring.workers import called
from quorate.core.store import Admin, Failure, Wish
from quorate.node.anti_entropy import ranges_text
from quorate.node.candidates import Candidates, as_member
from quorate.node.context import NodeContext
from quorate.node.coordinator import NOT_TOLD
from quorate.node.gather import Answers, ask
from quorate.node.gossip_rounds import GossipRounds
from quorate.node.plan_filling import PlanFilling
from quorate.node.ring_decisions import RingDecisions
from quorate.node.steward import Steward

log = logging.getLogger(__name__)

Reply = Callable[[Admin | Failure], None]

MOVE_RETRY_MS: Final = 5_000.0
STAGE_NAMES: Final = {Stage.READ_OLD: "read old", Stage.READ_NEW: "read new"}


class Reconfiguration:
    """One node's side of all operator commands on the membership."""

    def __init__(
        self,
        node: NodeContext,
        decisions: RingDecisions,
        candidates: Candidates,
        gossip: GossipRounds,
        plan_filling: PlanFilling,
        steward: Steward,
    ) -> None:
        self._node = node
        self._decisions = decisions
        self._candidates = candidates
        self._gossip = gossip
        self._plan_filling = plan_filling
        self._steward = steward

    # --- commands ---

    def plan(self, wish: Wish, reply: Reply) -> None:
        """See `core.store.Store.plan`."""
        try:
            reply(Admin(self._document(self._plan(self._node.view.metadata, wish))))
        except CallerError as error:
            reply(Failure("caller", str(error)))

    def commit(self, wish: Wish, plan_id: str, reply: Reply) -> None:
        """See `core.store.Store.commit`."""

        def begun(present: ClusterMetadata) -> ClusterMetadata:
            found = self._plan(present, wish)
            if found.id != plan_id:
                transition = present.ring.transition
                if transition is not None and transition.plan == plan_id:
                    raise CallerError(f"plan {plan_id} has begun already")
                raise CallerError("the ring has changed since this plan was made: look at a new plan")
            return msgspec.structs.replace(present, ring=start(present.ring, found))

        self._change(begun, reply)

    def abort(self, reply: Reply) -> None:
        """See `core.store.Store.abort`."""
        self._change(lambda present: msgspec.structs.replace(present, ring=abort(present.ring)), reply)

    def force(self, lost: list[str], reply: Reply) -> None:
        """See `core.store.Store.force`."""
        node = self._node
        try:
            numbers = [number for name in lost for number in self._members_called(name)]
            if node.self_number in numbers:
                raise CallerError("this node itself is named as lost: give the command to a survivor")
            if not numbers:
                raise CallerError("name the members that are lost for good")
        except CallerError as error:
            reply(Failure("caller", str(error)))
            return

        def make(present: ClusterMetadata) -> ClusterMetadata:
            ring, _ = plan_force(present.ring, numbers, quorums(present))
            return msgspec.structs.replace(present, ring=ring)

        self._decisions.force(make, lambda failure: self._told(failure, reply))

    def announce_address(self, own: Member) -> None:
        """Have the ring say where this node is now, if that is elsewhere than it says; tried until it does."""
        node = self._node
        members = [member for member in node.view.ring.members if member.number == node.self_number]
        if not members or not node.view.told:
            if node.view.is_member:
                node.scheduler.call_later(MOVE_RETRY_MS / 10, lambda: self.announce_address(own))
            return
        told = members[0]
        wanted = msgspec.structs.replace(
            told,
            peer_address=own.peer_address,
            client_address=own.client_address,
            http_address=own.http_address,
        )
        if wanted == told:
            return

        def moved(present: ClusterMetadata) -> ClusterMetadata:
            return msgspec.structs.replace(present, ring=move_member(present.ring, wanted))

        def done(failure: Failure | None) -> None:
            if failure is None:
                log.info("the cluster knows this node at %s now", wanted.peer_address)
            else:
                log.warning("the cluster could not be told this node's new address: %s", failure.message)
                node.scheduler.call_later(MOVE_RETRY_MS, lambda: self.announce_address(own))

        self._decisions.decide(moved, done)

    def _change(self, change: Callable[[ClusterMetadata], ClusterMetadata], reply: Reply) -> None:
        if not self._node.view.told:
            reply(Failure("unavailable", NOT_TOLD))
            return
        self._decisions.decide(change, lambda failure: self._told(failure, reply))

    def _told(self, failure: Failure | None, reply: Reply) -> None:
        if failure is not None:
            reply(failure)
        else:
            self.transfers(reply)

    # --- plans ---

    def _plan(self, present: ClusterMetadata, wish: Wish) -> Plan:
        """Raises `CallerError`."""
        ring, used = present.ring, quorums(present)
        if wish.kind == "join":
            return plan_join(ring, self._newcomers_called(wish.node, ring.last_number), used)
        numbers = self._members_called(wish.node)
        if wish.kind == "leave":
            return plan_leave(ring, numbers, used, wish.stopped)
        if wish.kind == "replace":
            return plan_replace(ring, numbers, self._newcomers_called(wish.by, ring.last_number), used, wish.stopped)
        return plan_weight(ring, numbers, wish.weight, used)

    def _newcomers_called(self, name: str, last_number: int) -> list[Member]:
        candidates = self._candidates.called(name)
        return [as_member(found, last_number + place) for place, found in enumerate(candidates, start=1)]

    def _members_called(self, name: str) -> list[int]:
        """The numbers of those that are meant: one member, or all workers of a host."""
        members = self._node.view.ring.members
        found = called(members, name)
        if not found:
            raise CallerError(f"there is no member '{name}'; there are: {', '.join(one.name for one in members)}")
        return [member.number for member in found]

    def _document(self, plan: Plan) -> dict[str, Any]:
        view = self._node.view
        after = {member.number: member for member in plan.after.members}
        before = {member.number: member for member in view.ring.members}
        everybody = {**before, **after}
        names = {number: member.name for number, member in everybody.items()}
        copies = sum(plan.copied.values())
        stored = sum(placement.stores for placement in view.placements_of(view.metadata.defaults.n))
        flows = Counter((move.source, move.target) for move in plan.moves)
        n = view.metadata.defaults.n
        return {
            "id": plan.id,
            "kind": plan.kind,
            "joining": _tellable(one for one in plan.after.members if one.number not in before),
            "leaving": _tellable(one for one in view.ring.members if one.number not in after),
            "ring_version": plan.version,
            "partitions_moved": len(plan.moves),
            "fewest_moves": plan.fewest_moves,
            "copies": copies,
            "bytes": copies * self._node.engine.data_bytes() // max(1, stored),
            "flows": [
                {"from": names[source], "to": names[target], "partitions": count}
                for (source, target), count in sorted(flows.items())
            ],
            "members": [
                {
                    "name": names[share.number],
                    "weight": everybody[share.number].weight,
                    "owns_before": share.owned_before,
                    "owns_after": share.owned_after,
                    "copies_before": share.copies.get(n, (0, 0))[0],
                    "copies_after": share.copies.get(n, (0, 0))[1],
                }
                for share in plan.shares
            ],
            "warnings": plan.warnings,
        }

    # --- what is going on ---

    def transfers(self, reply: Reply) -> None:
        """See `core.store.Store.transfers`. Members say themselves how far they are."""
        node = self._node
        view = node.view
        transition = view.ring.transition
        document: dict[str, Any] = {
            "ring_version": view.version,
            "forced": node.rings.chain.confirmed.forced,
            "plan": transition.plan if transition is not None else None,
        }
        if transition is None:
            reply(Admin(document))
            return
        names = view.names
        waiting = self._steward.waiting()
        document |= {
            "stage": STAGE_NAMES[transition.stage],
            "began_version": transition.began,
            "joining": [names[number] for number in transition.joining],
            "leaving": [names[number] for number in transition.leaving],
            "stopped": [names[number] for number in transition.stopped],
            "waiting": [waiting.text(names)] if waiting is not None else ["the next stage is about to be decided"],
        }

        def done(answers: Answers) -> None:
            reports = {member: _report_of(answer) for member, answer in answers.items()}
            reports[node.self_number] = {"transfer": self.report()}
            needy = self._newcomers()
            document["members"] = [
                self._row(member, reports.get(member.number), member.number in needy) for member in view.ring.members
            ]
            reply(Admin(document))

        timeout_ms = node.options.request_timeout_ms // 2
        ask(node, view.other_numbers, lambda number: StatusRequest(number, timeout_ms), timeout_ms, done)

    def report(self) -> dict[str, Any]:
        """This node about its part in the plan."""
        return self._plan_filling.report()

    def _row(self, member: Member, report: dict[str, Any] | None, newcomer: bool) -> dict[str, Any]:
        transition = self._node.view.ring.transition
        facts = self._gossip.facts_of(member.number)
        own: dict[str, Any] = (report or {}).get("transfer") or {}
        waits = [{**row, "partitions": ranges_text(row["partitions"])} for row in own.get("waits_for", [])]
        if report is None and transition is not None:
            waits = [{"partitions": "", "members": [member.name], "reason": "it does not answer"}]
        needs = bool(own.get("partitions")) or newcomer
        began = transition.began if transition is not None else 0
        return {
            "name": member.name,
            "confirmed": facts.confirmed[1] if facts is not None else None,
            "filled": (facts is not None and facts.filled[1] == began) if needs else None,
            **{
                field: own.get(field, 0)
                for field in ("partitions", "partitions_left", "received_records", "received_bytes", "bytes_per_s")
            },
            "seconds_left": own.get("seconds_left"),
            "waits_for": waits,
        }

    def _newcomers(self) -> list[int]:
        """Who is new in any partition, whether it joins the cluster or gets more to keep."""
        joint = self._node.view.joint
        changes = [change for quorum in self._node.view.quorums for change in joint.changes(quorum.n)]
        return list(dict.fromkeys(number for before, after in changes for number in after if number not in before))

    def members(self, reply: Reply) -> None:
        """See `core.store.Store.members`."""
        node = self._node
        ring = node.view.ring
        owned = Counter(ring.owners)
        sides: dict[int, str] = {}
        if ring.transition is not None:
            sides |= dict.fromkeys(ring.transition.joining, "joins")
            sides |= dict.fromkeys(ring.transition.leaving, "leaves")
        reply(
            Admin(
                {
                    "ring_version": ring.version,
                    "members": [
                        self._member_row(member, owned[member.number], sides.get(member.number, "stays"))
                        for member in ring.members
                    ],
                    "candidates": self._candidates.rows(),
                    "departed": [{"number": gone.number, "id": gone.id} for gone in ring.departed],
                }
            )
        )

    def _member_row(self, member: Member, owns: int, side: str) -> dict[str, Any]:
        node = self._node
        facts = self._gossip.facts_of(member.number)
        state, reason = "up", ""
        if member.number != node.self_number:
            opinion = node.detector.view(member.number, node.clock.monotonic_ms())
            state, reason = opinion.state, opinion.reason
        return {
            **msgspec.to_builtins(member),
            "owns": owns,
            "state": state,
            "reason": reason,
            "side": side,
            "confirmed": facts.confirmed[1] if facts is not None else None,
            "software": facts.software if facts is not None else None,
            "wire_version": facts.wire_version if facts is not None else None,
        }


def _tellable(members: Iterable[Member]) -> list[dict[str, str]]:
    return [{"name": member.name, "id": member.id} for member in members]


def _report_of(answer: Any) -> dict[str, Any]:
    report: dict[str, Any] = msgspec.json.decode(answer.report)
    return report
