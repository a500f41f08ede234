"""One run: boot, faults under load, healing, convergence, checks. Its seed and its options are all that it depends on.

The phases on virtual time: nodes start and connect; clients and faults run; the faults stop and everything is started
again; in half of the seeds clients go on for a while, in the others they stop with the faults, so that nothing but
handoff and repair brings replicas together; all hints go home by themselves (hard case 9); replicas become equal by
themselves, without any read; every key is read from all its replicas (r=n, which repairs those behind) until the
replicas agree or the rounds are used up; then the checkers judge.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from quorate.core.keyspace import split_storage_key
from quorate.core.record import Clock
from quorate.core.store import Admin, Failure, GetRequest, GetResult
from quorate.sim.availability import Availability
from quorate.sim.changes import Changes
from quorate.sim.cluster import Cluster, Machine, add_counts, counters_of
from quorate.sim.days import AROUND_MS
from quorate.sim.faults.kinds import MEMBERSHIP, ONE_DOWN
from quorate.sim.faults.schedule import Faults
from quorate.sim.fence_check import FenceCheck
from quorate.sim.history import Violation
from quorate.sim.judgement import Judge
from quorate.sim.loop import VirtualLoop
from quorate.sim.mutants.registry import planted
from quorate.sim.observer import Observer
from quorate.sim.options import Outcome, SimOptions
from quorate.sim.placement_check import check_placement
from quorate.sim.quorums import check_quorums
from quorate.sim.random_streams import Streams
from quorate.sim.swarm import COLLECT_QUIET_MS, SWEEP_INTERVAL_MS, choose
from quorate.sim.trace import Trace
from quorate.sim.workload import BUCKET_EXPIRING, BUCKETS, Workload

__all__ = ["Outcome", "SimOptions", "Simulation", "run"]

BOOT_LIMIT_MS = 10_000
HEAL_LIMIT_MS = 25_000
HANDOFF_LIMIT_MS = 15_000
"""Within this time after the cluster is whole, all hints are home."""
TREES_LIMIT_MS = 5_000
"""Within this time after the cluster is whole, all hash trees are ready."""
FILLING_LIMIT_MS = 90_000
"""Within this time after all hints are home, every node serves all that it replicates."""
REPAIR_LIMIT_MS = 90_000
"""Within this time after all hints are home, replicas are equal without any read."""
DRAIN_MS = 2_500
SWEEPS_MAX = 6
SWEEP_MS = 1_500
VIOLATIONS_MAX = 50
PLAN_LIMIT_MS = 180_000
"""Within this time after the faults have stopped, the plan under way has come to its end."""
RING_LIMIT_MS = 20_000
"""Within this time after the cluster is whole, all go by the newest ring."""
DEPARTURE_LIMIT_MS = 60_000
"""Within this time after a plan, who was removed has ended."""
CLEAR_LIMIT_MS = 60_000
"""Within this time after all replicas are equal, nobody holds what it does not keep."""
STEP_MS = 50
COLLECTION_LIMIT_MS = 120_000
REPAIR_STEP_MS = 500


def run(seed: int, options: SimOptions | None = None, transcript: Callable[[str], None] | None = None) -> Outcome:
    """Simulate one cluster; `transcript` takes a line for each event. Never raises for what a node does."""
    options = options or SimOptions()
    with quiet_logs(), planted(options.mutant):
        return Simulation(seed, options, transcript).run()


@contextmanager
def quiet_logs() -> Iterator[None]:
    """What nodes would log of faults that are meant to happen is nobody's concern."""
    logger = logging.getLogger("quorate")
    level, logger.level = logger.level, logging.CRITICAL + 1
    try:
        yield
    finally:
        logger.setLevel(level)


