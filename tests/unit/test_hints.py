"""The hint store: one hint a key and home, merged; bounded in bytes and age; damage reported; counts that hold."""

from __future__ import annotations

import pytest

from quorate.core.errors import DamagedRecord, Overloaded
from quorate.core.hints import Hint, hint_key, pack_hint, split_hint_key, unpack_hint
from quorate.core.ports import Space
from quorate.core.record import Record, Sibling, decode_record, encode_record
from quorate.node.commit_queue import CommitQueue
from quorate.node.hints import HintStore
from tests.unit.small_cluster import DictEngine, Ports, World

AGE_MAX_MS = 10_000
KEY = b"\x00\x01\x01bkey"


def record(actor: int, counter: int = 1, value: bytes = b"v") -> bytes:
    return encode_record(Record({actor: counter}, [Sibling(actor, counter, counter << 16, value)]))


class Bench:
    """A hint store on a dictionary."""

    def __init__(self, bytes_max: int = 10_000) -> None:
        self.world = World()
        self.ports = Ports(self.world)
        self.engine = DictEngine(self.ports)
        self.counted: list[str] = []
        self.bytes_max = bytes_max
        self.restart()

    def restart(self) -> None:
        self.commits = CommitQueue(self.engine, self.ports, lambda error: None)
        self.store = HintStore(
            engine=self.engine,
            commits=self.commits,
            clock=self.ports,
            bytes_max=self.bytes_max,
            age_max_ms=AGE_MAX_MS,
            count=self.counted.append,
        )

    def keep(self, home: int, key: bytes = KEY, body: bytes | None = None, actor: int = 0) -> None:
        self.store.keep(home, key, body if body is not None else record(7), 0, actor)
        self.world.run(1)

    def stored_bytes(self) -> int:
        return sum(len(key) + len(value) for (space, key), value in self.engine.data.items() if space == Space.HINTS)


def test_a_hint_is_packed_with_its_place_and_every_changed_bit_is_found() -> None:
    stored_key = hint_key(3, KEY)
    assert split_hint_key(stored_key) == (3, KEY)
    hint = Hint(123, 1, 9, b"body")
    stored = pack_hint(stored_key, hint)
    assert unpack_hint(stored_key, stored) == hint
    for index in range(len(stored)):
        damaged = stored[:index] + bytes([stored[index] ^ 1]) + stored[index + 1 :]
        with pytest.raises(DamagedRecord, match="checksum"):
            unpack_hint(stored_key, damaged)
    for torn in (b"", stored[:8], stored[:-1]):
        with pytest.raises(DamagedRecord):
            unpack_hint(stored_key, torn)
    with pytest.raises(DamagedRecord):
        unpack_hint(hint_key(4, KEY), stored)


def test_later_writes_are_merged_and_the_age_is_that_of_the_first() -> None:
    bench = Bench()
    bench.keep(3, body=record(7))
    first = bench.store.page(3, b"", 10)
    bench.world.run(1_000)
    bench.keep(3, body=record(8))
    bench.keep(3, body=record(7))
    ((stored_key, stored),) = bench.store.page(3, b"", 10)
    hint = unpack_hint(stored_key, stored)
    assert decode_record(hint.body).clock == {7: 1, 8: 1}
    assert hint.created_ms == unpack_hint(*first[0]).created_ms
    assert bench.store.by_home[3].hints == 1


def test_counts_are_exact_and_survive_a_restart() -> None:
    bench = Bench()
    for home in (3, 4):
        for index in range(5):
            bench.keep(home, KEY + b"%d" % index, record(index, value=b"v" * index))
    bench.keep(3, KEY + b"0", record(9, value=b"w" * 100))
    for stored_key, stored in bench.store.page(4, b"", 3):
        assert bench.store.remove_if_unchanged(stored_key, stored)
    bench.world.run(1)
    counts = {home: (count.hints, count.size_bytes) for home, count in bench.store.by_home.items()}
    assert (counts[3][0], counts[4][0]) == (5, 2)
    assert bench.store.size_bytes == bench.stored_bytes() == counts[3][1] + counts[4][1]
    bench.restart()
    assert {home: (count.hints, count.size_bytes) for home, count in bench.store.by_home.items()} == counts
    for home in (3, 4):
        for stored_key, stored in bench.store.page(home, b"", 10):
            bench.store.remove_if_unchanged(stored_key, stored)
    assert (bench.store.by_home, bench.store.size_bytes) == ({}, 0)


