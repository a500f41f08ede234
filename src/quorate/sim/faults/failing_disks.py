"""Faults of disks that fail: full, read-only, or with errors on reads, writes or syncs (hard cases 26, 27).

A node whose disk fails fences itself and acknowledges nothing any more, and no healing lifts that: an operator has to
mend the disk and to restart the process. So he does here at the end of each fault, in any way that a process can end.
After a failed sync he may also have to reset the machine, and the system drops the pages that it could not write:
that is a loss of power, and allowed when one is.

A disk that is only nearly full is another matter: the node refuses writes by itself before the first one fails, and
takes them again when there is room. That goes on without a restart, unless the disk becomes quite full meanwhile.

While a disk fails no store can be opened on it, so a process that dies meanwhile stays down until the end of the
fault. What cannot be read is a failure of the machine as a whole here, and not of single records (`BIT_FLIP`).
"""

from __future__ import annotations

from quorate.core.errors import StorageError
from quorate.sim.cluster import Machine
from quorate.sim.disk import Operation
from quorate.sim.faults.kinds import DISK_ERROR, DISK_FULL, READ_ONLY
from quorate.sim.faults.scene import Injector, Occurrence, Scene

NO_SPACE = "ENOSPC: no space left on device; free some space, then restart the node"
INPUT_OUTPUT_ERROR = "EIO: input/output error; replace the disk, then start the node"
READ_ONLY_FILE_SYSTEM = "EROFS: the file system is read-only; remount it, then restart the node"
WRITES: tuple[Operation, ...] = ("write", "sync")
BROKEN: tuple[tuple[Operation, ...], ...] = (WRITES, WRITES, ("sync",), ("sync",), ("get",), ("get", "write", "sync"))
"""What fails in a disk with errors."""


class FailingDisks:
    """Each injector returns what it did, or "" if it did nothing."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._failures = 0

    def injectors(self) -> dict[str, Injector]:
        return {DISK_FULL: self._full, DISK_ERROR: self._error, READ_ONLY: self._read_only}

    def heal(self, number: int) -> None:
        """This machine's disk is healthy, and its process no longer one that it was broken under."""
        machine = self._scene.cluster.machines[number]
        machine.disk.repair()
        if machine.broken and not machine.gone:
            self._scene.cluster.kill(number)

    def _victim(self, fault: Occurrence) -> Machine | None:
        """A machine that runs and that no such fault is upon."""
        number = self._scene.victim(fault.rng)
        machine = self._scene.cluster.machines.get(number)
        if machine is None or machine.gone or machine.disk.failing or machine.broken or machine.disk.filled:
            return None
        return machine

    def _full(self, fault: Occurrence) -> str:
        """Nearly full, quite full, or first the one and then the other."""
        rng = fault.rng
        nearly, quite = rng.choice(((True, False), (False, True), (True, True)))
        free = rng.uniform(0.0, 0.019)
        lasts_ms, quite_ms = rng.uniform(1_000.0, 12_000.0), rng.uniform(100.0, 4_000.0)
        stored = rng.chance(0.5)
        machine = self._victim(fault)
        if machine is None:
            return ""

        def fill() -> None:
            if not machine.disk.failing:
                machine.disk.fail_with(StorageError(NO_SPACE), WRITES, stored)

        if nearly:
            machine.disk.fill(free)
            self._scene.cluster.on_disk_filled(machine)
        if quite and nearly:
            self._scene.later(quite_ms, fill)
        elif quite:
            machine.disk.fill(0.0)
            fill()
        self._scene.later(lasts_ms + quite_ms, lambda: self._end(machine, fault))
        room = [f"{free:.1%}"] * nearly + ["nothing"] * quite
        return f"n{machine.number}, {', then '.join(room)} is free"

    def _error(self, fault: Occurrence) -> str:
        return self._fail(fault, INPUT_OUTPUT_ERROR, fault.rng.choice(BROKEN))

    def _read_only(self, fault: Occurrence) -> str:
        return self._fail(fault, READ_ONLY_FILE_SYSTEM, WRITES)

    def _fail(self, fault: Occurrence, why: str, operations: tuple[Operation, ...]) -> str:
        rng = fault.rng
        stored = rng.chance(0.5)
        lasts_ms = rng.uniform(20.0, 1_000.0) if rng.chance(0.3) else rng.uniform(1_000.0, 12_000.0)
        machine = self._victim(fault)
        if machine is None:
            return ""
        machine.disk.fail_with(StorageError(why), operations, stored)
        self._scene.later(lasts_ms, lambda: self._end(machine, fault))
        return f"n{machine.number} {', '.join(operations)}: {why}"

    def _end(self, machine: Machine, fault: Occurrence) -> None:
        """The disk is mended, and its process restarted if that has failed on it."""
        scene, number, rng = self._scene, machine.number, fault.rng
        machine.disk.repair()
        how = rng.choice(("stop", "kill", "power"))
        if machine.broken:
            if how == "stop":
                scene.cluster.stop(number)
            elif how == "kill" or not scene.lose_power(number, fault):
                scene.cluster.kill(number)
        scene.note(fault, "disk mended", f"n{number}")
        if not machine.up and not machine.held and not machine.gone:
            scene.later(rng.uniform(20.0, 2_000.0), lambda: self._start(machine))

    def _start(self, machine: Machine) -> None:
        if not machine.up and not machine.held and not machine.gone:
            self._scene.cluster.start(machine.number)
