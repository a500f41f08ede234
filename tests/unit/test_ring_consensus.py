"""Ring consensus, one rule at a time: what leaves when, who counts, what is adopted, and who must abstain."""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec
import pytest

from quorate.core.errors import CallerError, PeerError, Unavailable
from quorate.core.membership import ring_consensus as rc
from quorate.core.membership.ring_chain import RingChain, Verdict
from quorate.core.membership.ring_consensus import NO_BALLOT, Ballot, Reason, RingValue
from quorate.core.membership.ring_ledger import Held, LedgerState, Memory
from quorate.core.membership.ring_proposer import (
    ATTEMPTS_MAX,
    BACKOFF_MAX_MS,
    BACKOFF_MIN_MS,
    CATCH_UPS_MAX,
    End,
    Proposer,
    retry_delay_ms,
)
from quorate.core.membership.ring_recollection import Recollection
from tests.property.ring_network import SeededRng

CLUSTER = "c" * 32


def ring(version: int, voters: tuple[int, ...] = (1, 2, 3), body: bytes = b"", forced: int = 0) -> RingValue:
    return RingValue(CLUSTER, forced, version, voters, body)


def chain(number: int, at: RingValue, memory: Memory = Memory.WHOLE) -> RingChain:
    return RingChain(number, LedgerState(at, memory))


def save(held: Held[Any]) -> Any:
    held.take()
    return held.saved()


def refusal(held: Held[Any], reason: Reason) -> rc.Refusal:
    reply = save(held)
    assert isinstance(reply, rc.Refusal)
    assert reply.reason == reason
    return reply


def vote(voter: RingChain, base: RingValue, ballot: Ballot, value: RingValue) -> None:
    assert isinstance(save(voter.on_accept(ballot.member, rc.Accept(base.id, ballot, value))), rc.Assent)


def decide(chains: dict[int, RingChain], number: int, value: RingValue) -> RingValue:
    """One attempt over a perfect network; nobody is told of its end."""
    proposer: Proposer = save(chains[number].begin(value))
    questions = proposer.start()
    while proposer.outcome is None:
        to, question = questions.pop(0)
        voter = chains[to]
        held: Held[Any] = (
            voter.on_prepare(number, question)
            if isinstance(question, rc.Prepare)
            else voter.on_accept(number, question)
        )
        questions += proposer.on_reply(to, save(held))
    assert proposer.outcome.end is End.DECIDED
    assert proposer.outcome.ring is not None
    return proposer.outcome.ring


# --- Nothing leaves before it is durable ---------------------------------------------------------------------------


def test_a_reply_is_not_to_be_had_before_its_state_was_taken() -> None:
    one = ring(1)
    voter = chain(2, one)
    held = voter.on_prepare(1, rc.Prepare(one.id, Ballot(1, 1)))
    with pytest.raises(AssertionError, match="not even taken"):
        held.saved()
    state = held.take()
    assert state == LedgerState(one, Memory.WHOLE, Ballot(1, 1))
    assert held.saved() == rc.Promise(one.id, Ballot(1, 1), None)


def test_a_repeated_question_waits_for_the_same_write() -> None:
    one, question = ring(1), rc.Prepare(ring(1).id, Ballot(1, 1))
    voter = chain(2, one)
    first = voter.on_prepare(1, question)
    again = voter.on_prepare(1, question)
    assert first.take() == again.take() is not None, "the first write is not done yet"
    assert first.saved() == again.saved()
    assert voter.on_prepare(1, question).take() is None, "now it is"


def test_a_state_that_is_written_late_is_the_newest_one() -> None:
    one, two = ring(1), ring(2)
    voter = chain(2, one)
    early = voter.on_prepare(1, rc.Prepare(one.id, Ballot(1, 1)))
    late = voter.on_accept(1, rc.Accept(one.id, Ballot(1, 1), two))
    newest = late.take()
    assert early.take() == newest
    early.saved()
    assert voter.on_accept(1, rc.Accept(one.id, Ballot(1, 1), two)).take() is None, "one write served both"


