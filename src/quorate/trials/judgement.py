"""The judgement of a trial: the clients' history, the side files and the stores as the nodes left them.

The checks are the simulator's (`sim/checkers.py`: D, Z, C, R, F, and dot and record by its observer), and those of
`replay.py` (W, hint, store). Two things are done here that a simulated run need not do:

- an answer of a real node shows values and no dots. A value names its write; of the dots which that has got (several,
  if it was retried through several coordinators) the answer's context knows at least one, and its time says which. If
  several are left, the answer is wrong only if it is wrong with each of them;
- the final records are read from the stores with the production engine, and each store must hold exactly what its side
  file says (check "store").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Final

from quorate.adapters.storage.rocksdb import RocksDbEngine
from quorate.core.envelope import unpack
from quorate.core.errors import DamagedRecord
from quorate.core.ports import Engine, Space
from quorate.core.record import Record, Sibling
from quorate.server.data_directory import DataDirectory
from quorate.sim import checkers
from quorate.sim.history import History, ReadEntry, Violation, WriteEntry
from quorate.sim.observer import Observer, readable_record
from quorate.sim.sessions import check_sessions
from quorate.trials.cluster import RealCluster
from quorate.trials.replay import Replay
from quorate.trials.workload import LAST_WRITE_WINS, STRICT, Answer, Workload

REPLICAS: Final = 3
NEVER_STORED: Final = (0, 1)
"""The dot of a value that no disk ever showed: overwritten within one turn of its coordinator. No clock covers it."""
_END: Final = b"\xff" * 8
"""Above every storage key and every hint's key."""


def open_stores(cluster: RealCluster, stack: ExitStack) -> dict[int, Engine]:
    """The stores of all nodes, which must have ended; closed with `stack`."""
    engines: dict[int, Engine] = {}
    for number, node in cluster.nodes.items():
        directory = DataDirectory.open(node.data)
        stack.callback(directory.close)
        engine = RocksDbEngine(directory.store_path, lambda deliver: deliver())
        stack.callback(engine.close)
        engines[number] = engine
    return engines


def judge(cluster: RealCluster, workload: Workload) -> tuple[list[Violation], Replay]:
    """Everything that must not be; the nodes have ended, and the faults before them."""
    with ExitStack() as stack:
        engines = open_stores(cluster, stack)
        replay = Replay(cluster.record, cluster.names, cluster.replicas)
        replay.run(workload.writes, engines)
        stores = {number: stored_in(engine, Space.DATA) for number, engine in engines.items()}
        violations = replay.violations
        for number, engine in engines.items():
            hints = stored_in(engine, Space.HINTS)
            if hints:
                violations.append(Violation("C", f"n{number} keeps {len(hints)} hints after healing"))
            contents = replay.contents[number]
            violations += check_store(number, contents[Space.DATA], stores[number])
            violations += check_store(number, contents[Space.HINTS], hints)
    history = make_history(cluster, workload.writes, workload.answers, replay.observer)
    names = {cluster.locate(bucket, key): bucket for bucket, key in workload.keys}
    violations += judge_history(cluster, history, names, stores, replay.observer)
    return violations, replay


def stored_in(engine: Engine, space: Space) -> dict[bytes, bytes]:
    return dict(engine.scan(space, b"", _END))


def check_store(number: int, recorded: Mapping[bytes, bytes], stored: Mapping[bytes, bytes]) -> list[Violation]:
    """Check "store": a store holds what was written to it, neither less, nor more, nor something else."""
    wrong = [key for key in sorted({*recorded, *stored}) if recorded.get(key) != stored.get(key)]
    return [
        Violation(
            "store",
            f"n{number} was given {_size(recorded.get(key))} for {key!r}, and its store holds {_size(stored.get(key))}",
        )
        for key in wrong
    ]


def _size(value: bytes | None) -> str:
    return "nothing" if value is None else f"{len(value)} bytes ending in {value[-8:].hex()}"


def judge_history(
    cluster: RealCluster,
    history: History,
    names: Mapping[bytes, bytes],
    stores: Mapping[int, Mapping[bytes, bytes]],
    observer: Observer,
) -> list[Violation]:
    """The simulator's checks. `names`: storage key → bucket; `stores`: member → storage key → what it holds."""
    violations: list[Violation] = []
    writes = checkers.by_key(history.writes)
    finals: dict[bytes, Record] = {}
    for stored_key, bucket in names.items():
        replicas = cluster.replicas(stored_key)
        bodies = {number: _body(number, stored_key, held.get(stored_key)) for number, held in stores.items()}
        violations += checkers.check_replicas_equal(stored_key, replicas, bodies)
        final = readable_record(stored_key, stores[replicas[0]].get(stored_key)) or checkers.NOTHING
        finals[stored_key] = final
        mine = writes.get(stored_key, [])
        violations += checkers.check_no_loss(mine, final, observer, bucket in LAST_WRITE_WINS)
        violations += checkers.check_nothing_back(mine, final, observer)
    violations += checkers.check_quorum_reads(history, observer, REPLICAS)
    violations += checkers.check_answers(history, writes, observer)
    violations += checkers.check_failed_never_appears(history, observer, finals)
    violations += check_sessions(history, observer, REPLICAS, finals=finals).violations
    return violations


def _body(number: int, stored_key: bytes, stored: bytes | None) -> bytes | None:
    try:
        return None if stored is None else unpack(stored_key, stored)[2]
    except DamagedRecord:
        return b"damaged on n%d" % number


def make_history(
    cluster: RealCluster, writes: list[WriteEntry], answers: Sequence[Answer], observer: Observer
) -> History:
    """The history as the checkers want it, with the dots of what was answered."""
    by_key = checkers.by_key(writes)
    by_value: dict[tuple[bytes, bytes], WriteEntry] = {
        (write.storage_key, write.value): write for write in writes if not write.delete
    }
    reads = []
    for answer in answers:
        stored_key = cluster.locate(answer.bucket, answer.key)
        read = ReadEntry(
            stored_key,
            answer.r,
            answer.invoked_us,
            answer.completed_us,
            answer.clock,
            [],
            answer.bucket in STRICT,
            answer.wall_ms,
            answer.session,
        )
        for value, time_ms in answer.rows:
            candidates = candidates_of(by_value.get((stored_key, value)), value, time_ms, answer, observer)
            read.siblings.append(_most_innocent(read, candidates, by_key, observer))
        reads.append(read)
    return History(writes=writes, reads=reads)


def candidates_of(
    write: WriteEntry | None, value: bytes, time_ms: int, answer: Answer, observer: Observer
) -> list[Sibling]:
    """The siblings that an answer's row may stand for; never empty."""
    dots = observer.dots_of(write) if write is not None else []
    known = observer.dots.get(write.storage_key, {}) if write is not None else {}
    found = [known[dot] for dot in dots if answer.clock.get(dot[0], 0) >= dot[1] and known[dot].time >> 16 == time_ms]
    return found or [Sibling(*NEVER_STORED, time_ms << 16, value)]


def _most_innocent(
    read: ReadEntry,
    candidates: Sequence[Sibling],
    writes: Mapping[bytes, Sequence[WriteEntry]],
    observer: Observer,
) -> Sibling:
    """One with which the answer is right, if there is such."""
    for candidate in candidates[:-1]:
        alone = ReadEntry(
            read.storage_key, read.r, read.invoked_us, read.completed_us, read.clock, [candidate], wall_ms=read.wall_ms
        )
        if not checkers.check_answers(History(reads=[alone]), writes, observer):
            return candidate
    return candidates[-1]
