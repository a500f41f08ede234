"""The faults, by name. Each is a coroutine that breaks a loaded cluster in cycles, at times drawn from the trial's
seed, and leaves no fault behind when it returns (`healing.py` starts what is down).

    kill       kill -9 of one node or two at once, again and again, also while they start
    pause      SIGSTOP of one node or two for a moment or for seconds: connections stay, nobody answers
    restart    SIGTERM, which must end cleanly, and a start
    network    partitions, isolation, one-way cuts, loss, and delay where the machine can
    disk-full  one node's file system is filled; it must fence itself visibly, and the others must carry on
    clock      wall clocks jump, within the documented skew and far beyond it

Faults stay within what the store promises: no disk is lost, so no acknowledged write may ever be.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from quorate.sim.history import Violation
from quorate.sim.random_streams import SeededRng
from quorate.trials import healing
from quorate.trials.clocks import set_offset
from quorate.trials.cluster import RealCluster, RealNode, TrialError
from quorate.trials.ground import SmallDisk
from quorate.trials.namespaces import Namespaces
from quorate.trials.workload import Workload

FENCE_LIMIT_S: Final = 30.0
CARRY_ON_WRITES: Final = 20
CARRY_ON_LIMIT_S: Final = 30.0
LOOK_INTERVAL_S: Final = 0.1
JUMP_MS: Final = 30_000
LEAP_MS: Final = 3_600_000
"""Far beyond the documented skew of a minute."""


class Scene:
    """What a nemesis works on. `faults` counts by kind; `skipped` says which parts were not possible, and why."""

    def __init__(
        self,
        cluster: RealCluster,
        workload: Workload,
        rng: SeededRng,
        cycles: int,
        advance: Callable[[], None],
        network: Namespaces | None = None,
        disk: SmallDisk | None = None,
    ) -> None:
        self.cluster = cluster
        self.workload = workload
        self.rng = rng
        self.cycles = cycles
        self.network = network
        self.disk = disk
        self.faults: dict[str, int] = {}
        self.skipped: list[str] = []
        self.violations: list[Violation] = []
        self._advance = advance

    def count(self, fault: str) -> None:
        self.faults[fault] = self.faults.get(fault, 0) + 1

    def victims(self) -> list[RealNode]:
        """One node, or two in a third of the cases."""
        numbers = self.rng.sample(list(self.cluster.nodes), 2 if self.rng.chance(1 / 3) else 1)
        return [self.cluster.nodes[number] for number in numbers]

    async def load(self, low_s: float, high_s: float) -> None:
        """Let the clients go on for a while."""
        await asyncio.sleep(self.rng.uniform(low_s, high_s))
        self.workload.check()

    def cycled(self) -> None:
        self._advance()


async def kill(scene: Scene) -> None:
    for _ in range(scene.cycles):
        victims = scene.victims()
        await scene.load(0.05, 0.8)
        for victim in victims:
            await victim.kill()
        scene.count("kill two" if len(victims) > 1 else "kill")
        await scene.load(0.0, 1.2)
        for victim in victims:
            await victim.start()
        if scene.rng.chance(0.3):
            await scene.load(0.0, 1.0)
            for victim in victims:
                if victim.running:
                    scene.count("kill after start" if victim.ready else "kill while starting")
                    await victim.kill()
                await victim.start()
        for victim in victims:
            await victim.wait_ready()
        scene.cycled()


async def pause(scene: Scene) -> None:
    for _ in range(scene.cycles):
        victims = scene.victims()
        await scene.load(0.1, 0.6)
        for victim in victims:
            victim.pause()
        scene.count("pause two" if len(victims) > 1 else "pause")
        # Shorter and longer than the silence after which a connection is given up.
        await scene.load(0.05, 3.0)
        for victim in victims:
            victim.resume()
        scene.cycled()


async def restart(scene: Scene) -> None:
    for _ in range(scene.cycles):
        victims = scene.victims()
        await scene.load(0.1, 0.6)
        for victim in victims:
            code = await victim.terminate()
            if code:
                raise TrialError(f"{victim.name} was told to stop and ended with {code}:\n{victim.log_end()}")
        scene.count("restart two" if len(victims) > 1 else "restart")
        await scene.load(0.0, 1.0)
        for victim in victims:
            await victim.start()
        for victim in victims:
            await victim.wait_ready()
        scene.cycled()


async def network(scene: Scene) -> None:
    net = scene.network
    assert net is not None, "the trial has namespaces"
    kinds: list[Callable[[], Awaitable[None]]] = [
        lambda: _partition(scene, net),
        lambda: _isolate(scene, net),
        lambda: _cut(scene, net),
        lambda: _lose(scene, net),
    ]
    if net.delays:
        kinds.append(lambda: _delay(scene, net))
    else:
        scene.skipped.append(f"delay: {net.no_delay_because}")
    dropped = 0
    for cycle in range(scene.cycles):
        await scene.load(0.1, 0.5)
        # Each kind in turn first, so that a short trial has them all.
        await (kinds[cycle] if cycle < len(kinds) else scene.rng.choice(kinds))()
        await scene.load(0.3, 3.5)
        dropped += await net.heal()
        scene.cycled()
    if not dropped:
        raise TrialError("the faults of the network swallowed no packet at all: the rules do not do what they say")


async def _partition(scene: Scene, net: Namespaces) -> None:
    side = scene.rng.sample(list(scene.cluster.nodes), 2)
    for one in side:
        for other in scene.cluster.nodes:
            if other not in side:
                await net.cut(one, other)
                await net.cut(other, one)
    scene.count("partition")


async def _isolate(scene: Scene, net: Namespaces) -> None:
    victim = scene.rng.choice(list(scene.cluster.nodes))
    for other in scene.cluster.nodes:
        if other != victim:
            await net.cut(victim, other)
            await net.cut(other, victim)
    scene.count("isolation")


async def _cut(scene: Scene, net: Namespaces) -> None:
    for _ in range(1 + scene.rng.below(3)):
        source, target = scene.rng.sample(list(scene.cluster.nodes), 2)
        await net.cut(source, target)
    scene.count("one-way cut")


async def _lose(scene: Scene, net: Namespaces) -> None:
    everywhere = scene.rng.chance(0.5)
    share = 1 + scene.rng.below(8) if everywhere else 10 + scene.rng.below(40)
    for victim in list(scene.cluster.nodes) if everywhere else scene.rng.sample(list(scene.cluster.nodes), 1):
        await net.lose(victim, share)
    scene.count("loss everywhere" if everywhere else "loss")


async def _delay(scene: Scene, net: Namespaces) -> None:
    delay_ms = scene.rng.choice((5, 20, 80, 250))
    for victim in scene.rng.sample(list(scene.cluster.nodes), 1 + scene.rng.below(3)):
        await net.delay(victim, delay_ms)
    scene.count("delay")


async def disk_full(scene: Scene) -> None:
    disk = scene.disk
    assert disk is not None, "the trial has a small disk"
    victim = scene.cluster.nodes[max(scene.cluster.nodes)]
    witness = scene.cluster.nodes[1]
    for cycle in range(scene.cycles):
        await scene.load(0.5, 1.5)
        disk.fill()
        scene.count("disk full")
        await _fenced(scene, victim, witness)
        await _carry_on(scene)
        if cycle % 2:
            await victim.kill()
            scene.count("kill on a full disk")
            await _start_on_full_disk(scene, victim)
        else:
            # What it says of its end is its own matter, as its disk has failed it.
            await victim.terminate()
        disk.free()
        await victim.start()
        await victim.wait_ready()
        scene.cycled()


async def _fenced(scene: Scene, victim: RealNode, witness: RealNode) -> None:
    """Wait until another node's status says that the victim is fenced, and why."""
    deadline = time.monotonic() + FENCE_LIMIT_S
    while True:
        found = await healing.report(scene.cluster, victim, witness)
        if found["state"] == "fenced" and found["reason"]:
            return
        if time.monotonic() > deadline:
            message = f"{victim.name} has had a full disk for {FENCE_LIMIT_S:g} s, and its state is {found['state']}"
            scene.violations.append(Violation("heal", message))
            return
        await asyncio.sleep(LOOK_INTERVAL_S)