def test_a_ring_counts_as_confirmed_once_it_is_durable() -> None:
    one, two = ring(1), ring(2)
    node = chain(2, one)
    held = node.learn(two)
    assert node.ring == two
    assert node.confirmed == one
    assert node.news_for(one.id) is None
    assert save(held) is Verdict.ADOPTED
    assert node.confirmed == two == node.news_for(one.id)
    assert node.news_for(two.id) is None
    assert node.behind(ring(3).id)
    assert not node.behind(one.id)


def test_a_ring_that_is_known_and_not_durable_yet_is_waited_for() -> None:
    one, two = ring(1), ring(2)
    node = chain(2, one)
    first, again = node.learn(two), node.learn(two)
    assert again.take() is not None, "a crash would still take the ring away"
    assert save(again) is Verdict.KNOWN and node.confirmed == two
    assert first.take() is None
    assert node.learn(two).take() is None, "nothing is written twice"


def test_the_durable_state_survives_its_encoding() -> None:
    one, two = ring(1), ring(2, (1, 2), b"\x00more")
    voter = chain(2, one)
    vote(voter, one, Ballot(3, 1), two)
    state = voter.on_accept(1, rc.Accept(one.id, Ballot(4, 1), two)).take()
    assert state is not None
    assert state.accepted == rc.Accepted(Ballot(4, 1), two)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=LedgerState) == state


# --- Voting --------------------------------------------------------------------------------------------------------


def test_a_promise_binds_and_tells_the_vote_that_was_given() -> None:
    one, two, other = ring(1), ring(2, body=b"a"), ring(2, body=b"b")
    voter = chain(2, one)
    vote(voter, one, Ballot(1, 1), two)
    promise = save(voter.on_prepare(3, rc.Prepare(one.id, Ballot(2, 3))))
    assert promise == rc.Promise(one.id, Ballot(2, 3), rc.Accepted(Ballot(1, 1), two))
    late = rc.Accept(one.id, Ballot(2, 1), other)
    assert refusal(voter.on_accept(1, late), Reason.OUTBID).promised == Ballot(2, 3)
    refusal(voter.on_prepare(1, rc.Prepare(one.id, Ballot(2, 1))), Reason.OUTBID)
    assert voter.unfinished == two


def test_a_voter_votes_on_what_follows_its_newest_ring_and_on_nothing_else() -> None:
    one, two, three = ring(1), ring(2), ring(3)
    voter = chain(2, two)
    told = refusal(voter.on_prepare(1, rc.Prepare(one.id, Ballot(9, 1))), Reason.OUTDATED)
    assert told.ring == two
    refusal(voter.on_prepare(1, rc.Prepare(three.id, Ballot(9, 1))), Reason.BEHIND)
    refusal(voter.on_prepare(1, rc.Prepare(ring(2, body=b"another").id, Ballot(9, 1))), Reason.FORKED)
    refusal(chain(4, two).on_prepare(1, rc.Prepare(two.id, Ballot(9, 1))), Reason.ABSTAINS)


def test_a_voter_that_is_behind_catches_up_and_votes_in_one_write() -> None:
    one, five = ring(1), ring(5, (2, 3, 4))
    voter = chain(2, one)
    vote(voter, one, Ballot(1, 1), ring(2))
    held = voter.on_prepare(4, rc.Prepare(five.id, Ballot(1, 4), five))
    assert held.take() == LedgerState(five, Memory.WHOLE, Ballot(1, 4))
    assert isinstance(held.saved(), rc.Promise)


