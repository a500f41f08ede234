"""The lives of stores, as their peers remember them: how a store finds out that it is an older copy of itself.

A store trusts the markers beside its records, because it holds every event that it issued under them. A copy of its
directory that somebody brings back holds less, and nothing in it tells: the files are whole and their markers agree. It
would issue the dots of its later life again, and acknowledged writes would be taken for old ones (hard cases 1, 16).

So every node remembers, durably, the highest ceiling of epochs that each peer ever told, and whenever two nodes connect
each tells the other what it remembers of it. A store that hears of a ceiling above the one it woke up with knows that
it lived on after the moment that its disk shows. From then on it distrusts all of its markers and mints epochs above
everything that any of its lives may have used: every key gets a new actor when it is next written.

Invariants: what a peer remembers is from before the present connection, and of another life than the present one; a
ceiling that is told is one that the teller has at least begun to reserve, so it uses no epoch above it.
The bound: until a peer has told it, within the first milliseconds of a connection, such a store may coordinate puts as
if nothing had happened; and one that no peer can be reached from (W=1) does so until one can.
Rejected: new actors for every key after every restart (clocks would grow with the restarts); a fingerprint of the files
(a snapshot of a whole disk keeps it, and a change of owner looks like a copy).
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec

from quorate.core.errors import StorageError
from quorate.core.messages import Life
from quorate.core.ports import Space
from quorate.node.context import NodeContext
from quorate.node.documents import load, sealed

log = logging.getLogger(__name__)

LIVES_KEY = b"lives"


class Lives:
    """This life, and the latest known one of every peer."""

    def __init__(self, node: NodeContext, on_failure: Callable[[StorageError], None]) -> None:
        self._node = node
        self._on_failure = on_failure
        self._life = node.rng.below(1 << 62)
        raw = load(node.engine, LIVES_KEY)
        self._heard: dict[int, tuple[int, int]] = {} if raw is None else msgspec.msgpack.decode(raw, type=_Heard)
        """Member → (its life, the highest ceiling it told)."""
        node.epochs.on_reserved = self._tell_all

    def on_connected(self, peer: int) -> None:
        heard_life, heard_ceiling = self._heard.get(peer, (0, 0))
        node = self._node
        node.transport.send(peer, Life(self._life, node.epochs.reserved, heard_life, heard_ceiling))

    def on_life(self, member: int, message: Life) -> None:
        """A peer tells of itself, and what it remembers of this node."""
        node = self._node
        if message.heard_life != self._life and message.heard_ceiling > node.epochs.trusted_ceiling:
            node.count("former_lives_found")
            log.warning(
                "%s remembers a later life of this store than its disk does: it is an older copy, so every key gets a "
                "new actor when it is next written",
                node.names([member])[0],
            )
            node.epochs.distrust(message.heard_ceiling)
        if message.ceiling > self._heard.get(member, (0, 0))[1]:
            self._heard[member] = (message.life, message.ceiling)
            document = sealed(msgspec.msgpack.encode(self._heard))
            try:
                node.engine.write([(Space.META, LIVES_KEY, document)])
            except StorageError as error:
                self._on_failure(error)

    def _tell_all(self) -> None:
        """More epochs were reserved than the peers know of."""
        for peer in self._node.view.other_numbers:
            if self._node.transport.connected(peer):
                self.on_connected(peer)


_Heard = dict[int, tuple[int, int]]
