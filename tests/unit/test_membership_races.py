"""Changes at once, and proposers that die: one history, each change once or not at all (hard cases 11, 19)."""

from __future__ import annotations

import pytest

from quorate.core.errors import CallerError, StorageError
from quorate.core.membership.ring_consensus import Accept, Announcement, Assent, Prepare
from quorate.core.messages import Message
from quorate.core.ring.metadata import ClusterMetadata
from quorate.core.store import Admin, Failure, Wish
from quorate.node.ring_decisions import Change, Decided
from tests.unit.membership_cluster import MembershipCluster

STEPS = range(1, 14)
"""The messages of a proposer among three: two questions, two more to vote, two announcements, and some beyond."""


def test_of_two_plans_at_once_the_second_is_refused_while_the_first_is_under_way() -> None:
    cluster = MembershipCluster(4)
    cluster.stock()
    wishes = {1: Wish("leave", "n3"), 2: Wish("leave", "n4")}
    plans = {number: cluster.plan(number, wish)["id"] for number, wish in wishes.items()}
    results: dict[int, Admin | Failure] = {}
    for number, wish in wishes.items():
        cluster.nodes[number].commit(wish, plans[number], lambda reply, number=number: results.update({number: reply}))  # type: ignore[misc]
    cluster.run_until(lambda: len(results) == 2, "both are answered")
    done = [number for number, result in results.items() if isinstance(result, Admin)]
    assert len(done) == 1
    (refused,) = (result for result in results.values() if isinstance(result, Failure))
    assert refused.kind == "caller" and f"plan {plans[done[0]]} is under way" in refused.message
    cluster.until_steady()
    cluster.check_all()
    gone = {1: 3, 2: 4}[done[0]]
    assert [member.number for member in cluster.ring_now().members] == [n for n in (1, 2, 3, 4) if n != gone]


def test_a_plan_that_was_committed_twice_happens_once() -> None:
    cluster = MembershipCluster(4)
    wish = Wish("leave", "n4")
    plan = cluster.plan(1, wish)["id"]
    results: list[Admin | Failure] = []
    cluster.nodes[1].commit(wish, plan, results.append)
    cluster.nodes[2].commit(wish, plan, results.append)
    cluster.run_until(lambda: len(results) == 2, "both are answered")
    assert sum(isinstance(result, Admin) for result in results) >= 1
    for result in results:
        assert isinstance(result, Admin) or "under way" in result.message or "begun already" in result.message
    cluster.until_steady()
    assert cluster.ring_now().version == 4
    assert [gone.number for gone in cluster.ring_now().departed] == [4]


def test_two_buckets_that_are_changed_at_once_through_two_nodes_are_both_changed() -> None:
    cluster = MembershipCluster(3)
    results: list[Admin | Failure] = []
    for number in (1, 2, 3):
        bucket = b"b%d" % number
        cluster.nodes[number].set_bucket(bucket, {"ttl": f"{number}"}, results.append)
        cluster.nodes[number].set_bucket(
            b"same", {("n", "w", "r")[number - 1]: "1" if number > 1 else "2"}, results.append
        )
    cluster.run_until(lambda: len(results) == 6, "all are answered")
    cluster.until_steady()
    done = sum(isinstance(result, Admin) for result in results)
    assert [result for result in results if isinstance(result, Failure) and result.kind != "caller"] == []
    for node in cluster.nodes.values():
        assert node.ring().version == 1 + done
        assert [node.bucket_properties(b"b%d" % number).ttl for number in (1, 2, 3)] == [1, 2, 3]
    cluster.check_agreement()


class Cut(Exception):
    pass


def kill_after(cluster: MembershipCluster, number: int, messages: int) -> None:
    """The node is killed right after it has sent so many messages about the decision."""
    transmit = cluster.transmit
    left = messages

    def counting(sender: int, target: int, message: Message) -> None:
        nonlocal left
        if not cluster.ports[sender].alive:
            return
        transmit(sender, target, message)
        if sender == number and isinstance(message, (Prepare, Accept, Announcement)):
            left -= 1
            if left == 0:
                cluster.kill(number)

    cluster.transmit = counting  # type: ignore[method-assign]


@pytest.mark.parametrize("messages", STEPS)
def test_the_proposer_dies_after_each_of_its_messages(messages: int) -> None:
    """The plan goes to its end, or was never begun; the same at everybody, and when it comes back as well."""
    cluster = MembershipCluster(4)
    cluster.stock()
    wish = Wish("leave", "n4")
    plan = cluster.plan(1, wish)["id"]
    kill_after(cluster, 1, messages)
    answers: list[Admin | Failure] = []
    cluster.nodes[1].commit(wish, plan, answers.append)
    cluster.world.run(30_000)
    dead = not cluster.ports[1].alive
    assert dead or messages > 6
    for number in cluster.running():
        assert cluster.nodes[number]._shared.rings.chain.unfinished is None, "no vote is left in the air"
    if dead:
        cluster.join(1)
    cluster.until_steady()
    ring = cluster.ring_now()
    assert ring.version in (1, 4)
    if answers and isinstance(answers[0], Admin):
        assert ring.version == 4, "what was confirmed has happened"
    cluster.check_all()


