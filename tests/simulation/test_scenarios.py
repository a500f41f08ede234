"""Schedules told by hand, where a fault must meet one moment: rarely drawn, never to be forgotten."""

from __future__ import annotations

import msgspec

from quorate.core.membership.ring_ledger import LedgerState
from quorate.core.ports import Space
from quorate.core.ring.metadata import of_value
from quorate.core.store import Admin, Failure, GetRequest, GetResult, KeysPage, KeysRequest, PutRequest, PutResult
from quorate.node.documents import opened
from quorate.node.ring_keeper import LEDGER_KEY
from quorate.sim.run import SimOptions, Simulation

BUCKET = b"carts"


class Story:
    """A simulation without clients or faults of its own, and the verbs to tell one."""

    def __init__(self, seed: int = 1, **options: object) -> None:
        self.simulation = Simulation(seed, SimOptions(**options))  # type: ignore[arg-type]
        self.cluster = self.simulation.cluster
        for number in self.cluster.machines:
            self.cluster.start(number)
        self.until_connected()
        self.until_filled()

    def until_connected(self) -> None:
        assert self.simulation._wait(self.cluster.whole, 10_000)

    def until_filled(self) -> None:
        """Until every node knows that its copies can be read."""
        machines = self.cluster.machines.values()
        nodes = [machine.node for machine in machines if machine.node is not None]
        assert self.simulation._wait(lambda: not any(node._shared.filling.partitions for node in nodes), 20_000)

    def passes(self, milliseconds: float) -> None:
        self.simulation._pass(milliseconds)

    def until_reachable(self, node: int, peer: int) -> None:
        machine = self.cluster.machines[node]
        assert self.simulation._wait(
            lambda: machine.ready and machine.node is not None and machine.node.reachable(peer), 5_000
        )

    def until_connected_pair(self, first: int, second: int) -> None:
        transports = [self.cluster.network.transport_of(number) for number in (first, second)]
        assert self.simulation._wait(lambda: transports[0].connected(second) and transports[1].connected(first), 5_000)

    def put(self, node: int, key: bytes, value: bytes, **fields: object) -> list[PutResult | Failure]:
        store = self.cluster.machines[node].node
        assert store is not None
        answers: list[PutResult | Failure] = []
        store.put(PutRequest(BUCKET, key, value, **fields), answers.append)  # type: ignore[arg-type]
        return answers

    def get(self, node: int, key: bytes, r: int = 0) -> GetResult:
        store = self.cluster.machines[node].node
        assert store is not None
        answers: list[GetResult | Failure] = []
        store.get(GetRequest(BUCKET, key, r, 500), answers.append)
        self.passes(1_000)
        assert len(answers) == 1 and isinstance(answers[0], GetResult), answers
        return answers[0]

    def copies(self, key: bytes, value: bytes) -> int:
        """On how many disks the value is, as durably as the bucket says."""
        stored_key = self.cluster.locate(BUCKET, key)
        dots = [dot for dot, sibling in self.cluster.observer.dots[stored_key].items() if sibling.value == value]
        assert len(dots) == 1
        return self.cluster.copies.count(stored_key, dots[0], strict=False)

    def answered(self, answers: list[PutResult | Failure]) -> PutResult | Failure:
        self.passes(1_500)
        (answer,) = answers
        return answer

    def set_bucket(self, **changes: str) -> None:
        store = self.cluster.machines[1].node
        assert store is not None
        answers: list[Admin | Failure] = []
        store.set_bucket(BUCKET, changes, answers.append)
        self.passes(1_500)
        assert isinstance(answers[0], Admin)

    def replicas(self, key: bytes) -> tuple[int, ...]:
        return self.cluster.replicas(self.cluster.locate(BUCKET, key))

    def key_without_replica(self, node: int) -> bytes:
        return next(key for key in (b"key %d" % number for number in range(99)) if node not in self.replicas(key))

    def heal(self, but: int = 0) -> None:
        """Open all links, and wait until all nodes (except `but`) are connected."""
        for (source, target), link in self.cluster.network.links.items():
            if link.blocked:
                self.cluster.network.unblock(source, target)
        self.passes(3_000)
        assert but or self.cluster.whole()

    def cut_off(self, node: int) -> None:
        for other in self.cluster.machines:
            if other != node:
                self.cluster.network.block(node, other)
                self.cluster.network.block(other, node)
        self.passes(4_000)


