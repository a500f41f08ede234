"""Where linearizability is promised: the ring and the buckets' properties, which the members decide one by one.

Each version of the cluster's metadata is one decision of a majority (`core/membership/ring_*.py`), so whatever
operators do at whichever nodes, at once or one after the other, must look as if one register had done it: two joins at
once serialise, and no conflict of rings exists. The simulator's operator writes down what he asked for and was told in
an `OperatorLog`; here it becomes registers, and `check_metadata` judges them (check M).

Registers are read where that is sound: from each ring that is newer than all before, when somebody first goes by it,
and from every member when all is quiet. A single member's view at any other time may be old, and nobody is promised
more. A ring is proposed by somebody who goes by the one before, so what a newest ring says was decided after the one
before it had appeared: between the two lies the moment of the read.

*A bucket's property* is a register whose every write has a value of its own, which zones judge.

*The plan under way* is a register with compare-and-set, which the search judges: a commit that succeeds is
cas(None → plan), its end, by finishing or by an abort, is cas(plan → None), seen as a newest ring without it. Two plans
at once, a plan that was acknowledged and lost, one that was reported as not done and began, or one that begins again
after its end, all have no order. A plan that moves nothing is over with the decision that begins it; nobody sees it
under way, so it only asks that no other was, as cas(None → None).

Who gets no answer knows nothing: such an order may have been decided at any time, or never; but no later than all was
quiet in the end, with every member up, and nothing proposed any more. Without that bound a lost decision could always
be said to come yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec.structs import replace

from quorate.core.store import Admin, Failure
from quorate.sim.history import FAILED, OK, UNKNOWN, Outcome, Violation
from quorate.sim.registers.history import (
    CAS,
    LINEARIZABLE,
    NOT_LINEARIZABLE,
    READ,
    UNDECIDED,
    WRITE,
    Judgement,
    Operation,
    Value,
)
from quorate.sim.registers.search import STATES_MAX, search
from quorate.sim.registers.zones import judge_zones

CHECK: Final = "M"
PLANS: Final = "the plan under way"
"""The name of the one register that is no bucket's property."""
ORDERS_MAX: Final = 100_000
"""How many orders and sights a log keeps. A run gives some hundreds."""


class Order(msgspec.Struct):
    """One thing that an operator asked for: a property's new value, or that a plan begin."""

    register: str
    value: Value
    invoked_us: int
    answered_us: int | None = None
    outcome: Outcome = UNKNOWN
    moves: bool = True
    """Of a plan: is anything moved, so that it lasts?"""
    by: str = ""


