"""A few nodes in one thread, with a scheduler and a network that tests turn by hand: scenarios read as transcripts."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from quorate.core.buckets import BucketProperties, default_properties
from quorate.core.errors import StorageError
from quorate.core.membership.ring_consensus import RingValue
from quorate.core.messages import Message
from quorate.core.ports import OpenReport, Space, WriteOperation
from quorate.core.record import Context
from quorate.core.ring.create import create_ring
from quorate.core.ring.metadata import ClusterMetadata, to_value
from quorate.core.ring.ring import Member
from quorate.core.ring.transition import Departed, StagedRing, staged
from quorate.core.store import Failure, GetRequest, GetResult, PutRequest, PutResult
from quorate.node.cluster_view import BucketView
from quorate.node.node import Node
from quorate.node.options import NodeOptions

_wire = msgspec.msgpack.Encoder()
_unwire = msgspec.msgpack.Decoder(Message)


class World:
    """Virtual time for everybody: a heap of (time, order, callback)."""

    def __init__(self) -> None:
        self.now_ms = 0.0
        self.lives = 0
        """Of all nodes: so that no two lives draw the same numbers."""
        self._order = 0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []

    def at(self, delay_ms: float, callback: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._heap, (self.now_ms + delay_ms, self._order, callback))

    def run(self, milliseconds: float) -> None:
        end = self.now_ms + milliseconds
        while self._heap and self._heap[0][0] <= end:
            self.now_ms, _, callback = heapq.heappop(self._heap)
            callback()
        self.now_ms = end

    def step(self) -> None:
        """Run the next callback alone."""
        self.now_ms, _, callback = heapq.heappop(self._heap)
        callback()


class _Handle:
    def cancel(self) -> None:
        raise AssertionError("no node cancels a timer")


class Ports:
    """Clock, scheduler and randomness of one node; a stopped node's callbacks are dropped."""

    def __init__(self, world: World, skew_ms: int = 0) -> None:
        self._world = world
        self.skew_ms = skew_ms
        self.alive = True
        world.lives += 1
        self._draws = 1_000 * world.lives

    def wall_ms(self) -> int:
        return 1_800_000_000_000 + int(self._world.now_ms) + self.skew_ms

    def monotonic_ms(self) -> float:
        return self._world.now_ms

    def call_soon(self, callback: Callable[[], None]) -> None:
        self._world.at(0, lambda: callback() if self.alive else None)

    def call_later(self, delay_ms: float, callback: Callable[[], None]) -> _Handle:
        self._world.at(delay_ms, lambda: callback() if self.alive else None)
        return _Handle()

    def random(self) -> float:
        return 0.5

    def below(self, bound: int) -> int:
        self._draws += 1
        return self._draws % bound

    def token_bytes(self, size: int) -> bytes:
        return bytes(size)


