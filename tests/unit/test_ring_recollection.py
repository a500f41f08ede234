"""Lost memory, one rule at a time: who must abstain, who votes again at once, and how a new cluster comes to vote."""

from __future__ import annotations

import pytest

from quorate.core.membership import ring_consensus as rc
from quorate.core.membership.ring_chain import RingChain
from quorate.core.membership.ring_consensus import Ballot, Reason, RingValue
from quorate.core.membership.ring_ledger import Memory
from quorate.core.membership.ring_proposer import End, Proposer
from quorate.core.membership.ring_recollection import Recollection
from quorate.core.ring.transition import FORCED_VERSIONS
from tests.unit.test_ring_consensus import chain, decide, refusal, ring, save, vote


def recall(wiped: RingChain, others: list[RingChain], nonce: int = 1) -> Recollection:
    recollection = Recollection(wiped.number, wiped.ring, nonce)
    for to, question in recollection.questions():
        for other in others:
            if other.number == to:
                recollection.on_answer(to, other.on_recall(question))
    return recollection


def test_a_wiped_voter_abstains_on_the_ring_it_knows_and_votes_on_the_next() -> None:
    one, two = ring(1), ring(2)
    wiped = chain(1, one, Memory.LOST)
    refusal(wiped.on_prepare(2, rc.Prepare(one.id, Ballot(1, 2))), Reason.ABSTAINS)
    busy = chain(3, one)
    save(busy.begin(two)).start()
    counting = chain(2, one)
    proposer: Proposer = save(counting.begin(two))
    proposer.on_reply(3, save(busy.on_prepare(2, rc.Prepare(one.id, proposer.ballot))))
    proposer.on_reply(3, rc.Promise(one.id, proposer.ballot, None))
    assert proposer.counting
    recollection = recall(wiped, [counting, busy])
    save(wiped.recollect(recollection))
    assert wiped.memory is Memory.ABSTAINING
    refusal(wiped.on_prepare(2, rc.Prepare(one.id, Ballot(1, 2))), Reason.ABSTAINS)
    save(wiped.learn(two))
    assert isinstance(save(wiped.on_prepare(2, rc.Prepare(two.id, Ballot(1, 2)))), rc.Promise)


def test_without_recollection_no_number_of_rings_brings_the_vote_back() -> None:
    wiped = chain(1, ring(1), Memory.LOST)
    save(wiped.learn(ring(2)))
    save(wiped.learn(ring(3)))
    refusal(wiped.on_prepare(2, rc.Prepare(ring(3).id, Ballot(1, 2))), Reason.ABSTAINS)


def test_a_wiped_voter_does_not_believe_a_peer_that_lags() -> None:
    """It voted upon ring 2, lost that, and hears of ring 1 first: to abstain on ring 1 alone would be too little."""
    one, two = ring(1), ring(2)
    chains = {number: chain(number, one) for number in (1, 2, 3)}
    assert decide(chains, 1, two) == two
    save(chains[1].learn(two))
    vote(chains[1], two, Ballot(1, 1), ring(3, body=b"forgotten"))
    wiped = chain(1, one, Memory.LOST)
    lagging = recall(wiped, [chains[2], chains[3]])
    assert not lagging.done, "somebody voted upon ring 1: ring 2 may be decided"
    save(chains[2].learn(two))
    ahead = recall(wiped, [chains[2], chains[3]])
    assert not ahead.done
    assert ahead.newer == two
    save(wiped.learn(two))
    save(chains[3].learn(two))
    assert recall(wiped, [chains[2], chains[3]]).done
    assert wiped.memory is Memory.LOST


@pytest.mark.parametrize(("voters", "needed"), [(2, 1), (3, 2), (4, 2), (5, 3)])
def test_as_many_must_remember_as_meet_every_majority(voters: int, needed: int) -> None:
    one = ring(1, tuple(range(1, voters + 1)))
    wiped = chain(1, one, Memory.LOST)
    for count in range(1, voters):
        done = recall(wiped, [chain(number, one) for number in range(2, 2 + count)]).done
        assert done == (count >= needed)


