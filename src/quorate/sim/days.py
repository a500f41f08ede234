"""Days: the wall clocks of all machines move on together while hardly any other time passes.

What is bound to `grace` cannot be met in a virtual minute. So time is skipped: the clients rest until nothing is under
way that a day would have ended, and then every wall clock jumps by the same amount. In most stories one node is away
meanwhile, for just below or just above `grace`, or for half of it, when its hints expire; clients go on between two
jumps, and delete what the absent node still has.

What must hold for a story to be within the promises, or it is withheld:
- one node at most is away, and comes back to find all others running;
- every acknowledged write is on a replica that is not away: hints expire with half of `grace`, and a node that was
  away for longer than `grace` may empty itself (hard case 22);
- no process is paused, since a message in its memory would be a day old and not know it;
- none is fenced by its disk, since it would give no sign of life for a day (`node.absence`).
"""

from __future__ import annotations

from collections.abc import Callable

from quorate.sim.cluster import Cluster
from quorate.sim.random_streams import SeededRng
from quorate.sim.workload import Workload

QUIET_MS = 6_000
"""Longer than any deadline between nodes, and than a broken connection stays unnoticed."""
POLL_MS = 250
PATIENCE_POLLS = 80
DOUBTFUL_MS = 20_000
"""So long after its start a node that was away may still decide to empty itself."""
AROUND_MS = 90_000
"""Just below and just above `grace`: further off than clocks may be apart."""


class Days:
    """One story at a time."""

    def __init__(self, cluster: Cluster, workload: Workload) -> None:
        self._cluster = cluster
        self._workload = workload
        self._note: Callable[[str, str], None] = lambda kind, what: None
        self._rng: SeededRng | None = None
        self._generation = 0
        self.running = False
        """A story is being told."""
        self.skipping = False
        """Other faults must wait."""

    def begin(self, rng: SeededRng, victim: int, note: Callable[[str, str], None]) -> str:
        """Tell a story with `victim` (0: nobody) away; returns what it will be, in words. `note(kind, what)` tells of
        what comes of it."""
        assert not self.running
        self._note = note
        self.running = True
        self._rng = rng
        grace_ms = self._cluster.options.grace_ms
        half, whole = grace_ms // 2, grace_ms
        total_ms = rng.choice(
            (half - AROUND_MS, half + AROUND_MS, whole - AROUND_MS, whole + AROUND_MS, whole + AROUND_MS, 2 * whole)
        )
        first_ms = int(total_ms * rng.choice((1.0, 1.0, 0.3, 0.6)))
        if victim:
            self._cluster.machines[victim].held = True
            self._cluster.stop(victim) if rng.chance(0.3) else self._cluster.kill(victim)
        steps = [first_ms, total_ms - first_ms] if first_ms < total_ms else [total_ms]
        self._after(rng.uniform(500.0, 6_000.0), lambda: self._rest(steps, victim))
        return f"{total_ms // 1000} s in {len(steps)} steps, {f'n{victim} away' if victim else 'all present'}"

    def abandon(self) -> None:
        """No further steps; whoever was kept away may be started."""
        self._generation += 1
        self._end()

    def _end(self) -> None:
        self.running = self.skipping = False
        self._workload.resume()
        for machine in self._cluster.machines.values():
            machine.held = False

    def _after(self, delay_ms: float, step: Callable[[], None]) -> None:
        generation = self._generation
        self._cluster.loop.after_ms(delay_ms, lambda: step() if generation == self._generation else None)

    def _rest(self, steps: list[int], victim: int) -> None:
        self.skipping = True
        self._workload.rest()
        self._await_quiet(steps, victim, PATIENCE_POLLS, QUIET_MS // POLL_MS)

    def _await_quiet(self, steps: list[int], victim: int, polls: int, quiet: int) -> None:
        """Wait until clients have rested for `quiet` polls, and nobody but the victim is down or paused."""
        if polls and (not self._workload.quiet() or not self._others_run(victim)):
            self._after(POLL_MS, lambda: self._await_quiet(steps, victim, polls - 1, QUIET_MS // POLL_MS))
        elif polls and quiet:
            self._after(POLL_MS, lambda: self._await_quiet(steps, victim, polls - 1, quiet - 1))
        elif polls and self._allowed(victim):
            self._skip(steps, victim)
        else:
            self._note("days withheld", "an acknowledged write is only in hints, or on a disk that may be emptied")
            self._come_back(victim)

    def _others_run(self, victim: int) -> bool:
        now_us = self._cluster.loop.now_us
        return all(
            number == victim
            or machine.gone
            or (machine.serves and machine.process and machine.process.paused_until_us <= now_us)
            for number, machine in self._cluster.machines.items()
        )

    def _allowed(self, victim: int) -> bool:
        acked = self._cluster.observer.acked_clocks()
        return self._cluster.copies.safe_without_hints(acked, [victim, *self._cluster.copies.doubtful])

    def _skip(self, steps: list[int], victim: int) -> None:
        by_ms, *left = steps
        if victim:
            self._cluster.copies.doubtful[victim] = True
        self._cluster.pass_days(by_ms)
        self._note("days passed", f"{by_ms // 1000} s")
        self.skipping = False
        self._workload.resume()
        assert self._rng is not None
        pause_ms = self._rng.uniform(500.0, 8_000.0)
        self._after(pause_ms, (lambda: self._rest(left, victim)) if left else lambda: self._come_back(victim))

    def _come_back(self, victim: int) -> None:
        if victim and self._cluster.machines[victim].disk.failing:
            self._after(POLL_MS, lambda: self._come_back(victim))
            return
        self._end()
        if victim and not self._cluster.machines[victim].up and not self._cluster.machines[victim].gone:
            self._cluster.start(victim)
            self._cluster.loop.after_ms(DOUBTFUL_MS, lambda: self._cluster.copies.trust(victim))