@pytest.mark.parametrize("messages", STEPS)
def test_the_proposer_of_a_stage_dies_after_each_of_its_messages(messages: int) -> None:
    """Of every stage, whoever it was that proposed it: the others finish the plan (hard case 19)."""
    cluster = MembershipCluster(5)
    cluster.stock()
    cluster.begin(2, Wish("leave", "n5"))
    kill_after(cluster, 1, messages)  # The steward that stands first.
    cluster.world.run(60_000)
    rings = {cluster.nodes[number].ring().version for number in cluster.running()}
    assert rings == {4}, "nobody waits for the one that died"
    if not cluster.ports[1].alive:
        cluster.join(1)
    cluster.check_all()


def deaf_and_once_only(monkeypatch: pytest.MonkeyPatch, cluster: MembershipCluster) -> list[int]:
    """n1 gets no votes, and whatever it wants makes sense once only. Returns the versions upon which it was tried."""
    decisions = cluster.nodes[1]._membership.decisions
    genuine, transmit = decisions.decide, cluster.transmit
    tried: list[int] = []

    def once(change: Change, done: Decided) -> None:
        def checked(present: ClusterMetadata) -> ClusterMetadata:
            if tried and present.ring.version != tried[0]:
                tried.append(present.ring.version)
                raise CallerError("it makes no sense any more")
            tried[:] = [present.ring.version]
            return change(present)

        genuine(checked, done)

    def without_assents(sender: int, target: int, message: Message) -> None:
        if not (target == 1 and isinstance(message, Assent)):
            transmit(sender, target, message)

    monkeypatch.setattr(decisions, "decide", once)
    monkeypatch.setattr(cluster, "transmit", without_assents)
    return tried


def test_a_change_that_another_proposer_brings_to_its_end_is_not_called_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """n1's votes do not come back to it; n2, which wants something else, finds the proposal voted for and has it
    decided. n1 then tried once more, upon the very ring that it had asked for, where the change made no sense any
    more: it called refused what was done (hard case 31)."""
    cluster = MembershipCluster(3)
    tried = deaf_and_once_only(monkeypatch, cluster)
    answers: dict[int, Admin | Failure] = {}
    cluster.nodes[1].set_bucket(b"first", {"ttl": "7"}, lambda reply: answers.update({1: reply}))
    cluster.run_until(lambda: cluster.nodes[3]._shared.rings.chain.unfinished is not None, "it is voted for")
    cluster.nodes[2].set_bucket(b"second", {"ttl": "8"}, lambda reply: answers.update({2: reply}))
    cluster.run_until(lambda: len(answers) == 2, "both are answered")
    assert tried == [1], "it was proposed upon one ring, and is not asked for again"
    assert all(isinstance(answer, Admin) for answer in answers.values()), answers
    assert [cluster.nodes[3].bucket_properties(bucket).ttl for bucket in (b"first", b"second")] == [7, 8]


def test_a_change_is_done_when_the_ring_with_it_is_durable_and_not_refused_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As above, and n1's disk is slow: it has heard of its own ring and does not go by it yet. There it tried once
    more, and called refused what was done. It must not call it done either: a crash would take that ring from it, and
    what it shows is still the one before."""
    cluster, answers = MembershipCluster(3), list[Admin | Failure]()
    tried = deaf_and_once_only(monkeypatch, cluster)
    cluster.nodes[1].set_bucket(b"first", {"ttl": "7"}, answers.append)
    chains = {number: cluster.nodes[number]._shared.rings.chain for number in cluster.nodes}
    cluster.run_until(lambda: None not in {chain.unfinished for chain in chains.values()}, "all have voted for it")
    held = cluster.engines[1].held_syncs = []
    cluster.run_until(lambda: chains[1].ring.version == 2, "another proposer has brought it to its end")
    cluster.world.run(5_000)
    assert chains[1].confirmed.version == 1
    assert answers == []
    assert tried == [1]
    cluster.engines[1].held_syncs = None
    for synced in held:
        synced(None)
    cluster.run_until(lambda: bool(answers), "it is answered")
    assert isinstance(answers[0], Admin) and answers[0].document["ttl"] == 7, answers


def test_a_change_that_the_disk_does_not_take_once_it_was_decided_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ring with it was heard of, and then the disk failed: this node does not go by it, and others do."""
    cluster, answers = MembershipCluster(3), list[Admin | Failure]()
    deaf_and_once_only(monkeypatch, cluster)
    cluster.nodes[1].set_bucket(b"first", {"ttl": "7"}, answers.append)
    chains = {number: cluster.nodes[number]._shared.rings.chain for number in cluster.nodes}
    cluster.run_until(lambda: None not in {chain.unfinished for chain in chains.values()}, "all have voted for it")
    held = cluster.engines[1].held_syncs = []
    cluster.run_until(lambda: chains[1].ring.version == 2, "another proposer has brought it to its end")
    cluster.world.run(5_000)
    for synced in held:
        synced(StorageError("the disk is broken"))
    cluster.run_until(lambda: bool(answers), "it is answered")
    assert isinstance(answers[0], Failure) and answers[0].kind == "unknown", answers
    assert cluster.nodes[3].bucket_properties(b"first").ttl == 7
