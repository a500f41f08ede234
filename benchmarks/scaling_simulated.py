"""Whole production nodes on virtual time in one process: who coordinates, who does the replicas' work, at what cost.

A client that knows the ring sends each request to one of the key's replicas, which take turns, and keeps a fixed number
of requests in flight for each node. Keys are random and never used before, so that records are alike in clusters of any
size; each is put once and later got once, in another order. The same seed gives the same counts everywhere.

CPU time is that of the whole process: the nodes, every message encoded and decoded, and also the simulation's own clock
and network. Its heap of events grows with what is in flight, and the memory of all nodes shares the caches of one core,
so what a request costs here can only grow more with nodes than it does in processes of their own. For each size the
same number of requests is timed; any more only make the counts more exact.
"""

from __future__ import annotations

import gc
import math
import random
import time
from collections import Counter
from collections.abc import Callable
from statistics import median

from scaling_figures import Simulated, keys_for_noise, noise_of_keys, noise_of_reader, noise_of_turns, spread
from tests.unit.small_cluster import SmallCluster

from quorate.core.messages import HintedRead, HintedWrite, Message, Read, Write
from quorate.core.store import GetRequest, GetResult, PutRequest, PutResult

BUCKET = b"b"
IN_FLIGHT_PER_NODE = 8
VALUE_BYTES = 100
"""Small, for all copies of all keys are in the memory of one process."""
CHUNK = 5_000
CHUNKS_TIMED = 6
"""The median counts: once in a while another process has the core."""
GC_THRESHOLDS = (50_000, 50, 100)
"""As the server process has them."""
WORK = (Read, Write, HintedRead, HintedWrite)


class CountedCluster(SmallCluster):
    """Counts what is coordinated, and what each replica reads and writes, its own share as coordinator included."""

    def __init__(self, nodes: int, partitions: int, seed: int) -> None:
        self.coordinated: Counter[int] = Counter()
        self.replica_work: Counter[int] = Counter()
        super().__init__(nodes, partitions)
        self.rng = random.Random(seed)
        self._bucket = view = self._view()
        self._place = self.nodes[1]._coordinator.place
        self.replicas_of = [placement.replicas for placement in view.placements]
        self._turns = [self.rng.randrange(view.n) for _ in range(partitions)]
        self.coordinated.clear()
        self.replica_work.clear()

    def transmit(self, sender: int, target: int, message: Message) -> None:
        super().transmit(sender, target, message)
        self.sent.pop()  # A transcript of all messages would be most of the memory.
        if isinstance(message, WORK):
            self.replica_work[target] += 1

    def coordinator(self, key: bytes) -> int:
        """The replica whose turn it is."""
        partition = self._place(self._bucket, BUCKET, key)[0]
        replicas = self.replicas_of[partition]
        self._turns[partition] = turn = (self._turns[partition] + 1) % len(replicas)
        chosen = replicas[turn]
        self.coordinated[chosen] += 1
        self.replica_work[chosen] += 1
        return chosen

    def put_key(self, key: bytes, value: bytes, done: Callable[[], None]) -> None:
        def reply(result: object) -> None:
            assert isinstance(result, PutResult), result
            done()

        self.nodes[self.coordinator(key)].put(PutRequest(BUCKET, key, value), reply)

    def get_key(self, key: bytes, done: Callable[[], None]) -> None:
        def reply(result: object) -> None:
            assert isinstance(result, GetResult), result
            assert result.siblings, "every key that is got was put"
            done()

        self.nodes[self.coordinator(key)].get(GetRequest(BUCKET, key), reply)

    def run_all(self, keys: list[bytes], request: Callable[[bytes, Callable[[], None]], None]) -> float:
        """A closed loop over `keys`; CPU microseconds for each."""
        left = iter(keys)
        answered = 0

        def more() -> None:
            key = next(left, None)
            if key is not None:
                request(key, done)

        def done() -> None:
            nonlocal answered
            answered += 1
            self.world.at(0, more)

        began_s = time.process_time()
        for _ in range(IN_FLIGHT_PER_NODE * len(self.nodes)):
            more()
        while answered < len(keys):
            self.world.run(1)
        return (time.process_time() - began_s) / len(keys) * 1e6


def measure_simulated(nodes: int, partitions: int, noise: float, budget_s: float, seed: int) -> Simulated:
    """Enough keys for `noise`, as far as `budget_s` of CPU time allows; those that are timed are always done."""
    began_s = time.process_time()
    gc.collect()  # The cluster before this one is full of cycles.
    cluster = CountedCluster(nodes, partitions, seed)
    replicas = len(cluster.replicas_of[0])
    wanted = max(CHUNKS_TIMED * CHUNK, keys_for_noise(nodes, replicas, noise))
    value = cluster.rng.randbytes(VALUE_BYTES)

    def put(key: bytes, done: Callable[[], None]) -> None:
        cluster.put_key(key, value, done)

    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    cluster.run_all(warm_up := new_keys(cluster, CHUNK), put)
    cluster.run_all(warm_up, cluster.get_key)
    cluster.coordinated.clear()
    cluster.replica_work.clear()
    keys: list[bytes] = []
    put_us: list[float] = []
    get_us: list[float] = []
    # A get costs about half of a put, so puts may take two thirds of the time.
    while len(keys) < wanted and (len(put_us) < CHUNKS_TIMED or time.process_time() - began_s < budget_s * 2 / 3):
        chunk = new_keys(cluster, min(CHUNK, wanted - len(keys)))
        put_us.append(cluster.run_all(chunk, put))
        keys += chunk
    cluster.rng.shuffle(keys)
    for start in range(0, len(keys), CHUNK):
        get_us.append(cluster.run_all(keys[start : start + CHUNK], cluster.get_key))
    of_keys = noise_of_keys(nodes, replicas, len(keys))
    coordinating = math.hypot(of_keys, noise_of_turns(nodes, replicas, 2 * len(keys), partitions))
    # A get asks its coordinator and one of the others, a put all: of a node's work a small part is left to a choice.
    working = math.hypot(of_keys, noise_of_reader(nodes, replicas, len(keys)))
    owned = Counter(member for members in cluster.replicas_of for member in members)
    result = Simulated(
        nodes,
        partitions,
        len(keys),
        spread([owned[number] for number in cluster.nodes], 0),
        spread([cluster.coordinated[number] for number in cluster.nodes], coordinating),
        spread([cluster.replica_work[number] for number in cluster.nodes], working),
        median(put_us[:CHUNKS_TIMED]),
        median(get_us[:CHUNKS_TIMED]),
    )
    gc.unfreeze()
    return result


def new_keys(cluster: CountedCluster, count: int) -> list[bytes]:
    return [b"%016x" % cluster.rng.getrandbits(64) for _ in range(count)]
