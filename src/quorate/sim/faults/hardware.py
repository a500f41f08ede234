"""Faults of hardware: clocks that jump, disks that are slow, and bits that flip on them."""

from __future__ import annotations

from quorate.core.ports import Space
from quorate.sim.faults.kinds import BIT_FLIP, DAYS
from quorate.sim.faults.scene import Injector, Occurrence, Scene

CLOCK_JUMPS_MS = (50, 2_000, 30_000, 600_000, 3_600_000)
CLOCK_JUMPS_AMONG_DAYS_MS = (50, 2_000, 30_000)
"""Where times are compared with `grace`, clocks stay within the bound that is documented: a minute apart."""


class HardwareFaults:
    """Each injector returns what it did, or "" if it did nothing."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        wide = DAYS not in scene.enabled and scene.cluster.options.grace_ms > 20 * CLOCK_JUMPS_MS[-1]
        self._jumps_ms = CLOCK_JUMPS_MS if wide else CLOCK_JUMPS_AMONG_DAYS_MS
        self._jumped_ms: dict[int, int] = {}
        """Member → how far its wall clock is off, by the jumps that have not been taken back."""

    def injectors(self) -> dict[str, Injector]:
        return {"clock jump": self._clock_jump, "slow disk": self._slow_disk, BIT_FLIP: self._bit_flip}

    def heal(self, number: int) -> None:
        """The disk and the clocks of this machine are healthy."""
        self._scene.cluster.machines[number].disk.recover()
        self._jump(number, -self._jumped_ms.get(number, 0))

    def _clock_jump(self, fault: Occurrence) -> str:
        rng = fault.rng
        number = rng.choice(self._scene.cluster.present())
        by_ms = rng.choice(self._jumps_ms) * (1 if rng.chance(0.5) else -1)
        self._jump(number, by_ms)
        self._scene.later(rng.uniform(200.0, 10_000.0), lambda: self._jump(number, -by_ms))
        return f"n{number} by {by_ms} ms"

    def _jump(self, number: int, by_ms: int) -> None:
        self._jumped_ms[number] = self._jumped_ms.get(number, 0) + by_ms
        self._scene.cluster.jump(number, by_ms)

    def _slow_disk(self, fault: Occurrence) -> str:
        """One disk, or all of them, as on shared storage."""
        rng = fault.rng
        numbers = self._scene.cluster.present()
        slow = numbers if rng.chance(0.4) else [rng.choice(numbers)]
        mean_ms = rng.choice((20.0, 200.0, 2_000.0))
        disks = [self._scene.cluster.machines[number].disk for number in slow]
        for disk in disks:
            disk.sync_mean_ms = mean_ms

        def recover() -> None:
            for disk in disks:
                disk.recover()

        self._scene.later(rng.uniform(500.0, 8_000.0), recover)
        return f"{slow}, a sync takes {mean_ms} ms"

    def _bit_flip(self, fault: Occurrence) -> str:
        """Damage one record, but never the last undamaged one that holds something acknowledged."""
        rng = fault.rng
        number = rng.choice(self._scene.cluster.present())
        keys = self._scene.cluster.machines[number].disk.keys[Space.DATA]
        if not keys:
            return ""
        key = rng.choice(keys)
        if not self._scene.can_lose(
            number, wiped=True, others_may_lose_unsynced=self._scene.unsynced_too, only_key=key
        ):
            return ""
        self._scene.history.key_losses_us.setdefault(key, []).append(self._scene.cluster.loop.now_us)
        self._scene.cluster.damage(number, key, rng.below(1 << 20))
        return f"n{number} {key!r}"
