"""Who may be connected with: members, guests from newer rings, and those that linger."""

from __future__ import annotations

import msgspec
import pytest

from quorate.adapters.transport.roster import Roster
from quorate.core.ring.ring import Member
from quorate.core.ring.transition import Departed
from tests.peer_cluster import make_member, member_id

MEMBERS = [make_member(number) for number in (1, 2, 3)]


def gone(*numbers: int) -> list[Departed]:
    return [Departed(number, member_id(number)) for number in numbers]


def roster(members: list[Member] = MEMBERS) -> Roster:
    made = Roster(1)
    assert made.change(members, [], [], []) == []
    return made


def test_members_are_admitted_under_their_own_id_only() -> None:
    made = roster()
    assert made.own == MEMBERS[0] and sorted(made.members) == [2, 3]
    assert made.admits(MEMBERS[1])
    assert not made.admits(msgspec.structs.replace(MEMBERS[1], id="ab" * 16))


def test_a_guest_has_a_number_above_all_and_was_never_removed() -> None:
    made = roster()
    made.change(MEMBERS, gone(5), [], [])
    assert made.admits(make_member(6))
    for number in (-1, 0, 1, 4, 5):
        assert not made.admits(make_member(number)), number
    assert not made.admits(msgspec.structs.replace(make_member(6), id=member_id(5)))


def test_a_node_without_a_ring_place_counts_itself_among_the_known() -> None:
    made = Roster(7)
    made.change(MEMBERS, [], [], [])
    assert made.own is None and not made.admits(make_member(6)) and made.admits(make_member(8))


def test_guests_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quorate.adapters.transport.roster.MEMBERS_MAX", 2)
    made = roster()
    for number in (4, 5):
        made.welcome(make_member(number))
    assert made.admits(make_member(5)) and not made.admits(make_member(6))
    assert made.part(4) and made.admits(make_member(6))


def test_a_guest_becomes_a_member_stays_a_guest_or_loses_its_place() -> None:
    made = roster()
    for number in (4, 5, 6):
        made.welcome(make_member(number))
    other = msgspec.structs.replace(make_member(5), id="ab" * 16)
    assert made.change([*MEMBERS, make_member(4)], [], [], [4, 5, 6]) == []
    assert made.peer(4) == make_member(4) and not made.part(4), "a member is not forgotten with its connection"
    assert made.change([*MEMBERS, make_member(4), other], [], [], [4, 5, 6]) == [5]
    assert made.peer(6) is not None
    assert made.change([*MEMBERS, make_member(4), other, make_member(7)], [], [], [4, 6]) == [6]


def test_a_removed_member_loses_its_place_unless_it_lingers() -> None:
    made = roster()
    assert made.change(MEMBERS[:1], gone(2, 3), [2], [2]) == [3]
    assert made.peer(2) == MEMBERS[1] and made.admits(MEMBERS[1]) and not made.admits(MEMBERS[2])
    assert [one.number for one in made.removed] == [3] and sorted(made.expected) == [2]
    assert made.change(MEMBERS[:1], gone(2, 3), [2], [2]) == []
    assert made.change(MEMBERS[:1], gone(2, 3), [], [2]) == [2]
    assert not made.part(2)


def test_who_lingers_may_come_back_as_long_as_it_does() -> None:
    made = roster()
    made.change(MEMBERS[:1], gone(2), [2], [2])
    assert not made.part(2) and made.admits(MEMBERS[1])
    assert made.change(MEMBERS[:1], gone(2), [2], []) == []
    assert made.peer(2) == MEMBERS[1]
    assert not made.admits(msgspec.structs.replace(MEMBERS[1], id="ab" * 16))
    assert made.change(MEMBERS[:1], gone(2), [], []) == [2]
    assert made.peer(2) is None and not made.admits(MEMBERS[1])


def test_who_lingers_need_not_have_been_known_as_a_member() -> None:
    made = roster(MEMBERS[:1])
    made.change(MEMBERS[:1], gone(2), [2], [])
    assert made.admits(MEMBERS[1])


def test_a_member_that_was_exchanged_loses_its_place() -> None:
    made = roster()
    other = msgspec.structs.replace(MEMBERS[1], id="ab" * 16)
    assert made.change([MEMBERS[0], other, MEMBERS[2]], [], [], [2]) == [2]
    assert made.peer(2) == other


def test_a_member_whose_plan_was_taken_back_loses_its_place() -> None:
    """It is not connected as what it was; it may come again, as somebody that we do not know."""
    made = roster([*MEMBERS, make_member(4)])
    assert made.change(MEMBERS, [], [], [4]) == [4]
    assert made.peer(4) is None and made.admits(make_member(4))
