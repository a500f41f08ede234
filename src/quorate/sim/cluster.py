"""A whole cluster of production nodes: machines that start, die and come back, on one network and one virtual time.

A `Machine` is what outlives its node's process: a disk, two clocks, a number. `Cluster` starts and stops machines and
knows which records lie on which of them, for the checkers and for faults that must stay within what was promised.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from quorate.core.buckets import BucketProperties
from quorate.core.collection import beyond_horizon
from quorate.core.errors import StorageError
from quorate.core.keyspace import canonical_name, slot_of_name, split_storage_key, storage_key
from quorate.core.membership.ring_consensus import RingValue
from quorate.core.membership.ring_ledger import Memory
from quorate.core.ports import Space
from quorate.core.record import Clock
from quorate.core.ring.create import create_ring
from quorate.core.ring.metadata import ClusterMetadata, to_value
from quorate.core.ring.ring import Member, Ring
from quorate.core.ring.transition import StagedRing, staged
from quorate.node.node import Node
from quorate.node.options import NodeOptions
from quorate.sim.clocks import MachineClock
from quorate.sim.copies import Copies
from quorate.sim.disk import Disk, SimEngine
from quorate.sim.graves import Graves
from quorate.sim.loop import Process, VirtualLoop
from quorate.sim.network import Network
from quorate.sim.observer import Observer
from quorate.sim.random_streams import Streams
from quorate.sim.rings import Rings
from quorate.sim.trace import Trace
from quorate.sim.transport import SimTransport

LOSS_REACH_US = 30_000_000
"""What a disk lost this long ago at most may have been acknowledged, or counted as held, before."""
CLUSTER_ID = "5" * 32


class Layout(msgspec.Struct, frozen=True):
    """How a cluster's ring is cut, and where its founding members stand."""

    partitions: int = 32
    members_on_host: int = 1
    zones: int = 1


class Machine:
    """One member: its hardware, and the present life of its process, if any."""

    def __init__(
        self, number: int, own: Member, founding: RingValue, newborn: bool, disk: Disk, clock: MachineClock
    ) -> None:
        """`founding`, `newborn`: what its directory tells its first life (see `Node`)."""
        self.number = number
        self.own = own
        self.founding = founding
        self.newborn = newborn
        self.gone = False
        """It was removed from the cluster, or is about to be and will not run again: nothing starts it by itself."""
        self.disk = disk
        self.clock = clock
        self.lives = 0
        self.node: Node | None = None
        self.process: Process | None = None
        self.engine: SimEngine | None = None
        self.ready = False
        """The node said that it takes requests."""
        self.lost_us = -1
        """When the disk last lost something that the durability mode does not promise to keep; -1: never."""
        self.forgetful = False
        """Its disk was wiped, and its votes with it; nobody has looked since whether it recalls them."""
        self.held = False
        """A fault keeps it down on purpose: nothing else starts it."""
        self.damaged: dict[bytes, tuple[int, bytes]] = {}
        """Storage key → (when a bit of it was last flipped, what is there since)."""

    @property
    def up(self) -> bool:
        return self.process is not None and self.process.alive

    @property
    def serves(self) -> bool:
        """Does its process take requests, writes too?"""
        return self.ready and self.node is not None and not self.node._shared.fenced_because

    @property
    def broken(self) -> bool:
        """Has a write or a sync failed in the life of its present process, which takes no writes from then on?"""
        return self.up and self.engine is not None and self.engine.broken is not None


