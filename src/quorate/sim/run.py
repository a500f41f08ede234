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
from collections.abc import Callable

import msgspec

from quorate.core.buckets import BucketProperties, Durability
from quorate.core.envelope import unpack
from quorate.core.errors import DamagedRecord
from quorate.core.keyspace import split_storage_key
from quorate.core.limits import KIB, MIB
from quorate.core.ports import Space
from quorate.core.record import Clock, Record
from quorate.core.store import Admin, Failure, GetRequest, GetResult
from quorate.node.options import NodeOptions
from quorate.sim import checkers
from quorate.sim.availability import Availability
from quorate.sim.changes import Changes
from quorate.sim.cluster import Cluster, Machine, add_counts, counters_of
from quorate.sim.days import AROUND_MS
from quorate.sim.faults import KINDS, MEMBERSHIP, ONE_DOWN, Faults
from quorate.sim.graves import dead_since_ms
from quorate.sim.history import Violation
from quorate.sim.loop import VirtualLoop
from quorate.sim.observer import Observer, readable_record
from quorate.sim.quorums import check_quorums
from quorate.sim.random_streams import SeededRng, Streams
from quorate.sim.trace import Trace
from quorate.sim.tree_check import check_trees
from quorate.sim.workload import BUCKET_EXPIRING, BUCKET_LAST_WRITE_WINS, BUCKET_SIBLINGS, BUCKETS, Workload

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
CALM_MS = 3_000
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
HOURS_MS = 3_600_000
GRACES_MS = (HOURS_MS // 6, 24 * HOURS_MS)
EXCHANGE_INTERVALS_MS = (2_000, 10_000)
SWEEP_INTERVAL_MS = 6_000
COLLECT_QUIET_MS = 8_000
"""Longer than the deadlines of the simulated clients and of hints: no message is under way for longer."""
CACHES_BYTES = (64 * MIB, 64 * MIB, 16 * KIB)
"""In some seeds nodes read nearly everything from their disks."""


class SimOptions(msgspec.Struct, frozen=True):
    """What a run depends on besides its seed."""

    nodes: int = 5
    seconds: float = 60.0
    """Virtual seconds of load, in half of the seeds the last three of them without faults."""
    clients: int = 5
    keys: int = 5
    """In each of the three buckets, used all the time."""
    durability: Durability | None = None
    """None: the seed chooses."""
    faults: tuple[str, ...] = KINDS
    """Kinds that may occur; the seed chooses among them."""
    cold_keys: int = 40
    """In each bucket, used seldom."""


class Outcome(msgspec.Struct, frozen=True):
    """What came of a run. `trace_hash` covers every delivered frame, operation and fault."""

    seed: int
    trace_hash: str
    events: int
    virtual_ms: int
    durability: str
    operations: dict[str, int]
    faults: dict[str, int]
    violations: list[Violation]
    reached: dict[str, int] = {}
    """Event → how often nodes, or the simulator, counted it."""

    @property
    def ok(self) -> bool:
        return not self.violations


def run(seed: int, options: SimOptions | None = None, transcript: Callable[[str], None] | None = None) -> Outcome:
    """Simulate one cluster; `transcript` takes a line for each event. Never raises for what a node does."""
    logger = logging.getLogger("quorate")
    level, logger.level = logger.level, logging.CRITICAL + 1
    try:
        return Simulation(seed, options or SimOptions(), transcript).run()
    finally:
        logger.setLevel(level)


def _options_of_nodes(rng: SeededRng) -> NodeOptions:
    return NodeOptions(
        grace_ms=rng.choice(GRACES_MS),
        record_cache_bytes=rng.choice(CACHES_BYTES),
        anti_entropy_interval_ms=rng.choice(EXCHANGE_INTERVALS_MS),
        sweep_interval_ms=SWEEP_INTERVAL_MS,
        collect_quiet_ms=COLLECT_QUIET_MS,
    )


class Simulation:
    """The parts of one run, put together from its seed."""

    def __init__(self, seed: int, options: SimOptions, transcript: Callable[[str], None] | None = None) -> None:
        self.seed = seed
        self.options = options
        self.violations: list[Violation] = []
        streams = Streams(seed)
        rng = streams.stream("options")
        durability: Durability = options.durability or ("fsync" if rng.chance(0.5) else "os")
        self.options_of_nodes = _options_of_nodes(rng)
        self._next_day = rng.chance(0.3)
        self._calm_ms = CALM_MS if rng.chance(0.5) else 0
        n = min(3, options.nodes)
        defaults = BucketProperties(n=n, r=n // 2 + 1, w=n // 2 + 1, durability=durability)
        self.loop = VirtualLoop()
        self.trace = Trace(transcript)
        self.observer = Observer()
        self.cluster = Cluster(
            nodes=options.nodes,
            defaults=defaults,
            loop=self.loop,
            streams=streams,
            trace=self.trace,
            observer=self.observer,
            options=self.options_of_nodes,
        )
        availability = Availability(self.cluster) if set(options.faults) <= {ONE_DOWN} else None
        self.strict_buckets: tuple[bytes, ...] = (rng.choice((BUCKET_SIBLINGS, BUCKET_LAST_WRITE_WINS)),)
        if rng.chance(0.5):
            self.strict_buckets += (BUCKET_EXPIRING,)
        self._last_write_wins = (BUCKET_LAST_WRITE_WINS, BUCKET_EXPIRING)[: 1 + rng.chance(0.5)]
        self.cluster.graves.last_write_wins = lambda key: split_storage_key(key)[1] in self._last_write_wins
        self.workload = Workload(
            self.cluster,
            streams,
            self.trace,
            clients=options.clients,
            keys=options.keys,
            cold_keys=options.cold_keys,
            strict_buckets=self.strict_buckets,
            availability=availability,
        )
        self.faults = Faults(self.cluster, self.workload, streams, self.trace, options.faults)
        self.changes = Changes(self.cluster, self.faults, streams)
        self.changing = MEMBERSHIP in self.faults.enabled
        self.cluster.rings.on_newest.append(lambda before, ring: self._check_quorums())
        if availability is not None:
            self.faults.on_victim = lambda number: setattr(availability, "victim", number)
        self.observer.on_hint_removed = self._on_hint_removed
        self.cluster.on_ending = lambda machine: self._check_trees(machine, "before its process ended")
        self.cluster.on_emptied = lambda number: self.workload.history.losses_us.append(self.loop.now_us)

    def run(self) -> Outcome:
        try:
            self._phases()
        except Exception as error:
            frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "quorate" in frame.filename]
            where = " < ".join(f"{frame.name}:{frame.lineno}" for frame in reversed(frames[-4:]))
            self.violations.append(Violation("exception", f"{type(error).__name__}: {error} ({where})"))
        cluster = self.cluster
        found = self.observer.violations + cluster.graves.violations + cluster.rings.violations
        found += self.workload.violations + self.changes.violations + self.violations
        return Outcome(
            seed=self.seed,
            trace_hash=self.trace.digest(),
            events=self.trace.events,
            virtual_ms=self.loop.now_us // 1000,
            durability=self.cluster.defaults.durability,
            operations=dict(sorted(self.workload.counts.items())),
            faults=dict(sorted(self.faults.counts.items())),
            violations=found[:VIOLATIONS_MAX],
            reached=self._reached(),
        )

    def _reached(self) -> dict[str, int]:
        sums = dict(self.cluster.reached)
        for machine in self.cluster.machines.values():
            if machine.node is not None:
                add_counts(sums, counters_of(machine.node))
        sums["siblings collected"] = self.cluster.graves.collected
        add_counts(sums, self.changes.counts)
        return dict(sorted(sums.items()))

    def _phases(self) -> None:
        for number in self.cluster.machines:
            self.cluster.start(number)
        if not self._wait(self.cluster.whole, BOOT_LIMIT_MS):
            self.violations.append(Violation("heal", "the cluster does not come up"))
            return
        self._set_buckets()
        self.workload.start()
        self.faults.start()
        if self.changing:
            self.changes.start()
        self._pass(max(0.0, self.options.seconds * 1000 - self._calm_ms))
        self.changes.stop()
        self.faults.stop()
        self._pass(self._calm_ms)
        self.workload.stop()
        self._pass(DRAIN_MS)
        if not self._wait(self.changes.settled, PLAN_LIMIT_MS, REPAIR_STEP_MS):
            self.violations.append(Violation("plan", f"a plan does not come to its end: {self._transfers()}"))
            return
        if not self._wait(self.cluster.whole, HEAL_LIMIT_MS):
            self.violations.append(
                Violation("heal", "not all nodes are up and connected after the faults have stopped")
            )
            return
        if self.changing:
            self._after_changes()
        if not self._wait(lambda: not self.cluster.copies.hints_left(), HANDOFF_LIMIT_MS):
            left = self.cluster.copies.hints_left()
            self.violations.append(Violation("hint", f"hints stay where they are (member: hints): {left}"))
        if not self._wait(lambda: not self.cluster.filling(), FILLING_LIMIT_MS, REPAIR_STEP_MS):
            message = f"stores stay empty or fenced (member: partitions): {self.cluster.filling()}"
            self.violations.append(Violation("heal", message))
        if not self._wait(self._alike, REPAIR_LIMIT_MS, REPAIR_STEP_MS):
            self.violations.append(Violation("C", f"replicas differ, and nothing repairs them: {self._unlike()}"))
        if self.changing and not self._wait(lambda: not self._strays(), CLEAR_LIMIT_MS, REPAIR_STEP_MS):
            self.violations.append(Violation("C", f"what is kept no more is not cleared out: {self._strays()[:5]}"))
        if self._next_day:
            self._sleep_over()
        self._converge()
        self._judge()

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
            self.violations.append(Violation("plan", message))
        if not self._wait(lambda: not remaining(), DEPARTURE_LIMIT_MS):
            self.violations.append(Violation("plan", f"{remaining()} were removed, and do not end"))
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

    def _strays(self) -> list[tuple[int, bytes]]:
        """(member, storage key) of records on members that do not keep them."""
        cluster = self.cluster
        return [
            (number, key)
            for number in cluster.awaited()
            for key in cluster.machines[number].disk.keys[Space.DATA]
            if number not in cluster.rings.homes(key)
        ]

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
            changes = {"strict": "true" if bucket in self.strict_buckets else "false"}
            if bucket in self._last_write_wins:
                changes["conflicts"] = "lww"
            if bucket == BUCKET_EXPIRING:
                changes["ttl"] = "3"
            answers: list[Admin | Failure] = []
            node.set_bucket(bucket, changes, answers.append)
            self._wait(lambda answers=answers: bool(answers), 3_000)  # type: ignore[misc]
            if not answers or isinstance(answers[0], Failure):
                self.violations.append(Violation("heal", f"a healthy cluster does not set a bucket: {answers}"))

    def _check_quorums(self) -> None:
        if self.changing and self.workload.issuing:
            self.violations += check_quorums(self.cluster, self.workload.history)

    def _on_hint_removed(self, member: int, home: int, stored_key: bytes, clock: Clock, created_ms: int) -> None:
        """A hint may go when its home durably holds what it said, and not before (hard case 15); or when it is half of
        `grace` old. If its home keeps the key no more, all who do must hold it (hard case 14)."""
        age_ms = self.cluster.machines[member].clock.wall_ms() - created_ms
        if age_ms > self.options_of_nodes.grace_ms // 2:
            return
        targets = self.cluster.rings.targets(home, stored_key)
        if self.cluster.machines[member].gone:
            # Whoever has left does not wait for homes that are away: those that can be reached take what it keeps.
            targets += [[keeper] for keeper in self.cluster.rings.keepers(stored_key)]
        if not any(all(self._hold(target, stored_key, clock) for target in wanted) for wanted in targets):
            message = f"n{member} removed its hint of {stored_key!r} for n{home}, and {targets} do not hold it: {clock}"
            self.violations.append(Violation("hint", message))

    def _hold(self, home: int, stored_key: bytes, clock: Clock) -> bool:
        """Does this home durably know all of `clock`, or has it lost its disk after it had?"""
        cluster = self.cluster
        return cluster.lost_lately(home, stored_key) or cluster.copies.home_knows(home, stored_key, clock)

    def _sleep_over(self) -> None:
        """Let `grace` pass for everything that is dead: with all replicas there and equal, nothing of it stays.

        First nearly all of it, when most may not go yet.
        """
        self._pass(COLLECT_QUIET_MS)
        grace_ms = self.options_of_nodes.grace_ms
        self.cluster.pass_days(grace_ms - 2 * AROUND_MS)
        self._pass(2 * SWEEP_INTERVAL_MS + COLLECT_QUIET_MS)
        self.cluster.pass_days(grace_ms)
        if not self._wait(lambda: not self._dead(), COLLECTION_LIMIT_MS, REPAIR_STEP_MS):
            self.violations.append(Violation("G", f"never collected: {self._dead()}"))

    def _dead(self) -> list[tuple[int, bytes]]:
        """(member, storage key) of records with something in them that has been dead for long enough."""
        horizon_ms = self.cluster.earliest_wall_ms() - self.options_of_nodes.grace_ms
        return [
            (number, key)
            for number in self.cluster.awaited()
            for key, stored in self.cluster.machines[number].disk.values[Space.DATA].items()
            if (record := readable_record(key, stored)) is not None
            and any(0 < dead_since_ms(sibling) < horizon_ms for sibling in record.siblings)
        ]

    # Convergence.

    def _names(self) -> list[tuple[bytes, bytes]]:
        return [(bucket, key) for bucket in BUCKETS for key in self.workload.keys + self.workload.cold_keys]

    def _unlike(self) -> list[tuple[bytes, bytes]]:
        """The keys whose replicas differ."""
        return [name for name in self._names() if len(set(self._bodies(*name).values())) > 1]

    def _alike(self) -> bool:
        return all(len(set(self._bodies(*name).values())) == 1 for name in self._names())

    def _converge(self) -> None:
        """Read every key from all replicas, through other nodes each round, until the replicas agree."""
        failures: list[str] = []
        for turn in range(SWEEPS_MAX):
            failures = self._sweep(turn)
            if not failures and self._alike():
                return
        self.violations += [Violation("heal", f"a read after healing failed: {failure}") for failure in failures]

    def _sweep(self, turn: int) -> list[str]:
        """One round of r=n gets and the time for their repairs; returns what failed."""
        failures: list[str] = []
        numbers = self.cluster.awaited()
        answered: list[GetResult | Failure] = []
        names = self._names()
        for index, (bucket, key) in enumerate(names):
            node = self.cluster.machines[numbers[(index + turn) % len(numbers)]].node
            assert node is not None
            node.get(GetRequest(bucket, key, self.cluster.defaults.n, 1_000), answered.append)
        self._pass(SWEEP_MS)
        failures += [f"{answer.kind}: {answer.message}" for answer in answered if isinstance(answer, Failure)]
        if len(answered) != len(names):
            failures.append(f"{len(names) - len(answered)} reads were not answered at all")
        return failures

    def _bodies(self, bucket: bytes, key: bytes) -> dict[int, bytes | None]:
        """What each replica holds of a key, without its envelope."""
        stored_key = self.cluster.locate(bucket, key)
        bodies: dict[int, bytes | None] = {}
        for number in self.cluster.replicas(stored_key):
            stored = self.cluster.stored(number, stored_key)
            try:
                bodies[number] = None if stored is None else unpack(stored_key, stored)[2]
            except DamagedRecord:
                bodies[number] = b"damaged on n%d" % number
        return bodies

    # Judgement.

    def _judge(self) -> None:
        history, observer, graves = self.workload.history, self.observer, self.cluster.graves
        writes = checkers.by_key(history.writes)
        finals: dict[bytes, Record] = {}
        for bucket, key in self._names():
            stored_key = self.cluster.locate(bucket, key)
            replicas = self.cluster.replicas(stored_key)
            bodies = self._bodies(bucket, key)
            for number in self.cluster.awaited():
                if number not in replicas:
                    bodies[number] = self.cluster.stored(number, stored_key)
            self.violations += checkers.check_replicas_equal(stored_key, replicas, bodies)
            stored = self.cluster.stored(replicas[0], stored_key)
            final = finals[stored_key] = readable_record(stored_key, stored) or checkers.NOTHING
            mine = writes.get(stored_key, [])
            last_write_wins = bucket in self._last_write_wins
            whole = graves.with_collected(stored_key, final)
            w_min = self.cluster.defaults.w if self.changes.removals else 1
            self.violations += checkers.check_no_loss(mine, whole, observer, last_write_wins, w_min)
            self.violations += checkers.check_nothing_back(mine, final, observer)
        left = self.cluster.copies.hints_left()
        if left:
            self.violations.append(Violation("C", f"there are hints after healing (member: hints): {left}"))
        n = self.cluster.defaults.n
        quorum_min = self.cluster.defaults.r if self.changing else 1
        self.violations += checkers.check_quorum_reads(history, observer, n, graves, quorum_min)
        self.violations += checkers.check_answers(history, writes, observer)
        self.violations += checkers.check_listings(history, writes, observer, n)
        self._judge_trees()
        self.violations += checkers.check_failed_never_appears(history, observer, finals)

    def _judge_trees(self) -> None:
        """All hash trees become ready, and are exact."""
        partitions = len(self.cluster.ring.owners)

        def all_ready() -> bool:
            nodes = [self.cluster.machines[number].node for number in self.cluster.awaited()]
            return all(node is not None and node.trees.report()["ready"] == partitions for node in nodes)

        if not self._wait(all_ready, TREES_LIMIT_MS):
            self.violations.append(Violation("T", "not all hash trees are ready although the cluster is whole"))
        for number in self.cluster.awaited():
            self._check_trees(self.cluster.machines[number], "in the end")

    def _check_trees(self, machine: Machine, when: str) -> None:
        if machine.node is not None:
            self.violations += check_trees(machine.number, machine.node, machine.disk, when)
