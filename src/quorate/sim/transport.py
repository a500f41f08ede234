"""The simulated transport: one life of one node's process, and whom it wants to be connected with.

Who lets whom in is what a real handshake settles (see `core.ports.Transport.set_members`): a member is let in, and so
is a newcomer that this node has not heard of yet, whose number is above all that it knows. Whoever was removed is
refused by that name, unless this node lets it linger.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import TYPE_CHECKING

from quorate.core.messages import Message
from quorate.core.ports import PeerHandler
from quorate.core.ring.ring import Member
from quorate.core.ring.transition import Departed
from quorate.core.wire.codec import encode_messages
from quorate.sim.clocks import MachineClock
from quorate.sim.connection import Connection
from quorate.sim.loop import Process

if TYPE_CHECKING:
    from quorate.sim.network import Network


class SimTransport:
    """The `Transport` port."""

    def __init__(self, network: Network, member: int, process: Process, clock: MachineClock) -> None:
        self._network = network
        self._member = member
        self.process = process
        self.clock = clock
        self.handler: PeerHandler | None = None
        self.connections: dict[int, Connection] = {}
        self.peers: list[int] = []
        self.removed: dict[int, bool] = {}
        """Numbers that are refused by that name."""
        self._lingering: dict[int, bool] = {}
        self._highest = member
        self.listening = False
        """The node has said who belongs to its cluster."""
        self._outbox: dict[int, list[Message]] = {}

    def attach(self, handler: PeerHandler) -> None:
        """Say who hears what arrives; before anything can."""
        self.handler = handler

    def send(self, member: int, message: Message) -> bool:
        if member not in self.connections:
            return False
        self._network.on_sent(self._member, message)
        if not self._outbox:
            self.process.call_soon(self._flush)
        queued = self._outbox.get(member)
        if queued is None:
            self._outbox[member] = [message]
        else:
            queued.append(message)
        return True

    def connected(self, member: int) -> bool:
        return member in self.connections

    def heard_ms(self, member: int) -> float:
        connection = self.connections.get(member)
        return -inf if connection is None else connection.heard_ms[self._member]

    def set_members(
        self, members: Sequence[Member], departed: Sequence[Departed] = (), lingering: Sequence[int] = ()
    ) -> None:
        self.listening = True
        self.peers = [member.number for member in members if member.number != self._member]
        gone = {one.number: True for one in departed}
        self._lingering = {number: True for number in lingering if number in gone}
        self.removed = {number: True for number in gone if number not in self._lingering}
        self._highest = max(self._member, *self.peers, *gone, 0)
        for number in list(self.connections):
            if not self.admits(number):
                self._network.drop(self._member, number)
        self._network.wants_peers(self._member)

    def admits(self, number: int) -> bool:
        """Is a member of this number let in?"""
        return number in self.peers or number in self._lingering or number > self._highest

    def _flush(self) -> None:
        outbox, self._outbox = self._outbox, {}
        for member, messages in outbox.items():
            connection = self.connections.get(member)
            if connection is not None:
                self._network.transmit(connection, self._member, member, encode_messages(messages))