class Cluster:
    """All machines, the network between them, and the ring that they share."""

    def __init__(
        self,
        *,
        nodes: int,
        defaults: BucketProperties,
        loop: VirtualLoop,
        streams: Streams,
        trace: Trace,
        observer: Observer,
        options: NodeOptions | None = None,
        layout: Layout | None = None,
    ) -> None:
        self.loop = loop
        self.defaults = defaults
        self.observer = observer
        self.options = options or NodeOptions()
        self._days_ms = 0
        self.clock_moves = 0
        """How often a wall clock was moved."""
        self.reached: dict[str, int] = {}
        """What the processes that have ended had counted."""
        self._streams = streams
        numbers = list(range(1, nodes + 1))
        founding_ring = make_ring(nodes, defaults.n, layout or Layout())
        self.founding = to_value(ClusterMetadata(staged(founding_ring), defaults), 0)
        self.rings = Rings(self.founding, defaults.n, lambda: loop.now_us)
        self.rings.gone_by_now = self._gone_by_now
        self.network = Network(loop, streams, trace, [])
        self.machines: dict[int, Machine] = {}
        self._disks: dict[int, Disk] = {}
        for number in numbers:
            self.add(founding_ring.member(number), self.founding, newborn=False)
        self.copies = Copies(
            self._disks,
            read=self.rings.replicas,
            keepers=self.rings.keepers,
            staying=self.rings.staying,
            synced=defaults.durability == "fsync",
        )
        self.graves = self._make_graves(observer)
        self._make_hooks()

    def _make_graves(self, observer: Observer) -> Graves:
        """What has been collected, judged by where each record lies."""
        graves = observer.graves = Graves(
            horizon_ms=lambda: self.latest_wall_ms() - self.options.grace_ms + self.options.clock_skew_max_ms,
            now_us=lambda: self.loop.now_us,
            replicas=self.replicas,
            known=self._known,
        )
        graves.homes_of = self._homes_of
        graves.homes_of_late = self.rings.homes_without
        graves.too_old = lambda record: beyond_horizon(record, self.latest_wall_ms(), self.options.grace_ms)
        graves.on_removed = observer.collected
        self.copies.lasting = lambda member, created_ms: (
            self.machines[member].clock.wall_ms() - created_ms < self.options.grace_ms // 4
        )
        observer.other_hints = lambda member, home, key: self.copies.hinted_clock(member, key, home)
        return graves

    def _make_hooks(self) -> None:
        """What others want to hear of."""
        self.on_ending: Callable[[Machine], None] = lambda machine: None
        """Called with a machine whose process is about to end, while everything is as it was."""
        self.on_death: Callable[[int], None] = lambda number: None
        """Called with the number of a machine whose process has just ended."""
        self.on_emptied: Callable[[int], None] = lambda number: None
        """Called with the number of a machine whose process has emptied its store."""
        self.on_disk_failed: Callable[[Machine, StorageError], None] = lambda machine, error: None
        """Called when a write or a sync has failed, for the first time in the life of a process."""
        self.on_disk_filled: Callable[[Machine], None] = lambda machine: None
        """Called when there is hardly any room on a disk any more."""
        self.on_departed: Callable[[int], None] = lambda number: None
        """Called with the number of a machine whose node has left the cluster, and has ended its process."""

    def add(self, own: Member, founding: RingValue, newborn: bool = True) -> None:
        """A machine for a member; `founding` is a ring that contains it."""
        number = own.number
        self.network.add(number)
        machine = self.machines[number] = self._make_machine(own, founding, newborn)
        machine.clock.jump(self._days_ms)
        self._disks[number] = machine.disk

    def _make_machine(self, own: Member, founding: RingValue, newborn: bool) -> Machine:
        number = own.number
        rng = self._streams.stream("machine", number)
        clock = MachineClock(
            self.loop,
            rate=1.0 + rng.uniform(-200e-6, 200e-6),
            wall_offset_ms=rng.uniform(-200.0, 200.0),
            monotonic_offset_ms=rng.uniform(0.0, 1e9),
        )
        disk = Disk(self.loop, self._streams.stream("disk", number), self.observer.of_member(number))
        disk.on_emptied = lambda: self._emptied(number)
        machine = Machine(number, own, founding, newborn, disk, clock)
        disk.on_failed = lambda error: self.on_disk_failed(machine, error)
        return machine

    def start(self, number: int) -> None:
        """Start a new life of this member's process on what its disk holds.

        It ends at once if the disk fails, since no store can be opened then; who mends the disk starts it again.
        """
        machine = self.machines[number]
        assert not machine.up, "one process a machine"
        if machine.disk.failing:
            return
        machine.lives += 1
        process = Process(self.loop, machine.clock.rate)
        engine = machine.disk.open(process)
        transport: SimTransport = self.network.transport(number, process, machine.clock)
        machine.process, machine.engine = process, engine

        def boot() -> None:
            node = Node(
                member_number=number,
                founding=machine.founding,
                own=machine.own,
                engine=engine,
                transport=transport,
                clock=machine.clock,
                scheduler=process,
                rng=self._streams.stream("node", number, machine.lives),
                newborn=machine.newborn,
                options=self.options,
                on_departed=lambda: process.call_soon(lambda: self._departed(machine)),
            )
            machine.newborn = False
            machine.node = node
            self._watch_rings(number, node)
            transport.attach(node)
            node.start(lambda: self._ready(machine, process))

        process.call_soon(boot)

    def _watch_rings(self, number: int, node: Node) -> None:
        """Take note, before the node's parts do, of each ring that it goes by."""
        keeper = node._shared.rings
        tell = keeper.on_adopted

        def adopted() -> None:
            self.rings.adopted(number, keeper.chain.confirmed)
            tell()

        keeper.on_adopted = adopted
        self.rings.adopted(number, keeper.chain.confirmed)

    def _departed(self, machine: Machine) -> None:
        machine.gone = True
        self.stop(machine.number)
        self.on_departed(machine.number)

    def _ready(self, machine: Machine, process: Process) -> None:
        assert machine.process is process, "only the present life becomes ready"
        machine.ready = True

    def stop(self, number: int) -> None:
        """End the process the way its operator would: what is queued is written, the store is closed."""
        machine = self.machines[number]
        if machine.node is not None and machine.engine is not None:
            machine.node.stop()
            machine.engine.close()
        self._end(machine, silently=False)

    def kill(self, number: int) -> None:
        """End the process at once. Its operating system lives on and keeps what was written."""
        self._end(self.machines[number], silently=False)

    def lose_power(self, number: int) -> int:
        """Stop the whole machine. Returns how many unsynced batches are gone."""
        machine = self.machines[number]
        self._end(machine, silently=True)
        if self.defaults.durability == "os":
            machine.lost_us = self.loop.now_us
        return machine.disk.lose_power()

    def wipe(self, number: int) -> None:
        """Stop the process and give the machine an empty disk."""
        machine = self.machines[number]
        self._end(machine, silently=False)
        machine.lost_us = self.loop.now_us
        machine.forgetful = True
        self.rings.forget(number)
        machine.disk.wipe()
        machine.damaged.clear()

    def damage(self, number: int, stored_key: bytes, bit: int, space: Space = Space.DATA) -> None:
        """Flip a bit of a record, or of a hint, on this machine's disk."""
        machine = self.machines[number]
        machine.disk.flip(stored_key, bit, space)
        if space == Space.DATA:
            machine.damaged[stored_key] = (self.loop.now_us, machine.disk.values[Space.DATA][stored_key])

    def still_damaged(self, stored_key: bytes) -> int:
        """On how many machines the damaged bytes of a record still lie: their nodes may not know yet, and may
        acknowledge, from what they remember, that they hold what they held."""
        return sum(
            stored_key in machine.damaged and self.stored(number, stored_key) == machine.damaged[stored_key][1]
            for number, machine in self.machines.items()
        )

    def _emptied(self, number: int) -> None:
        self.machines[number].lost_us = self.loop.now_us
        self.on_emptied(number)

    def _end(self, machine: Machine, silently: bool) -> None:
        process = machine.process
        assert process is not None and process.alive, "it must run to be ended"
        self.on_ending(machine)
        process.kill()
        machine.ready = False
        if machine.node is not None:
            add_counts(self.reached, counters_of(machine.node))
        machine.node = None
        self.network.process_died(machine.number, silently)
        self.on_death(machine.number)

    def whole(self) -> bool:
        """Is every member ready, running, told of the ring, and connected to every other?"""
        members = self.awaited()
        for number in members:
            machine = self.machines.get(number)
            if machine is None or not machine.ready or machine.process is None:
                return False
            if machine.process.paused_until_us > self.loop.now_us or not self._told(machine):
                return False
            transport = self.network.transport_of(number)
            if not all(transport.connected(other) for other in members if other != number):
                return False
        return True

    def awaited(self) -> list[int]:
        """The members of the newest ring that have not stopped for good."""
        ring = self.ring
        stopped = ring.transition.stopped if ring.transition is not None else []
        return [member.number for member in ring.members if member.number not in stopped]

    def present(self) -> list[int]:
        """All machines but those that were removed."""
        return [number for number, machine in self.machines.items() if not machine.gone]

    @staticmethod
    def _told(machine: Machine) -> bool:
        return machine.node is not None and machine.node._shared.view.told

    def _gone_by_now(self) -> list[int]:
        members = {member.number: True for member in self.ring.members}
        return [
            machine.node._shared.view.version
            for number, machine in self.machines.items()
            if number in members and machine.node is not None
        ]

    def remembers(self, number: int) -> bool:
        """Does this member know what it has voted for, so that it counts where votes are recalled?"""
        machine = self.machines[number]
        if machine.forgetful and machine.node is not None:
            memory = machine.node._shared.rings.chain.memory
            machine.forgetful = memory in (Memory.LOST, Memory.ABSTAINING)
        return not machine.forgetful

    def filling(self) -> dict[int, int]:
        """Member → how many partitions it is still being filled with, or 1 if it is fenced; others are left out."""
        found: dict[int, int] = {}
        for number in self.awaited():
            machine = self.machines[number]
            shared = machine.node._shared if machine.node is not None else None
            if shared is not None and (shared.filling.partitions or shared.fenced_because):
                found[number] = max(1, len(shared.filling.partitions))
        return found

    # Clocks.

    def jump(self, number: int, by_ms: float) -> None:
        """Move the wall clock of one machine."""
        self.clock_moves += 1
        self.machines[number].clock.jump(by_ms)

    def pass_days(self, by_ms: int) -> None:
        """So much time passes for all machines at once, in which nothing happened but that disks were written.

        What runs has given signs of life all the time.
        """
        self._days_ms += by_ms
        for number, machine in self.machines.items():
            self.jump(number, by_ms)
            if machine.node is not None and machine.ready:
                machine.node._absence.stop()
            machine.disk.write_back()

    def earliest_wall_ms(self) -> int:
        return min(machine.clock.wall_ms() for machine in self.machines.values())

    def latest_wall_ms(self) -> int:
        return max(machine.clock.wall_ms() for machine in self.machines.values())

    # What lies where.

    def locate(self, bucket: bytes, key: bytes) -> bytes:
        """The storage key of a key."""
        slot = slot_of_name(canonical_name(bucket, key))
        return storage_key(self.ring.partition_of_slot(slot), bucket, key)

    def replicas(self, stored_key: bytes) -> tuple[int, ...]:
        """Who is read for a key, by the newest ring that any node goes by."""
        return self.rings.replicas(stored_key)

    def _homes_of(self, number: int, stored_key: bytes) -> tuple[int, ...]:
        """Who keeps a key by the ring that this member goes by."""
        node = self.machines[number].node
        if node is None:
            return self.rings.homes(stored_key)
        partition, bucket, _ = split_storage_key(stored_key)
        return node._shared.view.bucket(bucket).placements[partition].homes

    @property
    def ring(self) -> StagedRing:
        """The newest that any node goes by."""
        return self.rings.ring

    def _known(self, number: int, stored_key: bytes) -> Clock | None:
        """What a disk knows of a key; None if it lost data a moment ago, and had known more."""
        return None if self.lost_lately(number, stored_key) else self.copies.knows(number, stored_key)

    def lost_lately(self, number: int, stored_key: bytes) -> bool:
        """Did this disk lose everything, or this key, not longer ago than a message may be under way?"""
        machine = self.machines[number]
        damaged_us = machine.damaged.get(stored_key, (-LOSS_REACH_US, b""))[0]
        lost_us = machine.lost_us if machine.lost_us >= 0 else -LOSS_REACH_US
        return self.loop.now_us - max(lost_us, damaged_us) < LOSS_REACH_US

    def stored(self, number: int, stored_key: bytes) -> bytes | None:
        """The envelope on this member's disk."""
        return self.machines[number].disk.values[Space.DATA].get(stored_key)


def add_counts(sums: dict[str, int], counts: Mapping[str, int]) -> None:
    """Add `counts` to `sums`."""
    for what, times in counts.items():
        sums[what] = sums.get(what, 0) + times


def counters_of(node: Node) -> dict[str, int]:
    """Event → how often this life of a node has counted it."""
    return node._shared.counters


def make_ring(nodes: int, n: int, layout: Layout) -> Ring:
    """A ring of `nodes` members."""
    members = []
    for number in range(1, nodes + 1):
        host = (number + layout.members_on_host - 1) // layout.members_on_host
        own = make_member(number)
        members.append(msgspec.structs.replace(own, host=f"host{host}", zone=f"zone{host % layout.zones}"))
    return create_ring(CLUSTER_ID, members, layout.partitions, n)


def make_member(number: int) -> Member:
    """What a member says about itself, on a host of its own."""
    return Member(
        number=number,
        id=f"{number:032x}",
        name=f"n{number}",
        host=f"host{number}",
        zone="zone0",
        weight=1,
        peer_address=f"127.0.0.1:{7600 + number}",
        client_address=f"127.0.0.1:{7400 + number}",
        http_address=f"127.0.0.1:{7500 + number}",
    )
