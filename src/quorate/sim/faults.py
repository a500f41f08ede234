"""The faults of a run: which kinds, how often, upon whom and for how long, all drawn from the seed.

Each seed enables a random part of the kinds (swarm testing): a run with everything at once hides what a few kinds
would show. Faults stay within what the store promises. Which of them may take data is settled by asking the cluster
first whether every acknowledged write would survive on another disk:
- a killed process loses nothing, in either durability mode, and is always allowed;
- a lost machine loses what was not synced: always allowed with durability `fsync`, which promises to survive just
  that; with `os` only while the acknowledged writes among it are on other disks;
- a wiped disk is allowed only while others hold all that it held (hard case 1);
- so is a flipped bit, for the one record that it is in (hard case 25).
`days.py` tells the stories in which time itself passes, `changes.py` those in which the membership changes.
"""

from __future__ import annotations

from collections.abc import Callable

from quorate.core.ports import Space
from quorate.sim.cluster import Cluster
from quorate.sim.days import Days
from quorate.sim.loop import Process
from quorate.sim.random_streams import SeededRng, Streams
from quorate.sim.trace import KIND_FAULT, Trace
from quorate.sim.workload import Workload

KINDS = (
    "kill",
    "power",
    "crash loop",
    "restart",
    "wipe",
    "partition",
    "one way",
    "isolate",
    "reset",
    "slow link",
    "slow node",
    "loss",
    "duplication",
    "reordering",
    "pause",
    "clock jump",
    "slow disk",
    "ring",
    "bridge",
    "flap",
    "one down",
    "days",
    "bit flip",
    "membership",
)
ONE_DOWN = "one down"
DAYS = "days"
BIT_FLIP = "bit flip"
MEMBERSHIP = "membership"
CLOCK_JUMPS_MS = (50, 2_000, 30_000, 600_000, 3_600_000)
CLOCK_JUMPS_AMONG_DAYS_MS = (50, 2_000, 30_000)
"""Where times are compared with `grace`, clocks stay within the bound that is documented: a minute apart."""