def test_the_bound_on_bytes_is_exact_and_what_is_above_is_refused_and_counted() -> None:
    probe = Bench()
    probe.keep(3)
    size = probe.store.size_bytes
    bench = Bench(bytes_max=2 * size)
    bench.keep(3)
    bench.keep(4)
    with pytest.raises(Overloaded) as refused:
        bench.keep(5)
    assert refused.value.retry_after_ms > 0
    assert bench.counted.count("hints_refused") == 1
    with pytest.raises(Overloaded):
        bench.keep(3, body=record(8))
    bench.keep(3)  # The same again grows nothing.
    assert (bench.store.size_bytes, bench.stored_bytes()) == (2 * size, 2 * size)
    bench.restart()
    with pytest.raises(Overloaded):
        bench.keep(5)
    bench.store.remove_if_unchanged(*bench.store.page(4, b"", 1)[0])
    bench.keep(5)


def test_a_hint_that_was_written_to_meanwhile_is_not_removed() -> None:
    bench = Bench()
    bench.keep(3)
    ((stored_key, stored),) = bench.store.page(3, b"", 10)
    bench.store.keep(3, KEY, record(8), 0, 0)  # In this turn: not in the engine yet.
    assert not bench.store.remove_if_unchanged(stored_key, stored)
    bench.world.run(1)
    assert not bench.store.remove_if_unchanged(stored_key, stored)
    ((_, changed),) = bench.store.page(3, b"", 10)
    assert bench.store.remove_if_unchanged(stored_key, changed)
    assert not bench.store.remove_if_unchanged(stored_key, changed), "once"
    assert bench.store.by_home == {}


def test_pages_go_in_key_order_and_stay_within_one_home() -> None:
    bench = Bench()
    keys = [KEY + bytes([value]) for value in (9, 0, 255, 4)]
    for home in (2, 3, 4):
        for key in keys:
            bench.keep(home, key)
    found: list[bytes] = []
    after = b""
    while page := bench.store.page(3, after, 3):
        found += [split_hint_key(stored_key)[1] for stored_key, _ in page]
        assert all(split_hint_key(stored_key)[0] == 3 for stored_key, _ in page)
        after = page[-1][0]
    assert found == sorted(keys)


def test_a_damaged_hint_is_reported_never_used_and_replaced_by_the_next() -> None:
    bench = Bench()
    bench.keep(3, body=record(7))
    place = (Space.HINTS, hint_key(3, KEY))
    bench.engine.data[place] = bench.engine.data[place][:-1] + b"?"
    bench.restart()
    assert bench.store.held([3], KEY) == (None, 0)
    assert "hints_damaged" in bench.counted
    bench.keep(3, body=record(8))
    found, _ = bench.store.held([3], KEY)
    assert found is not None
    assert found.clock == {8: 1}
    assert (bench.store.by_home[3].hints, bench.store.size_bytes) == (1, bench.stored_bytes())


def test_what_is_held_is_merged_over_homes_and_the_actor_is_that_of_one_hint() -> None:
    bench = Bench()
    assert bench.store.held([3, 4], KEY) == (None, 0)
    bench.keep(3, body=record(7), actor=7)
    bench.keep(4, body=record(8), actor=8)
    for home, actor in ((3, 7), (4, 8), (5, 0), (0, 0)):
        found, got = bench.store.held([3, 4, 5], KEY, home)
        assert found is not None
        assert (found.clock, got) == ({7: 1, 8: 1}, actor)
    bench.keep(3, body=record(9))
    assert bench.store.held([3], KEY, 3)[1] == 7, "another coordinator's write is merged in; the actor stays"


def test_an_expired_hint_is_not_read_not_merged_with_and_swept_though_its_home_never_returns() -> None:
    """Hard case 15: beyond the horizon it could bring back what was deleted."""
    bench = Bench()
    bench.keep(3, body=record(7), actor=7)
    bench.keep(4, body=record(7))
    bench.ports.skew_ms = AGE_MAX_MS - 2
    assert bench.store.held([3], KEY, 3)[1] == 7, "just within"
    bench.ports.skew_ms = AGE_MAX_MS + 1
    assert bench.store.held([3], KEY, 3) == (None, 0)
    bench.keep(4, body=record(8))
    found, _ = bench.store.held([4], KEY)
    assert found is not None
    assert found.clock == {8: 1}, "a new write is not dropped for the age of an old one, nor revives it"
    for _ in range(3):
        bench.store.sweep(1)
    bench.world.run(1)
    assert list(bench.store.by_home) == [4]
    assert bench.counted.count("hints_expired") == 1
    assert bench.store.size_bytes == bench.stored_bytes()


def test_a_sweep_looks_at_a_bounded_number_and_at_all_in_turn() -> None:
    bench = Bench()
    for index in range(10):
        bench.keep(3, KEY + b"%d" % index)
    bench.ports.skew_ms = AGE_MAX_MS + 1_000
    left = []
    for _ in range(5):
        bench.store.sweep(3)
        left.append(bench.store.by_home[3].hints if bench.store.by_home else 0)
    assert left == [7, 4, 1, 0, 0]
