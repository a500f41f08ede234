"""Planted bugs: the simulator must see each of them within a few seeds (`quorate.sim.mutants`).

A checker that never fired proves nothing. How many seeds each mutant takes was measured over disjoint ranges of seeds;
here each is hunted once, from a fixed seed, within a bound that leaves room for luck, since every change of the code
makes each seed another schedule. What is too rare for that has a story of its own, told by hand.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from quorate.core.errors import CallerError
from quorate.core.store import GetResult
from quorate.node.put_operation import JointPutOperation, PutOperation
from quorate.node.records import RecordStore
from quorate.sim.faults import KINDS
from quorate.sim.history import Violation
from quorate.sim.mutants.hunt import SEEDS_MAX, Hunt, hunt, hunt_ranges, median_seeds, seen_by
from quorate.sim.mutants.patches import Patches
from quorate.sim.mutants.registry import Mutant, hunted, mutants, named, planted
from quorate.sim.options import Outcome, SimOptions
from quorate.sim.run import run
from tests.regressions import test_11_write_ends_on_one_replica as test_11
from tests.regressions import test_12_reads_on_the_old_ring_miss_writes_on_the_new as test_12
from tests.regressions import test_15_hint_resurrects_deleted_data as test_15
from tests.regressions import test_22_survivor_resurrects_after_collection as test_22
from tests.regressions import test_31_definite_failure_becomes_visible as test_31
from tests.simulation.test_scenarios import Story, dots_reused_when_killed_in_the_midst_of_a_put

pytestmark = pytest.mark.sources

FIRST_SEED = 120_000
"""Of the ranges that were measured, one in which none of the rare ones takes long: these tests are many."""


def _outcome(*checks: str) -> Outcome:
    return Outcome(1, "", 0, 0, "os", {}, {}, [Violation(check, "seen") for check in checks])


@pytest.mark.parametrize("name", sorted(hunted()))
def test_a_planted_bug_is_found(name: str) -> None:
    mutant = named(name)
    found = hunt(mutant, range(FIRST_SEED, FIRST_SEED + SEEDS_MAX))
    assert found.caught_at is not None, f"no check of {mutant.checks} saw it within {SEEDS_MAX} seeds: {mutant.bug}"
    assert found.check in mutant.checks and found.options.mutant == name
    assert found.seed == FIRST_SEED + found.caught_at - 1


def test_sending_before_the_commit_reuses_a_dot() -> None:
    """Rare in seeds, since hints bring the lost event back soon; so by a story."""
    with planted("reply-before-the-commit"):
        assert "dot" in dots_reused_when_killed_in_the_midst_of_a_put()


def test_an_empty_store_that_answers_is_found() -> None:
    """The judges excuse what was acknowledged before a disk was lost; so by a story. As soon as n1 knows the ring
    again, and before it has compared anything, it is asked for what it held."""

    def read_from_an_empty_disk() -> GetResult:
        story = Story(nodes=3, durability="os")
        story.answered(story.put(1, b"k", b"value", w=3))
        story.cluster.kill(1)
        story.cluster.machines[1].disk.wipe()
        story.cluster.start(1)
        story.until_reachable(1, 2)
        store = story.cluster.machines[1].node
        assert store is not None
        assert story.simulation._wait(lambda: store._shared.view.told, 5_000, step_ms=1)
        return story.get(1, b"k", r=1)

    assert read_from_an_empty_disk().siblings
    with planted("an-empty-store-answers-as-if-it-were-filled"):
        assert not read_from_an_empty_disk().siblings


STORIES: dict[str, Callable[[], None]] = {
    "a-forward-that-comes-twice-is-done-twice": test_31.test_a_forward_that_arrives_twice_is_judged_once,
    "a-store-away-for-longer-than-grace-keeps-all": (
        test_22.test_a_replica_from_an_old_snapshot_empties_itself_and_brings_nothing_back
    ),
    "hints-never-expire": (test_15.test_a_hint_beyond_the_horizon_is_not_delivered_after_the_tombstone_was_collected),
    "the-ring-version-is-ignored": lambda: (
        test_11.test_writes_that_are_late_by_some_stages_are_on_a_quorum_of_the_new_replicas("before", "read old", 0)
    ),
    "stages-do-not-wait-for-confirmations": lambda: test_12.test_no_read_misses_a_write_of_another_version(
        "read old", "after", (1, 5)
    ),
}
"""What no seed shows, and the hard case that does, told by hand."""


@pytest.mark.parametrize("name", sorted(STORIES))
def test_a_story_sees_what_no_seed_shows(name: str) -> None:
    assert name in mutants() and name not in hunted()
    with planted(name), pytest.raises(AssertionError):
        STORIES[name]()


def test_every_mutant_is_described() -> None:
    found = mutants()
    assert len(found) >= 30
    for mutant in found.values():
        assert mutant.bug.endswith(".") and mutant.checks and set(mutant.options.faults) <= set(KINDS), mutant.name
        assert not mutant.options.mutant, "which mutant it is says its name"
        assert all(1 <= case <= 36 for case in mutant.hard_cases), mutant.name
    assert len(hunted()) >= 45 and hunted().keys() == {name for name, one in found.items() if not one.unseen_because}


@pytest.mark.parametrize("name", sorted(mutants()))
def test_what_is_planted_is_put_back(name: str) -> None:
    recorded: list[tuple[object, str, object]] = []

    class Recording(Patches):
        def replace(self, target: object, name: str, value: object) -> object:
            recorded.append((target, name, vars(target).get(name)))
            return super().replace(target, name, value)

    patches = Recording()
    try:
        named(name).plant(patches)
        assert recorded, "it plants something"
        assert any(vars(target).get(part) is not before for target, part, before in recorded)
    finally:
        patches.undo()
    assert all(vars(target).get(part) is before for target, part, before in recorded)


def test_planted_restores_after_an_exception() -> None:
    genuine = RecordStore.merge
    with pytest.raises(ZeroDivisionError), planted("replicas-acknowledge-and-store-nothing"):
        assert RecordStore.merge is not genuine
        raise ZeroDivisionError
    assert RecordStore.merge is genuine
    with planted("replicas-acknowledge-and-store-nothing"):
        assert RecordStore.merge is not genuine


def test_what_half_a_planting_has_replaced_is_put_back() -> None:
    """The second target is gone; the first must not stay as it is."""
    genuine = RecordStore.merge

    def plant(patches: Patches) -> None:
        patches.replace(RecordStore, "merge", None)
        patches.replace(RecordStore, "merge_that_was_renamed", None)

    patches = Patches()
    with pytest.raises(AttributeError):
        plant(patches)
    assert RecordStore.merge is not genuine
    patches.undo()
    assert RecordStore.merge is genuine


def test_what_a_class_inherits_is_inherited_again() -> None:
    assert "on_written" not in vars(JointPutOperation)
    patches = Patches()
    assert patches.replace(JointPutOperation, "on_written", None) is PutOperation.on_written
    patches.undo()
    assert "on_written" not in vars(JointPutOperation)


def test_two_bugs_are_not_planted_at_once() -> None:
    refused = pytest.raises(AssertionError, match="fsync-is-skipped is planted already")
    with planted("fsync-is-skipped"), refused, planted("read-stops-one-replica-early"):
        pass
    with planted("read-stops-one-replica-early"), planted(""):
        pass


def test_an_unknown_mutant_is_refused_with_the_names_of_all() -> None:
    with pytest.raises(CallerError, match=r"no mutant 'fsync'.*fsync-is-skipped"), planted("fsync"):
        pass


def test_a_run_plants_its_mutant_and_puts_it_back() -> None:
    options = SimOptions(seconds=3, faults=(), mutant="replicas-acknowledge-and-store-nothing")
    genuine = RecordStore.merge
    assert not run(1, options).ok
    assert RecordStore.merge is genuine
    assert run(1, SimOptions(seconds=3, faults=())).ok


def test_only_the_checks_that_a_mutant_names_count() -> None:
    mutant = named("fsync-is-skipped")
    assert seen_by(mutant, _outcome("heal", "T")) is None
    found = seen_by(mutant, _outcome("heal", "D", "W"))
    assert found is not None and found.check == "D"


def test_a_hunt_ends_with_its_seeds_and_tells_its_progress() -> None:
    told: list[int] = []
    harmless = Mutant(
        "fsync-is-skipped", "None.", ("no such check",), SimOptions(seconds=1, faults=()), "", (), "", print
    )
    found = hunt(harmless, range(5, 8), on_progress=told.append)
    assert (found.caught_at, found.check, found.seed, told) == (None, "", 7, [1, 2, 3])


def test_hunts_are_over_seeds_of_their_own_and_their_median_counts_what_was_not_found() -> None:
    mutant = named("replicas-acknowledge-and-store-nothing")
    found = hunt_ranges(mutant, 2, seeds_max=5)
    assert [one.seed - (one.caught_at or 0) + 1 for one in found] == [1, 100_001]

    def after(caught_at: int | None) -> Hunt:
        return Hunt("x", caught_at, "", "", 1, SimOptions())

    assert median_seeds([after(3), after(None), after(5)]) == 5
    assert median_seeds([after(3), after(None), after(None)]) is None
    assert median_seeds([after(None), after(2), after(4), after(6)]) == 5