def test_an_acknowledgement_for_a_former_life_is_not_taken_for_one_of_this_life() -> None:
    """Hard case 31. n1 dies while n2 syncs its write; n2's answer then reaches the next life of n1, which has a write
    under way to n2 itself. Request numbers that begin anew with each process would take the one for the other."""
    story = Story(nodes=3, durability="fsync")
    story.cut_off(3)
    story.cluster.machines[2].disk.sync_min_ms = 3_000.0
    story.put(1, b"a", b"first")
    story.passes(20)
    story.cluster.kill(1)
    story.passes(20)
    story.cluster.start(1)
    story.until_reachable(1, 2)
    answers = story.put(1, b"b", b"second", timeout_ms=10_000)
    while not answers:
        story.passes(10)
    assert isinstance(answers[0], PutResult)
    assert story.copies(b"b", b"second") == 2


def test_a_forward_that_may_have_arrived_is_not_called_not_done() -> None:
    """Hard case 31. One replica does the write and all that it sends is lost; the others refuse, as their disks have
    not reserved epochs yet. A refusal by one says nothing about the other. (Forwards go round, so each comes first
    once.)"""
    for forwards_before in range(3):
        story = Story(nodes=4, durability="os")
        stored_key = story.cluster.locate(BUCKET, b"k")
        replicas = story.cluster.replicas(stored_key)
        (outsider,) = [number for number in story.cluster.machines if number not in replicas]
        for young in replicas[1:]:
            story.cluster.machines[young].disk.sync_min_ms = 60_000.0
            story.cluster.kill(young)
            story.cluster.start(young)
            for other in (*replicas, outsider):
                if other != young:
                    story.until_connected_pair(young, other)
        for number in range(forwards_before):
            story.put(outsider, b"k", b"before %d" % number)
            story.passes(100)
        for other in (*replicas[1:], outsider):
            story.cluster.network.links[replicas[0], other].loss = 1.0
        answers = story.put(outsider, b"k", b"value", operation=1, timeout_ms=600, strict=True)
        story.passes(1_500)
        stored = [sibling.value for sibling in story.cluster.observer.dots[stored_key].values()]
        assert b"value" in stored, "the one replica that can coordinate was asked"
        assert len(answers) == 1
        assert isinstance(answers[0], Failure) and answers[0].kind == "unknown", answers[0]


def test_a_wiped_coordinator_does_not_reuse_its_dots() -> None:
    """Hard case 1 (riak_kv#679) with whole nodes."""
    story = Story(nodes=3, durability="os")
    for value in (b"1", b"2", b"3"):
        story.put(1, b"k", value, overwrite_seen=True)
        story.passes(100)
    story.cut_off(1)
    story.cluster.wipe(1)
    for (source, target), link in story.cluster.network.links.items():
        if link.blocked:
            story.cluster.network.unblock(source, target)
    story.cluster.start(1)
    story.until_connected()
    answers = story.put(1, b"k", b"after the wipe")
    story.passes(500)
    assert isinstance(answers[0], PutResult)
    story.until_filled()
    for node in (1, 2, 3):
        assert sorted(sibling.value for sibling in story.get(node, b"k", r=3).siblings) == [b"3", b"after the wipe"]
    assert story.cluster.observer.violations == []


def test_both_sides_of_a_partition_are_merged_when_it_heals() -> None:
    """The majority side goes on; the write that only one node took is reported as unknown, and may appear."""
    story = Story(nodes=3)
    story.put(2, b"k", b"before")
    story.passes(100)
    story.cut_off(1)
    alone = story.put(1, b"k", b"alone")
    together = story.put(2, b"k", b"together")
    story.passes(2_000)
    assert isinstance(alone[0], Failure) and alone[0].kind == "unavailable"
    assert isinstance(together[0], PutResult)
    for source, target in story.cluster.network.links:
        if story.cluster.network.links[source, target].blocked:
            story.cluster.network.unblock(source, target)
    story.until_connected()
    assert sorted(sibling.value for sibling in story.get(1, b"k", r=3).siblings) == [b"before", b"together"]


