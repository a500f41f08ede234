"""Tallies against a brute-force twin that looks at the whole history each time (SOSP 2007, §4.5)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from quorate.core.quorum import get_tally, put_tally
from quorate.core.quorum.get_tally import GetTally
from quorate.core.quorum.put_tally import PutTally

REPLICAS = (1, 2, 3, 4, 5)
events = st.lists(st.tuples(st.sampled_from([*REPLICAS, 9]), st.booleans()), max_size=15)


@given(needed=st.integers(1, 5), history=events)
def test_a_put_is_decided_once_and_as_the_whole_history_says(needed: int, history: list[tuple[int, bool]]) -> None:
    tally = PutTally(needed, REPLICAS[0], REPLICAS[1:])
    first: dict[int, bool] = {}
    verdicts = []
    for member, acknowledged in history:
        verdicts.append(tally.on_acknowledged(member) if acknowledged else tally.on_failed(member))
        if member in REPLICAS:
            first.setdefault(member, acknowledged)
        acks = sum(first.values())
        fails = len(first) - acks
        expected = put_tally.SUCCEED if acks >= needed else put_tally.FAIL if fails > 5 - needed else put_tally.WAIT
        assert sum(verdict != put_tally.WAIT for verdict in verdicts) == (expected != put_tally.WAIT)
        assert tally.acknowledged == acks
        assert sorted(tally.missing()) == [m for m in REPLICAS if not first.get(m, False)]
    decided = [verdict for verdict in verdicts if verdict != put_tally.WAIT]
    assert tally.on_deadline() == (put_tally.WAIT if decided else put_tally.FAIL)


answers = st.lists(
    st.tuples(st.sampled_from([*REPLICAS, 9]), st.sampled_from(["fail", "absent", "x", "y"]), st.booleans()),
    max_size=20,
)
DIGESTS = {"absent": 0, "x": 11, "y": 22}


@given(needed=st.integers(1, 5), asked=st.integers(1, 5), history=answers)
def test_a_get_is_done_when_r_answers_are_explained_and_fails_only_when_r_cannot_be(
    needed: int, asked: int, history: list[tuple[int, str, bool]]
) -> None:
    tally = GetTally(needed, list(REPLICAS[:asked]), list(REPLICAS[asked:]))
    answered: dict[int, int] = {}
    failed: set[int] = set()
    bodies = {0}
    done = False
    for member, answer, full in history:
        if done:
            break
        counts = member in tally.awaited or member in answered
        if answer == "fail":
            # An answer that needs no further word from its member stands, whatever becomes of the member.
            counts = counts and (member not in answered or answered[member] not in bodies)
            verdict = tally.on_failed(member)
            if counts:
                answered.pop(member, None)
                failed.add(member)
        else:
            digest = DIGESTS[answer]
            verdict = tally.on_answer(member, digest, b"body" if full and digest else b"")
            if counts:
                answered[member] = digest
                if full and digest:
                    bodies.add(digest)
        assert tally.answers == answered
        explained = all(digest in bodies for digest in answered.values())
        if verdict == get_tally.DONE:
            assert len(answered) >= needed
            assert explained
            done = True
        elif verdict == get_tally.FETCH:
            assert len(answered) >= needed
            assert tally.unexplained()
        elif verdict == get_tally.ASK_ANOTHER:
            assert tally.take_unasked() in REPLICAS
        elif verdict == get_tally.FAIL:
            assert len(REPLICAS) - len(failed) < needed
            done = True
        else:
            assert not counts or len(answered) < needed
    if not done and len(answered) >= needed and answered:
        assert tally.unexplained()


@given(st.dictionaries(st.sampled_from(REPLICAS), st.sampled_from([0, 11, 22]), min_size=1))
def test_behind_are_exactly_those_with_another_digest(answered: dict[int, int]) -> None:
    tally = GetTally(len(answered), list(answered), [])
    for member, digest in answered.items():
        tally.on_answer(member, digest, b"")
    assert tally.behind(11) == [member for member, digest in answered.items() if digest != 11]
