"""Faults of hardware: clocks that jump, disks that are slow, and bits that flip on them.

A bit flips in what a node is promised to survive (hard cases 25, 28): in records, which come back from other replicas;
in hints, which count as lost; in hash trees that wait for the next start, which are made anew. Never in the documents
that a node cannot do without, its counter of epochs and its ledger of rings: it refuses to start then, and says why,
and its operator replaces the disk. That is a wipe, which is a kind of its own.
"""

from __future__ import annotations

from quorate.core.hints import split_hint_key
from quorate.core.ports import Space
from quorate.node.tree_documents import PREFIX as TREES
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
        """Damage a record, a hint, or a hash tree that waits for the next start."""
        rng, cluster = fault.rng, self._scene.cluster
        who, share, place, bit = rng.random(), rng.random(), rng.random(), rng.below(1 << 20)
        numbers = cluster.present()
        stopped = [number for number in numbers if self._saved_trees(number)] if share < 0.3 else []
        if stopped:
            number = stopped[int(who * len(stopped))]
            trees = self._saved_trees(number)
            key = trees[int(place * len(trees))]
            cluster.machines[number].disk.flip(key, bit, Space.META)
            return f"n{number} {key!r}"
        number = numbers[int(who * len(numbers))]
        disk = cluster.machines[number].disk
        space = Space.HINTS if disk.keys[Space.HINTS] and share > 0.7 else Space.DATA
        if not disk.keys[space]:
            return ""
        key = disk.keys[space][int(place * len(disk.keys[space]))]
        stored_key = key if space == Space.DATA else split_hint_key(key)[1]
        if not self._may_damage(number, stored_key):
            return ""
        self._scene.history.key_losses_us.setdefault(stored_key, []).append(cluster.loop.now_us)
        cluster.damage(number, key, bit, space)
        return f"n{number} {'the hint ' if space == Space.HINTS else ''}{key!r}"

    def _saved_trees(self, number: int) -> list[bytes]:
        """The keys of the documents that a clean stop has left."""
        return [key for key in self._scene.cluster.machines[number].disk.keys[Space.META] if key.startswith(TREES)]

    def _may_damage(self, number: int, stored_key: bytes) -> bool:
        """Not the last undamaged record, or hint, that holds something acknowledged."""
        unsynced_too = self._scene.unsynced_too
        return self._scene.can_lose(number, wiped=True, others_may_lose_unsynced=unsynced_too, only_key=stored_key)
