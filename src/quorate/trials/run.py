"""One trial from its beginning to its verdict.

    make the ground → start the cluster → clients begin → the nemesis works → clients end → heal → read everything
    from all replicas → stop cleanly → judge the history, the side files and the stores

Whatever happens on the way, also Ctrl-C, processes end and the ground is taken away before this returns. A trial that
found something keeps its folder: the stores, the side files and the logs of the nodes.

A seed repeats the choices (who, when, what) and not the run: real processes and a real clock are not repeatable. What
a trial finds is to be brought into the simulator, where it is.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import msgspec

from quorate.core.errors import QuorateError
from quorate.sim.history import Violation
from quorate.sim.random_streams import Streams
from quorate.trials import healing
from quorate.trials.cluster import NODE_COMMAND, NODES, RealCluster
from quorate.trials.ground import Skipped, SmallDisk, small_disk
from quorate.trials.judgement import judge
from quorate.trials.namespaces import Namespaces, namespaces
from quorate.trials.nemesis import NEMESES, Scene
from quorate.trials.workload import CLIENTS_DEFAULT, Workload

CYCLES_DEFAULT: Final = 20
CYCLES_MAX: Final = 10_000


class Options(msgspec.Struct, frozen=True):
    """What a trial is. `tamper` and `node_command` are for tests, which plant damage that must be found."""

    trial: str
    seed: int = 1
    cycles: int = CYCLES_DEFAULT
    clients: int = CLIENTS_DEFAULT
    node_command: tuple[str, ...] = NODE_COMMAND
    tamper: Callable[[RealCluster], None] = lambda cluster: None
    """Called when all nodes have ended, before the judgement."""


class Report(msgspec.Struct):
    """What a trial was and what it found."""

    trial: str
    seed: int
    cycles: int = 0
    seconds: float = 0.0
    operations: dict[str, int] = {}
    """By kind and outcome."""
    faults: dict[str, int] = {}
    changes: int = 0
    """Batches that went to the nodes' disks, all of which were looked at."""
    unfinished: int = 0
    """Batches that were under way when their node died …"""
    dropped: int = 0
    """… and those of them that were not stored."""
    violations: list[Violation] = []
    skipped: list[str] = []
    """What could not be done here, and why; a trial that was skipped as a whole has no cycles."""
    folder: str = ""
    """Where everything is kept, if there is a violation."""

    @property
    def ok(self) -> bool:
        return not self.violations


Say = Callable[[str, int], None]
"""Called with what is done now, and how many cycles have ended."""


class Ground(msgspec.Struct):
    """What the cluster stands on."""

    network: Namespaces | None = None
    disk: SmallDisk | None = None


@contextmanager
def ground_for(trial: str, folder: Path) -> Iterator[Ground]:
    """What this trial needs beyond processes; raises `Skipped` if it is not to be had."""
    with ExitStack() as stack:
        network = stack.enter_context(namespaces(NODES)) if trial == "network" else None
        disk = stack.enter_context(small_disk(folder / f"n{NODES}")) if trial == "disk-full" else None
        yield Ground(network, disk)


async def run_trial(options: Options, say: Say = lambda what, cycles: None) -> Report:
    """Run one trial; never raises `Skipped`. Raises `TrialError` if it could not come to a verdict."""
    report = Report(options.trial, options.seed)
    folder = Path(tempfile.mkdtemp(prefix=f"quorate-trial-{options.trial}-"))
    began = time.monotonic()
    try:
        with ground_for(options.trial, folder) as ground:
            await _on(ground, folder, options, report, say)
    except Skipped as reason:
        report.skipped.append(f"{options.trial}: {reason}")
    except QuorateError as error:
        # What did not come to rest has not converged, and its folder says why.
        report.violations.append(Violation("heal", str(error)))
    finally:
        report.seconds = round(time.monotonic() - began, 1)
        if report.ok:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            report.folder = str(folder)
    return report


async def _on(ground: Ground, folder: Path, options: Options, report: Report, say: Say) -> None:
    network = ground.network
    cluster = RealCluster(
        folder,
        options.node_command,
        addresses=network.address if network is not None else None,
        launcher=network.launcher if network is not None else _here,
    )
    streams = Streams(options.seed)
    workload = Workload(cluster, streams, options.clients, wall_is_true=options.trial != "clock")

    def advance() -> None:
        report.cycles += 1
        say("under faults", report.cycles)

    scene = Scene(cluster, workload, streams.stream("nemesis"), options.cycles, advance, network, ground.disk)
    try:
        say("starting nodes", 0)
        await cluster.start_all()
        await workload.declare_buckets()
        await workload.start()
        say("under faults", 0)
        await NEMESES[options.trial](scene)
        await workload.stop()
        await healing.heal(cluster, lambda what: say(what, report.cycles))
        say("reading every key from all replicas", report.cycles)
        await workload.read_all()
        await healing.settle(cluster)
        await cluster.stop_all()
        options.tamper(cluster)
        say("judging", report.cycles)
        violations, replay = judge(cluster, workload)
        report.violations += violations
        report.changes, report.unfinished, report.dropped = replay.changes, replay.unfinished, replay.dropped
    finally:
        report.operations = dict(sorted(workload.counts.items()))
        report.faults = dict(sorted(scene.faults.items()))
        report.skipped += scene.skipped
        report.violations += scene.violations
        await workload.close()
        await cluster.close()


def _here(_number: int) -> Sequence[str]:
    return ()
