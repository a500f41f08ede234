"""The judge of one run: looks at all disks while replicas converge, and hands the history to the checkers in the end.

It only looks. What it waits for and for how long is the business of the run (`run.py`), what is right that of the
checkers; here the two meet what lies on the disks.
"""

from __future__ import annotations

from quorate.core.envelope import unpack
from quorate.core.errors import DamagedRecord
from quorate.core.keyspace import split_storage_key
from quorate.core.ports import Space
from quorate.core.record import Record
from quorate.sim import checkers
from quorate.sim.changes import Changes
from quorate.sim.cluster import Cluster, Machine
from quorate.sim.graves import dead_since_ms
from quorate.sim.history import Violation, WriteEntry
from quorate.sim.observer import Observer, readable_record
from quorate.sim.registers.metadata import check_metadata
from quorate.sim.registers.of_history import measure_registers
from quorate.sim.sessions import check_sessions
from quorate.sim.swarm import Choices
from quorate.sim.tree_check import check_trees
from quorate.sim.workload import BUCKETS, Workload


class Judge:
    """Of one run. `violations` collects what must not be."""

    def __init__(
        self,
        cluster: Cluster,
        workload: Workload,
        changes: Changes,
        observer: Observer,
        choices: Choices,
        changing: bool,
    ) -> None:
        """`changing`: the membership may change in this run."""
        self._cluster = cluster
        self._workload = workload
        self._changes = changes
        self._observer = observer
        self._choices = choices
        self._changing = changing
        self.violations: list[Violation] = []
        self.counts: dict[str, int] = {}
        """How often the checks found something to look at."""

    # While replicas converge.

    def names(self) -> list[tuple[bytes, bytes]]:
        """(bucket, key) of all keys that the clients use."""
        workload = self._workload
        return [(bucket, key) for bucket in BUCKETS for key in dict.fromkeys(workload.keys + workload.cold_keys)]

    def unlike(self) -> list[tuple[bytes, bytes]]:
        """The keys whose replicas differ."""
        return [name for name in self.names() if not self._same(name)]

    def alike(self) -> bool:
        """Are all replicas of every key equal?"""
        return all(self._same(name) for name in self.names())

    def _same(self, name: tuple[bytes, bytes]) -> bool:
        return len(set(self._bodies(*name).values())) == 1

    def _bodies(self, bucket: bytes, key: bytes) -> dict[int, bytes | None]:
        """What each replica holds of a key, without its envelope."""
        stored_key = self._cluster.locate(bucket, key)
        bodies: dict[int, bytes | None] = {}
        for number in self._cluster.replicas(stored_key):
            stored = self._cluster.stored(number, stored_key)
            try:
                bodies[number] = None if stored is None else unpack(stored_key, stored)[2]
            except DamagedRecord:
                bodies[number] = b"damaged on n%d" % number
        return bodies

    def strays(self) -> list[tuple[int, bytes]]:
        """(member, storage key) of records on members that do not keep them."""
        cluster = self._cluster
        return [
            (number, key)
            for number in cluster.awaited()
            for key in cluster.machines[number].disk.keys[Space.DATA]
            if number not in cluster.rings.homes(key)
        ]

    def dead(self) -> list[tuple[int, bytes]]:
        """(member, storage key) of records with something in them that has been dead for long enough."""
        horizon_ms = self._cluster.earliest_wall_ms() - self._cluster.options.grace_ms
        return [
            (number, key)
            for number in self._cluster.awaited()
            for key, stored in self._cluster.machines[number].disk.values[Space.DATA].items()
            if (record := readable_record(key, stored)) is not None
            and any(0 < dead_since_ms(sibling) < horizon_ms for sibling in record.siblings)
        ]

    def trees_ready(self) -> bool:
        """Does every member call all its hash trees ready?"""
        partitions = len(self._cluster.ring.owners)
        nodes = [self._cluster.machines[number].node for number in self._cluster.awaited()]
        return all(node is not None and node.trees.report()["ready"] == partitions for node in nodes)

    def check_trees(self, machine: Machine, when: str) -> None:
        """Check T of one machine, at this moment."""
        if machine.node is not None:
            self.violations += check_trees(machine.number, machine.node, machine.disk, when)

    # In the end.

    def judge(self) -> None:
        """Judge the whole history by what lies on the disks now."""
        writes = checkers.by_key(self._workload.history.writes)
        finals = {
            self._cluster.locate(bucket, key): self._judge_key(bucket, key, writes) for bucket, key in self.names()
        }
        left = self._cluster.copies.hints_left()
        if left:
            self.violations.append(Violation("C", f"there are hints after healing (member: hints): {left}"))
        for number in self._cluster.awaited():
            self.check_trees(self._cluster.machines[number], "in the end")
        self._judge_history(writes, finals)

    def _judge_key(self, bucket: bytes, key: bytes, writes: dict[bytes, list[WriteEntry]]) -> Record:
        """Judge what is left of one key; returns its final record."""
        cluster, observer = self._cluster, self._observer
        stored_key = cluster.locate(bucket, key)
        replicas = cluster.replicas(stored_key)
        bodies = self._bodies(bucket, key)
        for number in cluster.awaited():
            if number not in replicas:
                bodies[number] = cluster.stored(number, stored_key)
        self.violations += checkers.check_replicas_equal(stored_key, replicas, bodies)
        final = readable_record(stored_key, cluster.stored(replicas[0], stored_key)) or checkers.NOTHING
        mine = writes.get(stored_key, [])
        whole = cluster.graves.with_collected(stored_key, final)
        w_min = cluster.defaults.w if self._changes.removals else 1
        last_write_wins = bucket in self._choices.last_write_wins
        self.violations += checkers.check_no_loss(mine, whole, observer, last_write_wins, w_min)
        self.violations += checkers.check_nothing_back(mine, final, observer)
        return final

    def _judge_history(self, writes: dict[bytes, list[WriteEntry]], finals: dict[bytes, Record]) -> None:
        history, observer, graves = self._workload.history, self._observer, self._cluster.graves
        n, r = self._cluster.defaults.n, self._cluster.defaults.r
        quorum_min = r if self._changing else 1
        self.violations += checkers.check_quorum_reads(history, observer, n, graves, quorum_min)
        self.violations += checkers.check_answers(history, writes, observer)
        self.violations += checkers.check_listings(history, writes, observer, n)
        self.violations += checkers.check_failed_never_appears(history, observer, finals)
        findings = check_sessions(history, observer, n, graves, quorum_min, finals)
        self.violations += findings.violations
        self._judge_registers(finals)
        self.counts.update({f"session pairs: {guarantee}": pairs for guarantee, pairs in findings.pairs.items()})

    def _judge_registers(self, finals: dict[bytes, Record]) -> None:
        """Measure how many keys were linearizable, and demand it of the cluster's metadata (check M)."""
        cluster, history, choices = self._cluster, self._workload.history, self._choices
        buckets = set(choices.strict_buckets) & set(choices.last_write_wins)
        keys = [key for key in finals if split_storage_key(key)[1] in buckets]
        quorum = cluster.defaults.n // 2 + 1
        measured = measure_registers(history, keys, self._observer, quorum, cluster.graves)
        self.counts.update({f"registers: {verdict}": keys for verdict, keys in measured.counts.items()})
        findings = check_metadata(self._changes.log, cluster.loop.now_us)
        self.violations += findings.violations
        self.counts.update({f"metadata: {verdict}": times for verdict, times in findings.counts.items()})
