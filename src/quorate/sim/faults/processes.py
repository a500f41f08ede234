"""Faults of processes: they are killed, stopped, paused, lose their machine or their disk, and come back.

A crash strikes at a drawn time, or before a drawn one of the next callbacks of its victim. The second is what falls
between two turns of one moment, such as between a commit and the frames that follow it.
"""

from __future__ import annotations

from collections.abc import Callable

from quorate.sim.faults.kinds import ONE_DOWN
from quorate.sim.faults.scene import Injector, Occurrence, Scene
from quorate.sim.loop import Process
from quorate.sim.random_streams import SeededRng


class ProcessFaults:
    """Each injector returns what it did, or "" if it did nothing."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self.on_victim: Callable[[int], None] = lambda number: None
        """Called with each victim of the kind "one down"."""

    def injectors(self) -> dict[str, Injector]:
        return {
            "kill": self._kill,
            "power": self._power,
            "crash loop": self._crash_loop,
            "restart": self._restart,
            "wipe": self._wipe,
            "pause": self._pause,
            ONE_DOWN: self._one_down,
        }

    def _back(self, number: int, rng: SeededRng) -> None:
        self._scene.later(_absence_ms(rng), lambda: self._start(number))

    def _start(self, number: int) -> None:
        machine = self._scene.cluster.machines[number]
        if not machine.up and not machine.held and not machine.gone:
            self._scene.cluster.start(number)

    def _strike(self, victim: int, rng: SeededRng, blow: Callable[[], None]) -> str:
        """Strike now, or in the midst of what the process does next. Returns when, in words."""
        process = self._scene.cluster.machines[victim].process
        assert process is not None
        if rng.chance(0.5):
            blow()
            return "now"
        callbacks = 1 + rng.below(40)
        process.light_fuse(callbacks, lambda: blow() if self._scene.running else None)
        return f"in {callbacks} callbacks"

    def _kill(self, fault: Occurrence) -> str:
        rng = fault.rng
        victim = self._scene.victim(rng)
        if not victim:
            return ""

        def blow() -> None:
            self._scene.cluster.kill(victim)
            self._back(victim, rng)

        return f"n{victim} {self._strike(victim, rng, blow)}"

    def _restart(self, fault: Occurrence) -> str:
        rng = fault.rng
        victim = self._scene.victim(rng)
        if not victim:
            return ""
        self._scene.cluster.stop(victim)
        self._back(victim, rng)
        return f"n{victim}"

    def _power(self, fault: Occurrence) -> str:
        rng = fault.rng
        victim = self._scene.victim(rng)
        if not victim:
            return ""

        return f"n{victim} {self._strike(victim, rng, lambda: self._lose_power(victim, fault))}"

    def _lose_power(self, victim: int, fault: Occurrence) -> None:
        if self._scene.lose_power(victim, fault):
            self._back(victim, fault.rng)

    def hit(self, victim: int, how: str, fault: Occurrence) -> None:
        """Kill a member, cut its power, or take its disk, as far as that is allowed now."""
        machine = self._scene.cluster.machines[victim]
        if not machine.up or not self._scene.running:
            return
        if how == "power":
            self._lose_power(victim, fault)
        elif how == "wipe" and self._scene.can_lose_disk(victim):
            self._lose_disk(victim, fault.rng)
        else:
            self._scene.cluster.kill(victim)
            self._back(victim, fault.rng)
        self._scene.note(fault, f"struck by {how}", f"n{victim}")

    def _crash_loop(self, fault: Occurrence) -> str:
        """Killed again and again soon after each start: young processes meet what their former lives have left."""
        rng = fault.rng
        victim = self._scene.victim(rng)
        if not victim:
            return ""
        times = 2 + rng.below(4)

        def again(left: int) -> None:
            machine = self._scene.cluster.machines[victim]
            if machine.up and left:
                self._scene.cluster.kill(victim)
                self._scene.later(rng.uniform(20.0, 200.0), lambda: again(left))
            elif not machine.up:
                self._start(victim)
                self._scene.later(rng.uniform(50.0, 1_500.0), lambda: again(left - 1))

        again(times)
        return f"n{victim}, {times} times"

    def _wipe(self, fault: Occurrence) -> str:
        rng = fault.rng
        victim = self._scene.victim(rng)
        if not victim or not self._scene.can_lose_disk(victim):
            return ""
        self._lose_disk(victim, rng)
        return f"n{victim}"

    def _lose_disk(self, victim: int, rng: SeededRng) -> None:
        self._scene.history.losses_us.append(self._scene.cluster.loop.now_us)
        self._scene.cluster.wipe(victim)
        self._back(victim, rng)

    def _pause(self, fault: Occurrence) -> str:
        rng = fault.rng
        victim = self._scene.victim(rng)
        process = self._scene.cluster.machines[victim].process if victim else None
        if process is None:
            return ""
        return self._paused(victim, process, rng)

    def _paused(self, victim: int, process: Process, rng: SeededRng) -> str:
        long = rng.chance(0.15)
        pause_ms = rng.uniform(3_000.0, 20_000.0) if long else rng.uniform(20.0, 3_000.0)
        until_us = self._scene.cluster.loop.now_us + int(pause_ms * 1000)
        process.pause(until_us)
        self._scene.cluster.network.process_paused(victim, until_us)
        return f"n{victim} until {until_us // 1000} ms"

    def _one_down(self, fault: Occurrence) -> str:
        """Kill, stop or pause one node, but only while all others are well: what the store must hide (check A)."""
        rng = fault.rng
        if not self._scene.cluster.whole():
            return ""
        victim = self._scene.victim(rng)
        process = self._scene.cluster.machines[victim].process
        assert process is not None, "a whole cluster runs"
        self.on_victim(victim)
        how = rng.choice(("killed", "stopped", "paused"))
        if how == "paused":
            return f"paused {self._paused(victim, process, rng)}"
        end = self._scene.cluster.kill if how == "killed" else self._scene.cluster.stop
        end(victim)
        self._back(victim, rng)
        return f"{how} n{victim}"


def _absence_ms(rng: SeededRng) -> float:
    """How long a process stays away: mostly a moment, at times so long that all else is settled without it."""
    kind = rng.random()
    if kind < 0.6:
        return 20.0 + rng.exponential(2_000.0)
    return rng.uniform(20.0, 100.0) if kind < 0.85 else rng.uniform(5_000.0, 25_000.0)