@pytest.mark.parametrize(
    ("sender", "message"),
    [
        (1, rc.Prepare(ring(1).id, Ballot(1, 3))),
        (1, rc.Prepare(ring(1).id, Ballot(0, 1))),
        (1, rc.Prepare(ring(1).id, Ballot(rc.ROUND_MAX + 1, 1))),
        (7, rc.Prepare(ring(1).id, Ballot(1, 7))),
        (1, rc.Prepare(ring(2).id, Ballot(1, 1), ring(3))),
        (1, rc.Accept(ring(1).id, Ballot(1, 1), ring(3))),
        (1, rc.Accept(ring(1).id, Ballot(1, 1), ring(2, forced=1))),
        (1, rc.Accept(ring(1).id, Ballot(1, 1), ring(2, ()))),
        (1, rc.Accept(ring(1).id, Ballot(1, 1), ring(2, (2, 1)))),
        (1, rc.Accept(ring(1).id, Ballot(1, 1), ring(2, (0, 1)))),
        (1, rc.Accept(ring(1).id, Ballot(1, 1), ring(2, body=bytes(rc.RING_BYTES_MAX + 1)))),
        (1, rc.Accept(ring(1).id, Ballot(1, 1), msgspec.structs.replace(ring(2), cluster_id="d" * 32))),
    ],
)
def test_what_no_honest_proposer_sends_changes_nothing(sender: int, message: Any) -> None:
    voter = chain(2, ring(1))
    with pytest.raises(PeerError):
        voter.on_prepare(sender, message) if isinstance(message, rc.Prepare) else voter.on_accept(sender, message)
    assert voter.ring == ring(1)
    assert voter.unfinished is None


def test_one_attempt_cannot_propose_two_rings() -> None:
    one = ring(1)
    voter = chain(2, one)
    vote(voter, one, Ballot(1, 1), ring(2, body=b"a"))
    with pytest.raises(PeerError, match="two rings in one attempt"):
        voter.on_accept(1, rc.Accept(one.id, Ballot(1, 1), ring(2, body=b"b")))


# --- Proposing -----------------------------------------------------------------------------------------------------


def attempt(voters: tuple[int, ...] = (1, 2, 3)) -> Proposer:
    proposer: Proposer = save(chain(1, ring(1, voters)).begin(ring(2, voters, b"mine")))
    return proposer


def end_of(proposer: Proposer) -> End | None:
    return None if proposer.outcome is None else proposer.outcome.end


def test_a_lone_voter_decides_by_itself() -> None:
    lone = chain(1, ring(1, (1,)))
    assert decide({1: lone}, 1, ring(2, (1, 2))) == ring(2, (1, 2))


def test_the_highest_vote_among_the_promises_is_proposed() -> None:
    proposer = attempt((1, 2, 3, 4, 5))
    base, ballot = proposer.base.id, proposer.ballot
    proposer = Proposer(proposer.base, Ballot(9, 1), proposer.value, rc.Accepted(Ballot(2, 2), ring(2, body=b"low")))
    ballot = Ballot(9, 1)
    proposer.on_reply(2, rc.Promise(base, ballot, rc.Accepted(Ballot(3, 1), ring(2, body=b"high"))))
    questions = proposer.on_reply(3, rc.Promise(base, ballot, None))
    assert [(to, question.value.body) for to, question in questions if isinstance(question, rc.Accept)] == [
        (to, b"high") for to in (1, 2, 3, 4, 5)
    ]


def test_only_voters_of_the_base_count_each_once_and_for_this_attempt() -> None:
    proposer = attempt()
    base, ballot = proposer.base.id, proposer.ballot
    useless: list[tuple[int, rc.Reply]] = [
        (4, rc.Promise(base, ballot, None)),
        (1, rc.Promise(base, ballot, None)),
        (2, rc.Promise(ring(1).id, Ballot(2, 1), None)),
        (2, rc.Promise(ring(5).id, ballot, None)),
        (2, rc.Promise(base, ballot, rc.Accepted(Ballot(1, 1), ring(7)))),
        (2, rc.Assent(base, ballot)),
        (3, rc.Assent(base, ballot)),
    ]
    for sender, reply in useless:
        assert proposer.on_reply(sender, reply) == []
    assert len(proposer.on_reply(2, rc.Promise(base, ballot, None))) == 3
    for sender in (2, 2, 4):
        proposer.on_reply(sender, rc.Assent(base, ballot))
    assert end_of(proposer) is None
    proposer.on_reply(1, rc.Assent(base, ballot))
    assert end_of(proposer) is End.DECIDED