class Simulation:
    """The parts of one run, put together from its seed."""

    def __init__(self, seed: int, options: SimOptions, transcript: Callable[[str], None] | None = None) -> None:
        self.seed = seed
        self.options = options
        self.violations: list[Violation] = []
        streams = Streams(seed)
        self.choices = choices = choose(streams, options)
        self.loop = VirtualLoop()
        self.trace = Trace(transcript)
        self.observer = Observer()
        self.cluster = Cluster(
            nodes=choices.nodes,
            defaults=choices.defaults,
            loop=self.loop,
            streams=streams,
            trace=self.trace,
            observer=self.observer,
            options=choices.options_of_nodes,
            layout=choices.layout,
        )
        availability = Availability(self.cluster) if set(options.faults) <= {ONE_DOWN} else None
        self.workload = Workload(
            self.cluster,
            streams,
            self.trace,
            clients=choices.clients,
            keys=options.keys,
            cold_keys=options.cold_keys,
            strict_buckets=choices.strict_buckets,
            availability=availability,
            skewed=choices.skewed,
            large_values=choices.large_values,
        )
        self.faults = Faults(self.cluster, self.workload, streams, self.trace, options.faults, options.skipped)
        self.changes = Changes(self.cluster, self.faults, streams)
        self.changing = MEMBERSHIP in self.faults.enabled
        self.judge = Judge(self.cluster, self.workload, self.changes, self.observer, choices, self.changing)
        if availability is not None:
            self.faults.processes.on_victim = lambda number: setattr(availability, "victim", number)
        self.fence_check = FenceCheck(self.cluster)
        self._make_hooks()

    def _make_hooks(self) -> None:
        """What is judged while it happens."""
        cluster, choices = self.cluster, self.choices
        cluster.graves.last_write_wins = lambda key: split_storage_key(key)[1] in choices.last_write_wins
        cluster.rings.on_newest.append(lambda before, ring: self._check_quorums())
        cluster.rings.on_newest.append(lambda before, ring: self._check_placement())
        self._check_placement()
        cluster.on_ending = self._on_ending
        cluster.on_emptied = lambda number: self.workload.history.losses_us.append(self.loop.now_us)
        self.observer.on_hint_removed = self._on_hint_removed

    def run(self) -> Outcome:
        try:
            self._phases()
        except Exception as error:
            frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "quorate" in frame.filename]
            where = " < ".join(f"{frame.name}:{frame.lineno}" for frame in reversed(frames[-4:]))
            self._violated("exception", f"{type(error).__name__}: {error} ({where})")
        return Outcome(
            seed=self.seed,
            trace_hash=self.trace.digest(),
            events=self.trace.events,
            virtual_ms=self.loop.now_us // 1000,
            durability=self.cluster.defaults.durability,
            operations=dict(sorted(self.workload.counts.items())),
            faults=dict(sorted(self.faults.scene.counts.items())),
            violations=self.found()[:VIOLATIONS_MAX],
            reached=self._reached(),
            nodes=self.choices.nodes,
            occurred=list(self.faults.scene.happened),
        )

    def found(self) -> list[Violation]:
        """What has been violated so far."""
        cluster = self.cluster
        found = self.observer.violations + cluster.graves.violations + cluster.rings.violations
        return (
            found
            + self.workload.violations
            + self.changes.violations
            + self.judge.violations
            + self.fence_check.violations
            + self.violations
        )

    def _violated(self, check: str, message: str) -> None:
        self.violations.append(Violation(check, message))

    def _reached(self) -> dict[str, int]:
        sums = dict(self.cluster.reached)
        for machine in self.cluster.machines.values():
            if machine.node is not None:
                add_counts(sums, counters_of(machine.node))
        sums["fenced by their disks"] = self.fence_check.fenced
        sums["siblings collected"] = self.cluster.graves.collected
        add_counts(sums, self.changes.counts)
        add_counts(sums, self.judge.counts)
        return dict(sorted(sums.items()))

    def _phases(self) -> None:
        for number in self.cluster.machines:
            self.cluster.start(number)
        if not self._wait(self.cluster.whole, BOOT_LIMIT_MS):
            self._violated("heal", "the cluster does not come up")
            return
        self._set_buckets()
        self.workload.start()
        self.faults.start()
        if self.changing:
            self.changes.start()
        self._pass(max(0.0, self.options.seconds * 1000 - self.choices.calm_ms))
        self.changes.stop()
        self.faults.stop()
        self._pass(self.choices.calm_ms)
        self.workload.stop()
        self._pass(DRAIN_MS)
        if not self._wait(self.changes.settled, PLAN_LIMIT_MS, REPAIR_STEP_MS):
            self._violated("plan", f"a plan does not come to its end: {self._transfers()}")
            return
        if not self._wait(self.cluster.whole, HEAL_LIMIT_MS):
            self._violated("heal", "not all nodes are up and connected after the faults have stopped")
            return
        if self.changing:
            self._after_changes()
        if not self._wait(lambda: not self.cluster.copies.hints_left(), HANDOFF_LIMIT_MS):
            left = self.cluster.copies.hints_left()
            self._violated("hint", f"hints stay where they are (member: hints): {left}")
        if not self._wait(lambda: not self.cluster.filling(), FILLING_LIMIT_MS, REPAIR_STEP_MS):
            message = f"stores stay empty or fenced (member: partitions): {self.cluster.filling()}"
            self._violated("heal", message)
        if not self._wait(self.judge.alike, REPAIR_LIMIT_MS, REPAIR_STEP_MS):
            self._violated("C", f"replicas differ, and nothing repairs them: {self.judge.unlike()}")
        if self.changing and not self._wait(lambda: not self.judge.strays(), CLEAR_LIMIT_MS, REPAIR_STEP_MS):
            self._violated("C", f"what is kept no more is not cleared out: {self.judge.strays()[:5]}")
        if self.choices.next_day:
            self._sleep_over()
        self._converge()
        if not self._wait(self.judge.trees_ready, TREES_LIMIT_MS):
            self._violated("T", "not all hash trees are ready although the cluster is whole")
        self.judge.judge()

    def _after_changes(self) -> None:
        """All members go by the newest ring and are where it says, and who was removed has ended."""
        cluster = self.cluster

        def behind() -> list[int]:
            nodes = [(number, cluster.machines[number].node) for number in cluster.awaited()]
            return [n for n, node in nodes if node is None or node._shared.view.version != cluster.ring.version]

        def remaining() -> list[int]:
            departed = [one.number for one in cluster.ring.departed]
            gone = [(number, machine.node) for number, machine in cluster.machines.items() if number in departed]
            return [n for n, node in gone if node is not None and not node._shared.fenced_because]

        if not self._wait(lambda: not behind() and not self.changes.moved(), RING_LIMIT_MS):
            message = f"{behind()} do not go by version {cluster.ring.version}, or {self.changes.moved()} have moved"
            self._violated("plan", message)
        if not self._wait(lambda: not remaining(), DEPARTURE_LIMIT_MS):
            self._violated("plan", f"{remaining()} were removed, and do not end")
        for number, machine in cluster.machines.items():
            if machine.gone and machine.up:
                cluster.kill(number)

    def _transfers(self) -> object:
        """What a member says that the plan under way waits for."""
        found: list[object] = []
        for number in self.cluster.awaited():
            machine = self.cluster.machines.get(number)
            if machine is not None and machine.ready and machine.node is not None:
                machine.node.transfers(found.append)
                self._pass(3_000)
                return found
        return "no member runs"

    def _pass(self, milliseconds: float) -> None:
        self.loop.run_until(self.loop.now_us + int(milliseconds * 1000))

    def _wait(self, condition: Callable[[], bool], limit_ms: int, step_ms: int = STEP_MS) -> bool:
        """Let time pass until `condition` holds; False if it does not within the limit."""
        for _ in range(limit_ms // step_ms):
            if condition():
                return True
            self._pass(step_ms)
        return condition()

    def _set_buckets(self) -> None:
        node = self.cluster.machines[1].node
        assert node is not None
        for bucket in BUCKETS:
            changes = {"strict": "true" if bucket in self.choices.strict_buckets else "false"}
            if bucket in self.choices.last_write_wins:
                changes["conflicts"] = "lww"
            if bucket == BUCKET_EXPIRING:
                changes["ttl"] = "3"
            answers: list[Admin | Failure] = []
            node.set_bucket(bucket, changes, answers.append)
            self._wait(lambda answers=answers: bool(answers), 3_000)  # type: ignore[misc]
            if not answers or isinstance(answers[0], Failure):
                self._violated("heal", f"a healthy cluster does not set a bucket: {answers}")

    def _check_quorums(self) -> None:
        if self.changing and self.workload.issuing:
            self.violations += check_quorums(self.cluster, self.workload.history)

    def _check_placement(self) -> None:
        self.violations += check_placement(self.cluster.ring, self.cluster.defaults.n)

    def _on_ending(self, machine: Machine) -> None:
        if not machine.broken:  # What it last meant to write is in its trees, and maybe not on its disk.
            self.judge.check_trees(machine, "before its process ended")

    def _on_hint_removed(self, member: int, home: int, stored_key: bytes, clock: Clock, created_ms: int) -> None:
        """A hint may go when its home durably holds what it said, and not before (hard case 15); or when it is half of
        `grace` old. If its home keeps the key no more, all who do must hold it (hard case 14)."""
        age_ms = self.cluster.machines[member].clock.wall_ms() - created_ms
        if age_ms > self.choices.options_of_nodes.grace_ms // 2:
            return
        targets = self.cluster.rings.targets(home, stored_key)
        if self.cluster.machines[member].gone:
            # Whoever has left does not wait for homes that are away: those that can be reached take what it keeps.
            targets += [[keeper] for keeper in self.cluster.rings.keepers(stored_key)]
        if not any(all(self._hold(target, stored_key, clock) for target in wanted) for wanted in targets):
            message = f"n{member} removed its hint of {stored_key!r} for n{home}, and {targets} do not hold it: {clock}"
            self._violated("hint", message)

    def _hold(self, home: int, stored_key: bytes, clock: Clock) -> bool:
        """Does this home durably know all of `clock`, or has it lost its disk after it had?"""
        cluster = self.cluster
        return cluster.lost_lately(home, stored_key) or cluster.copies.home_knows(home, stored_key, clock)

    def _sleep_over(self) -> None:
        """Let `grace` pass for everything that is dead: with all replicas there and equal, nothing of it stays.

        First nearly all of it, when most may not go yet.
        """
        self._pass(COLLECT_QUIET_MS)
        grace_ms = self.choices.options_of_nodes.grace_ms
        self.cluster.pass_days(grace_ms - 2 * AROUND_MS)
        self._pass(2 * SWEEP_INTERVAL_MS + COLLECT_QUIET_MS)
        self.cluster.pass_days(grace_ms)
        if not self._wait(lambda: not self.judge.dead(), COLLECTION_LIMIT_MS, REPAIR_STEP_MS):
            self._violated("G", f"never collected: {self.judge.dead()}")

    def _converge(self) -> None:
        """Read every key from all replicas, through other nodes each round, until the replicas agree."""
        failures: list[str] = []
        for turn in range(SWEEPS_MAX):
            failures = self._sweep(turn)
            if not failures and self.judge.alike():
                return
        self.violations += [Violation("heal", f"a read after healing failed: {failure}") for failure in failures]

    def _sweep(self, turn: int) -> list[str]:
        """One round of r=n gets and the time for their repairs; returns what failed."""
        failures: list[str] = []
        numbers = self.cluster.awaited()
        answered: list[GetResult | Failure] = []
        names = self.judge.names()
        for index, (bucket, key) in enumerate(names):
            node = self.cluster.machines[numbers[(index + turn) % len(numbers)]].node
            assert node is not None
            node.get(GetRequest(bucket, key, self.cluster.defaults.n, 1_000), answered.append)
        self._pass(SWEEP_MS)
        failures += [f"{answer.kind}: {answer.message}" for answer in answered if isinstance(answer, Failure)]
        if len(answered) != len(names):
            failures.append(f"{len(names) - len(answered)} reads were not answered at all")
        return failures
