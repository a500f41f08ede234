"""The scene of all faults: the cluster that they strike, the transcript that tells of them, and what may be lost.

Faults stay within what the store promises. Which of them may take data is settled by asking the cluster first whether
every acknowledged write would survive on another disk:
- a killed process loses nothing, in either durability mode, and is always allowed;
- a lost machine loses what was not synced: always allowed with durability `fsync`, which promises to survive just
  that; with `os` only while the acknowledged writes among it are on other disks;
- a wiped disk is allowed only while others hold all that it held (hard case 1);
- so is a flipped bit, for the one record that it is in (hard case 25);
- a disk that fails takes nothing that was acknowledged as synced, and is always allowed. After a failed sync nobody
  knows what of the rest is stored: losing some of it is a loss of power (hard case 27).

Every fault that happens has a name, and draws all that it needs from a stream of that name. So a run without one of
them differs by nothing but what follows from that: how a failing run is made smaller.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from quorate.sim.cluster import Cluster
from quorate.sim.faults.kinds import DISK_ERROR
from quorate.sim.random_streams import SeededRng, Streams
from quorate.sim.trace import KIND_FAULT, Trace
from quorate.sim.workload import Workload


class Occurrence:
    """One fault of a run: its name, and the stream of all that it draws."""

    __slots__ = ("name", "rng")

    def __init__(self, name: str, rng: SeededRng) -> None:
        self.name = name
        self.rng = rng


Injector = Callable[[Occurrence], str]
"""Does a fault, drawing all that it needs, and says what it did; "" if it did nothing."""


class Scene:
    """What every kind of fault needs. `running`: faults may happen, and those that last end by themselves."""

    def __init__(
        self, cluster: Cluster, workload: Workload, streams: Streams, trace: Trace, skipped: Collection[str]
    ) -> None:
        """`skipped`: names of faults that are not to happen."""
        self.cluster = cluster
        self.history = workload.history
        self._promised = workload.promised
        self._streams = streams
        self._trace = trace
        self._skipped = skipped
        self.running = False
        self.enabled: Collection[str] = ()
        """The kinds that may happen in this run."""
        self.power_promised = cluster.defaults.durability == "fsync"
        """Does an acknowledged write survive a loss of power by itself?"""
        self.may_forget: Callable[[int], bool] = lambda number: True
        """May the store of this member forget what it has voted for?"""
        self.counts: dict[str, int] = {}
        self.happened: dict[str, bool] = {}
        """Names of the faults that have done something, in their order."""

    def occurrence(self, name: str) -> Occurrence | None:
        """The fault of this name; None if it is left out."""
        return None if name in self._skipped else Occurrence(name, self._streams.stream("fault", name))

    def note(self, fault: Occurrence | None, kind: str, what: str) -> None:
        """`fault` did something, or (None) the run itself did."""
        if fault is not None:
            self.happened[fault.name] = True
        self._tell(fault, kind, what)

    def withheld(self, fault: Occurrence, kind: str, why: str) -> None:
        """`fault`, or this part of it, did nothing."""
        self._tell(fault, f"{kind} withheld", why)

    def _tell(self, fault: Occurrence | None, kind: str, what: str) -> None:
        self.counts[kind] = self.counts.get(kind, 0) + 1
        line = f"{fault.name} {kind}: {what}" if fault is not None else f"{kind}: {what}"
        self._trace.event(self.cluster.loop.now_us, 0, KIND_FAULT, line.encode(), lambda: f"FAULT  {line}")

    def later(self, delay_ms: float, undo: Callable[[], None]) -> None:
        """Undo a fault after a while, unless the end of all faults has undone everything before."""
        self.cluster.loop.after_ms(delay_ms, lambda: undo() if self.running else None)

    def victim(self, rng: SeededRng) -> int:
        """A member whose process runs; 0 if there is none."""
        machines = self.cluster.machines
        wanted = rng.sample(list(machines), len(machines))  # Drawn before it is known who runs: see above.
        return next((number for number in wanted if machines[number].up), 0)

    # What may be lost.

    def can_lose_disk(self, victim: int) -> bool:
        """Would every acknowledged write survive, and the cluster still decide?"""
        return self.may_forget(victim) and self.can_lose(victim, wiped=True, others_may_lose_unsynced=self.unsynced_too)

    @property
    def unsynced_too(self) -> bool:
        """May the other disks lose what they have not synced without anybody asking whether they may?"""
        return self.power_promised and ("power" in self.enabled or DISK_ERROR in self.enabled)

    def lose_power(self, victim: int, fault: Occurrence) -> bool:
        """Stop a member's machine, with some of what was not synced lost, if that is allowed now."""
        cluster = self.cluster
        if not self.power_promised:
            if not self.can_lose(victim, wiped=False, others_may_lose_unsynced=False):
                self.withheld(fault, "power", f"n{victim} has acknowledged data that is nowhere else")
                return False
            self.history.losses_us.append(cluster.loop.now_us)
        lost = cluster.lose_power(victim)
        if lost:
            self.history.unsynced_losses_us.append(cluster.loop.now_us)
        self.note(fault, "power lost", f"n{victim}, {lost} batches")
        return True

    def can_lose(self, victim: int, wiped: bool, others_may_lose_unsynced: bool, only_key: bytes | None = None) -> bool:
        """As `Copies.can_lose`, for all keys or one."""
        clocks = self._promised()
        if only_key is not None:
            clocks = {only_key: clocks[only_key]} if only_key in clocks else {}
        return self.cluster.copies.can_lose(clocks, victim, wiped, others_may_lose_unsynced)
