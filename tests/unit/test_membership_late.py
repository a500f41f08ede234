"""What comes late: a sync, an announcement, an answer about an older ring, a leaver that is away. Each was found by a
simulation once, as a change that never ended, or a write that was gone."""

from __future__ import annotations

import msgspec
import pytest

from quorate.core.membership.ring_consensus import Announcement, RecallAnswer, RingAsk
from quorate.core.membership.ring_ledger import Memory
from quorate.core.membership.ring_proposer import ATTEMPT_TIMEOUT_MS, ATTEMPTS_MAX, BACKOFF_MAX_MS
from quorate.core.messages import Message, Offer, StandingAsk
from quorate.core.ring.transition import Stage
from quorate.core.store import Admin, Failure, Wish
from quorate.node.bucket_changes import ASKED_MAX
from quorate.node.departure import LINGER_MIN_MS, STALLED_MS
from quorate.node.recall import ASK_INTERVAL_MS
from quorate.node.ring_keeper import ASK_INTERVAL_MS as RING_ASK_INTERVAL_MS
from quorate.node.steward import LEAVER_PATIENCE_MS
from tests.unit.membership_cluster import MembershipCluster

LEAVE = Wish("leave", "n4")


def memory(cluster: MembershipCluster, number: int) -> Memory:
    return cluster.nodes[number]._shared.rings.chain.memory


def set_ttl(cluster: MembershipCluster, node: int, ttl: int) -> None:
    result = cluster.call(lambda reply: cluster.nodes[node].set_bucket(b"b", {"ttl": f"{ttl}"}, reply))
    assert isinstance(result, Admin), result


def decided(size: int) -> MembershipCluster:
    """A cluster that has decided on a ring, so that none of its members is new any more."""
    cluster = MembershipCluster(size)
    set_ttl(cluster, 1, 3)
    cluster.world.run(100)
    return cluster


def test_a_change_whose_first_sync_comes_after_its_time_is_answered_all_the_same() -> None:
    cluster = MembershipCluster(3)
    cluster.muted |= {2, 3}
    engine = cluster.engines[1]
    engine.held_syncs = []
    results: list[Admin | Failure] = []
    cluster.nodes[1].set_bucket(b"b", {"ttl": "7"}, results.append)
    cluster.run_until(lambda: bool(engine.held_syncs), "the attempt is to be made durable")
    cluster.world.run(ATTEMPT_TIMEOUT_MS + 5)
    (synced,) = engine.held_syncs
    engine.held_syncs = None
    synced(None)
    longest_ms = ATTEMPTS_MAX * (ATTEMPT_TIMEOUT_MS + 2 * BACKOFF_MAX_MS)
    cluster.run_until(lambda: bool(results), "every attempt has a time limit, and so has the change", longest_ms)
    (result,) = results
    assert isinstance(result, Failure) and result.kind == "unknown"


@pytest.mark.parametrize("late_ms", [5, 60])
def test_a_buckets_change_is_answered_when_all_in_reach_know_it(late_ms: int) -> None:
    cluster = MembershipCluster(3)
    transmit = cluster.transmit

    def slow(sender: int, target: int, message: Message) -> None:
        if target == 3 and isinstance(message, Announcement):
            cluster.world.at(late_ms, lambda: transmit(sender, target, message))
        else:
            transmit(sender, target, message)

    cluster.transmit = slow  # type: ignore[method-assign]
    known: list[list[int]] = []
    cluster.nodes[1].set_bucket(
        b"b", {"ttl": "7"}, lambda result: known.append([node.ring().version for node in cluster.nodes.values()])
    )
    cluster.run_until(lambda: bool(known), "it is answered", step_ms=1)
    assert known == [[2, 2, 2]]


def test_a_buckets_change_waits_for_nobody_for_long() -> None:
    cluster = MembershipCluster(3)
    transmit = cluster.transmit

    def deaf(sender: int, target: int, message: Message) -> None:
        if target != 3 or isinstance(message, StandingAsk):
            transmit(sender, target, message)

    cluster.transmit = deaf  # type: ignore[method-assign]
    set_ttl(cluster, 1, 7)
    assert cluster.nodes[3].ring().version == 1
    assert sum(isinstance(message, StandingAsk) and target == 3 for _, target, message in cluster.sent) == ASKED_MAX


