"""The check "fence": a node whose disk fails says so soon, and acknowledges nothing more (hard case 27).

From the moment at which a write or a sync has failed in the life of a process, or at which its disk has hardly any
room, the node has `FENCED_WITHIN_MS` to be fenced with a reason that names the disk. And as soon as a write or a sync
has failed, it tells no other node "done": that would vouch for what its disk may not hold. (What it tells clients is
judged by check W, which looks at the disks.) A process that stands still has as long again when it goes on.
"""

from __future__ import annotations

from quorate.core.errors import StorageError
from quorate.core.messages import Message, Status, WriteReply
from quorate.sim.cluster import Cluster, Machine
from quorate.sim.history import Violation

FENCED_WITHIN_MS = 5_000
NAMES_OF_THE_DISK = ("ENOSPC", "EIO", "EROFS", "disk")


class FenceCheck:
    """Of one run. `violations` collects what must not be."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.violations: list[Violation] = []
        self.fenced = 0
        """How many processes were fenced in time."""
        cluster.on_disk_failed = self._on_failed
        cluster.on_disk_filled = lambda machine: self._expect(machine, machine.lives, cluster.loop.now_us, "")
        cluster.network.on_sent = self._on_sent

    def _on_failed(self, machine: Machine, error: StorageError) -> None:
        self._expect(machine, machine.lives, self._cluster.loop.now_us, str(error))

    def _expect(self, machine: Machine, life: int, since_us: int, error: str) -> None:
        """Look again when the time is over, in the same life of the process. `error` "": there is hardly any room."""

        fillings = machine.disk.fillings

        def look() -> None:
            process = machine.process
            if machine.lives != life or process is None or not process.alive or machine.gone:
                return
            if not error and (not machine.disk.filled or machine.disk.fillings != fillings):
                return
            if process.paused_until_us > since_us:
                self._expect(machine, life, max(process.paused_until_us, self._cluster.loop.now_us), error)
                return
            if not error and machine.node is not None and machine.node._absence.waits():
                # It is fenced already, for its long absence, and asks how full its disk is when that is settled.
                self._expect(machine, life, self._cluster.loop.now_us, error)
                return
            reason = machine.node._shared.fenced_because if machine.node is not None else ""
            if any(name in reason for name in NAMES_OF_THE_DISK):
                self.fenced += 1
                return
            why = f"{FENCED_WITHIN_MS} ms after its disk failed: {error or 'it is full'}"
            self.violations.append(Violation("fence", f"n{machine.number} says {reason!r} {why}"))

        self._cluster.loop.at(since_us + FENCED_WITHIN_MS * 1000, look)

    def _on_sent(self, member: int, message: Message) -> None:
        if not isinstance(message, WriteReply) or message.status != Status.OK:
            return
        machine = self._cluster.machines[member]
        if machine.broken:
            self.violations.append(Violation("fence", f"n{member} said {message} after its disk had failed"))
