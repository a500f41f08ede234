"""Minting of epochs: the node-wide counter, and how it stays ahead of every crash.

An epoch may be used only when the disk already says that it is used up. So the store reserves a block of epochs,
synced, before the first of them is minted; after any stop the counter goes on above the last reserved block. A fresh
store cannot know what an earlier store of this member used up, and starts from the clock (`first_epoch`).

A damaged counter is never believed: one flipped bit could make it smaller, and every dot after it one that was issued
before (hard cases 1, 25). The node then does not start, and says why.

The floor is the oldest epoch that the store vouches for. It is raised, durably, when the store is opened after an
unclean stop that may have lost writes.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from quorate.core.causality.actor import EpochCounter, first_epoch
from quorate.core.errors import Overloaded, StorageError
from quorate.core.ports import Clock, Engine, Rng, Space
from quorate.node.documents import load, sealed

EPOCH_KEY = b"epochs"
EPOCHS_PER_BLOCK = 65_536
EPOCHS_MARGIN = 32_768


class _Persisted(msgspec.Struct, array_like=True):
    ceiling: int
    floor: int


class Epochs:
    """The epoch counter of one store, persisted in its META space."""

    def __init__(
        self, *, member: int, engine: Engine, clock: Clock, rng: Rng, on_failure: Callable[[StorageError], None]
    ) -> None:
        self._engine = engine
        self._member = member
        self._clock = clock
        self._rng = rng
        self._on_failure = on_failure
        self.on_reserved: Callable[[], None] = lambda: None
        """Called when more epochs were reserved than at the start."""
        self._reserving = False
        raw = load(engine, EPOCH_KEY)
        if raw is None:
            next_epoch = first_epoch(clock.wall_ms(), rng.below(1 << 17))
            self.floor = next_epoch
        else:
            persisted = msgspec.msgpack.decode(raw, type=_Persisted)
            next_epoch = persisted.ceiling
            self.floor = next_epoch if engine.report.may_have_lost_writes else persisted.floor
        self._counter = EpochCounter(member, next_epoch)
        self.trusted_ceiling = next_epoch
        """What this store woke up with: no life of it that it remembers minted an epoch at or above this."""
        self.reserved = next_epoch
        """No epoch at or above this is in use yet."""

    def start(self, ready: Callable[[], None]) -> None:
        """Reserve the first block; `ready` is called when it is on the disk."""
        self._reserve(ready)

    def mint(self) -> int:
        """A new actor. Raises `Overloaded` if the next block is not reserved yet."""
        if self._counter.needs_reservation(EPOCHS_MARGIN):
            if not self._reserving:
                self._reserve(self.on_reserved)
            if self._counter.needs_reservation(1):
                raise Overloaded("the node waits for its disk to reserve epochs; ask again shortly")
        return self._counter.mint()

    def distrust(self, heard_ceiling: int) -> None:
        """This store is an older copy of one that reserved epochs up to `heard_ceiling` at least: trust no marker, and
        mint above everything that may have been used since.

        More may have been reserved than anybody heard of, so the clock has a say, as at a store's birth.
        """
        born = first_epoch(self._clock.wall_ms(), self._rng.below(1 << 17))
        above = max(heard_ceiling, self._counter.ceiling, born)
        self._counter = EpochCounter(self._member, above)
        self.floor = self.trusted_ceiling = above
        self._reserve(self.on_reserved)

    def _reserve(self, ready: Callable[[], None]) -> None:
        self._reserving = True
        counter = self._counter
        self.reserved = ceiling = counter.ceiling + EPOCHS_PER_BLOCK

        def synced(error: StorageError | None) -> None:
            self._reserving = False
            if error is not None:
                self._on_failure(error)
                return
            counter.reserve(EPOCHS_PER_BLOCK)
            ready()

        try:
            document = sealed(msgspec.msgpack.encode(_Persisted(ceiling, self.floor)))
            self._engine.write([(Space.META, EPOCH_KEY, document)])
            self._engine.sync(synced)
        except StorageError as error:
            synced(error)
