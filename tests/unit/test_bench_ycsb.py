"""The workloads of YCSB: their proportions, their keys, and what each operation does to a bucket."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from quorate.bench.records import WrongRecord, pieces, records
from quorate.bench.report import PhaseResult, report_of
from quorate.bench.runner import Load
from quorate.bench.ycsb import WORKLOADS, YcsbBench, key_name, not_applicable
from quorate.core.errors import Unavailable
from tests.unit.bench_fakes import FakeBucket

LOAD = Load(concurrency=4, seconds=0.05, value_bytes=10, keys=50, warm_up_seconds=0.0)
DRAWS = 20_000


def run(story: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(story())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("workload", "shares"),
    [
        ("a", {"read": 0.5, "update": 0.5}),
        ("b", {"read": 0.95, "update": 0.05}),
        ("c", {"read": 1.0}),
        ("d", {"read": 0.95, "insert": 0.05}),
        ("f", {"read": 0.5, "read_modify_write": 0.5}),
    ],
)
def test_operations_come_in_the_proportions_of_the_workload(workload: str, shares: dict[str, float]) -> None:
    next_operation = YcsbBench(FakeBucket(), LOAD, blind=True).operations(workload)
    counts = Counter(next_operation()[0] for _ in range(DRAWS))
    assert set(counts) == set(shares)
    for kind, share in shares.items():
        # Five standard deviations: one run in two million goes astray.
        assert abs(counts[kind] / DRAWS - share) <= 5 * (share * (1 - share) / DRAWS) ** 0.5


def test_scans_are_told_to_be_impossible() -> None:
    assert [name for name in WORKLOADS if not_applicable(name)] == ["e"]
    assert "start key" in not_applicable("e")


def test_the_load_inserts_every_key_once_and_is_measured() -> None:
    bucket = FakeBucket()

    async def story() -> None:
        report = report_of(await YcsbBench(bucket, LOAD, blind=True).load())
        assert (report.phase, report.operations["insert"].count, report.errors) == ("load", 50, {})
        assert bucket.versions == {key_name(number): 1 for number in range(50)}
        assert bucket.gets == 0

    run(story)


def test_several_processes_load_and_insert_different_keys() -> None:
    bucket = FakeBucket()

    async def story() -> None:
        benches = [YcsbBench(bucket, LOAD.share(process, 3), blind=True) for process in range(3)]
        loaded = [await bench.load() for bench in benches]
        assert [report_of(each).operations["insert"].count for each in loaded] == [17, 17, 16]
        for bench in benches:
            await bench.measure("d")
        assert max(bucket.versions.values()) == 1, "no key was inserted twice"
        assert len(bucket.versions) > 60

    run(story)


def test_reads_of_the_latest_find_what_was_inserted() -> None:
    bucket = FakeBucket()

    async def story() -> None:
        bench = YcsbBench(bucket, LOAD, blind=True)
        await bench.load()
        report = report_of(await bench.measure("d"))
        assert report.errors == {}
        assert report.operations["insert"].count == len(bucket.versions) - 50 > 0
        read: Counter[bytes] = Counter()
        asked = bucket.get

        async def get(key: bytes) -> Any:
            read[key] += 1
            return await asked(key)

        bucket.get = get  # type: ignore[method-assign]
        await bench.measure("d")
        assert read[key_name(0)] < sum(count for key, count in read.items() if key not in first), "new ones are read"

    first = {key_name(number) for number in range(50)}
    run(story)


def test_blind_updates_neither_read_nor_pass_a_context() -> None:
    bucket = FakeBucket()

    async def story() -> None:
        bench = YcsbBench(bucket, LOAD, blind=True)
        await bench.load()
        update = bench.operations("a")
        for _ in range(100):
            kind, operation = update()
            if kind == "update":
                await operation()
        assert bucket.gets == 0
        assert bucket.blind == bucket.calls - 50 > 10

    run(story)


def test_where_siblings_are_kept_an_update_replaces_what_was_seen() -> None:
    """One at a time nothing is concurrent, so nothing may be left as a sibling; not of an earlier run either."""
    bucket = FakeBucket()

    async def story() -> None:
        await YcsbBench(bucket, LOAD, blind=False).load()
        bench = YcsbBench(bucket, msgspec.structs.replace(LOAD, concurrency=1), blind=False)
        await bench.load()
        later = YcsbBench(bucket, msgspec.structs.replace(LOAD, concurrency=1), blind=False)
        for each in (bench, later):
            for workload in ("a", "d", "f"):
                assert report_of(await each.measure(workload)).errors == {}
        assert (bucket.siblings, bucket.blind) == (0, 0)

    run(story)


def test_a_failed_update_leaves_no_stale_context() -> None:
    bucket = FakeBucket()

    async def story() -> None:
        bench = YcsbBench(bucket, msgspec.structs.replace(LOAD, concurrency=1), blind=False)
        await bench.load()
        bucket.fail_every = 3
        report = report_of(await bench.measure("a"))
        assert report.failed_puts == sum(report.errors.values()) > 0
        assert bucket.siblings == 0

    run(story)


def test_read_modify_write_replaces_one_field() -> None:
    bucket = FakeBucket()
    load = msgspec.structs.replace(LOAD, fields=3, field_bytes=8, keys=1)

    async def story() -> None:
        bench = YcsbBench(bucket, load, blind=True)
        await bench.load()
        (key,) = bucket.values
        operations = bench.operations("f")
        for _ in range(20):
            before = msgspec.msgpack.decode(bucket.values[key])
            writes = bucket.calls
            kind, operation = operations()
            await operation()
            after = msgspec.msgpack.decode(bucket.values[key])
            assert list(after) == ["field0", "field1", "field2"]
            assert {len(field) for field in after.values()} == {8}
            changed = sum(before[name] != after[name] for name in before)
            assert (bucket.calls - writes, changed) == ((1, 1) if kind == "read_modify_write" else (0, 0))
        assert (bucket.siblings, bucket.blind) == (0, 0)

    run(story)


def test_records_and_pieces() -> None:
    record = records(10, 100).new()
    assert {name: len(field) for name, field in msgspec.msgpack.decode(record).items()} == {
        f"field{number}": 100 for number in range(10)
    }
    new, changed = pieces(1000)
    assert len(new()) == len(changed(b"")) == 1000
    assert len({new() for _ in range(64)}) == 64
    with pytest.raises(WrongRecord, match="run the load phase again"):
        records(10, 100).changed(b"\xc1")


def test_keys_that_were_not_loaded_are_missing() -> None:
    async def story() -> None:
        report = report_of(await YcsbBench(FakeBucket(), LOAD, blind=True).measure("c"))
        assert set(report.errors) == {"MissingValue"}
        assert report.success == 0

    run(story)


def test_a_load_counts_failures_goes_on_and_gives_up_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quorate.bench.runner.PRELOAD_PAUSE_S", 0)

    async def load(bucket: FakeBucket) -> PhaseResult:
        return await YcsbBench(bucket, LOAD, blind=True).load()

    busy = FakeBucket(fail_every=3)
    report = report_of(asyncio.run(load(busy)))
    assert report.operations["insert"].count == len(busy.versions) == 50
    assert report.failed_puts == busy.calls - 50 > 0

    class Down(FakeBucket):
        async def put(self, key: bytes, value: Any, context: Any = None) -> str:
            raise Unavailable("down")

    with pytest.raises(Unavailable):
        asyncio.run(load(Down()))


def test_a_stopped_load_ends() -> None:
    bucket = FakeBucket()

    async def story() -> None:
        bench = YcsbBench(bucket, LOAD, blind=True)
        bench.stop()
        assert report_of(await bench.load()).operations == {}

    run(story)
