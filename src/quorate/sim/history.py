"""What the clients did and what they were told: the material that the checkers judge.

One `WriteEntry` is one write as its user means it; retries with its operation id are the same entry. Its outcome is
ok if any attempt was acknowledged, failed if every attempt is known not to have been done, and unknown otherwise,
also while an attempt is still under way.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from quorate.core.record import Clock, Dot, Sibling

Outcome = Literal["ok", "failed", "unknown"]

Source = Literal["", "put", "read"]
"""Where a context came from: from the answer to an own put, or from a read; "": there is none."""

OK: Final = "ok"
FAILED: Final = "failed"
UNKNOWN: Final = "unknown"


class Ack(msgspec.Struct):
    """One acknowledged attempt: the interval (true time) and the clock of the context that came back."""

    invoked_us: int
    completed_us: int
    clock: Clock


class WriteEntry(msgspec.Struct):
    """A put or a delete. `value` is unique among all puts, `operation` among all writes that have one."""

    number: int
    storage_key: bytes
    value: bytes
    delete: bool = False
    operation: int = 0
    context: Clock | None = None
    """The clock of the context that the client supplied; None: no context."""
    overwrite_seen: bool = False
    w: int = 2
    strict: bool = True
    """Only replicas of the key count towards `w`."""
    invoked_us: int = 0
    attempts_open: int = 0
    attempts_unknown: int = 0
    acks: list[Ack] = []
    session: int = 0
    """The number of the client that wrote it; 0: of nobody whose session is judged."""
    context_source: Source = ""

    @property
    def outcome(self) -> Outcome:
        if self.acks:
            return OK
        return UNKNOWN if self.attempts_open or self.attempts_unknown else FAILED


class ReadEntry(msgspec.Struct):
    """A get that was answered. (One that was not says nothing.)"""

    storage_key: bytes
    r: int
    invoked_us: int
    completed_us: int
    clock: Clock
    siblings: list[Sibling]
    strict: bool = True
    """Only replicas of the key counted towards `r`."""
    wall_ms: int = 0
    """What every clock of the cluster said or had passed when the read began; 0: nobody knows, as some jumped."""
    session: int = 0
    """The number of the client that read; 0: of nobody whose session is judged."""


class ListEntry(msgspec.Struct):
    """A whole listing of a strict bucket's keys that was answered; `wall_ms` as of a read."""

    bucket: bytes
    invoked_us: int
    completed_us: int
    keys: list[bytes]
    wall_ms: int = 0


class History(msgspec.Struct):
    """Everything of one run. `losses_us`: when a replica legitimately lost writes (a wiped disk, unsynced data);
    `key_losses_us`: the same for single keys, whose record was damaged there; `unsynced_losses_us`: when a machine lost
    unsynced batches, whether or not anything acknowledged may have been among them. All in the order of time."""

    writes: list[WriteEntry] = []
    reads: list[ReadEntry] = []
    losses_us: list[int] = []
    listings: list[ListEntry] = []
    key_losses_us: dict[bytes, list[int]] = {}
    unsynced_losses_us: list[int] = []

    def lost_since(self, storage_key: bytes, time_us: int) -> bool:
        """Was anything lost legitimately, of this key or of all, at `time_us` or later?"""
        return any(losses and losses[-1] >= time_us for losses in (self.losses_us, self.key_losses_us.get(storage_key)))


class Violation(msgspec.Struct, frozen=True):
    """One thing that must not be. `check` names the checker: one of the table in `docs/simulation.md`."""

    check: str
    message: str


def covers(clock: Clock, dot: Dot) -> bool:
    """Does `clock` know of the event `dot`?"""
    return clock.get(dot[0], 0) >= dot[1]
