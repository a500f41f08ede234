"""The record cache: never wrong, never above its bound, and it keeps what is used."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from quorate.core.errors import StorageError
from quorate.core.store import Failure
from quorate.node.record_cache import ENTRY_OVERHEAD_BYTES, RecordCache
from tests.unit.small_cluster import SmallCluster

BYTES_MAX = 20_000
steps = st.lists(
    st.tuples(
        st.sampled_from(["put", "get", "forget", "clear"]),
        st.integers(0, 30).map(lambda number: b"key%d" % number),
        st.integers(0, 1_500),
    ),
    max_size=200,
)


@given(steps)
def test_it_answers_like_a_dictionary_that_forgets_and_stays_within_its_bound(
    steps: list[tuple[str, bytes, int]],
) -> None:
    cache = RecordCache(BYTES_MAX)
    twin: dict[bytes, tuple[int, int, bytes]] = {}
    for number, (step, key, size) in enumerate(steps):
        if step == "put":
            stored = (number, 0, bytes(size))
            cache.put(key, stored)
            twin[key] = stored
        elif step == "get":
            assert cache.get(key) in (None, twin.get(key))
        elif step == "forget":
            cache.forget(key)
            twin.pop(key, None)
            assert cache.get(key) is None
        else:
            cache.clear()
            twin.clear()
        held = {**cache._old, **cache._young}
        assert all(twin[key] == found for key, found in held.items())
        total = sum(len(f[2]) + len(k) + ENTRY_OVERHEAD_BYTES for k, f in [*cache._old.items(), *cache._young.items()])
        assert total == cache._bytes <= BYTES_MAX
        assert not cache._old.keys() & cache._young.keys()


def test_no_put_gives_back_more_than_it_needs() -> None:
    """Giving back a whole generation at once let all requests wait for tens of milliseconds."""
    cache = RecordCache(1_000_000)
    most = held = 0
    for number in range(10_000):
        cache.put(b"key%05d" % number, (number, 0, bytes(100)))
        held, before = len(cache._old) + len(cache._young), held
        assert before - held <= 1
        most = max(most, held)
    assert held == most, "it is full, and stays so"


def test_what_is_used_survives_what_is_not() -> None:
    cache = RecordCache(20_000)
    cache.put(b"hot", (1, 0, bytes(100)))
    for number in range(500):
        cache.put(b"cold%d" % number, (2, 0, bytes(100)))
        assert cache.get(b"hot") == (1, 0, bytes(100))
    assert cache.get(b"cold0") is None


def test_a_write_that_failed_is_not_answered_from_the_cache() -> None:
    cluster = SmallCluster()
    cluster.put(1, b"k", b"old")
    cluster.engines[1].failure = StorageError("Input/output error")
    cluster.put(1, b"k", b"new", overwrite_seen=True)
    assert not isinstance(cluster.get(1, b"k", r=1), Failure)
    assert cluster.values(1, b"k", r=1) == [b"old"]