def founded(voters: tuple[int, ...] = (1, 2, 3)) -> dict[int, RingChain]:
    """A new cluster: nobody remembers anything, and one after the other finds out that nobody else does."""
    one = ring(1, voters)
    chains = {number: chain(number, one, Memory.LOST) for number in voters}
    for number in voters:
        recollection = recall(chains[number], list(chains.values()))
        assert recollection.memory is Memory.FOUNDING
        save(chains[number].recollect(recollection))
        assert chains[number].memory is Memory.FOUNDING
    return chains


@pytest.mark.parametrize("voters", [(1,), (1, 2), (1, 2, 3), (1, 2, 3, 4, 5)])
def test_a_new_cluster_in_which_nobody_remembers_anything_comes_to_vote(voters: tuple[int, ...]) -> None:
    chains = founded(voters)
    two, three = ring(2, voters), ring(3, voters)
    assert decide(chains, 1, two) == two
    for node in chains.values():
        save(node.learn(two))
        assert node.memory is Memory.RECALLED
    assert decide(chains, voters[-1], three) == three


def test_a_cluster_is_not_taken_for_new_before_all_others_have_said_that_they_remember_nothing() -> None:
    one = ring(1)
    wiped = chain(1, one, Memory.LOST)
    lost = chain(2, one, Memory.LOST)
    assert recall(wiped, [lost]).memory is None
    for other in (chain(3, one), chain(3, one, Memory.ABSTAINING), chain(3, one, Memory.RECALLED), chain(3, ring(2))):
        assert recall(wiped, [lost, other]).memory is None, "two of three were wiped: a lost majority"
    found = recall(wiped, [lost, chain(3, one, Memory.FOUNDING)])
    assert (found.memory, found.heard) == (Memory.FOUNDING, 2)


def test_a_wiped_voter_votes_at_once_when_all_others_remember_and_nothing_is_under_way() -> None:
    """Or it would have no vote until the ring changes next, and the next loss would be that of a majority."""
    one, two = ring(1), ring(2)
    chains = {number: chain(number, one) for number in (2, 3)}
    save(chains[3].on_prepare(2, rc.Prepare(one.id, Ballot(4, 2))))
    wiped = chain(1, one, Memory.LOST)
    assert recall(wiped, [chains[2]]).memory is None
    recollection = recall(wiped, list(chains.values()))
    assert (recollection.memory, recollection.promised) == (Memory.RECALLED, Ballot(4, 2))
    save(wiped.recollect(recollection))
    refusal(wiped.on_prepare(3, rc.Prepare(one.id, Ballot(3, 3))), Reason.OUTBID)
    assert decide({1: wiped, 2: chains[2], 3: chain(3, one, Memory.LOST)}, 1, two) == two


def test_a_voter_that_abstains_is_asked_and_asks_until_all_are_quiet() -> None:
    one = ring(1, (1, 2, 3, 4, 5))
    wiped = chain(1, one, Memory.LOST)
    others = [chain(number, one) for number in (2, 3, 4, 5)]
    for count, memory in ((2, None), (3, Memory.ABSTAINING), (4, Memory.RECALLED)):
        assert wiped.recollects
        recollection = recall(wiped, others[:count])
        assert recollection.memory is memory
        if memory is not None:
            save(wiped.recollect(recollection))
            assert wiped.memory is memory
    assert not wiped.recollects
    forgetful = [chain(2, one, Memory.ABSTAINING), *others[1:]]
    assert recall(chain(1, one, Memory.LOST), forgetful).memory is Memory.RECALLED


def test_a_member_without_a_vote_recollects_as_well() -> None:
    """A newcomer that lost its disk while its plan was under way: it asks all voters."""
    one = ring(1)
    wiped = chain(9, one, Memory.LOST)
    chains = [chain(number, one) for number in (1, 2, 3)]
    assert recall(wiped, chains[:2]).memory is Memory.ABSTAINING
    assert recall(wiped, chains).memory is Memory.RECALLED


def test_who_votes_in_a_new_cluster_remembers_what_it_accepted() -> None:
    chains = founded()
    vote(chains[2], ring(1), Ballot(1, 2), ring(2, body=b"accepted"))
    wiped = chain(1, ring(1), Memory.LOST)
    recollection = recall(wiped, [chains[2], chains[3]])
    assert recollection.memory is None