def test_an_attempt_is_outbid_when_too_few_voters_are_left() -> None:
    proposer = attempt((1, 2, 3, 4))
    base, ballot = proposer.base.id, proposer.ballot
    for _ in range(2):
        proposer.on_reply(2, rc.Refusal(base, ballot, Reason.OUTBID, Ballot(7, 4)))
    assert end_of(proposer) is None
    proposer.on_reply(3, rc.Refusal(base, ballot, Reason.ABSTAINS))
    assert proposer.outcome is not None
    assert (proposer.outcome.end, proposer.outcome.highest) == (End.OUTBID, Ballot(7, 4))
    again: Proposer = save(chain(1, proposer.base).begin(proposer.value, proposer.outcome.highest))
    assert again.ballot == Ballot(8, 1)


def test_an_attempt_upon_an_old_ring_ends_with_the_newer_one() -> None:
    proposer = attempt()
    refused = rc.Refusal(proposer.base.id, proposer.ballot, Reason.OUTDATED, ring=ring(4))
    proposer.on_reply(2, refused)
    assert proposer.outcome is not None
    assert (proposer.outcome.end, proposer.outcome.ring) == (End.OUTDATED, ring(4))


FOREIGN = msgspec.structs.replace(ring(9), cluster_id="d" * 32)


@pytest.mark.parametrize("told", [None, ring(1), ring(9, ()), FOREIGN])
def test_a_refusal_with_a_ring_that_is_not_newer_is_only_a_refusal(told: RingValue | None) -> None:
    proposer = attempt()
    refused = rc.Refusal(proposer.base.id, proposer.ballot, Reason.OUTDATED, ring=told)
    proposer.on_reply(2, refused)
    assert end_of(proposer) is None
    proposer.on_reply(3, refused)
    assert end_of(proposer) is End.OUTBID


@pytest.mark.parametrize("told", [ring(1), ring(9, ()), FOREIGN])
def test_a_recollection_is_told_of_newer_rings_only(told: RingValue) -> None:
    recollection = Recollection(1, ring(1), 1)
    recollection.on_answer(2, rc.RecallAnswer(ring(1).id, 1, False, ring(5)))
    recollection.on_answer(3, rc.RecallAnswer(ring(1).id, 1, False, ring(4)))
    recollection.on_answer(3, rc.RecallAnswer(ring(1).id, 1, False, told))
    assert recollection.newer == ring(5)


def test_a_voter_that_is_behind_is_sent_the_ring_a_bounded_number_of_times() -> None:
    proposer = attempt()
    behind = rc.Refusal(proposer.base.id, proposer.ballot, Reason.BEHIND)
    sent = [proposer.on_reply(2, behind) for _ in range(CATCH_UPS_MAX + 2)]
    question = (2, rc.Prepare(proposer.base.id, proposer.ballot, proposer.base))
    assert sent == [[question]] * CATCH_UPS_MAX + [[], []]


def test_an_attempt_can_be_late_once() -> None:
    proposer = attempt()
    proposer.on_timeout()
    assert proposer.outcome is not None
    assert proposer.outcome.end is End.LATE
    assert proposer.on_reply(2, rc.Promise(proposer.base.id, proposer.ballot, None)) == []


def test_a_restart_does_not_use_a_ballot_again() -> None:
    node = chain(1, ring(1))
    held = node.begin(ring(2, body=b"before"))
    state = held.take()
    assert state is not None
    ballot = held.saved().ballot
    assert save(RingChain(1, state).begin(ring(2, body=b"after"))).ballot > ballot
    assert save(node.begin(ring(2, body=b"beside"))).ballot > ballot


def test_who_may_not_propose_is_told_what_to_do() -> None:
    with pytest.raises(CallerError, match="plan the change anew"):
        chain(1, ring(2)).begin(ring(2))
    for node in (chain(1, ring(1), Memory.LOST), chain(4, ring(1)), chain(1, ring(1), Memory.ABSTAINING)):
        with pytest.raises(Unavailable, match="another member"):
            node.begin(ring(2))


