"""Hard case 25, the store on the disk: whatever happens to a file of it, no wrong value, and nothing is missing unsaid.

First seen in bitcask#212 (a log that was cut off was loaded as it stood) and riak_kv#1120 (a node that met damage
restarted for ever). Every file of a store whose process was killed is cut off at every offset, and a bit is flipped in
every byte. The store then opens, or refuses with a message that names the place and the next step. If it opens, each
key has a value that was once written for it, or none, or is said to be damaged; and if anything is missing that was
written, the report says so, since a node that is not told would use event numbers again (hard case 1).

What was found so: RocksDB reads a log that was cut off as one that ends there; a manifest, too, and then deletes the
tables that it does not know; and a record whose type says that its file is being reused makes its reader run for ever.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rocksdict import WriteBatch

from quorate.adapters.storage.reach import read_reach
from quorate.adapters.storage.rocksdb import RocksDbEngine
from quorate.adapters.storage.rocksdb_logs import disarm, whole_bytes
from quorate.core.errors import DamagedRecord, StartupError
from quorate.core.ports import OpenReport, Space
from tests.regressions.damage import STORE, WRITES, damaged, files_of, lay_out, offsets, quick_folder, run_and_be_killed

END = b"\xff" * 64
LIVES = (1, 2)
ONCE_WRITTEN = {b"%d-%d" % (life, number) for life in LIVES for number in range(WRITES)}
KEYS = {*ONCE_WRITTEN, b"k"}
BLOCK_BYTES = 32 * 1024
REUSED_TYPES = (5, 6, 7, 8, 11)
CHECKER = """
import sys
from pathlib import Path
from tests.regressions.test_25_damaged_store import check
for path in sys.argv[1:]:
    check(Path(path), path)
"""
TRIED_MAX = 40
"""Offsets of each file, in a usual run."""


@pytest.fixture
def folder() -> Iterator[Path]:
    yield from quick_folder()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    path = tmp_path_factory.mktemp("store")
    run_and_be_killed(STORE, path)
    return files_of(path)


def only(store: dict[str, bytes], part: str) -> str:
    """The newest file with `part` in its name."""
    return max(name for name in store if part in name)


def judge(path: Path) -> tuple[str, OpenReport | None, str]:
    """Open the store at `path` and read all that it has: (what became of it, its report, what was said)."""
    try:
        engine = RocksDbEngine(path, lambda callback: None)
    except StartupError as error:
        assert str(path) in str(error), "the message says where"
        assert any(word in str(error) for word in ("ove the directory away", "move it away")), "and what to do"
        return "refused", None, str(error)
    try:
        missing = any(not _is_whole(engine, space) for space in Space)
        return "missing" if missing else "whole", engine.report, ""
    except DamagedRecord as error:
        return "said to be damaged", engine.report, str(error)
    finally:
        engine.close()


def _is_whole(engine: RocksDbEngine, space: Space) -> bool:
    found = {key: engine.get(space, key) for key in KEYS}
    assert found[b"k"] is None or found[b"k"] in ONCE_WRITTEN
    assert {found[key] for key in ONCE_WRITTEN} <= {None, b"written"}
    assert dict(engine.scan(space, b"", END)) == {key: value for key, value in found.items() if value is not None}
    return found == {**dict.fromkeys(ONCE_WRITTEN, b"written"), b"k": b"%d-%d" % (LIVES[-1], WRITES - 1)}


def check(path: Path, what: str) -> str:
    outcome, report, _ = judge(path)
    assert report is None or not report.fresh or report.may_have_lost_writes, f"{what}: not taken for a new store"
    if outcome == "missing":
        assert report is not None and report.may_have_lost_writes, f"{what}: writes are missing, and nobody is told"
    return outcome


def test_the_undamaged_store_is_whole_and_nothing_is_suspected(store: dict[str, bytes], folder: Path) -> None:
    outcome, report, _ = judge(lay_out(folder / "n1", store))
    assert (outcome, report) == ("whole", OpenReport(fresh=False, clean=False, may_have_lost_writes=False))
    assert len([name for name in store if name.endswith(".sst")]) == 6


@pytest.mark.parametrize(
    "part", [".log", "MANIFEST", "CURRENT", ".sst", "engine.state", "engine.reach", "OPTIONS", "IDENTITY", "rocksdict"]
)
def test_no_damage_to_a_file_goes_unsaid(store: dict[str, bytes], folder: Path, part: str) -> None:
    names = [name for name in store if part in name]
    assert names
    outcomes: dict[str, int] = {}
    for name in names:
        for what, content in damaged(store[name], TRIED_MAX):
            outcome = check(lay_out(folder / "n1", {**store, name: content}), f"{name}, {what}")
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
    print(part, {name: len(store[name]) for name in names}, outcomes)  # Shown on demand: pytest -s
    harmless = part in {"engine.state", "engine.reach", "OPTIONS", "IDENTITY", "rocksdict"}
    assert (set(outcomes) == {"whole"}) == harmless


@pytest.mark.parametrize("part", [".log", "MANIFEST", "CURRENT", ".sst", "engine.state", "engine.reach"])
def test_a_file_that_is_gone_is_missed(store: dict[str, bytes], folder: Path, part: str) -> None:
    name = only(store, part)
    outcome = check(lay_out(folder / "n1", {key: value for key, value in store.items() if key != name}), name)
    assert outcome == {".log": "missing", "engine.state": "whole", "engine.reach": "whole"}.get(part, "refused")


@pytest.mark.parametrize("part", ["engine.state", "engine.reach"])
def test_without_its_witnesses_a_store_is_suspected(store: dict[str, bytes], folder: Path, part: str) -> None:
    name = only(store, part)
    for what, content in damaged(store[name], TRIED_MAX):
        _, report, _ = judge(lay_out(folder / "n1", {**store, name: content}))
        assert report is not None and report.may_have_lost_writes, what


def test_a_log_without_a_manifest_is_not_taken_for_a_new_store(store: dict[str, bytes], folder: Path) -> None:
    """Before its first table is written, a store is nothing but its log."""
    log, current = only(store, ".log"), only(store, "CURRENT")
    bare = {name: content for name, content in store.items() if ".sst" not in name and name != current}
    outcome, _, message = judge(lay_out(folder / "n1", bare))
    assert outcome == "refused" and "CURRENT" in message
    assert (folder / "n1" / log).read_bytes() == store[log], "nothing was erased"


def records(content: bytes) -> list[int]:
    """Offsets of the records of one of RocksDB's logs: checksum (4 bytes), length (2), type (1), body."""
    found, at = [], 0
    while at + 7 <= len(content):
        found.append(at)
        at += 7 + int.from_bytes(content[at + 4 : at + 6], "little")
    assert at == len(content) < BLOCK_BYTES
    return found


