"""An import that is cut off anywhere, and run again, has stored every row, reported every reject once, lost nothing."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.cli import retry
from quorate.cli.importer import Importer, operation_id
from quorate.cli.journal import Journal, Pending, Progress, RejectsFile, Watermark
from quorate.cli.retry import Patience
from quorate.cli.rows import JsonRows, Rejected
from quorate.core.errors import CallerError, OutcomeUnknown, Unavailable


class Cut(Exception):
    """The importer's process is killed here."""


class FakeSink:
    """Remembers what was put; does to the n-th put what `faults` says."""

    def __init__(self, faults: dict[int, Exception] | None = None) -> None:
        self.rows: dict[bytes, bytes] = {}
        self.operations: dict[bytes, set[int]] = {}
        self.faults = faults or {}
        self.calls = 0

    async def put(self, key: bytes, value: bytes, operation: int) -> None:
        self.calls += 1
        fault = self.faults.get(self.calls)
        # Rows end in another order than they began.
        for _ in range(hash(key) % 4):
            await asyncio.sleep(0)
        self.operations.setdefault(key, set()).add(operation)
        if isinstance(fault, CallerError):
            raise fault
        self.rows[key] = value
        if fault is not None:
            raise fault


def open_journal(path: Path, body: bytes, **options: Any) -> Journal:
    return Journal.open(path, io.BytesIO(body), "b", "id", **options)


def run_import(folder: Path, body: bytes, sink: FakeSink, patience_s: float = 60.0, concurrency: int = 4) -> Journal:
    journal = open_journal(folder / "journal", body)
    rejects = RejectsFile(folder / "rejects", journal.progress.rejects_bytes)
    rows = JsonRows(io.BytesIO(body), "id").rows(journal.progress.offset, journal.progress.line)
    asyncio.run(Importer(rows, sink, journal, rejects, Patience(patience_s), concurrency).run())
    return journal


def rejected_lines(folder: Path) -> list[int]:
    path = folder / "rejects"
    return [json.loads(line)["line"] for line in path.read_text().splitlines()] if path.exists() else []


def sample(count: int, bad: set[int]) -> bytes:
    return b"".join(b"oops\n" if n in bad else json.dumps({"id": f"k{n}"}).encode() + b"\n" for n in range(count))


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "DELAY_MIN_S", 0.0)
    monkeypatch.setattr(retry, "DELAY_MAX_S", 0.0)


@given(
    count=st.integers(0, 60),
    bad=st.sets(st.integers(0, 59), max_size=8),
    cuts=st.lists(st.tuples(st.integers(1, 40), st.booleans()), max_size=3),
)
@settings(max_examples=40, deadline=None)
def test_cut_anywhere_and_resumed(
    tmp_path_factory: pytest.TempPathFactory, count: int, bad: set[int], cuts: list[tuple[int, bool]]
) -> None:
    folder = tmp_path_factory.mktemp("import")
    body = sample(count, bad)
    stored: dict[bytes, bytes] = {}
    operations: dict[bytes, set[int]] = {}
    for cut, saved in [*cuts, (0, True)]:
        before = (folder / "journal").read_bytes() if (folder / "journal").exists() else None
        sink = FakeSink({cut: Cut()} if cut else None)
        sink.rows, sink.operations = stored, operations
        try:
            journal = run_import(folder, body, sink)
            break
        except Cut:
            if not saved and before is not None:
                # Killed before the journal was written again, though rows were stored and reported since.
                (folder / "journal").write_bytes(before)
            journal = open_journal(folder / "journal", body)
            assert journal.resumed
            done = {f"k{n}".encode() for n in range(journal.progress.line) if n not in bad}
            assert done <= stored.keys(), "the journal claims no row that is not stored"
    wanted = [n for n in range(count) if n not in bad]
    assert set(stored) == {f"k{n}".encode() for n in wanted}
    assert rejected_lines(folder) == [n + 1 for n in range(count) if n in bad]
    assert (journal.progress.imported, journal.progress.rejected) == (len(wanted), count - len(wanted))
    assert all(len(found) == 1 for found in operations.values()), "a row sent again is the same write"


def test_rows_that_the_cluster_refuses_are_reported_and_the_rest_goes_in(tmp_path: Path) -> None:
    sink = FakeSink({2: CallerError("a value has at most 5 bytes; this one has 6")})
    run_import(tmp_path, sample(5, set()), sink, concurrency=1)
    assert set(sink.rows) == {b"k0", b"k2", b"k3", b"k4"}
    (report,) = [json.loads(line) for line in (tmp_path / "rejects").read_text().splitlines()]
    assert (report["line"], report["reason"]) == (2, "a value has at most 5 bytes; this one has 6")


def test_an_absent_cluster_is_waited_for(tmp_path: Path) -> None:
    faults: dict[int, Exception] = {n: Unavailable("down") if n % 2 else OutcomeUnknown("lost") for n in range(3, 30)}
    sink = FakeSink(faults)
    journal = run_import(tmp_path, sample(20, set()), sink)
    assert len(sink.rows) == 20
    assert journal.progress.imported == 20
    assert all(len(found) == 1 for found in sink.operations.values())