async def _carry_on(scene: Scene) -> None:
    """Clients get their writes acknowledged by the others."""
    before, deadline = scene.workload.acknowledged, time.monotonic() + CARRY_ON_LIMIT_S
    while scene.workload.acknowledged < before + CARRY_ON_WRITES:
        if time.monotonic() > deadline:
            done = scene.workload.acknowledged - before
            message = f"one disk is full, and {done} writes were acknowledged in {CARRY_ON_LIMIT_S:g} s"
            scene.violations.append(Violation("A", message))
            return
        await scene.load(LOOK_INTERVAL_S, LOOK_INTERVAL_S)


async def _start_on_full_disk(scene: Scene, victim: RealNode) -> None:
    """It may refuse to start, or start fenced; either way nothing that it has is harmed (hard case 26)."""
    await victim.start()
    try:
        await victim.wait_ready()
    except TrialError:
        if victim.running:
            raise
        scene.count("start refused on a full disk")
        return
    scene.count("start on a full disk")
    await victim.kill()


async def clock(scene: Scene) -> None:
    nodes = list(scene.cluster.nodes.values())
    for _ in range(scene.cycles):
        await scene.load(0.1, 0.8)
        for victim in scene.victims():
            far = scene.rng.chance(0.4)
            bound_ms = LEAP_MS if far else JUMP_MS
            await _set_clock(victim, int(scene.rng.uniform(-bound_ms, bound_ms)))
            scene.count("clock leaps beyond the skew" if far else "clock jumps")
        scene.cycled()
    for node in nodes:
        await _set_clock(node, 0)


async def _set_clock(node: RealNode, offset_ms: int) -> None:
    set_offset(node.clock_path, offset_ms)
    node.signal_clock()
    await node.wait_clock(offset_ms)


NEMESES: Final[dict[str, Callable[[Scene], Awaitable[None]]]] = {
    "kill": kill,
    "pause": pause,
    "restart": restart,
    "network": network,
    "disk-full": disk_full,
    "clock": clock,
}