def test_a_new_disk_serves_no_bucket_before_it_knows_its_properties() -> None:
    """A wiped node without peers took a put of a strict bucket as a fallback: it had forgotten that it is strict."""
    story = Story(nodes=5)
    story.set_bucket(strict="true")
    key = story.key_without_replica(4)
    story.cut_off(4)
    story.cluster.wipe(4)
    story.cluster.start(4)
    story.passes(1_000)
    answers = story.put(4, key, b"value", w=1)
    story.passes(1_500)
    assert isinstance(answers[0], Failure) and answers[0].kind == "unavailable", answers
    story.heal()
    answers = story.put(4, key, b"value", w=1)
    story.passes(1_000)
    assert isinstance(answers[0], PutResult)


def test_a_fallback_whose_sync_outlasts_the_put_keeps_whole_hints() -> None:
    """The put was over before its sync was; what left after it was an empty record, and the hints of it too."""
    story = Story(nodes=5, durability="fsync")
    key = story.key_without_replica(4)
    story.cut_off(4)
    story.cluster.machines[4].disk.sync_min_ms = 2_000.0
    answers = story.put(4, key, b"value", w=1, timeout_ms=500)
    story.passes(4_000)
    assert isinstance(answers[0], Failure) and answers[0].kind == "unknown"
    assert story.cluster.copies.hints_left() == {4: 3}, "one for each replica"
    story.cluster.machines[4].disk.recover()
    story.heal()
    story.passes(3_000)
    assert story.cluster.copies.hints_left() == {}
    assert story.copies(key, b"value") == 3


def test_hints_go_home_after_a_restart_of_their_holder_without_traffic() -> None:
    """Hard case 9 (riak_core#154, riak_kv#847)."""
    story = Story(nodes=5, durability="os")
    key = story.key_without_replica(4)
    home, coordinator, _ = story.replicas(key)
    story.cut_off(home)
    assert isinstance(story.answered(story.put(coordinator, key, b"value", w=3)), PutResult)
    (holder,) = story.cluster.copies.hints_left()
    assert holder not in story.replicas(key)
    story.cluster.kill(holder)
    story.heal(but=holder)
    story.cluster.start(holder)
    story.passes(5_000)
    assert story.cluster.copies.hints_left() == {}
    assert story.cluster.stored(home, story.cluster.locate(BUCKET, key)) is not None


def test_with_every_replica_gone_a_put_still_succeeds_and_goes_on_from_itself() -> None:
    """W=1 needs one node, whichever. A second put there builds on the first, with one actor and no dot twice."""
    story = Story(nodes=5, durability="os")
    key = story.key_without_replica(4)
    story.cut_off(4)
    first = story.answered(story.put(4, key, b"first", w=1))
    assert isinstance(first, PutResult)
    second = story.answered(story.put(4, key, b"second", w=1, overwrite_seen=True))
    assert isinstance(second, PutResult) and second.siblings == 1
    assert [sibling.value for sibling in story.get(4, key, r=1).siblings] == [b"second"]
    story.heal()
    story.passes(3_000)
    for node in story.replicas(key):
        assert [sibling.value for sibling in story.get(node, key, r=3).siblings] == [b"second"]
    assert story.cluster.observer.violations == []


def test_both_sides_of_a_partition_take_writes_and_keep_both() -> None:
    """2 | 3 with W=2 through fallbacks; afterwards concurrent updates are siblings on every replica."""
    story = Story(nodes=5, durability="os")
    left, right = (1, 2), (3, 4, 5)
    for a in left:
        for b in right:
            story.cluster.network.block(a, b)
            story.cluster.network.block(b, a)
    story.passes(4_000)
    for side in (left, right):
        for node in side:
            value = b"from %d" % node
            assert isinstance(story.answered(story.put(node, b"k", value, overwrite_seen=True)), PutResult)
    story.heal()
    story.passes(3_000)
    assert story.cluster.copies.hints_left() == {}
    for node in story.replicas(b"k"):
        values = [sibling.value for sibling in story.get(node, b"k", r=3).siblings]
        assert len(values) >= 2, values
        assert {value[-1:] in b"12" for value in values} == {True, False}, "something of each side stands"


