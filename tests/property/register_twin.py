"""The brute-force twin of the judges of registers, and an atomic register that makes good histories."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import combinations, permutations

from quorate.sim.history import OK, UNKNOWN
from quorate.sim.registers.history import CAS, READ, WRITE, Kind, Operation, Value, checked


def brute_force(operations: Sequence[Operation]) -> bool:
    """The definition: is there an order of what is ok and of some of what is unknown, in which every operation that
    precedes another comes before it, and every answer is that of a register?"""
    said = checked(operations)
    must = [operation for operation in said if operation.outcome == OK]
    may = [operation for operation in said if operation.outcome == UNKNOWN]
    chosen = (must + list(some) for count in range(len(may) + 1) for some in combinations(may, count))
    return any(_legal(order) for some in chosen for order in permutations(some))


def _legal(order: Sequence[Operation]) -> bool:
    value: Value = None
    for index, operation in enumerate(order):
        if any(later.ends_us < operation.invoked_us for later in order[index + 1 :]):
            return False
        if operation.kind == READ and operation.value != value:
            return False
        if operation.kind == CAS and (operation.expected == value) != operation.swapped:
            return operation.outcome == UNKNOWN and _legal([*order[:index], *order[index + 1 :]])
        if operation.kind == WRITE or (operation.kind == CAS and operation.swapped):
            value = operation.value
    return True


def atomic_history(
    rng: random.Random, length: int, *, kinds: Sequence[Kind] = (READ, WRITE), spread_us: int = 20, values: int = 0
) -> list[Operation]:
    """What clients of one atomic register see who are far away from it: each operation takes effect at a moment of its
    own, somewhere between its invocation and its completion. Some outcomes stay unknown, whether or not it happened.

    `values`: how many different ones are written; 0: each write has its own.
    """
    value: Value = None
    operations = []
    for number in range(1, length + 1):
        moment_us = 10 * number
        kind = rng.choice(kinds)
        invoked_us = moment_us - rng.randint(0, spread_us)
        completed_us: int | None = moment_us + rng.randint(0, spread_us)
        written = rng.randint(1, values) if values else number
        expected = value if rng.random() < 0.7 else rng.randint(1, max(1, values, number - 1))
        unknown = kind != READ and rng.random() < 0.2
        if unknown and rng.random() < 0.7:
            completed_us = None
        happens = not unknown or rng.random() < 0.5
        swapped = expected == value
        if kind == READ:
            operations.append(Operation(READ, value, invoked_us, completed_us))
            continue
        operations.append(
            Operation(
                kind,
                written,
                invoked_us,
                completed_us,
                UNKNOWN if unknown else OK,
                expected if kind == CAS else None,
                swapped=kind == WRITE or swapped or unknown,
            )
        )
        if happens and (kind == WRITE or swapped):
            value = written
    rng.shuffle(operations)
    return operations
