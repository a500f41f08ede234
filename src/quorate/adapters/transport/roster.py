"""Whom a transport may be connected with: the members, and two kinds of others, each for a reason and a time.

- A *guest* has a number above all that this node knows, so it is a member of a newer ring than ours (see
  `core.wire.handshake`). It stays until a ring says who it is, or that its number belongs to somebody else.
- A *lingering* peer was a member, and is none by the newest ring; for as long as this node says so it keeps the
  connection that it has and may have another one, since it may have something to hand over (hard case 14).

Everybody else is refused, those that were removed by that name (hard case 16).
"""

from __future__ import annotations

from collections.abc import Container, Sequence

from quorate.core.limits import MEMBERS_MAX
from quorate.core.ring.ring import Member
from quorate.core.ring.transition import Departed


class Roster:
    """See the module. `own_number` is this node's, which is not on the roster."""

    def __init__(self, own_number: int) -> None:
        self.members: dict[int, Member] = {}
        self.departed: tuple[Departed, ...] = ()
        self.changes = 0
        """How often `change` was called: it may be called again by what it causes."""
        self.own: Member | None = None
        """This node as the ring has it; None if it does not."""
        self._own_number = own_number
        self._guests: dict[int, Member] = {}
        self._lingering: dict[int, Member] = {}
        self._departed_ids: set[str] = set()
        self._highest = own_number

    def change(
        self,
        members: Sequence[Member],
        departed: Sequence[Departed],
        lingering: Sequence[int],
        connected: Container[int],
    ) -> list[int]:
        """Go by a newer ring (see `core.ports.Transport.set_members`).

        `connected`: numbers that there is a connection with. Returns the numbers of those who have no place any more.
        """
        before = {**self._lingering, **self._guests, **self.members}
        guests = self._guests
        self.changes += 1
        self.own = next((member for member in members if member.number == self._own_number), None)
        self.members = {member.number: member for member in members if member.number != self._own_number}
        self.departed, self._departed_ids = tuple(departed), {gone.id for gone in departed}
        self._highest = max(self._own_number, 0, *self.members, *(gone.number for gone in departed))
        self._guests = {}
        self._lingering = {
            gone.number: before.get(gone.number) or _departed(gone)
            for gone in departed
            if gone.number in lingering and gone.number not in self.members
        }
        dropped = []
        for number, peer in before.items():
            member = self.members.get(number)
            if member is not None and member.id == peer.id:
                continue
            if number in self._lingering:
                continue
            if number in guests and self._is_newcomer(peer):
                self._guests[number] = peer
            else:
                dropped.append(number)
        return dropped

    @property
    def expected(self) -> dict[int, Member]:
        """Who is let in as whom this node knows."""
        return {**self._lingering, **self.members}

    @property
    def removed(self) -> list[Departed]:
        """Who is refused by the name of having been removed."""
        return [gone for gone in self.departed if gone.number not in self._lingering]

    def admits(self, peer: Member) -> bool:
        """May a peer that has proved to be this one have a connection?"""
        member = self.expected.get(peer.number)
        if member is not None:
            return member.id == peer.id
        return self._is_newcomer(peer) and (peer.number in self._guests or len(self._guests) < MEMBERS_MAX)

    def welcome(self, peer: Member) -> None:
        """`peer`, which is admitted, is connected now."""
        assert self.admits(peer)
        if peer.number not in self.expected:
            self._guests[peer.number] = peer

    def part(self, number: int) -> bool:
        """The connection with `number` is over. True if this was all that there was to it, so that it is forgotten."""
        return self._guests.pop(number, None) is not None

    def peer(self, number: int) -> Member | None:
        """Whoever has this number, if it may be connected with."""
        return self.members.get(number) or self._guests.get(number) or self._lingering.get(number)

    def _is_newcomer(self, peer: Member) -> bool:
        return peer.number > self._highest and peer.id not in self._departed_ids


def _departed(gone: Departed) -> Member:
    """What is known of a member that was gone before this node began to listen."""
    return Member(gone.number, gone.id, f"member {gone.number}", "", "", 1, "", "", "")
