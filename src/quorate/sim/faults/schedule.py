"""The schedule of faults: which kinds, how often and when, all drawn from the seed.

Each seed enables a random part of the kinds (swarm testing): a run with everything at once hides what a few kinds
would show. When a fault happens, and of which kind, is drawn here; all else from the fault's own stream, so that this
schedule is the same whichever of them are left out. `days.py` tells the stories in which time itself passes,
`changes.py` those in which the membership changes.
"""

from __future__ import annotations

from quorate.sim.cluster import Cluster
from quorate.sim.days import Days
from quorate.sim.faults.failing_disks import FailingDisks
from quorate.sim.faults.hardware import HardwareFaults
from quorate.sim.faults.kinds import DAYS, KINDS, MEMBERSHIP
from quorate.sim.faults.links import LinkFaults
from quorate.sim.faults.processes import ProcessFaults
from quorate.sim.faults.scene import Injector, Occurrence, Scene
from quorate.sim.random_streams import Streams
from quorate.sim.trace import Trace
from quorate.sim.workload import Workload


class Faults:
    """Injects faults from `start` until `stop`, which also undoes all of them."""

    def __init__(
        self,
        cluster: Cluster,
        workload: Workload,
        streams: Streams,
        trace: Trace,
        kinds: tuple[str, ...],
        skipped: tuple[str, ...] = (),
    ) -> None:
        """`kinds`: those that may occur at all; the seed chooses among them, unless there is only one. `skipped`: names
        of faults that do not happen."""
        self.scene = scene = Scene(cluster, workload, streams, trace, skipped)
        self.enabled = [
            kind
            for kind in KINDS
            if kind in kinds and (len(kinds) == 1 or streams.stream("faults", "enabled", kind).chance(0.5))
        ]
        scene.enabled = self.enabled
        self._rng = rng = streams.stream("faults")
        self._days_rng = streams.stream("faults", DAYS)
        self._named = {"f": 0, "d": 0}
        """The first letter of names → how many there were."""
        self._mean_interval_ms = rng.uniform(400.0, 3_000.0)
        self._drawn = [kind for kind in self.enabled if kind not in (DAYS, MEMBERSHIP)]
        self._days = Days(cluster, workload)
        self.processes = ProcessFaults(scene)
        self._links = LinkFaults(scene)
        self._hardware = HardwareFaults(scene)
        self._failing_disks = FailingDisks(scene)
        self._inject: dict[str, Injector] = {
            **self.processes.injectors(),
            **self._links.injectors(),
            **self._hardware.injectors(),
            **self._failing_disks.injectors(),
            DAYS: self._begin_days,
        }
        assert {*self._inject, MEMBERSHIP} == {*KINDS}

    def start(self) -> None:
        self.scene.running = True
        self._schedule()
        if DAYS in self.enabled:
            self.scene.later(self._days_rng.uniform(2_000.0, 12_000.0), self._tell_of_days)

    def stop(self) -> None:
        """No more faults, and none left: links, disks and clocks are healthy, every machine is started."""
        scene = self.scene
        scene.running = False
        scene.note(None, "heal", "all links, disks and clocks are healthy")
        self._days.abandon()
        self._links.heal()
        for number, machine in scene.cluster.machines.items():
            self._hardware.heal(number)
            self._failing_disks.heal(number)
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
        if self._drawn:
            self._occur("f", self._rng.choice(self._drawn), self._days.skipping)
        self._schedule()

    def _occur(self, letter: str, kind: str, busy: bool) -> None:
        """`busy`: it does not happen now; its name is used up all the same."""
        self._named[letter] += 1
        fault = self.scene.occurrence(f"{letter}{self._named[letter]}")
        if fault is None or busy:
            return
        what = self._inject[kind](fault)
        if what:
            self.scene.note(fault, kind, what)
        else:
            self.scene.withheld(fault, kind, "not now, or no victim whose data others hold")

    def _tell_of_days(self) -> None:
        """One story after the other, each of which takes a while."""
        self._occur("d", DAYS, self._days.running)
        self.scene.later(self._days_rng.uniform(4_000.0, 15_000.0), self._tell_of_days)

    def _begin_days(self, fault: Occurrence) -> str:
        """See `days.py`."""
        scene, rng = self.scene, fault.rng

        def note(kind: str, what: str) -> None:
            scene.note(fault, kind, what)

        return self._days.begin(rng, scene.victim(rng) if rng.chance(0.75) else 0, note)
