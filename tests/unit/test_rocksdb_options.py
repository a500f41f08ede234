"""A read costs about the block that it looks for, however many keys the store holds and however small its cache is."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from quorate.adapters.storage.rocksdb import RocksDbEngine
from quorate.adapters.storage.rocksdb_open import DATABASE_NAME
from quorate.core.limits import KIB, MIB
from quorate.core.ports import Space

KEYS = 100_000
READS = 200


def key(number: int) -> bytes:
    return b"\0\1%08d" % number


def open_engine(path: Path) -> RocksDbEngine:
    """With a cache that is smaller than a bloom filter for all keys."""
    return RocksDbEngine(path, lambda call: call(), block_cache_bytes=64 * KIB)


def bytes_read() -> int:
    """By this process, from files in the page cache too."""
    return int(Path("/proc/self/io").read_text().split()[1])


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="the kernel does not count what a process reads")
@pytest.mark.parametrize("wanted", [key, lambda number: key(number) + b"absent"], ids=["present", "absent"])
def test_a_read_does_not_load_the_whole_filter_of_a_file(tmp_path: Path, wanted: Callable[[int], bytes]) -> None:
    """One million small keys in one file have a filter of 1.25 MB, more than a shard of the cache holds: it was read
    again for each get, until the nodes could not answer in time."""
    engine = open_engine(tmp_path)
    for first in range(0, KEYS, 1000):
        engine.write([(Space.DATA, key(number), b"v" * 32) for number in range(first, first + 1000)])
    engine._families[Space.DATA].compact_range(None, None)
    engine.close()
    engine = open_engine(tmp_path)
    numbers = random.Random(1).sample(range(KEYS), READS)
    for number in numbers[:10]:
        engine.get(Space.DATA, wanted(number))
    before = bytes_read()
    for number in numbers:
        engine.get(Space.DATA, wanted(number))
    assert (bytes_read() - before) / READS < 20 * KIB
    engine.close()


def test_several_small_memtables_make_one_table(tmp_path: Path) -> None:
    """Small ones are quick to insert into; a table for each would be merged again and again."""
    engine = RocksDbEngine(tmp_path, lambda call: call(), write_buffer_bytes=8 * MIB)
    noise = random.Random(2)
    for number in range(1_000):
        engine.write([(Space.DATA, key(number), noise.randbytes(16 * KIB))])
    engine.close()
    flushes = [event for event in events_of(tmp_path) if event["event"] == "flush_started"]
    assert flushes[0]["flush_reason"] == "Write Buffer Full"
    # Later ones may find what an earlier one has left.
    assert flushes[0]["num_memtables"] >= 4


def test_what_flushes_write_is_limited(tmp_path: Path) -> None:
    """A flush that may write as fast as it can takes a core for half a second, at all replicas at once."""
    RocksDbEngine(tmp_path, lambda call: call()).close()
    (limiter,) = options_of(tmp_path, "rate_limiter")
    assert limiter != "(nil)"
    assert int(limiter, 16)


def test_every_memtable_has_a_filter_of_whole_keys(tmp_path: Path) -> None:
    """Without one a get looks into each memtable before it comes to the tables."""
    RocksDbEngine(tmp_path, lambda call: call()).close()
    assert all(float(ratio) > 0 for ratio in options_of(tmp_path, "memtable_prefix_bloom_size_ratio"))
    assert set(options_of(tmp_path, "memtable_whole_key_filtering")) == {"1"}


def options_of(path: Path, name: str) -> list[str]:
    """What RocksDB says that it runs with: of the database, or of each space."""
    lines = (path / DATABASE_NAME / "LOG").read_text().splitlines()
    found = [line.split()[-1] for line in lines if f"Options.{name}:" in line]
    assert found
    return found


def events_of(path: Path) -> list[dict[str, Any]]:
    """What RocksDB has told its own log, as structures."""
    lines = (path / DATABASE_NAME / "LOG").read_text().splitlines()
    return [json.loads(line.split("EVENT_LOG_v1 ")[1]) for line in lines if "EVENT_LOG_v1 " in line]