def test_a_vote_that_was_lost_cannot_count_beside_a_second_one() -> None:
    """1 votes for 2's ring, loses its disk while the answer is on its way, and would vote for 3's ring, too."""
    chains = founded()
    one, ours, theirs = ring(1), ring(2, body=b"ours"), ring(2, body=b"theirs")
    proposer: Proposer = save(chains[2].begin(ours))
    prepare = dict(proposer.start())[1]
    assert isinstance(prepare, rc.Prepare)
    accepts = dict(proposer.on_reply(1, save(chains[1].on_prepare(2, prepare))))
    assert isinstance(accepts[1], rc.Accept)
    late = save(chains[1].on_accept(2, accepts[1]))
    wiped = chain(1, one, Memory.LOST)
    assert recall(wiped, [chains[2], chains[3]]).memory is None, "2 counts votes"
    proposer.on_timeout()
    recollection = recall(wiped, [chains[2], chains[3]])
    assert recollection.memory is Memory.FOUNDING
    save(wiped.recollect(recollection))
    assert decide({1: wiped, 3: chains[3]} | {2: chain(2, one, Memory.LOST)}, 3, theirs) == theirs
    assert proposer.on_reply(1, late) == []
    assert proposer.outcome is not None and proposer.outcome.end is End.LATE


def test_a_second_attempt_ends_the_first() -> None:
    node = chain(1, ring(1))
    first: Proposer = save(node.begin(ring(2)))
    second: Proposer = save(node.begin(ring(2)))
    assert first.outcome is not None and first.outcome.end is End.LATE
    assert second.outcome is None and second.ballot > first.ballot


def test_a_ballot_of_an_earlier_life_is_not_used_again() -> None:
    """What was asked under it may still be on its way to somebody."""
    chains = founded()
    save(chains[3].on_prepare(1, rc.Prepare(ring(1).id, Ballot(7, 1))))
    wiped = chain(1, ring(1), Memory.LOST)
    recollection = recall(wiped, [chains[2], chains[3]])
    impossible = rc.RecallAnswer(ring(1).id, 1, True, None, True, True, Ballot(rc.ROUND_MAX, 2))
    recollection.on_answer(2, impossible)
    save(wiped.recollect(recollection))
    assert wiped.memory is Memory.FOUNDING
    proposer: Proposer = save(wiped.begin(ring(2)))
    assert proposer.ballot == Ballot(8, 1)


def test_a_lone_voter_votes_at_once_unless_it_turns_out_that_it_was_one_of_many() -> None:
    alone = ring(1, (1,))
    for version, memory in ((2, Memory.RECALLED), (3, Memory.LOST), (40, Memory.LOST)):
        node = founded((1,))[1]
        save(node.learn(ring(version, (1, 2, 3))))
        assert node.memory is memory, "it may have voted on ring 3, or 40"
    forced = chain(1, alone, Memory.FOUNDING)
    save(forced.learn(ring(2, (1,), forced=1)))
    assert forced.memory is Memory.LOST
    wiped = chain(1, alone, Memory.LOST)
    save(wiped.force(ring(2, (1,), forced=1)))
    assert decide({1: wiped}, 1, ring(3, (1,), forced=1)).version == 3


def test_answers_of_the_forgetful_of_strangers_and_to_earlier_questions_do_not_count() -> None:
    one = ring(1, (1, 2, 3))
    wiped = chain(1, one, Memory.LOST)
    forgetful = [chain(2, one, Memory.LOST), chain(3, one, Memory.ABSTAINING)]
    assert not recall(wiped, forgetful).done
    recollection = Recollection(1, one, nonce=2)
    for sender, nonce in ((2, 1), (3, 1), (1, 2), (4, 2), (2, 2), (2, 2)):
        recollection.on_answer(sender, rc.RecallAnswer(one.id, nonce, True))
    assert not recollection.done
    recollection.on_answer(3, rc.RecallAnswer(one.id, 2, True))
    assert recollection.done


def test_a_recollection_upon_a_ring_that_was_left_changes_nothing() -> None:
    one = ring(1)
    wiped = chain(1, one, Memory.LOST)
    recollection = recall(wiped, [chain(2, one), chain(3, one)])
    save(wiped.learn(ring(2)))
    save(wiped.recollect(recollection))
    assert wiped.memory is Memory.LOST


