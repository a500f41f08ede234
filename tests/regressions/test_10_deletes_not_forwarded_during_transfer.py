"""Hard case 10: a delete that came while a partition was on its way to another node was not forwarded to it, and the
value lived on there (riak_kv#1850).

Data moves in three ways here: a wiped node is filled, hints go home, two replicas compare. A delete is let in at every
single step of each, through every node, whether or not the node that receives the data hears of it directly. What was
acknowledged as deleted is not read again by any quorum, at once and for ever, and all replicas agree in the end.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import pytest

from quorate.core.store import Failure, GetResult, PutRequest, PutResult
from tests.unit.exchange_cluster import exchange, started
from tests.unit.filling_cluster import filled
from tests.unit.small_cluster import SmallCluster

KEY = b"k"
STEPS_MAX = 2_000


class Moving:
    """A cluster in which data is about to move towards `target`, and the delete that comes in between."""

    def __init__(self, size: int) -> None:
        self.cluster = SmallCluster(size=size, partitions=4, anti_entropy=True)
        self.homes, self.fallbacks = self.cluster.preference_list(KEY)
        self.target = self.homes[1]
        self.ended: Callable[[], bool] = lambda: True
        self.answers: list[PutResult | Failure] = []

    def stock(self) -> None:
        """The value, and others beside it, so that there is something to move before and after it."""
        for key in (b"a", KEY, b"z"):
            assert isinstance(self.cluster.put(self.homes[0], key, b"v", w=2), PutResult)
        self.cluster.world.run(50)
        read = self.cluster.get(self.homes[0], KEY, r=2)
        assert isinstance(read, GetResult) and read.siblings
        self.context = read.context

    def delete(self, node: int) -> None:
        request = PutRequest(b"b", KEY, w=2, context=self.context, delete=True)
        self.cluster.nodes[node].put(request, self.answers.append)

    def run_on(self, steps: int) -> int:
        """Until the data has moved, or for so many steps; how many there were."""
        for count in range(steps):
            if self.ended():
                return count
            self.cluster.world.step()
        assert steps < STEPS_MAX, "it comes to an end"
        return steps

    def acknowledged(self) -> bool:
        """What became of the delete. A node that has just started may refuse it; then nothing has happened."""
        while not self.answers:
            self.cluster.world.step()
        answer = self.answers[0]
        assert isinstance(answer, PutResult) or answer.kind in ("unavailable", "overloaded"), answer
        return isinstance(answer, PutResult)

    def check(self) -> bool:
        """Let everything come to its end; was the delete acknowledged?"""
        cluster, acknowledged = self.cluster, self.acknowledged()
        left = [] if acknowledged else [b"v"]
        for number in self.homes * 2:
            found = cluster.get(number, KEY, r=2)
            if isinstance(found, GetResult):
                assert [sibling.value for sibling in found.siblings] == left, "no quorum reads it again"
        self.run_on(STEPS_MAX)
        cluster.heal()
        for number, other in combinations(self.homes, 2):
            while cluster.nodes[number]._anti_entropy._exchange is not None:
                cluster.world.run(100)
            exchange(cluster, number, other)
        bodies = cluster.bodies(KEY)
        assert len({bodies[number - 1] for number in self.homes}) == 1
        assert cluster.values(self.target, KEY, r=3) == left
        assert cluster.values(self.target, b"a", r=3) == cluster.values(self.target, b"z", r=3) == [b"v"]
        return acknowledged


def being_filled() -> Moving:
    moving = Moving(3)
    moving.stock()
    cluster, target = moving.cluster, moving.target
    cluster.wipe(target)
    cluster.join(target)
    moving.ended = lambda: filled(cluster, target)
    return moving


def hints_going_home() -> Moving:
    moving = Moving(4)
    cluster, target = moving.cluster, moving.target
    cluster.kill(target)
    moving.stock()
    assert cluster.hints()
    cluster.join(target)
    moving.ended = lambda: not cluster.hints()
    return moving


def _exchanging(initiator: int, peer: int) -> Moving:
    """`peer` and `initiator` are places in the preference list; the second home lacks everything."""
    moving = Moving(3)
    cluster, homes = moving.cluster, moving.homes
    cluster.cut(homes[1], homes[0])
    cluster.cut(homes[1], homes[2])
    moving.stock()
    for number in cluster.nodes:
        cluster.nodes[number]._anti_entropy.stop()
        for key in (b"a", KEY, b"z"):
            assert cluster.bodies(key)[moving.target - 1] is None
    for number in cluster.nodes:
        # What is kept for it is lost, so that only the exchange can bring it.
        cluster.nodes[number]._shared.hints.forget_all()
        cluster.engines[number].data = {
            place: stored for place, stored in cluster.engines[number].data.items() if place[0].name != "HINTS"
        }
    cluster.heal()
    under_way = started(cluster, homes[initiator], homes[peer])
    moving.ended = lambda: bool(under_way.ended)
    return moving


def compared_by_the_one_that_lacks_it() -> Moving:
    return _exchanging(1, 0)


def compared_by_the_one_that_has_it() -> Moving:
    return _exchanging(0, 1)


@pytest.mark.parametrize("through", [0, 1, 2])
@pytest.mark.parametrize(
    "begin", [being_filled, hints_going_home, compared_by_the_one_that_lacks_it, compared_by_the_one_that_has_it]
)
def test_a_delete_at_every_step_of_a_transfer_is_not_lost(begin: Callable[[], Moving], through: int) -> None:
    steps = begin().run_on(STEPS_MAX)
    assert steps > 5
    acknowledged = 0
    for step in range(steps + 1):
        moving = begin()
        moving.run_on(step)
        moving.delete(moving.homes[through])
        acknowledged += moving.check()
    assert 2 * acknowledged > steps, "few of them were refused"


@pytest.mark.parametrize("begin", [being_filled, compared_by_the_one_that_lacks_it, compared_by_the_one_that_has_it])
def test_a_delete_that_the_receiver_is_not_told_of_is_not_lost(begin: Callable[[], Moving]) -> None:
    """It is acknowledged by the two others; what was already on its way to the receiver arrives nevertheless."""
    steps = begin().run_on(STEPS_MAX)
    for step in range(steps + 1):
        moving = begin()
        moving.run_on(step)
        cluster, target, third = moving.cluster, moving.homes[1], moving.homes[2]
        moving.delete(third)
        # On its way to the target it is lost, and so is the connection in a moment.
        cluster._cut |= {(third, target), (target, third)}
        assert moving.acknowledged()
        cluster.cut(third, target)
        assert moving.check()