@pytest.mark.parametrize("part", [".log", "MANIFEST"])
def test_no_header_of_a_record_keeps_the_start_from_ending_or_hides_the_rest(
    store: dict[str, bytes], folder: Path, part: str
) -> None:
    """RocksDB's reader runs for ever on some types: hence a process of its own, and a limit on its time. A length that
    has become larger makes what follows look like an unfinished last record."""
    name = only(store, part)
    others = {key: content for key, content in store.items() if "OPTIONS" not in key}
    paths = []
    for offset in records(store[name]):
        kind, length = offset + 6, offset + 4
        spoiled = [(kind, value) for value in REUSED_TYPES]
        spoiled += [(at, store[name][at] ^ 1 << bit) for at in (length, length + 1, kind) for bit in range(8)]
        for at, value in spoiled:
            content = store[name][:at] + bytes([value]) + store[name][at + 1 :]
            paths.append(str(lay_out(folder / f"{at}-{value}", {**others, name: content})))
    ended = subprocess.run(
        [sys.executable, "-c", CHECKER, *paths], capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stderr


def test_an_unfinished_last_write_is_nothing_to_be_told_of(store: dict[str, bytes], folder: Path) -> None:
    """A process that dies in the middle of a write has not said that it was done, so the reach is the one before."""
    log = only(store, ".log")
    *_, last = records(store[log])
    for end in offsets(len(store[log]) - last, TRIED_MAX):
        cut = {**store, log: store[log][: last + end], "engine.reach": b""}
        engine = RocksDbEngine(lay_out(folder / "n1", cut), lambda callback: None)
        reach = (folder / "n1" / "engine.reach").read_bytes()
        engine._syncer.stop()
        engine._release()
        outcome, report, _ = judge(lay_out(folder / "n1", {**cut, "engine.reach": reach}))
        assert outcome == "missing"
        assert report == OpenReport(fresh=False, clean=False, may_have_lost_writes=False), end


def test_the_reach_follows_the_write(folder: Path) -> None:
    """Were it the other way round, a process that is killed between the two would have claimed what is not there."""
    engine = RocksDbEngine(folder / "n1", lambda callback: None)
    commit = engine._commit
    seen: list[int] = []

    def reached() -> int:
        found = read_reach(folder / "n1")
        assert found is not None
        return found.sequence

    def watched(batch: WriteBatch) -> None:
        seen.append(reached())
        commit(batch)
        seen.append(reached())

    engine._commit = watched
    engine.write([(Space.DATA, b"k", b"1"), (Space.META, b"k", b"2")])
    engine.delete_range(Space.DATA, b"a", b"z")
    assert seen == [0, 0, 2, 2]
    found = read_reach(folder / "n1")
    assert found is not None and found.sequence == 3
    (manifest,) = (folder / "n1" / "rocksdb").glob("MANIFEST-*")
    assert (f"MANIFEST-{found.manifest:06}", found.manifest_bytes) == (manifest.name, manifest.stat().st_size)
    engine.close()


def test_tables_that_nobody_knows_yet_are_nothing_to_be_told_of(store: dict[str, bytes], folder: Path) -> None:
    """A process that dies while it writes or merges tables leaves some that its manifest does not mention."""
    finished = {**store, "rocksdb/000099.sst": store[only(store, ".sst")]}
    outcome, report, _ = judge(lay_out(folder / "n1", finished))
    assert outcome == "whole" and report is not None and not report.may_have_lost_writes


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(st.integers(0, 3 * BLOCK_BYTES) | st.integers(BLOCK_BYTES - 120, BLOCK_BYTES), max_size=12))
def test_a_whole_log_of_many_blocks_is_not_touched(folder: Path, sizes: list[int]) -> None:
    path = lay_out(folder / "n1", {})
    engine = RocksDbEngine(path, lambda callback: None)
    for size in sizes:
        engine.write([(Space.DATA, b"k", b"\x05" * size)])
    for log in (*(path / "rocksdb").glob("*.log"), *(path / "rocksdb").glob("MANIFEST-*")):
        content = log.read_bytes()
        assert disarm(log) == [] and log.read_bytes() == content
        assert whole_bytes(log) == len(content)
    engine.close()
