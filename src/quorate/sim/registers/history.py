"""Operations on one register, as their clients saw them, and what a judge says of all of them together.

A history is linearizable if each operation can be given one moment between its invocation and its completion such that,
in the order of these moments, every one behaves as on a register that only one client uses. An operation precedes
another if it completed before that was invoked; at equal times they overlap, so either may come first.

What a client does not know is said, not guessed: an operation's outcome is
- ok: it happened between `invoked_us` and `completed_us`, and `result` is what it answered;
- failed: it surely did not happen, so it says nothing. That its value must not be seen follows by itself;
- unknown: it may have happened once at any time from `invoked_us` on, or never. If somebody knows that nothing was
  under way any more at some later time, that time is its `completed_us`: by then, or never.

The register begins with None, and nobody writes None except by a compare-and-set: so "nothing was there" is a value.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Final, Literal

import msgspec

from quorate.sim.history import FAILED, OK, UNKNOWN, Outcome

Kind = Literal["read", "write", "cas"]
READ: Final = "read"
WRITE: Final = "write"
CAS: Final = "cas"

Value = Hashable
"""Anything that can be compared; None is what the register holds in the beginning."""

NEVER_US: Final = 1 << 62
"""When an operation of unknown outcome completes, if nobody has set a bound."""


class Operation(msgspec.Struct, frozen=True):
    """One operation on a register. Times are µs on one clock."""

    kind: Kind
    value: Value
    """What a read answered, a write wrote, or a compare-and-set was to write."""
    invoked_us: int
    completed_us: int | None = None
    """None only where the outcome is unknown (or it failed): it may still take effect."""
    outcome: Outcome = OK
    expected: Value = None
    """Of a compare-and-set: what must be there for it to write."""
    swapped: bool = True
    """Of a compare-and-set that is ok: did it find what it expected? If not, it found something else."""
    name: str = ""
    """Who did it, for people."""

    @property
    def ends_us(self) -> int:
        """By when it happened, if it did."""
        return NEVER_US if self.completed_us is None else self.completed_us

    def text(self) -> str:
        """As one line for people."""
        what = f"cas({self.expected!r} → {self.value!r})" if self.kind == CAS else f"{self.kind}({self.value!r})"
        if self.kind == CAS and self.outcome == OK and not self.swapped:
            what += " that found something else"
        ends = "open" if self.completed_us is None else f"{self.completed_us}"
        unsure = "" if self.outcome == OK else f", {self.outcome}"
        return f"{f'{self.name}: ' if self.name else ''}{what} from {self.invoked_us} to {ends} µs{unsure}"


Verdict = Literal["linearizable", "not linearizable", "unknown"]
LINEARIZABLE: Final = "linearizable"
NOT_LINEARIZABLE: Final = "not linearizable"
UNDECIDED: Final = "unknown"
"""The judge gave up within its bound, or cannot judge such a history. It is counted, and never passes for good."""


class Judgement(msgspec.Struct, frozen=True):
    """What became of one register."""

    verdict: Verdict
    explanation: str = ""
    """Why it is not linearizable, or why nobody knows."""
    offenders: tuple[Operation, ...] = ()
    """The operations that contradict each other."""
    states: int = 0
    """How many states a search has visited."""


def checked(operations: Sequence[Operation]) -> list[Operation]:
    """Those that say something: without what failed, and without reads whose answer nobody knows.

    Raises `ValueError` for an operation that cannot be: one that completes before it is invoked, or that is ok and
    does not complete, a write of None, or a compare-and-set whose answer is known while its outcome is not.
    """
    kept = []
    for operation in operations:
        if operation.ends_us < operation.invoked_us:
            raise ValueError(f"an operation completes before it is invoked: {operation.text()}")
        if operation.outcome == OK and operation.completed_us is None:
            raise ValueError(f"an operation is ok and does not complete: {operation.text()}; say that it is unknown")
        if operation.kind == WRITE and operation.value is None:
            raise ValueError(f"a write of None, which is the value in the beginning: {operation.text()}")
        if operation.outcome == UNKNOWN and not operation.swapped:
            raise ValueError(f"an operation answered, so its outcome is known: {operation.text()}; say that it is ok")
        if operation.outcome != FAILED and not (operation.kind == READ and operation.outcome == UNKNOWN):
            kept.append(operation)
    return kept