class DictEngine:
    """An engine that is a dictionary, with failures on demand."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self.data: dict[tuple[Space, bytes], bytes] = {}
        self.report = OpenReport(fresh=True, clean=True, may_have_lost_writes=False)
        self.failure: StorageError | None = None
        self.free = 0.5
        self.held_syncs: list[Callable[[StorageError | None], None]] | None = None

    def get(self, space: Space, key: bytes) -> bytes | None:
        return self.data.get((space, key))

    def scan(self, space: Space, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        found = sorted((key, value) for (where, key), value in self.data.items() if where == space)
        return iter([(key, value) for key, value in found if start <= key < end])

    def write(self, batch: Sequence[WriteOperation]) -> None:
        if self.failure is not None:
            raise self.failure
        for space, key, value in batch:
            if value is None:
                self.data.pop((space, key), None)
            else:
                self.data[(space, key)] = value

    def delete_range(self, space: Space, start: bytes, end: bytes) -> None:
        for where, key in [place for place in self.data if place[0] == space and start <= place[1] < end]:
            del self.data[(where, key)]

    def sync(self, done: Callable[[StorageError | None], None]) -> None:
        if self.held_syncs is not None:
            self.held_syncs.append(done)
        else:
            self._ports.call_soon(lambda: done(self.failure))

    def data_bytes(self) -> int:
        return sum(len(key) + len(value) for (_, key), value in self.data.items())

    def free_fraction(self) -> float:
        return self.free

    def close(self) -> None:
        pass


class Wire:
    """The transport of one node: delivers after 1 ms unless the link is cut, or held for a test to release."""

    def __init__(self, cluster: SmallCluster, number: int) -> None:
        self._cluster = cluster
        self._number = number
        self.members: list[int] | None = None
        """None: not told yet."""
        self.departed: list[int] = []
        self.lingering: list[int] = []

    def send(self, member: int, message: Message) -> bool:
        if not self.connected(member):
            return False
        self._cluster.transmit(self._number, member, message)
        return True

    def connected(self, member: int) -> bool:
        return self._cluster.linked(self._number, member)

    def heard_ms(self, member: int) -> float:
        cluster = self._cluster
        return cluster.world.now_ms if member in cluster.talking else cluster.heard_ms.get((self._number, member), 0.0)

    def set_members(
        self, members: Sequence[Member], departed: Sequence[Departed] = (), lingering: Sequence[int] = ()
    ) -> None:
        known = self.members
        self.members = [member.number for member in members if member.number != self._number]
        self.departed = [gone.number for gone in departed if gone.number not in lingering]
        self.lingering = list(lingering)
        if known is not None:
            self._cluster.world.at(0, lambda: self._cluster.follow(self._number))

    def admits(self, member: int) -> bool:
        """Is a new connection with this member let in, or made? One that is newer than all that are known is."""
        members = self.members or []
        if member in members or member in self.lingering:
            return True
        return member not in self.departed and member > max([*members, *self.departed, self._number])


class SmallCluster:
    """`nodes[number]`, numbers from 1."""

    def __init__(
        self,
        size: int = 3,
        partitions: int = 16,
        options: NodeOptions | None = None,
        anti_entropy: bool = False,
        defaults: BucketProperties | None = None,
    ) -> None:
        """`anti_entropy` false: nodes compare with each other only when a test makes them, or a plan does."""
        self.world = World()
        self.ring: StagedRing = staged(
            create_ring("ab" * 16, [member(number) for number in range(1, size + 1)], partitions)
        )
        """The one that the cluster was founded with."""
        self.founding = to_value(ClusterMetadata(self.ring, defaults or default_properties(size)), 0)
        self.founding_of: dict[int, RingValue] = {}
        """Of members that came later: the first ring that has them."""
        self.own: dict[int, Member] = {found.number: found for found in self.ring.members}
        self.wires: dict[int, Wire] = {}
        self.ended: list[int] = []
        """Members that have said that they left and have nothing more to do."""
        self._severed: set[tuple[int, int]] = set()
        """Pairs that are not connected because one is no member for the other."""
        self.ports: dict[int, Ports] = {}
        self.engines: dict[int, DictEngine] = {}
        self.nodes: dict[int, Node] = {}
        self._cut: set[tuple[int, int]] = set()
        self.muted: set[int] = set()
        """Members that are connected and never answer (as if stopped by a signal)."""
        self.heard_ms: dict[tuple[int, int], float] = {}
        """(listener, speaker) → when the latest message came."""
        self.talking: set[int] = set()
        """Members that are heard all the time, whatever becomes of their answers."""
        self.sent: list[tuple[int, int, Message]] = []
        self.delay_ms: dict[int, float] = {}
        """Members all of whose messages, both ways, take so long instead of a millisecond."""
        self.options = options or NodeOptions()
        self.anti_entropy = anti_entropy
        for number in range(1, size + 1):
            self.ports[number] = Ports(self.world)
            self.engines[number] = DictEngine(self.ports[number])
            self.boot(number, newborn=size == 1)  # Several tell each other that they are new.
        for number, node in self.nodes.items():
            for other in self.nodes:
                if other != number:
                    node.on_connected(other)
        self.world.run(10)
        assert all(node._shared.view.told for node in self.nodes.values()), (
            "new nodes tell each other that they are new"
        )
        self.sent.clear()

    def boot(self, number: int, newborn: bool = False) -> None:
        """Start a node, or start it again on the engine that is there."""
        self.ports[number] = Ports(self.world, self.ports[number].skew_ms if number in self.ports else 0)
        engine = self.engines.setdefault(number, DictEngine(self.ports[number]))
        engine._ports = ports = self.ports[number]
        wire = self.wires[number] = Wire(self, number)
        node = Node(
            member_number=number,
            founding=self.founding_of.get(number, self.founding),
            own=self.own[number],
            engine=engine,
            transport=wire,
            clock=ports,
            scheduler=ports,
            rng=ports,
            newborn=newborn,
            options=self.options
            if self.anti_entropy
            else msgspec.structs.replace(self.options, anti_entropy_interval_ms=0),
            on_departed=lambda: self._on_departed(number),
        )
        self.nodes[number] = node
        node.start(lambda: None)
        engine.report = OpenReport(fresh=False, clean=True, may_have_lost_writes=False)

    def _on_departed(self, number: int) -> None:
        """As the process does: the node stops, and ends its connections."""
        self.ended.append(number)
        self.nodes[number].stop()
        self.kill(number)

    def kill(self, number: int) -> None:
        self.ports[number].alive = False
        for other, node in self.nodes.items():
            if other != number and self.ports[other].alive:
                node.on_disconnected(number)

    def wipe(self, number: int) -> None:
        """Kill a node and lose its disk."""
        self.kill(number)
        self.engines[number] = DictEngine(self.ports[number])

    def cut(self, one: int, other: int) -> None:
        self._cut |= {(one, other), (other, one)}
        self._tell_disconnected(one, other)

    def heal(self) -> None:
        cut, self._cut = sorted(self._cut), set()
        for one, other in cut:
            if self.linked(other, one) and self.linked(one, other):
                self.nodes[one].on_connected(other)

    def join(self, number: int, newborn: bool = False) -> None:
        """Boot a node that was killed, and connect it with all that run and are not cut off, as a transport would."""
        self.boot(number, newborn)
        for other in list(self.nodes):
            if other != number:
                self.connect(other, number)

    def connect(self, one: int, other: int) -> None:
        """Connect two nodes, unless something is in the way; one that was removed is told so."""
        if (one, other) in self._cut or not (self.ports[one].alive and self.ports[other].alive):
            return
        for host, guest in ((one, other), (other, one)):
            if guest in self.wires[host].departed:
                self._severed |= {(one, other), (other, one)}
                name = self.own[guest].name
                self.nodes[guest].on_removed(f"{self.own[host].name} says that {name} is no member any more")
                return
        if not (self.wires[one].admits(other) and self.wires[other].admits(one)):
            self._severed |= {(one, other), (other, one)}
            return
        self._severed -= {(one, other), (other, one)}
        self.nodes[one].on_connected(other)
        self.nodes[other].on_connected(one)

    def _tell_disconnected(self, one: int, other: int) -> None:
        for host, guest in ((one, other), (other, one)):
            if self.ports[host].alive:
                self.nodes[host].on_disconnected(guest)

    def follow(self, number: int) -> None:
        """The transport of `number` was told of other members: it ends connections, and makes those that lack."""
        if not self.ports[number].alive:
            return
        wire = self.wires[number]
        for other in list(self.nodes):
            if other != number and self.linked(number, other) and not wire.admits(other):
                self._severed |= {(number, other), (other, number)}
                self._tell_disconnected(number, other)
        for other in wire.members or []:
            if (number, other) in self._severed:
                self.connect(number, other)

    def linked(self, one: int, other: int) -> bool:
        if (one, other) in self._cut or (one, other) in self._severed or other not in self.nodes:
            return False
        return self.ports[other].alive

    def transmit(self, sender: int, target: int, message: Message) -> None:
        self.sent.append((sender, target, message))
        raw = _wire.encode(message)

        def deliver() -> None:
            if target not in self.muted and self.ports[target].alive and self.linked(sender, target):
                self.heard_ms[target, sender] = self.world.now_ms
                self.nodes[target].on_message(sender, _unwire.decode(raw), 0.0)

        self.world.at(max(self.delay_ms.get(sender, 1), self.delay_ms.get(target, 1)), deliver)

    def wait(self, hours: float) -> None:
        """Let the wall clocks go on without running through all the virtual time between."""
        for ports in self.ports.values():
            ports.skew_ms += int(hours * 3_600_000)

    # --- what a test looks at ---

    def preference_list(self, key: bytes) -> tuple[list[int], list[int]]:
        """(homes, fallbacks) of a key of bucket b."""
        placement = next(iter(self.nodes.values()))._coordinator.place(self._view(), b"b", key)[1]
        return list(placement.replicas), list(placement.fallbacks)

    def _view(self) -> BucketView:
        return next(iter(self.nodes.values()))._shared.view.bucket(b"b")

    def hints(self) -> dict[int, dict[int, int]]:
        """Holder → home → how many hints."""
        found = {}
        for number, node in self.nodes.items():
            by_home = node._shared.hints.by_home
            if by_home:
                found[number] = {home: count.hints for home, count in sorted(by_home.items())}
        return found

    def counter(self, event: str) -> int:
        """How often `event` was counted on all nodes."""
        return sum(node._shared.counters.get(event, 0) for node in self.nodes.values())

    # --- what a client does ---

    def put(
        self, node: int, key: bytes, value: bytes = b"", context: Context | None = None, **more: Any
    ) -> PutResult | Failure:
        request = PutRequest(more.pop("bucket", b"b"), key, value, context=context, **more)
        return self._call(lambda reply: self.nodes[node].put(request, reply))

    def delete(self, node: int, key: bytes, context: Context) -> PutResult | Failure:
        request = PutRequest(b"b", key, context=context, delete=True)
        return self._call(lambda reply: self.nodes[node].put(request, reply))

    def get(self, node: int, key: bytes, r: int = 0, bucket: bytes = b"b") -> GetResult | Failure:
        return self._call(lambda reply: self.nodes[node].get(GetRequest(bucket, key, r), reply))

    def call(self, start: Callable[[Callable[[Any], None]], None]) -> Any:
        return self._call(start)

    def _call(self, start: Callable[[Callable[[Any], None]], None]) -> Any:
        """Run virtual time until the reply is there; it comes once."""
        replies: list[Any] = []
        start(replies.append)
        for _ in range(2_000):
            if replies:
                break
            self.world.run(1)
        assert len(replies) == 1, "every request is answered exactly once"
        return replies[0]

    def values(self, node: int, key: bytes, r: int = 0) -> list[bytes]:
        result = self.get(node, key, r)
        assert isinstance(result, GetResult), result
        return sorted(sibling.value for sibling in result.siblings)

    def bodies(self, key: bytes) -> list[bytes | None]:
        """What each node's engine holds of a key of bucket b, without the local marker."""
        from quorate.core.envelope import unpack

        found = []
        for number in self.nodes:
            body = None
            for (space, stored_key), stored in self.engines[number].data.items():
                if space == Space.DATA and stored_key.endswith(b"\x01b" + key):
                    body = unpack(stored_key, stored)[2]
            found.append(body)
        return found


def member(number: int) -> Member:
    return Member(
        number=number,
        id=f"{number:032x}",
        name=f"n{number}",
        host=f"h{number}",
        zone="z",
        weight=1,
        peer_address=f"127.0.0.1:{7600 + number}",
        client_address=f"127.0.0.1:{7400 + number}",
        http_address=f"127.0.0.1:{7500 + number}",
    )
