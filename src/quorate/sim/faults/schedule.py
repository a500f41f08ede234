"""The schedule of faults: which kinds, how often and when, all drawn from the seed.

Each seed enables a random part of the kinds (swarm testing): a run with everything at once hides what a few kinds
would show. `days.py` tells the stories in which time itself passes, `changes.py` those in which the membership changes.
"""

from __future__ import annotations

from quorate.sim.cluster import Cluster
from quorate.sim.days import Days
from quorate.sim.faults.hardware import HardwareFaults
from quorate.sim.faults.kinds import DAYS, KINDS, MEMBERSHIP
from quorate.sim.faults.links import LinkFaults
from quorate.sim.faults.processes import ProcessFaults
from quorate.sim.faults.scene import Injector, Scene
from quorate.sim.random_streams import SeededRng, Streams
from quorate.sim.trace import Trace
from quorate.sim.workload import Workload


class Faults:
    """Injects faults from `start` until `stop`, which also undoes all of them."""

    def __init__(
        self, cluster: Cluster, workload: Workload, streams: Streams, trace: Trace, kinds: tuple[str, ...]
    ) -> None:
        """`kinds`: those that may occur at all; the seed chooses among them, unless there is only one."""
        self.scene = scene = Scene(cluster, workload, trace)
        self._rng = rng = streams.stream("faults")
        self.enabled = [kind for kind in KINDS[:-1] if (rng.chance(0.5) and kind in kinds) or kinds == (kind,)]
        if (streams.stream("changes", "enabled").chance(0.5) and MEMBERSHIP in kinds) or kinds == (MEMBERSHIP,):
            self.enabled.append(MEMBERSHIP)
        scene.enabled = self.enabled
        self._mean_interval_ms = rng.uniform(400.0, 3_000.0)
        self._drawn = [kind for kind in self.enabled if kind not in (DAYS, MEMBERSHIP)]
        self._days = Days(cluster, workload, scene.note)
        self.processes = ProcessFaults(scene)
        self._links = LinkFaults(scene)
        self._hardware = HardwareFaults(scene)
        self._inject: dict[str, Injector] = {
            **self.processes.injectors(),
            **self._links.injectors(),
            **self._hardware.injectors(),
            DAYS: self._begin_days,
        }
        assert {*self._inject, MEMBERSHIP} == {*KINDS}

    def start(self) -> None:
        self.scene.running = True
        self._schedule()
        if DAYS in self.enabled:
            self.scene.later(self._rng.uniform(2_000.0, 12_000.0), self._tell_of_days)

    def stop(self) -> None:
        """No more faults, and none left: links, disks and clocks are healthy, every machine is started."""
        scene = self.scene
        scene.running = False
        scene.note("heal", "all links, disks and clocks are healthy")
        self._days.abandon()
        self._links.heal()
        for number, machine in scene.cluster.machines.items():
            self._hardware.heal(number)
            if not machine.up and not machine.gone:
                scene.cluster.start(number)

    @property
    def skipping(self) -> bool:
        """A day passes, and nothing else may happen."""
        return self._days.skipping

    def _schedule(self) -> None:
        self.scene.cluster.loop.after_ms(self._rng.exponential(self._mean_interval_ms), self._fire)

    def _fire(self) -> None:
        if not self.scene.running:
            return
        if self._drawn and not self._days.skipping:
            self._occur(self._rng.choice(self._drawn))
        self._schedule()

    def _occur(self, kind: str) -> None:
        what = self._inject[kind](self._rng)
        self.scene.note(kind if what else f"{kind} withheld", what or "not now, or no victim whose data others hold")

    def _tell_of_days(self) -> None:
        """One story after the other, each of which takes a while."""
        if not self._days.running:
            self._occur(DAYS)
        self.scene.later(self._rng.uniform(4_000.0, 15_000.0), self._tell_of_days)

    def _begin_days(self, rng: SeededRng) -> str:
        """See `days.py`."""
        return self._days.begin(rng, self.scene.victim(rng) if rng.chance(0.75) else 0)
