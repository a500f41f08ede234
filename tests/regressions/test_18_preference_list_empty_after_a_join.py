"""Hard case 18: just after a join the preference list of a key was empty, and requests crashed (riak_core#228).

A node had the new ring and not yet what is made of it. Here a join goes on one event at a time. Whenever any node has
taken a step in it, every node that runs, the newcomer from its first moment on, is asked to get and to put; and all the
time there are some requests under way. None fails, and no placement of any node is ever without replicas.
"""

from __future__ import annotations

from typing import Any

from quorate.core.messages import Candidacy, Message, StandingAsk, StandingReply
from quorate.core.ring.transition import Stage
from quorate.core.store import GetRequest, GetResult, PutRequest, PutResult, Wish
from tests.regressions.held_messages import ABOUT_RINGS
from tests.unit.membership_cluster import KEYS, MembershipCluster

NEWCOMER = 4
STEPS_OF_A_JOIN = (*ABOUT_RINGS, Candidacy, StandingAsk, StandingReply)
UNDER_WAY_MIN = 2


class Busy(MembershipCluster):
    """Every step of a join is followed by requests through every node."""

    def __init__(self) -> None:
        self.begun = 0
        self.answers: list[Any] = []
        self.steps_taken = 0
        self.looked_at: dict[int, tuple[int, int]] = {}
        self.seen: dict[tuple[int, Stage | None], int] = {}
        """(node, stage) → requests that it was asked there."""
        super().__init__(3)

    def transmit(self, sender: int, target: int, message: Message) -> None:
        if isinstance(message, STEPS_OF_A_JOIN):
            self.steps_taken += 1
        super().transmit(sender, target, message)

    def ask(self, number: int) -> None:
        node, key = self.nodes[number], KEYS[self.begun % len(KEYS)]
        self.begun += 1
        if self.begun % 2:
            node.get(GetRequest(b"b", key, 2), self.answers.append)
        else:
            node.put(PutRequest(b"b", key, b"v-" + key, w=2, overwrite_seen=True), self.answers.append)
        place = number, self.stage(number)
        self.seen[place] = self.seen.get(place, 0) + 1

    def step_of_join(self) -> None:
        """One event; and requests, if it was one of the join, or too few are under way."""
        steps, versions = self.steps_taken, self.versions()
        self.world.step()
        if steps != self.steps_taken or versions != self.versions():
            self.check_placements()
            for number in self.running():
                self.ask(number)
                self.ask(number)
        elif self.begun - len(self.answers) < UNDER_WAY_MIN:
            self.ask(self.running()[self.begun // 2 % len(self.running())])

    def versions(self) -> dict[int, int]:
        return {number: self.nodes[number].ring().version for number in self.running()}

    def check_placements(self) -> None:
        for number in self.running():
            view = self.nodes[number]._shared.view
            now = (id(self.nodes[number]), view.version)
            if self.looked_at.get(number) == now:
                continue
            self.looked_at[number] = now
            placements = view.bucket(b"b").placements
            assert len(placements) == self.ring.partitions
            for placement in placements:
                for side in (placement.replicas, *placement.sides):
                    assert len(set(side)) == len(side) == 3, (number, view.version, side)
                assert set(placement.replicas) <= set(placement.homes)
                assert sorted((*placement.homes, *placement.fallbacks)) == sorted(view.names)


def test_every_request_at_every_step_of_a_join_is_done() -> None:
    cluster = Busy()
    cluster.stock()
    cluster.wait_to_join(NEWCOMER)
    plan = cluster.plan(2, Wish("join", f"n{NEWCOMER}"))["id"]
    committed: list[Any] = []
    cluster.nodes[2].commit(Wish("join", f"n{NEWCOMER}"), plan, committed.append)
    end_ms = cluster.world.now_ms + 60_000
    while NEWCOMER not in cluster.nodes or not cluster.steady():
        assert cluster.world.now_ms < end_ms, "the join comes to its end"
        cluster.step_of_join()
    for _ in range(1_000):
        cluster.step_of_join()
    cluster.world.run(2_000)
    assert len(cluster.answers) == cluster.begun
    failed = [answer for answer in cluster.answers if not isinstance(answer, GetResult | PutResult)]
    assert failed == []
    for number in (1, 2, 3, NEWCOMER):
        for stage in (Stage.READ_OLD, Stage.READ_NEW, None):
            assert cluster.seen.get((number, stage), 0) >= 2, (number, stage)
    cluster.check_all()