def test_two_joins_at_once_both_come_to_pass() -> None:
    one = ring(1)
    chains = {number: chain(number, one) for number in (1, 2, 3, 4, 5)}
    four = decide(chains, 1, ring(2, (1, 2, 3, 4)))
    assert decide(chains, 2, ring(2, (1, 2, 3, 5))) == four, "the second attempt finishes the first one's"
    save(chains[2].learn(four))
    # The joiner knows nothing yet, and has a vote already: it is told with the question.
    assert decide(chains, 2, ring(3, (1, 2, 3, 4, 5))).voters == (1, 2, 3, 4, 5)


def test_retries_wait_longer_at_random_and_end() -> None:
    rng = SeededRng(Random(5))
    first = [retry_delay_ms(1, rng) for _ in range(50)]
    later = [retry_delay_ms(ATTEMPTS_MAX - 1, rng) for _ in range(50)]
    assert len(set(first)) == 50
    assert all(d is not None and BACKOFF_MIN_MS <= d <= 3 * BACKOFF_MIN_MS for d in first)
    assert all(d is not None and d <= BACKOFF_MIN_MS + BACKOFF_MAX_MS for d in later)
    assert max(d for d in later if d is not None) > BACKOFF_MAX_MS / 2
    assert retry_delay_ms(ATTEMPTS_MAX, rng) is None


# --- Adopting ------------------------------------------------------------------------------------------------------


def test_a_ring_of_another_cluster_is_refused_by_name() -> None:
    node = chain(1, ring(1))
    with pytest.raises(PeerError, match="ddddd"):
        node.learn(msgspec.structs.replace(ring(9), cluster_id="d" * 32))
    assert node.ring == ring(1)


def test_rings_are_ordered_by_force_and_then_by_version_and_gaps_do_not_matter() -> None:
    node = chain(1, ring(3))
    assert save(node.learn(ring(2))) is Verdict.OLDER
    assert save(node.learn(ring(3))) is Verdict.KNOWN
    assert save(node.learn(ring(8))) is Verdict.ADOPTED
    assert save(node.learn(ring(5, forced=1))) is Verdict.ADOPTED
    assert save(node.learn(ring(9))) is Verdict.OLDER
    assert node.ring == ring(5, forced=1)


def test_a_fork_is_kept_and_told_of_until_somebody_forces_again() -> None:
    ours, theirs = ring(5, (1,), b"ours", forced=1), ring(5, (2,), b"theirs", forced=1)
    node = chain(1, ours)
    assert save(node.learn(theirs)) is Verdict.FORKED
    assert node.ring == ours
    assert save(node.learn(ring(6, forced=2))) is Verdict.ADOPTED


def test_force_outranks_and_is_served_once_it_is_durable() -> None:
    node = chain(1, ring(4))
    forced = ring(5, (1,), forced=1)
    held = node.force(forced)
    assert node.news_for(ring(4).id) is None
    assert save(held) == rc.Announcement(forced)
    assert node.news_for(ring(99).id) == forced
    assert decide({1: node}, 1, ring(6, (1, 7), forced=1)).position == (1, 6)
    assert save(node.learn(ring(99))) is Verdict.OLDER
    for wrong in (ring(6, forced=1), ring(5, forced=2), ring(6, (), forced=2)):
        with pytest.raises(CallerError, match="cannot be forced"):
            node.force(wrong)


def test_who_asks_upon_an_older_ring_hears_of_a_forced_one_after_the_disk_does() -> None:
    four, forced = ring(4), ring(5, forced=1)
    node = chain(1, four)
    node.force(forced)
    held = node.on_prepare(2, rc.Prepare(four.id, Ballot(1, 2)))
    assert held.take() == LedgerState(forced, Memory.WHOLE)
    assert held.saved() == rc.Refusal(four.id, Ballot(1, 2), Reason.OUTDATED, ring=forced)


def test_ballots_are_ordered_by_round_and_then_by_member() -> None:
    assert NO_BALLOT < Ballot(1, 1) < Ballot(1, 2) < Ballot(2, 1)