def test_patience_ends_and_the_journal_is_kept(tmp_path: Path) -> None:
    body = sample(20, {0})
    sink = FakeSink({n: Unavailable("no node answers") for n in range(6, 100_000)})
    with pytest.raises(Unavailable, match="nothing succeeded for 0 s; the last error: no node answers"):
        run_import(tmp_path, body, sink, patience_s=0.0, concurrency=1)
    assert open_journal(tmp_path / "journal", body).progress.line == 6
    run_import(tmp_path, body, FakeSink())
    assert rejected_lines(tmp_path) == [1]


def test_a_slow_row_bounds_how_far_the_others_run_ahead(tmp_path: Path) -> None:
    class Stuck(FakeSink):
        """Holds the first row back until the other worker can do nothing more."""

        async def put(self, key: bytes, value: bytes, operation: int) -> None:
            if key == b"k0":
                # Each turn of the loop lets the other worker do a step; far more turns than it has rows.
                for _ in range(5_000):
                    await asyncio.sleep(0)
                self.ahead = len(self.rows)
            await super().put(key, value, operation)

    sink = Stuck()
    run_import(tmp_path, sample(200, set()), sink, concurrency=2)
    assert len(sink.rows) == 200
    assert sink.ahead == 31, "2 workers, 16 rows each, less the one that is stuck"


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_rejects_after_the_journals_position_are_reported_once(tmp_path: Path, kept: int) -> None:
    rejects = RejectsFile(tmp_path / "rejects", 0)
    sizes = [0]
    for line in (1, 2, 3):
        rejects.add(Rejected(line, 0, 0, "", ""))
        sizes.append(rejects.size)
    rejects.sync()
    rejects.close()
    again = RejectsFile(tmp_path / "rejects", sizes[kept])
    for line in range(kept + 1, 5):
        again.add(Rejected(line, 0, 0, "", ""))
    again.close()
    assert rejected_lines(tmp_path) == [1, 2, 3, 4]


@given(st.lists(st.integers(0, 9), max_size=60))
@settings(max_examples=100, deadline=None)
def test_the_watermark_is_the_longest_finished_prefix(order: list[int]) -> None:
    """Against the obvious: the smallest row that is not finished."""
    watermark, progress = Watermark(10), Progress(1, "", "", "", "")
    opened: list[Pending] = []
    finished: set[int] = set()
    for choice in order:
        waiting = [n for n in range(len(opened)) if n not in finished]
        if choice < 5 and not watermark.full:
            opened.append(watermark.begin(10 * (len(opened) + 1), len(opened) + 1))
        elif waiting:
            number = waiting[choice % len(waiting)]
            finished.add(number)
            reject = Rejected(number + 1, 0, 0, "", "") if number % 3 == 0 else None
            watermark.finish(opened[number], reject)
            before = progress.line
            passed = [row.line for row in watermark.advance(progress)]
            prefix = next((n for n in range(len(opened)) if n not in finished), len(opened))
            assert (progress.line, progress.offset) == (prefix, 10 * prefix)
            assert passed == [n + 1 for n in range(before, prefix) if n % 3 == 0]
            assert progress.imported + progress.rejected == prefix


def test_a_journal_belongs_to_one_file_bucket_and_key(tmp_path: Path) -> None:
    body = sample(3, set())
    path = tmp_path / "journal"
    open_journal(path, body).save()
    assert open_journal(path, body).resumed
    for source, bucket, key in ((b"other", "b", "id"), (body, "c", "id"), (body, "b", "name")):
        with pytest.raises(CallerError, match="begin anew with --restart"):
            Journal.open(path, io.BytesIO(source), bucket, key)
    assert not open_journal(path, b"other", restart=True).resumed


def test_a_journal_goes_on_in_the_cluster_that_it_began_in(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = open_journal(path, b"")
    journal.belongs_to("one")
    journal.save()
    open_journal(path, b"").belongs_to("one")
    with pytest.raises(CallerError, match="into cluster one, and this is cluster two"):
        open_journal(path, b"").belongs_to("two")
    open_journal(path, b"", restart=True).belongs_to("two")


def test_a_damaged_journal_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    open_journal(path, b"").save()
    path.write_bytes(path.read_bytes().replace(b'"offset": 0', b'"offset": 9'))
    with pytest.raises(CallerError, match=r"is damaged .* begin anew with --restart"):
        open_journal(path, b"")


def test_a_journal_that_cannot_be_written_stops_the_import_at_once(tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "absent" / "journal", b"")
    with pytest.raises(CallerError, match=r"cannot write the import journal .*; give another with --journal"):
        journal.save()


def test_operation_ids_have_nineteen_digits_and_tell_rows_apart() -> None:
    ids = [operation_id(run, line) for run in ("a", "b") for line in range(100)]
    assert len(set(ids)) == 200
    assert all(len(str(each)) == 19 and each < 2**63 for each in ids)