def test_the_last_stage_waits_a_minute_for_a_leaver_that_is_away() -> None:
    cluster = MembershipCluster(4)
    cluster.begin(1, LEAVE)
    cluster.until_stage(Stage.READ_NEW)
    cluster.kill(4)
    cluster.world.run(LEAVER_PATIENCE_MS - 1_000)
    assert [cluster.stage(number) for number in (1, 2, 3)] == [Stage.READ_NEW] * 3
    cluster.until_steady()
    assert [member.number for member in cluster.ring_now().members] == [1, 2, 3]


def test_the_last_stage_goes_on_when_the_leaver_is_back() -> None:
    cluster = MembershipCluster(4)
    cluster.begin(1, LEAVE)
    cluster.until_stage(Stage.READ_NEW)
    cluster.kill(4)
    cluster.world.run(10_000)
    cluster.join(4)
    cluster.until_steady(LEAVER_PATIENCE_MS / 4)


def test_the_last_stage_does_not_wait_for_a_leaver_that_has_stopped_for_good() -> None:
    cluster = MembershipCluster(4)
    cluster.kill(4)
    cluster.begin(1, Wish("leave", "n4", stopped=True))
    cluster.until_steady(LEAVER_PATIENCE_MS / 2)


def test_a_ring_is_asked_for_again_at_once_when_a_newer_one_is_wanted() -> None:
    cluster = MembershipCluster(2)
    rings = cluster.nodes[1]._shared.rings

    def asked(wanted: int) -> bool:
        before = sum(isinstance(message, RingAsk) for _, _, message in cluster.sent)
        rings.ask(2, wanted)
        return sum(isinstance(message, RingAsk) for _, _, message in cluster.sent) > before

    cluster.world.run(RING_ASK_INTERVAL_MS + 1)
    assert [asked(wanted) for wanted in (3, 3, 2, 0, 4, 4)] == [True, False, False, False, True, False]
    cluster.world.run(RING_ASK_INTERVAL_MS + 1)
    assert asked(0)


def test_a_member_whose_memory_a_forced_ring_outran_recalls_anew() -> None:
    cluster = decided(5)
    cluster.world.run(4 * ASK_INTERVAL_MS)
    assert memory(cluster, 2) == Memory.RECALLED
    ledger = cluster.nodes[2]._shared.rings.chain._ledger
    ledger.now = msgspec.structs.replace(ledger.now, younger_from=0)  # As an earlier release wrote it.
    for number in (3, 4, 5):
        cluster.kill(number)
    assert isinstance(cluster.call(lambda reply: cluster.nodes[1].force(["n3", "n4", "n5"], reply)), Admin)
    cluster.run_until(lambda: memory(cluster, 2) == Memory.LOST, "it may have known this ring, and voted on it")
    cluster.until_steady()
    assert memory(cluster, 2) == Memory.RECALLED


def test_who_abstains_votes_when_all_are_quiet_at_one_time_and_not_by_turns() -> None:
    """What one said a moment ago, while another was counting votes, is no reason to vote now."""
    cluster = decided(3)
    transmit = cluster.transmit
    counting = 0

    def told(sender: int, target: int, message: Message) -> None:
        if isinstance(message, RecallAnswer) and sender == counting:
            message = msgspec.structs.replace(message, quiet=False)
        transmit(sender, target, message)

    cluster.transmit = told  # type: ignore[method-assign]
    cluster.wipe(1)
    cluster.join(1)
    for number in (2, 3, 2, 3):
        counting = number
        cluster.world.run(4 * ASK_INTERVAL_MS)
        assert memory(cluster, 1) == Memory.ABSTAINING
    counting = 0
    cluster.world.run(4 * ASK_INTERVAL_MS)
    assert memory(cluster, 1) == Memory.RECALLED


@pytest.mark.parametrize("heard", [True, False])
def test_a_leaver_ends_when_its_successors_have_what_it_holds_or_nobody_takes_it_for_long(heard: bool) -> None:
    cluster = MembershipCluster(4)
    cluster.stock()
    transmit = cluster.transmit
    held: list[tuple[int, int, Message]] = []

    def holding(sender: int, target: int, message: Message) -> None:
        if isinstance(message, Offer):
            held.append((sender, target, message))
        else:
            transmit(sender, target, message)

    cluster.transmit = holding  # type: ignore[method-assign]
    cluster.begin(1, LEAVE)
    cluster.until_stage(None)
    cluster.world.run(LINGER_MIN_MS + 2_000)
    assert cluster.ended == [] and cluster.held(4)
    if heard:
        cluster.transmit = transmit  # type: ignore[method-assign]
        for late in held:
            transmit(*late)
    cluster.run_until(lambda: cluster.ended == [4], "it ends", 2 * STALLED_MS)
    assert bool(cluster.held(4)) is not heard