class Faults:
    """Injects faults from `start` until `stop`, which also undoes all of them."""

    def __init__(
        self, cluster: Cluster, workload: Workload, streams: Streams, trace: Trace, kinds: tuple[str, ...]
    ) -> None:
        """`kinds`: those that may occur at all; the seed chooses among them, unless there is only one."""
        self._cluster = cluster
        self._history = workload.history
        self._promised = workload.promised
        self._trace = trace
        self._rng = rng = streams.stream("faults")
        self.enabled = [kind for kind in KINDS[:-1] if (rng.chance(0.5) and kind in kinds) or kinds == (kind,)]
        if (streams.stream("changes", "enabled").chance(0.5) and MEMBERSHIP in kinds) or kinds == (MEMBERSHIP,):
            self.enabled.append(MEMBERSHIP)
        self._mean_interval_ms = rng.uniform(400.0, 3_000.0)
        self._drawn = [kind for kind in self.enabled if kind not in (DAYS, MEMBERSHIP)]
        wide = DAYS not in self.enabled and cluster.options.grace_ms > 20 * CLOCK_JUMPS_MS[-1]
        self._jumps_ms = CLOCK_JUMPS_MS if wide else CLOCK_JUMPS_AMONG_DAYS_MS
        self._jumped_ms: dict[int, int] = {}
        """Member → how far its wall clock is off, by the jumps that have not been taken back."""
        self._days = Days(cluster, workload, self.note)
        self._power_promised = cluster.defaults.durability == "fsync"
        self._running = False
        self.on_victim: Callable[[int], None] = lambda number: None
        """Called with each victim of the kind "one down"."""
        self.may_forget: Callable[[int], bool] = lambda number: True
        """May the store of this member forget what it has voted for?"""
        self.counts: dict[str, int] = {}
        self._inject = self._injectors()
        assert (*self._inject, MEMBERSHIP) == KINDS

    def _injectors(self) -> dict[str, Callable[[SeededRng], str]]:
        """Kind → what does it and says what it did, in the order of `KINDS`."""
        return {
            "kill": self._kill,
            "power": self._power,
            "crash loop": self._crash_loop,
            "restart": self._restart,
            "wipe": self._wipe,
            "partition": self._partition,
            "one way": self._one_way,
            "isolate": self._isolate,
            "reset": self._reset,
            "slow link": self._slow_link,
            "slow node": self._slow_node,
            "loss": self._loss,
            "duplication": self._duplication,
            "reordering": self._reordering,
            "pause": self._pause,
            "clock jump": self._clock_jump,
            "slow disk": self._slow_disk,
            "ring": self._ring,
            "bridge": self._bridge,
            "flap": self._flap,
            ONE_DOWN: self._one_down,
            DAYS: self._begin_days,
            BIT_FLIP: self._bit_flip,
        }

    def start(self) -> None:
        self._running = True
        self._schedule()
        if DAYS in self.enabled:
            self._later(self._rng.uniform(2_000.0, 12_000.0), self._tell_of_days)

    def stop(self) -> None:
        """No more faults, and none left: links, disks and clocks are healthy, every machine is started."""
        self._running = False
        self.note("heal", "all links, disks and clocks are healthy")
        self._days.abandon()
        network = self._cluster.network
        for (source, target), link in network.links.items():
            if link.blocked:
                network.unblock(source, target)
            link.recover()
        for number, machine in self._cluster.machines.items():
            machine.disk.recover()
            self._jump(number, -self._jumped_ms.get(number, 0))
            if not machine.up and not machine.gone:
                self._cluster.start(number)

    def _schedule(self) -> None:
        self._cluster.loop.after_ms(self._rng.exponential(self._mean_interval_ms), self._fire)

    def _fire(self) -> None:
        if not self._running:
            return
        if self._drawn and not self._days.skipping:
            self._occur(self._rng.choice(self._drawn))
        self._schedule()

    def _occur(self, kind: str) -> None:
        what = self._inject[kind](self._rng)
        self.note(kind if what else f"{kind} withheld", what or "not now, or no victim whose data others hold")

    def _tell_of_days(self) -> None:
        """One story after the other, each of which takes a while."""
        if not self._days.running:
            self._occur(DAYS)
        self._later(self._rng.uniform(4_000.0, 15_000.0), self._tell_of_days)

    def note(self, kind: str, what: str) -> None:
        self.counts[kind] = self.counts.get(kind, 0) + 1
        self._trace.event(
            self._cluster.loop.now_us, 0, KIND_FAULT, f"{kind} {what}".encode(), lambda: f"FAULT  {kind}: {what}"
        )

    def _later(self, delay_ms: float, undo: Callable[[], None]) -> None:
        """Undo a fault after a while, unless `stop` has undone everything before."""
        self._cluster.loop.after_ms(delay_ms, lambda: undo() if self._running else None)

    # Processes. Each injector returns what it did, or "" if it did nothing.

    def _victim(self, rng: SeededRng) -> int:
        up = [number for number, machine in self._cluster.machines.items() if machine.up]
        return rng.choice(up) if up else 0

    def _back(self, number: int, rng: SeededRng) -> None:
        self._later(_absence_ms(rng), lambda: self._start(number))

    def _start(self, number: int) -> None:
        machine = self._cluster.machines[number]
        if not machine.up and not machine.held and not machine.gone:
            self._cluster.start(number)

    def _strike(self, victim: int, rng: SeededRng, blow: Callable[[], None]) -> str:
        """Strike now, or in the midst of what the process does next. Returns when, in words."""
        process = self._cluster.machines[victim].process
        assert process is not None
        if rng.chance(0.5):
            blow()
            return "now"
        callbacks = 1 + rng.below(40)
        process.light_fuse(callbacks, lambda: blow() if self._running else None)
        return f"in {callbacks} callbacks"

    def _kill(self, rng: SeededRng) -> str:
        victim = self._victim(rng)
        if not victim:
            return ""

        def blow() -> None:
            self._cluster.kill(victim)
            self._back(victim, rng)

        return f"n{victim} {self._strike(victim, rng, blow)}"

    def _restart(self, rng: SeededRng) -> str:
        victim = self._victim(rng)
        if not victim:
            return ""
        self._cluster.stop(victim)
        self._back(victim, rng)
        return f"n{victim}"

    def _power(self, rng: SeededRng) -> str:
        victim = self._victim(rng)
        if not victim:
            return ""

        return f"n{victim} {self._strike(victim, rng, lambda: self._lose_power(victim, rng))}"

    def _lose_power(self, victim: int, rng: SeededRng) -> None:
        if not self._power_promised:
            if not self._can_lose(victim, wiped=False, others_may_lose_unsynced=False):
                self.note("power withheld", f"n{victim} has acknowledged data that is nowhere else")
                return
            self._history.losses_us.append(self._cluster.loop.now_us)
        lost = self._cluster.lose_power(victim)
        self._back(victim, rng)
        self.note("power lost", f"n{victim}, {lost} batches")

    def hit(self, victim: int, how: str) -> None:
        """Kill a member, cut its power, or take its disk, as far as that is allowed now."""
        machine = self._cluster.machines[victim]
        if not machine.up or not self._running:
            return
        if how == "power":
            self._lose_power(victim, self._rng)
        elif how == "wipe" and self.can_lose_disk(victim):
            self._lose_disk(victim, self._rng)
        else:
            self._cluster.kill(victim)
            self._back(victim, self._rng)
        self.note(f"struck by {how}", f"n{victim}")

    @property
    def skipping(self) -> bool:
        """A day passes, and nothing else may happen."""
        return self._days.skipping

    def can_lose_disk(self, victim: int) -> bool:
        """Would every acknowledged write survive, and the cluster still decide?"""
        if not self.may_forget(victim):
            return False
        unsynced_too = self._power_promised and "power" in self.enabled
        return self._can_lose(victim, wiped=True, others_may_lose_unsynced=unsynced_too)

    def _can_lose(
        self, victim: int, wiped: bool, others_may_lose_unsynced: bool, only_key: bytes | None = None
    ) -> bool:
        """As `Copies.can_lose`, for all keys or one."""
        clocks = self._promised()
        if only_key is not None:
            clocks = {only_key: clocks[only_key]} if only_key in clocks else {}
        return self._cluster.copies.can_lose(clocks, victim, wiped, others_may_lose_unsynced)

    def _crash_loop(self, rng: SeededRng) -> str:
        """Killed again and again soon after each start: young processes meet what their former lives have left."""
        victim = self._victim(rng)
        if not victim:
            return ""
        times = 2 + rng.below(4)

        def again(left: int) -> None:
            machine = self._cluster.machines[victim]
            if machine.up and left:
                self._cluster.kill(victim)
                self._later(rng.uniform(20.0, 200.0), lambda: again(left))
            elif not machine.up:
                self._start(victim)
                self._later(rng.uniform(50.0, 1_500.0), lambda: again(left - 1))

        again(times)
        return f"n{victim}, {times} times"

    def _wipe(self, rng: SeededRng) -> str:
        victim = self._victim(rng)
        if not victim or not self.can_lose_disk(victim):
            return ""
        self._lose_disk(victim, rng)
        return f"n{victim}"

    def _lose_disk(self, victim: int, rng: SeededRng) -> None:
        self._history.losses_us.append(self._cluster.loop.now_us)
        self._cluster.wipe(victim)
        self._back(victim, rng)

    def _begin_days(self, rng: SeededRng) -> str:
        """See `days.py`."""
        return self._days.begin(rng, self._victim(rng) if rng.chance(0.75) else 0)

    def _bit_flip(self, rng: SeededRng) -> str:
        """Damage one record, but never the last undamaged one that holds something acknowledged."""
        number = rng.choice(self._cluster.present())
        keys = self._cluster.machines[number].disk.keys[Space.DATA]
        unsynced_too = self._power_promised and "power" in self.enabled
        if not keys:
            return ""
        key = rng.choice(keys)
        if not self._can_lose(number, wiped=True, others_may_lose_unsynced=unsynced_too, only_key=key):
            return ""
        self._history.key_losses_us.setdefault(key, []).append(self._cluster.loop.now_us)
        self._cluster.damage(number, key, rng.below(1 << 20))
        return f"n{number} {key!r}"

    def _pause(self, rng: SeededRng) -> str:
        victim = self._victim(rng)
        process = self._cluster.machines[victim].process if victim else None
        if process is None:
            return ""
        return self._paused(victim, process, rng)

    def _paused(self, victim: int, process: Process, rng: SeededRng) -> str:
        long = rng.chance(0.15)
        pause_ms = rng.uniform(3_000.0, 20_000.0) if long else rng.uniform(20.0, 3_000.0)
        until_us = self._cluster.loop.now_us + int(pause_ms * 1000)
        process.pause(until_us)
        self._cluster.network.process_paused(victim, until_us)
        return f"n{victim} until {until_us // 1000} ms"

    def _one_down(self, rng: SeededRng) -> str:
        """Kill, stop or pause one node, but only while all others are well: what the store must hide (check A)."""
        if not self._cluster.whole():
            return ""
        victim = self._victim(rng)
        process = self._cluster.machines[victim].process
        assert process is not None, "a whole cluster runs"
        self.on_victim(victim)
        how = rng.choice(("killed", "stopped", "paused"))
        if how == "paused":
            return f"paused {self._paused(victim, process, rng)}"
        end = self._cluster.kill if how == "killed" else self._cluster.stop
        end(victim)
        self._back(victim, rng)
        return f"{how} n{victim}"

    # Links.

    def _block(self, pairs: list[tuple[int, int]], rng: SeededRng, for_ms: float | None = None) -> None:
        """Block these links, those that are not blocked yet, for a while."""
        network = self._cluster.network
        fresh = [(source, target) for source, target in pairs if not network.links[source, target].blocked]
        for source, target in fresh:
            network.block(source, target)

        def heal() -> None:
            for source, target in fresh:
                if network.links[source, target].blocked:
                    network.unblock(source, target)

        self._later(rng.uniform(50.0, 6_000.0) if for_ms is None else for_ms, heal)

    def _partition(self, rng: SeededRng) -> str:
        numbers = self._cluster.present()
        side = sorted(rng.sample(numbers, 1 + rng.below(len(numbers) - 1)))
        other = [number for number in numbers if number not in side]
        self._block([pair for a in side for b in other for pair in ((a, b), (b, a))], rng)
        return f"{side} | {other}"

    def _isolate(self, rng: SeededRng) -> str:
        numbers = self._cluster.present()
        alone = rng.choice(numbers)
        outgoing = rng.chance(0.7)
        incoming = not outgoing or rng.chance(0.7)
        others = [number for number in numbers if number != alone]
        pairs = [(alone, other) for other in others if outgoing] + [(other, alone) for other in others if incoming]
        self._block(pairs, rng)
        return f"n{alone}{' sends' if outgoing else ''}{' hears' if incoming else ''} nothing"

    def _one_way(self, rng: SeededRng) -> str:
        source, target = rng.sample(self._cluster.present(), 2)
        self._block([(source, target)], rng)
        return f"n{source} ↛ n{target}"

    def _ring(self, rng: SeededRng) -> str:
        """Everybody reaches only two neighbours, so that every two nodes see another part of the cluster."""
        circle = rng.sample(self._cluster.present(), len(self._cluster.present()))
        size = len(circle)
        apart = [(a, b) for a in range(size) for b in range(size) if (a - b) % size not in (0, 1, size - 1)]
        self._block([(circle[a], circle[b]) for a, b in apart], rng)
        return f"{circle}"

    def _bridge(self, rng: SeededRng) -> str:
        """Two halves that see each other only through one node, which sees everybody."""
        numbers = rng.sample(self._cluster.present(), len(self._cluster.present()))
        bridge, rest = numbers[0], numbers[1:]
        side, other = rest[: len(rest) // 2], rest[len(rest) // 2 :]
        self._block([pair for a in side for b in other for pair in ((a, b), (b, a))], rng)
        return f"{side} | n{bridge} | {other}"

    def _flap(self, rng: SeededRng) -> str:
        """Links of one node, or one link, that break and heal again and again."""
        first, second = rng.sample(self._cluster.present(), 2)
        whole = rng.chance(0.4)
        pairs = [
            pair for pair in self._cluster.network.links if (first in pair if whole else set(pair) == {first, second})
        ]
        times = 2 + rng.below(12)

        def again(left: int) -> None:
            self._block(pairs, rng, rng.choice((50.0, 500.0, 3_000.0)) * rng.random())
            if left:
                self._later(rng.uniform(50.0, 3_000.0), lambda: again(left - 1))

        again(times)
        return f"n{first} {'and all others' if whole else f'and n{second}'}, {times} times"

    def _reset(self, rng: SeededRng) -> str:
        first, second = rng.sample(self._cluster.present(), 2)
        self._cluster.network.reset(first, second)
        return f"n{first}, n{second}"

    def _degrade(self, rng: SeededRng, pairs: list[tuple[int, int]], **condition: float) -> None:
        """Set attributes of these links for a while."""
        links = [self._cluster.network.links[pair] for pair in pairs]
        for link in links:
            for name, value in condition.items():
                setattr(link, name, value)

        def recover() -> None:
            for link in links:
                link.recover()

        self._later(rng.uniform(500.0, 8_000.0), recover)

    def _slow_link(self, rng: SeededRng) -> str:
        source, target = rng.sample(self._cluster.present(), 2)
        mean_ms = rng.choice((5.0, 50.0, 400.0))
        self._degrade(rng, [(source, target)], delay_mean_ms=mean_ms)
        return f"n{source} → n{target}, {mean_ms} ms"

    def _slow_node(self, rng: SeededRng) -> str:
        slow = rng.choice(self._cluster.present())
        mean_ms = rng.choice((5.0, 50.0, 400.0))
        self._degrade(rng, [pair for pair in self._cluster.network.links if slow in pair], delay_mean_ms=mean_ms)
        return f"n{slow}, {mean_ms} ms"

    def _loss(self, rng: SeededRng) -> str:
        share = rng.choice((0.01, 0.1, 0.5))
        self._degrade(rng, list(self._cluster.network.links), loss=share)
        return f"{share:.0%} of all frames"

    def _duplication(self, rng: SeededRng) -> str:
        share = rng.choice((0.02, 0.2))
        self._degrade(rng, list(self._cluster.network.links), duplication=share)
        return f"{share:.0%} of all frames"

    def _reordering(self, rng: SeededRng) -> str:
        share = rng.choice((0.05, 0.5))
        self._degrade(rng, list(self._cluster.network.links), reordering=share, delay_mean_ms=5.0)
        return f"{share:.0%} of all frames"

    # Hardware.

    def _clock_jump(self, rng: SeededRng) -> str:
        number = rng.choice(self._cluster.present())
        by_ms = rng.choice(self._jumps_ms) * (1 if rng.chance(0.5) else -1)
        self._jump(number, by_ms)
        self._later(rng.uniform(200.0, 10_000.0), lambda: self._jump(number, -by_ms))
        return f"n{number} by {by_ms} ms"

    def _jump(self, number: int, by_ms: int) -> None:
        self._jumped_ms[number] = self._jumped_ms.get(number, 0) + by_ms
        self._cluster.jump(number, by_ms)

    def _slow_disk(self, rng: SeededRng) -> str:
        """One disk, or all of them, as on shared storage."""
        numbers = self._cluster.present()
        slow = numbers if rng.chance(0.4) else [rng.choice(numbers)]
        mean_ms = rng.choice((20.0, 200.0, 2_000.0))
        disks = [self._cluster.machines[number].disk for number in slow]
        for disk in disks:
            disk.sync_mean_ms = mean_ms

        def recover() -> None:
            for disk in disks:
                disk.recover()

        self._later(rng.uniform(500.0, 8_000.0), recover)
        return f"{slow}, a sync takes {mean_ms} ms"


def _absence_ms(rng: SeededRng) -> float:
    """How long a process stays away: mostly a moment, at times so long that all else is settled without it."""
    kind = rng.random()
    if kind < 0.6:
        return 20.0 + rng.exponential(2_000.0)
    return rng.uniform(20.0, 100.0) if kind < 0.85 else rng.uniform(5_000.0, 25_000.0)
