"""The ports: everything through which the core and the node touch the world.

Production puts uvloop, TCP, RocksDB and the system's clocks behind them; the simulator puts virtual time, a seeded
network and an engine that forgets unsynced writes behind them, and runs the same code. A port is as small as its
users allow. All calls are made from one thread, and every callback comes back on that thread.

Rejected: `asyncio` as the port itself (its timers with equal deadlines are not FIFO, and some of its primitives
complete in set order, so equal seeds would give different traces).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from enum import IntEnum
from typing import Protocol

import msgspec

from quorate.core.errors import StorageError
from quorate.core.messages import Candidacy, CandidacyReply, Message
from quorate.core.ring.ring import Member
from quorate.core.ring.transition import Departed


class Clock(Protocol):
    """The two clocks of a machine. Durations only ever come from the monotonic one (hard case 30)."""

    def wall_ms(self) -> int:
        """Milliseconds since the Unix epoch; may jump in either direction."""
        ...

    def monotonic_ms(self) -> float:
        """Milliseconds since some fixed moment; never goes back."""
        ...


class Rng(Protocol):
    """Randomness. Seeded in the simulator, from the operating system in production."""

    def random(self) -> float:
        """A float in [0, 1)."""
        ...

    def below(self, bound: int) -> int:
        """An integer in [0, bound)."""
        ...

    def token_bytes(self, size: int) -> bytes: ...


class Cancellable(Protocol):
    def cancel(self) -> None: ...


class Scheduler(Protocol):
    """The loop: what runs next, and what runs later. Callbacks of equal deadline run in the order they were made."""

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Run `callback` in the next turn, after everything already due."""
        ...

    def call_later(self, delay_ms: float, callback: Callable[[], None]) -> Cancellable: ...


class PeerHandler(Protocol):
    """What a transport tells the node. Members are named by their number in the ring."""

    def on_message(self, member: int, message: Message, age_ms: float) -> None:
        """`message` came from `member`; it has waited about `age_ms` on the way (see `Transport`)."""
        ...

    def on_connected(self, member: int) -> None: ...

    def on_disconnected(self, member: int) -> None:
        """Everything outstanding towards `member` may be lost."""
        ...

    def on_candidacy(self, message: Candidacy, answer: Callable[[CandidacyReply], None]) -> None:
        """A node that holds the cluster's secret, and is no member, asks to become one; `answer` at once, or never."""
        ...

    def on_removed(self, reason: str) -> None:
        """A member refused this node by name, because it was removed from the cluster; `reason` is for people."""
        ...


class Transport(Protocol):
    """Messages to other members: unreliable, unordered across reconnects, never duplicated by TCP but so by retries.

    A frame carries its sender's monotonic time; the receiver keeps the smallest difference it saw to its own clock
    and calls what exceeds it the frame's *age*. Deadlines in messages are remaining times, so a request that lay
    in a buffer is recognised as expired without synchronised clocks.
    """

    def send(self, member: int, message: Message) -> bool:
        """Queue `message` for the frame that leaves at the end of this turn.

        False if there is no connection or its buffer is full: then nothing was sent, and nothing will be.
        """
        ...

    def connected(self, member: int) -> bool: ...

    def heard_ms(self, member: int) -> float:
        """When anything last came from `member` over its present connection, as `Clock.monotonic_ms` tells time.

        Minus infinity if there is no connection.
        """
        ...

    def set_members(
        self, members: Sequence[Member], departed: Sequence[Departed] = (), lingering: Sequence[int] = ()
    ) -> None:
        """The members to stay connected with (this node itself is skipped); others are disconnected.

        `departed`: who was removed and is refused by that name. `lingering`: numbers of those among them that may be
        connected all the same, for as long as this says so: they may have something to hand over (hard case 14).
        A member that this node does not know yet, with a number above all that it knows, is let in once it has proved
        that it holds the secret: it brings a newer ring.
        """
        ...


class Space(IntEnum):
    """Separate ordered key spaces of one engine; a batch may span them and is atomic over all."""

    DATA = 0
    META = 1
    HINTS = 2


class OpenReport(msgspec.Struct, frozen=True):
    """What an engine found when it was opened."""

    fresh: bool
    """The store was created just now: it holds nothing, whatever it may have held in an earlier life."""
    clean: bool
    """The last user closed it properly (true for a fresh one)."""
    may_have_lost_writes: bool
    """Unsynced writes may be missing: the machine went down (not merely the process), or the log was torn."""


WriteOperation = tuple[Space, bytes, bytes | None]
"""(space, key, value); a value of None deletes the key."""


class Engine(Protocol):
    """An ordered key-value store on this node's disk. Every method may raise `StorageError`.

    `write` returns when the batch would survive a kill of the process; `sync` reports when it would survive the loss
    of power. A failed `write` or `sync` leaves it undefined which operations of the batch are stored: the caller
    fences the node.
    """

    @property
    def report(self) -> OpenReport: ...

    def get(self, space: Space, key: bytes) -> bytes | None: ...

    def scan(self, space: Space, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Pairs with start ≤ key < end, in key order, as they were when the scan began."""
        ...

    def write(self, batch: Sequence[WriteOperation]) -> None:
        """Apply all operations, or none, in order."""
        ...

    def delete_range(self, space: Space, start: bytes, end: bytes) -> None: ...

    def sync(self, done: Callable[[StorageError | None], None]) -> None:
        """Bring everything written so far to the disk without blocking the loop, then call `done` on the loop."""
        ...

    def data_bytes(self) -> int:
        """About how many bytes the records take: for people, and for plans."""
        ...

    def free_fraction(self) -> float:
        """The share of the file system that is still free, 0.0 to 1.0; cheap, may be a second old."""
        ...

    def close(self) -> None:
        """Flush, mark the store clean and release it. Idempotent."""
        ...
