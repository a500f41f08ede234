"""Is a register with compare-and-set linearizable? By search (Wing and Gong, JPDC 1993; memo: Lowe, CCPE 2017).

Depth first: choose an operation that may come next, since no other that is left has completed before it was invoked,
try it on the register, and go on with the rest; go back where nothing fits. The problem is NP-complete (Gibbons and
Korach, 1997), so three things keep it small, and a bound keeps it honest:

- *Memo.* What can still be done depends on which operations are done and on what the register holds, not on their
  order. A pair (bitmask, value) that was seen is not entered again.
- *What changes nothing comes first.* A read that fits what the register holds, or a compare-and-set that rightly
  failed, is done at once and without an alternative: taking it out of a later place in some order and doing it now
  breaks nothing, because nobody notices it. (A write of what is there already is not so: later it would change
  something.)
- *What nobody has seen may be left out.* An operation of unknown outcome that no other answer can depend on is
  dropped (see `_unnoticed`). Those that stay are tried, and skipped in the end: only what is ok must be done.

The bound is a number of visited states. Where it is reached the verdict is "unknown": counted, and never a pass.

For a bad history the explanation is where the longest order came to its end: what the register held there, and every
operation that might have come next and did not fit.

Rejected: a recursion, which long histories would overflow; dropping entries of the memo to bound its memory, since the
bound of states bounds it too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from quorate.sim.history import OK, UNKNOWN
from quorate.sim.registers.history import (
    CAS,
    LINEARIZABLE,
    NEVER_US,
    NOT_LINEARIZABLE,
    READ,
    UNDECIDED,
    WRITE,
    Judgement,
    Operation,
    Value,
    checked,
)

STATES_MAX: Final = 100_000
OFFENDERS_SHOWN_MAX: Final = 6


def search(operations: Sequence[Operation], states_max: int = STATES_MAX) -> Judgement:
    """Whether reads, writes and compare-and-sets are linearizable; undecided after `states_max` states. Raises
    `ValueError` as `history.checked` does."""
    return _Search(_unnoticed(checked(operations)), states_max).run()


def _unnoticed(operations: list[Operation]) -> list[Operation]:
    """`operations` without those of unknown outcome that nobody can have noticed: their value was never read and never
    expected.

    If a compare-and-set failed that expected something, it may have noticed any value; then nothing is dropped.
    """
    if any(operation.kind == CAS and operation.outcome == OK and not operation.swapped for operation in operations):
        return operations
    noticed: dict[Value, bool] = {}
    for operation in operations:
        if operation.kind != WRITE:
            noticed[operation.value if operation.kind == READ else operation.expected] = True
    return [operation for operation in operations if operation.outcome != UNKNOWN or operation.value in noticed]


class _Search:
    def __init__(self, operations: list[Operation], states_max: int) -> None:
        self._operations = sorted(operations, key=lambda operation: operation.invoked_us)
        self._states_max = states_max
        self._must = sum(1 << index for index, found in enumerate(self._operations) if found.outcome == OK)
        """The operations that have to be done, as a bitmask."""
        self._seen: set[tuple[int, Value]] = set()
        self._longest = -1
        self._stuck: tuple[int, Value] = (0, None)
        """Where the longest order so far came to its end."""

    def run(self) -> Judgement:
        done, value = self._settled(0, None)
        paths: list[Iterator[tuple[int, Value]]] = []
        while done & self._must != self._must:
            if (done, value) not in self._seen:
                if len(self._seen) >= self._states_max:
                    text = f"nobody knows after {self._states_max} states of {len(self._operations)} operations"
                    return Judgement(UNDECIDED, text, (), len(self._seen))
                self._seen.add((done, value))
                self._note(done, value)
                paths.append(self._next(done, value))
            step = None
            while paths and (step := next(paths[-1], None)) is None:
                paths.pop()
            if step is None:
                return self._bad()
            done, value = step
        return Judgement(LINEARIZABLE, states=len(self._seen))

    def _candidates(self, done: int) -> list[int]:
        """The operations that may come next: none that is left has completed before they were invoked."""
        found: list[int] = []
        least_us: int | None = None
        first = (~done & (done + 1)).bit_length() - 1
        for index in range(first, len(self._operations)):
            operation = self._operations[index]
            if least_us is not None and operation.invoked_us > least_us:
                break
            if not done >> index & 1 and not self._too_late(operation, done):
                found.append(index)
                # One of unknown outcome may never happen: nothing has to wait for it.
                if operation.outcome == OK and (least_us is None or operation.ends_us < least_us):
                    least_us = operation.ends_us
        if least_us is None:
            return found
        return [index for index in found if self._operations[index].invoked_us <= least_us]

    def _too_late(self, operation: Operation, done: int) -> bool:
        """Is it one of unknown outcome that cannot have happened any more, after something that is `done`?"""
        if operation.outcome == OK or not done:
            return False
        return operation.ends_us < self._operations[done.bit_length() - 1].invoked_us

    def _settled(self, done: int, value: Value) -> tuple[int, Value]:
        """`done` with everything that may come next, fits `value` and leaves it as it is."""
        while True:
            before = done
            candidates = [(index, self._operations[index]) for index in self._candidates(done)]
            # What is unknown and has an end may have to come first; if it never happens, this one is tried later.
            least_us = min((one.ends_us for _, one in candidates if one.outcome == UNKNOWN), default=NEVER_US)
            for index, operation in candidates:
                quiet = operation.kind != WRITE and _fits(operation, value) and _after(operation, value) == value
                if quiet and operation.outcome == OK and operation.invoked_us <= least_us:
                    done |= 1 << index
            if done == before:
                return done, value

    def _next(self, done: int, value: Value) -> Iterator[tuple[int, Value]]:
        """What the operations that may come next lead to."""
        for index in self._candidates(done):
            operation = self._operations[index]
            if _fits(operation, value):
                yield self._settled(done | 1 << index, _after(operation, value))

    def _note(self, done: int, value: Value) -> None:
        length = (done & self._must).bit_count()
        if length > self._longest:
            self._longest, self._stuck = length, (done, value)

    def _bad(self) -> Judgement:
        done, value = self._stuck
        stuck = [self._operations[index] for index in self._candidates(done)]
        stuck = [operation for operation in stuck if operation.outcome == OK] or stuck
        text = (
            f"after {self._longest} of {self._must.bit_count()} operations the register holds {value!r}, and no order"
        )
        text += " goes on from there or from elsewhere; next might come: "
        text += "; ".join(operation.text() for operation in stuck[:OFFENDERS_SHOWN_MAX])
        return Judgement(NOT_LINEARIZABLE, text, tuple(stuck), len(self._seen))


def _fits(operation: Operation, value: Value) -> bool:
    """May `operation` happen while the register holds `value`, with the answer that it got?"""
    if operation.kind == READ:
        return operation.value == value
    if operation.kind == CAS:
        return (operation.expected == value) == operation.swapped
    return True


def _after(operation: Operation, value: Value) -> Value:
    """What the register holds after `operation`, which fits `value`."""
    changes = operation.kind == WRITE or (operation.kind == CAS and operation.swapped)
    return operation.value if changes else value