class OperatorLog:
    """What operators asked for, what they were told, and what was seen of it. Times are true times in µs."""

    def __init__(self, beginnings: Mapping[str, Value] | None = None) -> None:
        """`beginnings`: register → its value before anybody has set it, if that is not None."""
        self._beginnings = dict(beginnings or {})
        self.orders: list[Order] = []
        self.sights: list[tuple[str, Operation]] = []
        """(register, a read of it, or the end of a plan)."""
        self._repeated: dict[int, bool] = {}
        self._newest_us = 0
        self._plan: str | None = None
        self._under_way: dict[Value, bool] = {}
        """Every plan that a newest ring has shown."""

    def invoked(self, register: str, value: Value, now_us: int, *, by: str = "", moves: bool = True) -> int:
        """An operator asks that `register` (a property's name, or `PLANS`) become `value`, which nobody has asked for
        before; `by`: who, at which node. Returns the order's number, for `answered`."""
        assert value is not None and value != self._beginnings.get(register), "a value that nobody asked for before"
        assert len(self.orders) < ORDERS_MAX, "a run has so many orders at most"
        self.orders.append(Order(register, value, now_us, moves=moves, by=by))
        return len(self.orders) - 1

    def answered(self, number: int, reply: Admin | Failure, now_us: int) -> None:
        """The answer to order `number`. One that never comes leaves it unknown."""
        order = self.orders[number]
        assert order.answered_us is None, "an order is answered once"
        order.answered_us, order.outcome = now_us, outcome_of(reply)

    def repeated(self, number: int) -> None:
        """The same as in order `number` was asked for once more. The two are one order from now on, and what either is
        told says little of it: the other may have done it, or still do it."""
        self._repeated[number] = True

    def newest(self, plan: str | None, properties: Mapping[str, Value], now_us: int) -> None:
        """Somebody goes by a ring that is newer than all before, for the first time: it has `plan` under way, and these
        properties (register → value)."""
        since_us, self._newest_us = self._newest_us, now_us
        by = "the newest ring"
        if self._plan is not None and plan is None:
            end = Operation(CAS, None, since_us, now_us, expected=self._plan, name=by)
            self._sight(PLANS, end)
        if plan is not None:
            self._under_way[plan] = True
        self._plan = plan
        for register, value in {PLANS: plan, **properties}.items():
            self._read(register, value, since_us, now_us, by)

    def found(self, register: str, value: Value, now_us: int, *, by: str) -> None:
        """When all was quiet, `by` went by `value`."""
        self._read(register, value, now_us, now_us, by)

    def _read(self, register: str, value: Value, since_us: int, now_us: int, by: str) -> None:
        if value == self._beginnings.get(register):
            value = None
        self._sight(register, Operation(READ, value, since_us, now_us, name=by))

    def _sight(self, register: str, operation: Operation) -> None:
        assert len(self.sights) < ORDERS_MAX, "a run has so many sights at most"
        self.sights.append((register, operation))

    def operations(self, register: str, quiet_us: int) -> list[Operation]:
        """The history of `register`. Whatever was decided, was so before `quiet_us`."""
        found = [
            self._operation(replace(order, outcome=UNKNOWN) if number in self._repeated else order, quiet_us)
            for number, order in enumerate(self.orders)
            if order.register == register
        ]
        return found + [sight for name, sight in self.sights if name == register]

    def registers(self) -> list[str]:
        """The names of all, in the order in which they were first heard of."""
        names = [order.register for order in self.orders] + [name for name, _ in self.sights]
        return list(dict.fromkeys(names))

    def _operation(self, order: Order, quiet_us: int) -> Operation:
        ends_us = order.answered_us if order.outcome == OK else max(quiet_us - 1, order.invoked_us)
        if order.register != PLANS:
            return Operation(WRITE, order.value, order.invoked_us, ends_us, order.outcome, name=order.by)
        lasts = order.moves or order.value in self._under_way
        value = order.value if lasts else None
        return Operation(CAS, value, order.invoked_us, ends_us, order.outcome, expected=None, name=order.by)


class MetadataFindings(msgspec.Struct):
    """What `check_metadata` found. `counts`: verdict → registers; `operations`: of all of them."""

    violations: list[Violation] = []
    counts: dict[str, int] = msgspec.field(
        default_factory=lambda: dict.fromkeys((LINEARIZABLE, NOT_LINEARIZABLE, UNDECIDED), 0)
    )
    operations: int = 0


def check_metadata(log: OperatorLog, quiet_us: int, states_max: int = STATES_MAX) -> MetadataFindings:
    """Check M over all registers of `log`. `quiet_us`: from then on all members were up and nothing was under way;
    `states_max`: the bound of the search, beyond which a register counts as unknown."""
    findings = MetadataFindings()
    for register in log.registers():
        operations = log.operations(register, quiet_us)
        judgement = search(operations, states_max) if register == PLANS else judge_zones(operations)
        findings.counts[judgement.verdict] += 1
        findings.operations += len(operations)
        if judgement.verdict == NOT_LINEARIZABLE:
            findings.violations.append(Violation(CHECK, _message(register, judgement)))
    return findings


def outcome_of(reply: Admin | Failure) -> Outcome:
    """What an answer says of an order: a failure means that it was not done, unless it says that nobody knows."""
    if isinstance(reply, Admin):
        return OK
    return UNKNOWN if reply.kind == "unknown" else FAILED


def _message(register: str, judgement: Judgement) -> str:
    return f"what operators did to {register!r} has no order: {judgement.explanation}"