def test_a_home_and_its_stand_in_count_once() -> None:
    """Both acknowledged, and by then the stand-in's hint had gone home: W=2 with a single copy."""
    story = Story(nodes=5, durability="fsync")
    coordinator, slow, silent = story.replicas(b"k")
    stored_key = story.cluster.locate(BUCKET, b"k")
    partition = int.from_bytes(stored_key[:2], "big")
    _, unreachable = story.cluster.rings.newest.joint.of(partition, 3).fallbacks
    links = story.cluster.network.links
    for lost in ((coordinator, silent), (coordinator, unreachable)):
        links[lost].loss = 1.0
    links[slow, coordinator].set_delay(2_500.0, 0.1)
    story.cluster.machines[coordinator].disk.sync_min_ms = 6_000.0
    answers = story.put(coordinator, b"k", b"value", timeout_ms=4_000)
    story.passes(3_500)
    assert story.copies(b"k", b"value") == 1, "the hint has gone home"
    assert answers == []
    story.passes(1_000)
    assert isinstance(answers[0], Failure) and answers[0].kind == "unknown"


def test_a_listing_is_answered_within_its_time_although_its_replicas_differ() -> None:
    """The quorum reads of what they differ in had the whole time again, after the scans had taken half of it."""
    story = Story(nodes=3)
    links = story.cluster.network.links
    links[1, 2].loss = links[1, 3].loss = 1.0
    story.put(1, b"k", b"only here", w=1)
    story.passes(50)
    for other in (2, 3):
        links[1, other].loss = 0.0
        links[other, 1].set_delay(400.0, 0.1)
    store = story.cluster.machines[1].node
    assert store is not None
    answers: list[KeysPage | Failure] = []
    store.keys(KeysRequest(BUCKET, b"", 10, "", 1_000), answers.append)
    story.passes(300)
    links[2, 1].loss = links[3, 1].loss = 1.0  # What the scans found is on its way; the reads will wait in vain.
    story.passes(750)
    assert len(answers) == 1 and isinstance(answers[0], Failure) and answers[0].kind == "unavailable"


def dots_reused_when_killed_in_the_midst_of_a_put() -> list[str]:
    """Kill a coordinator before each of the callbacks of a put, and let it write again before it hears of anybody."""
    found = []
    for callbacks in range(1, 10):
        story = Story(nodes=3, durability="os")
        story.put(1, b"k", b"before")
        story.passes(100)
        process = story.cluster.machines[1].process
        assert process is not None
        process.light_fuse(callbacks, lambda story=story: story.cluster.kill(1))  # type: ignore[misc]
        story.put(1, b"k", b"killed")
        story.passes(500)
        story.cut_off(1)
        if not story.cluster.machines[1].up:
            story.cluster.start(1)
            story.passes(500)
        story.put(1, b"k", b"after", w=1)
        story.passes(100)
        found += [violation.check for violation in story.cluster.observer.violations]
    return found


def test_a_coordinator_killed_in_the_midst_of_a_put_reuses_no_dot() -> None:
    """Hard case 1: what has left for others must be on the own disk (test_mutants turns this red)."""
    assert dots_reused_when_killed_in_the_midst_of_a_put() == []


def test_bucket_properties_survive_a_loss_of_power_in_either_mode() -> None:
    """With durability `os` they were confirmed and not synced: a machine came back and took a strict bucket for sloppy
    again. (The META space of a disk, as a loss of all that is not synced would leave it.)"""
    for durability in ("os", "fsync"):
        story = Story(nodes=5, durability=durability)
        story.set_bucket(strict="true")
        kept = 0
        for machine in story.cluster.machines.values():
            stored = opened(machine.disk.synced_value(LEDGER_KEY, Space.META) or b"")
            assert stored is not None
            kept += of_value(msgspec.msgpack.decode(stored, type=LedgerState).ring).properties(BUCKET).strict
        assert kept == 5
