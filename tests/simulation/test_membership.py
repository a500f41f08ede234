"""Memberships that change under faults: fixed seeds, and planted bugs in what keeps a change from losing anything."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from quorate.core.ports import Space
from quorate.core.quorum.joint_put_tally import JointPutTally
from quorate.core.ring.advance import may_advance as genuine_may_advance
from quorate.core.ring.transition import Stage
from quorate.node import steward
from quorate.node.handoff import Handoff
from quorate.node.plan_filling import PlanFilling
from quorate.node.ring_keeper import RingKeeper
from quorate.node.sweep import Sweep
from quorate.sim.batch import replay_command
from quorate.sim.cluster import add_counts
from quorate.sim.faults import MEMBERSHIP
from quorate.sim.run import SimOptions, run

Mutate = Callable[[pytest.MonkeyPatch], None]

CALM = SimOptions(seconds=20, faults=(MEMBERSHIP,))
ROUGH = SimOptions(
    seconds=20, faults=(MEMBERSHIP, "kill", "power", "wipe", "partition", "isolate", "pause", "restart", "slow disk")
)
POWER = SimOptions(seconds=20, faults=(MEMBERSHIP, "power"))


def test_memberships_change_and_nothing_is_lost() -> None:
    reached: dict[str, int] = {}
    for options in (CALM, ROUGH):
        for seed in range(8):
            outcome = run(seed, options)
            assert outcome.violations == [], replay_command(seed, options)
            add_counts(reached, outcome.reached)
    for kind in ("join", "leave", "replace", "weight"):
        assert reached[f"membership: {kind} finished"] > 0, reached
    assert reached["membership: departure in good order"] > 0
    assert reached["requests_begun_again"] > 0 and reached["requests_parked"] > 0


def stages_do_not_wait_for_newcomers(patch: pytest.MonkeyPatch) -> None:
    def may_advance(placements: Any, confirmed: Any, filled: Any, quorums: Any) -> Any:
        began = placements.transition.began
        return genuine_may_advance(
            placements, confirmed, {member.number: began for member in placements.ring.members}, quorums
        )

    patch.setattr(steward, "may_advance", may_advance)


def newcomers_say_at_once_that_they_are_filled(patch: pytest.MonkeyPatch) -> None:
    genuine = PlanFilling.on_ring

    def on_ring(self: Any) -> None:
        genuine(self)
        self.waiting = {}

    patch.setattr(PlanFilling, "on_ring", on_ring)


def one_side_is_enough(patch: pytest.MonkeyPatch) -> None:
    genuine = JointPutTally.__init__
    patch.setattr(JointPutTally, "__init__", lambda self, needed, sides, *rest: genuine(self, needed, sides[1:], *rest))


def a_ring_is_gone_by_before_it_is_durable(patch: pytest.MonkeyPatch) -> None:
    def settle(self: Any, held: Any, then: Any, failed: Any = None) -> None:
        state = held.take()
        if state is not None:
            self._write(state)
        reply = held.saved()
        self._go_by_newest()
        then(reply)

    patch.setattr(RingKeeper, "settle", settle)


def what_goes_is_dropped_as_soon_as_it_is_not_read(patch: pytest.MonkeyPatch) -> None:
    genuine = Sweep.on_ring

    def on_ring(self: Any) -> None:
        genuine(self)
        node = self._node
        transition = node.view.ring.transition
        if transition is None or transition.stage != Stage.READ_NEW:
            return
        for key, _ in list(node.engine.scan(Space.DATA, b"", b"\xff\xff\xff")):
            sides = self._placed(key)[1].sides
            stored = node.records.read(key)
            if sides and node.self_number not in sides[1] and stored is not None:
                node.records.remove(key, stored[0], lambda argument, durable: None, None)

    patch.setattr(Sweep, "on_ring", on_ring)


def what_is_kept_no_more_is_not_offered(patch: pytest.MonkeyPatch) -> None:
    async def offer(self: Any, homes: Any, batch: Any, version: int) -> None:
        for key, digest in batch:
            self._node.records.remove(key, digest, lambda argument, durable: None, None)

    patch.setattr(Sweep, "_offer", offer)


def hints_wait_for_homes_that_are_gone(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Handoff, "_targets", lambda self, home, stored_key: [home])


MUTANTS: list[tuple[Mutate, set[str], SimOptions, int]] = [
    (stages_do_not_wait_for_newcomers, {"Q", "R", "D"}, CALM, 10),
    (newcomers_say_at_once_that_they_are_filled, {"Q", "R", "D"}, CALM, 10),
    (one_side_is_enough, {"W", "Q", "R", "D"}, ROUGH, 15),
    (a_ring_is_gone_by_before_it_is_durable, {"ring"}, POWER, 20),
    (what_goes_is_dropped_as_soon_as_it_is_not_read, {"stray", "W", "D", "R", "G"}, CALM, 10),
    (what_is_kept_no_more_is_not_offered, {"stray"}, ROUGH, 20),
    (hints_wait_for_homes_that_are_gone, {"hint", "plan"}, ROUGH, 20),
]


@pytest.mark.parametrize(
    ("mutate", "expected", "options", "seeds"), MUTANTS, ids=lambda part: getattr(part, "__name__", "")
)
def test_a_planted_bug_is_found(
    mutate: Mutate, expected: set[str], options: SimOptions, seeds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutate(monkeypatch)
    for seed in range(seeds):
        if expected & {violation.check for violation in run(seed, options).violations}:
            return
    pytest.fail(f"no check of {sorted(expected)} fired within {seeds} seeds")