def test_a_forced_ring_is_recalled_anew() -> None:
    """No majority tells what was forced: the voter may have known that ring, and voted upon it, before its loss."""
    wiped = chain(1, ring(1), Memory.RECALLED)
    memories = []
    for following in (ring(2), ring(3, forced=1)):
        save(wiped.learn(following))
        memories.append(wiped.memory)
    assert memories == [Memory.RECALLED, Memory.LOST]


def forced_upon(base: RingValue, voters: tuple[int, ...], forces: int = 1) -> RingValue:
    return ring(base.version + forces * FORCED_VERSIONS, voters, forced=base.forced + forces)


def test_a_forced_ring_may_be_forgotten_where_not_all_have_answered() -> None:
    """1 gave up 6, and 2 voted upon that, was wiped, and finds three that never heard of it."""
    one = ring(1, (1, 2, 3, 4, 5, 6))
    forced = forced_upon(one, (1, 2, 3, 4, 5))
    wiped = chain(2, one, Memory.LOST)
    recollection = recall(wiped, [chain(number, one) for number in (3, 4, 5)])
    assert recollection.memory is Memory.ABSTAINING
    save(wiped.recollect(recollection))
    save(wiped.learn(forced))
    assert wiped.memory is Memory.LOST


@pytest.mark.parametrize(("answering", "memory"), [((3, 4, 5), Memory.LOST), ((1, 3, 4, 5, 6), Memory.RECALLED)])
def test_what_all_have_answered_is_kept_through_the_rings_that_follow(
    answering: tuple[int, ...], memory: Memory
) -> None:
    """A forced ring that leaves out what was decided after the loss may be as old as the ring before that."""
    one, two = (ring(version, (1, 2, 3, 4, 5, 6)) for version in (1, 2))
    left = (1, 2, 3, 4, 5)
    for base, expected in ((one, memory), (two, Memory.RECALLED)):
        wiped = chain(2, one, Memory.LOST)
        save(wiped.recollect(recall(wiped, [chain(number, one) for number in answering])))
        save(wiped.learn(two))
        save(wiped.learn(forced_upon(base, left)))
        assert wiped.memory is expected
        save(wiped.learn(forced_upon(wiped.ring, left, 2)))
        assert wiped.memory is expected, "whatever is forced upon a forced ring is worth no less"


def test_a_forced_ring_of_a_base_before_the_one_that_was_recollected_is_recalled_anew() -> None:
    three = ring(3)
    for base, memory in ((ring(2), Memory.LOST), (three, Memory.RECALLED), (ring(9), Memory.RECALLED)):
        wiped = chain(1, three, Memory.LOST)
        save(wiped.recollect(recall(wiped, [chain(2, three), chain(3, three)])))
        save(wiped.learn(forced_upon(base, (1, 2))))
        assert wiped.memory is memory


def test_who_founded_a_cluster_knows_a_ring_forced_upon_it_or_upon_the_next_one() -> None:
    for version, memory in ((1, Memory.RECALLED), (2, Memory.RECALLED), (3, Memory.LOST)):
        node = founded()[2]
        save(node.learn(forced_upon(ring(version), (1, 2))))
        assert node.memory is memory, "somebody remembers more"


def test_who_is_lost_and_has_heard_of_all_is_so_no_more_with_the_next_force() -> None:
    one, left = ring(1, (1, 2, 3, 4, 5)), (1, 2, 3)
    stuck = forced_upon(one, left)
    nodes = {1: chain(1, stuck), 2: chain(2, stuck, Memory.LOST), 3: chain(3, stuck, Memory.LOST)}
    again = forced_upon(stuck, left)
    recollection = recall(nodes[2], [nodes[1], nodes[3]])
    assert recollection.memory is None and recollection.brings_something
    save(nodes[2].recollect(recollection))
    assert nodes[2].memory is Memory.LOST
    assert not recall(nodes[3], [nodes[1]]).brings_something
    for node in (nodes[2], nodes[3]):
        save(node.learn(again))
    assert (nodes[2].memory, nodes[3].memory) == (Memory.RECALLED, Memory.LOST)
