"""Changes of the membership: an operator who lets nodes join, leave and be replaced while everything else goes wrong.

He asks any node for a plan and commits it there, sometimes two at once at two nodes; aborts some, at once or late;
gives members another weight, moves them to other addresses, changes a bucket's properties in between; kills a member
for good and says so; and starts one again that was removed, from its old disk (hard case 16). His nodes die on the way:
the one that he spoke to, newcomers, and whoever sends or gets a certain message of a plan.

A candidate has no process here, only its `Candidacy`, which is handed to the node that is about to be asked. Its
machine starts when a decided ring contains it, in time or late.

What he may do is bounded by what the store promises. A member leaves only while every acknowledged write would survive
without its disk, and from then on no fault may rely on that: it may be out of reach for as long as the plan takes, and
nobody waits for it. Not promised, and not judged: writes and reads with less than the bucket's w and r, of which a
plan's stages know nothing (`core.ring.advance`).
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from quorate.core.messages import Candidacy, Message
from quorate.core.ports import Space
from quorate.core.ring.metadata import voters
from quorate.core.ring.ring import Member
from quorate.core.ring.transition import StagedRing, Transition
from quorate.core.store import Admin, Failure, Wish
from quorate.node.node import Node
from quorate.sim.cluster import Cluster, make_member
from quorate.sim.faults.kinds import MEMBERSHIP
from quorate.sim.faults.scene import Occurrence
from quorate.sim.faults.schedule import Faults
from quorate.sim.history import Violation
from quorate.sim.random_streams import Streams
from quorate.sim.registers.history import Value
from quorate.sim.registers.metadata import PLANS, OperatorLog

MEMBERS_MIN = 3
MEMBERS_MAX = 7
BUCKET_SPARE = b"spare"
"""Nobody writes to it; its properties change."""
LIFETIME = "the lifetime of what is in the spare bucket"
RETRY_MS = 1_500.0
TRAPS = (
    "Prepare",
    "Promise",
    "Accept",
    "Assent",
    "Announcement",
    "RingAsk",
    "LeafKeysReply",
    "TreeRootsReply",
    "StandingAsk",
    "StandingReply",
    "GossipStates",
)
"""Messages at which somebody may be struck."""
ACTS = (
    "join",
    "join",
    "leave",
    "leave",
    "replace",
    "replace",
    "weight",
    "stopped",
    "move",
    "property",
    "abort",
    "two at once",
    "revive",
)

ACTS_MEANWHILE = ("move", "property", "abort", "revive", "wait", "wait", "wait")
"""What is mostly done while a plan is under way."""


class Changes:
    """The operator. `counts` tells what he did, and what became of it."""

    def __init__(self, cluster: Cluster, faults: Faults, streams: Streams) -> None:
        self._cluster = cluster
        self._faults = faults
        self._streams = streams
        self._rng = rng = streams.stream("changes")
        self._named = 0
        """How many acts have got a name."""
        self._mean_interval_ms = rng.uniform(400.0, 3_000.0)
        self._crashes = rng.chance(0.7)
        """Are nodes struck on purpose, in the midst of plans?"""
        self._running = False
        self._acts: dict[str, Callable[[Occurrence], None]] = {
            "stopped": self._kill_for_good,
            "move": self._move,
            "property": self._property,
            "abort": self._abort,
            "revive": self._revive,
        }
        self._candidates = 0
        self._kinds: dict[str, str] = {}
        """Plan → what kind of change it is."""
        self._lost = 0
        """The member that was killed for good, until it is a member no more."""
        self._burnt: list[int] = []
        """All that were killed for good."""
        self.log = OperatorLog({LIFETIME: 0})
        self._orders: dict[str, int] = {}
        """Plan → the order that has asked for it."""
        self._lifetime_s = 0
        self.removals = 0
        self.violations: list[Violation] = []
        self.counts: dict[str, int] = {}
        if MEMBERSHIP in faults.enabled:
            faults.scene.may_forget = self._may_forget
        cluster.rings.on_newest.append(self._on_newest)
        cluster.on_departed = self._on_departed

    def start(self) -> None:
        self._running = True
        self._schedule()

    def stop(self) -> None:
        """No new changes. One that is under way goes on, and a member that was killed for good still has to go."""
        self._running = False
        self._cluster.network.on_deliver = None

    def settled(self) -> bool:
        """Is no plan under way, nobody left to be removed, and no ring voted for that may come to be decided yet?"""
        if self._cluster.ring.transition is not None or self._lost:
            return False
        nodes = [self._cluster.machines[number].node for number in self._cluster.awaited()]
        return not any(node is None or _deciding(node) for node in nodes)

    def _schedule(self) -> None:
        self._after(self._rng.exponential(self._mean_interval_ms), self._act)

    def _after(self, delay_ms: float, step: Callable[[], None]) -> None:
        self._cluster.loop.after_ms(delay_ms, step)

    def _act(self) -> None:
        if not self._running:
            return
        self._schedule()
        self._named += 1
        fault = self._faults.scene.occurrence(f"m{self._named}")
        if fault is None or self._faults.skipping:
            return
        rng = fault.rng
        steady = self._cluster.ring.transition is None
        act = rng.choice(ACTS if steady or rng.chance(0.2) else ACTS_MEANWHILE)
        if act == "two at once":
            for _ in range(2):
                self._change(fault, rng.choice(("join", "leave", "replace", "weight")))
        elif act in self._acts:
            self._acts[act](fault)
        elif act != "wait":
            self._change(fault, act)

    # --- plans ---

    def _change(self, fault: Occurrence, kind: str) -> None:
        """Ask any node for a plan, and begin it there."""
        rng, ring = fault.rng, self._cluster.ring
        members = [member for member in ring.members if member.number != self._lost]
        size = len(ring.members)
        if (kind == "join" and size >= MEMBERS_MAX) or (kind == "leave" and size <= MEMBERS_MIN):
            kind = "replace"
        if kind == "weight":
            self._begin(fault, Wish("weight", rng.choice(members).name, weight=1 + rng.below(3)), kind, 0)
            return
        if kind == "join":
            self._begin(fault, Wish("join", self._candidate()), kind, 0)
            return
        for victim in rng.sample(members, len(members)):
            if self._may_go(victim.number):
                by = self._candidate() if kind == "replace" else ""
                self._begin(
                    fault, Wish("leave" if kind == "leave" else "replace", victim.name, by=by), kind, victim.number
                )
                return
        self._count(kind, "withheld")

    def _may_go(self, number: int) -> bool:
        """Would every acknowledged write survive without this member?"""
        busy = self._lost or self._cluster.copies.leaving
        return not busy and self._faults.scene.can_lose_disk(number)

    def _may_forget(self, number: int) -> bool:
        """Would enough voters be left that remember, if this one lost its disk? If not, only `force` helps."""
        transition = self._cluster.ring.transition
        sides = [list(voters(self._cluster.ring))]
        if transition is not None:
            sides = [[m.number for m in side.members] for side in (transition.before, transition.after)]
        for side in sides:
            left = [voter for voter in side if voter not in (number, self._lost) and self._cluster.remembers(voter)]
            if number in side and len(left) < len(side) // 2 + 1:
                return False
        return True

    def _candidate(self) -> str:
        """The name of one more node that wants to join."""
        self._candidates += 1
        return f"c{self._candidates}"

    def _begin(self, fault: Occurrence, wish: Wish, kind: str, leaving: int) -> None:
        number, node = self._anybody(fault)
        if node is None:
            return
        self._introduce(node, wish)
        planned: list[Admin | Failure] = []
        node.plan(wish, planned.append)
        if not planned or isinstance(planned[0], Failure):
            self._count(kind, "refused as a plan")
            return
        plan = planned[0].document["id"]
        self._kinds[plan] = kind
        copies, log, loop = self._cluster.copies, self.log, self._cluster.loop
        moves = planned[0].document["copies"] > 0
        order = self._orders.get(plan, -1)
        first = order < 0
        if first:
            order = self._orders[plan] = log.invoked(PLANS, plan, loop.now_us, by=fault.name, moves=moves)
        else:
            log.repeated(order)
        if leaving:
            copies.leaving[leaving] = True

        def replied(reply: Admin | Failure) -> None:
            if first:
                log.answered(order, reply, loop.now_us)
            if isinstance(reply, Admin):
                self._count(kind, "decided")
                return
            self._count(kind, {"caller": "refused", "unknown": "outcome unknown"}.get(reply.kind, "unavailable"))
            if reply.kind != "unknown" and leaving != self._lost:
                copies.leaving.pop(leaving, None)

        self._faults.scene.note(
            fault, "membership", f"{kind} {wish.node}{f' by {wish.by}' if wish.by else ''} at n{number}, {plan}"
        )
        node.commit(wish, plan, replied)
        self._disturb(fault, number)

    def _introduce(self, node: Node, wish: Wish) -> None:
        """The candidate of `wish`, if there is one, speaks to `node`."""
        name = wish.by or (wish.node if wish.kind == "join" else "")
        if name:
            own = make_member(int(name[1:]) + 100)
            fields = {field: getattr(own, field) for field in Candidacy.__struct_fields__ if hasattr(own, field)}
            message = Candidacy(**{**fields, "name": name, "software": "", "engine": ""})
            node.on_candidacy(message, lambda reply: None)

    def _anybody(self, fault: Occurrence) -> tuple[int, Node | None]:
        """Any node that takes requests."""
        machines = self._cluster.machines
        ready = [number for number, machine in machines.items() if machine.ready and not machine.gone]
        if not ready:
            return 0, None
        number = fault.rng.choice(ready)
        return number, machines[number].node

    def _abort(self, fault: Occurrence) -> None:
        _, node = self._anybody(fault)
        if node is None or self._cluster.ring.transition is None:
            return

        def replied(reply: Admin | Failure) -> None:
            self._count("abort", "decided" if isinstance(reply, Admin) else f"not done, {reply.kind}")

        self._faults.scene.note(fault, "membership", "abort")
        node.abort(replied)

    def _property(self, fault: Occurrence) -> None:
        _, node = self._anybody(fault)
        if node is not None:
            self._lifetime_s += 1  # No value twice, so that whoever sees one knows which order it was.
            log, cluster = self.log, self._cluster
            order = log.invoked(LIFETIME, self._lifetime_s, cluster.loop.now_us, by=fault.name)

            def replied(reply: Admin | Failure) -> None:
                log.answered(order, reply, cluster.loop.now_us)
                self._count("property", "decided" if isinstance(reply, Admin) else f"not done, {reply.kind}")

            self._faults.scene.note(fault, "membership", "a bucket's property changes")
            node.set_bucket(BUCKET_SPARE, {"ttl": str(self._lifetime_s)}, replied)

    # --- members that die for good, move, or come back ---

    def _kill_for_good(self, fault: Occurrence) -> None:
        """A machine burns down; some time later its member is removed, or replaced."""
        ring = self._cluster.ring
        if ring.transition is not None:
            return
        victim = fault.rng.choice(ring.members).number
        machine = self._cluster.machines.get(victim)
        if machine is None or not self._may_go(victim):
            return
        self._lost = victim
        self._burnt.append(victim)
        self._cluster.copies.leaving[victim] = machine.gone = True
        if machine.up:
            self._cluster.kill(victim)
        self._count("stopped", "killed")
        self._faults.scene.note(fault, "membership", f"n{victim} has stopped for good")
        self._after(fault.rng.uniform(200.0, 4_000.0), lambda: self._remove_lost(fault, victim))

    def _remove_lost(self, fault: Occurrence, victim: int) -> None:
        """Tried until it is no member any more."""
        ring = self._cluster.ring
        names = {member.number: member.name for member in ring.members}
        if victim not in names:
            return
        self._after(RETRY_MS, lambda: self._remove_lost(fault, victim))
        if ring.transition is not None and victim not in ring.transition.stopped:
            self._abort(fault)  # It may wait for the dead one.
        elif ring.transition is None and not self._faults.skipping:
            leave = len(names) > MEMBERS_MIN and fault.rng.chance(0.5)
            by = "" if leave else self._candidate()
            self._begin(
                fault, Wish("leave" if leave else "replace", names[victim], by=by, stopped=True), "stopped", victim
            )

    def _move(self, fault: Occurrence) -> None:
        """Restart a member at other addresses."""
        cluster = self._cluster
        number = fault.rng.choice(cluster.awaited())
        machine = cluster.machines.get(number)
        if machine is None or not machine.up or machine.gone:
            return
        port = 10_000 + fault.rng.below(20_000)
        machine.own = msgspec.structs.replace(
            machine.own, peer_address=f"127.0.0.1:{port}", client_address=f"127.0.0.1:{port + 1}"
        )
        self._count("move", "restarted")
        self._faults.scene.note(fault, "membership", f"n{number} moves to port {port}")
        cluster.stop(number)
        cluster.start(number)

    def moved(self) -> list[int]:
        """Members that are elsewhere than the newest ring says."""
        cluster = self._cluster
        return [
            member.number
            for member in cluster.ring.members
            if _addresses(member) != _addresses(cluster.machines[member.number].own)
        ]

    def _revive(self, fault: Occurrence) -> None:
        """Start a removed member from its old disk: it must come to nothing."""
        cluster = self._cluster
        gone = [one.number for one in cluster.ring.departed if one.number in cluster.machines]
        if not self._everybody_knows():  # Who was said to have stopped for good has to stay so until all are past that.
            gone = [number for number in gone if number not in self._burnt]
        if not gone:
            return
        number = fault.rng.choice(gone)
        if cluster.machines[number].up:
            cluster.kill(number)
            self._count("revive", "killed while it left")
        self._count("revive", "started")
        self._faults.scene.note(fault, "membership", f"n{number}, which was removed, is started again")
        self._after(fault.rng.uniform(0.0, 1_000.0), lambda: self._start_removed(fault, number))

    def _start_removed(self, fault: Occurrence, number: int) -> None:
        machine = self._cluster.machines[number]
        if not machine.up:
            self._cluster.start(number)
            life = machine.lives
            delay_ms = fault.rng.uniform(2_000.0, 20_000.0)
            self._after(delay_ms, lambda: self._down_again(number) if machine.lives == life else None)

    def _down_again(self, number: int) -> None:
        machine = self._cluster.machines[number]
        if machine.up:
            refused = machine.node is not None and bool(machine.node._shared.fenced_because)
            self._count("revive", "refused" if refused else "alone")
            self._cluster.kill(number)

    def _everybody_knows(self) -> bool:
        """Do all members go by the newest ring?"""
        cluster = self._cluster
        nodes = [cluster.machines[number].node for number in cluster.awaited() if number in cluster.machines]
        return all(node is not None and node._shared.view.version == cluster.ring.version for node in nodes)

    # --- what becomes of it ---

    def _on_newest(self, before: Transition | None, ring: StagedRing) -> None:
        """A node goes by a ring that is newer than all before."""
        cluster, now = self._cluster, ring.transition
        properties: dict[str, Value] = {LIFETIME: cluster.rings.newest.metadata.properties(BUCKET_SPARE).ttl}
        self.log.newest(now.plan if now is not None else None, properties, cluster.loop.now_us)
        if before is not None and now is None:
            finished = [member.number for member in ring.members] == [m.number for m in before.after.members]
            same = [member.number for member in before.before.members] == [m.number for m in before.after.members]
            finished = finished and (not same or ring.owners == before.after.owners)
            self._count(self._kinds.get(before.plan, "change"), "finished" if finished else "aborted")
        elif before is None and now is not None:
            self._count(self._kinds.get(now.plan, "change"), "begun")
        members = {member.number: member for member in ring.members}
        for number, member in members.items():
            if number not in cluster.machines:
                self._newcomer(member)
        if now is None:
            for number, machine in cluster.machines.items():
                if number not in members and number not in cluster.copies.gone:
                    machine.gone = cluster.copies.gone[number] = True
                    self.removals += 1
                    self._lost = 0 if number == self._lost else self._lost
            cluster.copies.leaving = {self._lost: True} if self._lost else {}

    def _newcomer(self, member: Member) -> None:
        """A candidate finds itself in a decided ring, and starts as a node: at once, or late."""
        cluster, name = self._cluster, f"j{member.number}"
        cluster.add(member, cluster.rings.newest.value)
        fault = self._faults.scene.occurrence(name)
        rng = self._streams.stream("newcomer", member.number)
        late = rng.chance(0.3)

        def start() -> None:
            machine = cluster.machines[member.number]
            if not machine.up and not machine.gone:
                cluster.start(member.number)
                if fault is not None and self._running and self._crashes and fault.rng.chance(0.3):
                    how = fault.rng.choice(("kill", "power", "wipe"))
                    self._after(fault.rng.uniform(5.0, 4_000.0), lambda: self._strike(fault, member.number, how))

        self._after(rng.uniform(2_000.0, 9_000.0) if late else rng.uniform(5.0, 1_000.0), start)

    def _on_departed(self, number: int) -> None:
        """It has ended by itself: nothing may be left that it should have handed over (hard case 14)."""
        hints = len(self._cluster.machines[number].disk.keys[Space.HINTS])
        if hints:
            self.violations.append(Violation("hint", f"n{number} has left the cluster with {hints} hints"))
        self._count("departure", "in good order")

    # --- disturbances ---

    def _disturb(self, fault: Occurrence, proposer: int) -> None:
        rng = fault.rng
        if rng.chance(0.25):
            self._after(
                rng.choice((0.0, rng.uniform(1.0, 300.0), rng.uniform(500.0, 8_000.0))), lambda: self._abort(fault)
            )
        if not self._crashes:
            return
        how = rng.choice(("kill", "kill", "power", "wipe"))
        if rng.chance(0.3):
            process = self._cluster.machines[proposer].process
            assert process is not None
            process.light_fuse(1 + rng.below(80), lambda: self._strike(fault, proposer, how))
        if rng.chance(0.6):
            self._set_trap(fault, rng.choice(TRAPS), 1 + rng.below(6), rng.chance(0.5), how)

    def _set_trap(self, fault: Occurrence, name: str, times: int, at_sender: bool, how: str) -> None:
        """Strike the sender, or the receiver, of this many messages of this type from now."""
        left = times

        def on_deliver(source: int, target: int, message: Message) -> None:
            nonlocal left
            if type(message).__name__ != name:
                return
            left -= 1
            if left == 0:
                self._cluster.network.on_deliver = None
                victim = source if at_sender else target
                self._after(0.0, lambda: self._strike(fault, victim, how))

        self._cluster.network.on_deliver = on_deliver

    def _strike(self, fault: Occurrence, number: int, how: str) -> None:
        if self._running:
            self._faults.processes.hit(number, how, fault)

    def _count(self, kind: str, outcome: str) -> None:
        name = f"membership: {kind} {outcome}"
        self.counts[name] = self.counts.get(name, 0) + 1


def _deciding(node: Node) -> bool:
    decisions = node._membership.decisions
    return node._shared.rings.chain.unfinished is not None or decisions._current is not None


def _addresses(member: Member) -> tuple[str, str]:
    return member.peer_address, member.client_address
