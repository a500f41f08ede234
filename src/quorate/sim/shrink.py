"""The smallest run that still fails: fewer faults, less time, fewer clients, keys and nodes.

A failing seed of a virtual minute has a hundred faults and ten thousand frames; a person can read a run of two faults.
So options that contain less are tried, and kept if the same check still fails. There are two sorts of attempts:
- To end the run earlier or to leave single faults out changes nothing of what comes before, so it mostly works: time
  by bisection, faults by delta debugging (leave out halves, then quarters … then single ones).
- Fewer kinds, clients, keys or nodes make another run, which fails by luck only; a few sizes are tried for each.

Invariants:
- Whatever is returned was run, and fails the same check as the run that was given.
- The result depends on the seed and the options alone: candidates have an order, and the first that fails is taken,
  however many run at once.
- At most `runs_max` candidates are looked at.

Rejected: a model of which faults depend on each other. A run costs a second; guessing costs more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec

from quorate.sim.options import Outcome, SimOptions

RUNS_MAX = 400
ROUNDS_MAX = 4
"""How often everything is tried anew after something became smaller."""
SECONDS_MIN = 1.0
PRECISION_SHARE = 0.05
"""The length is found to within this share of it, or half a second."""

DRAWN = ("clients", "nodes")
"""Options that are 0 where the seed chooses."""
DRAWN_MAX = 8

Evaluate = Callable[[Iterable[SimOptions]], Iterator[Outcome]]
"""Runs candidates, in order; may run some ahead, which are given up when the iterator is closed."""


class Shrunk(msgspec.Struct, frozen=True):
    """The smallest failing run that was found."""

    options: SimOptions
    outcome: Outcome
    runs: int
    """How many candidates were looked at."""
    complete: bool
    """Nothing more that is tried makes it smaller; False: `runs_max` was reached before."""


class _Exhausted(Exception):
    pass


class Shrinker:
    """Makes one failing run smaller. `options`, `outcome` and `runs` are the present state, for whoever watches."""

    def __init__(self, outcome: Outcome, options: SimOptions, evaluate: Evaluate, runs_max: int = RUNS_MAX) -> None:
        """`outcome` is what `options` gave, a failure; the check that failed first is the one to be kept."""
        assert outcome.violations, "only a failing run can be made smaller"
        self.check = outcome.violations[0].check
        self.outcome = outcome
        self.options = options
        self.runs = 0
        self._evaluate = evaluate
        self._runs_max = runs_max
        self.on_run: Callable[[], None] = lambda: None
        """Called after each candidate that was looked at."""

    def shrink(self) -> Shrunk:
        """Try everything until nothing helps any more."""
        complete = False
        try:
            for _ in range(ROUNDS_MAX):
                before = self.options
                self._shorten()
                self._skip_faults()
                self._fewer_kinds()
                self._fewer_of_each()
                if self.options == before:
                    complete = True
                    break
        except _Exhausted:
            pass
        return Shrunk(self.options, self.outcome, self.runs, complete)

    def _first_failing(self, candidates: Sequence[SimOptions]) -> int:
        """Take the first candidate that fails the same check; its index, or -1."""
        outcomes = self._evaluate(candidates)
        try:
            for index, outcome in enumerate(outcomes):
                if self.runs == self._runs_max:
                    raise _Exhausted
                self.runs += 1
                failing = any(violation.check == self.check for violation in outcome.violations)
                if failing:
                    self.options, self.outcome = candidates[index], outcome
                self.on_run()
                if failing:
                    return index
        finally:
            close = getattr(outcomes, "close", None)
            if close is not None:
                close()
        return -1

    def _changed(self, **changes: object) -> SimOptions:
        return msgspec.structs.replace(self.options, **changes)

    # What leaves the beginning of the run as it is.

    def _shorten(self) -> None:
        """Find where it begins to fail: three lengths at a time, the shortest first."""
        low, high = 0.0, self.options.seconds
        while high - low > max(0.5, PRECISION_SHARE * high):
            lengths = [round(low + (high - low) * part / 4, 1) for part in (1, 2, 3)]
            lengths = sorted({length for length in lengths if SECONDS_MIN <= length < high and length > low})
            if not lengths:
                return
            taken = self._first_failing([self._changed(seconds=length) for length in lengths])
            if taken < 0:
                low = lengths[-1]
            else:
                high = lengths[taken]
                low = lengths[taken - 1] if taken else low

    def _skip_faults(self) -> None:
        """Delta debugging (Zeller): leave out one of 1, 2, 4 … parts, until no single fault can be left out."""
        parts = 1
        while self.outcome.occurred:
            left = list(self.outcome.occurred)
            parts = min(parts, len(left))
            chunks = [left[len(left) * i // parts : len(left) * (i + 1) // parts] for i in range(parts)]
            # The last faults first: what follows the damage is most of a run.
            candidates = [self._skipping(chunk) for chunk in reversed(chunks)]
            if self._first_failing(candidates) < 0:
                if parts == len(left):
                    return
                parts = min(2 * parts, len(left))
            elif parts > 2:
                parts = max(2, parts - 1)

    def _skipping(self, names: Iterable[str]) -> SimOptions:
        known = dict.fromkeys((*self.options.skipped, *names))
        return self._changed(skipped=tuple(known))

    # What makes another run.

    def _fewer_kinds(self) -> None:
        """Only the kinds that happened; then without one of them after the other."""
        happened = tuple(kind for kind in self.options.faults if self.outcome.faults.get(kind, 0))
        if happened != self.options.faults:
            self._first_failing([self._changed(faults=happened)])
        for kind in self.options.faults:
            rest = tuple(other for other in self.options.faults if other != kind)
            self._first_failing([self._changed(faults=rest)])

    def _fewer_of_each(self) -> None:
        if self.options.nodes == 0 and self.outcome.nodes:
            self._first_failing([self._changed(nodes=self.outcome.nodes)])
        for name, least in (("clients", 1), ("keys", 1), ("cold_keys", 0), ("nodes", 1)):
            present: int = getattr(self.options, name) or (DRAWN_MAX if name in DRAWN else 0)
            sizes = sorted({least, least + 1, least + 2, present // 2, present - 1})
            smaller = [self._changed(**{name: size}) for size in sizes if least <= size < present]
            if smaller:
                self._first_failing(smaller)
