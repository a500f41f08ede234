"""Which records two replicas have to exchange, once their trees have told where they differ (SOSP 2007, §4.7).

The asker lists what it holds of a range of keys, as (storage key, digest); the answerer goes through the same range of
its own and compares. What the asker lacks or holds otherwise is sent to it; what the answerer lacks or holds otherwise
is wanted from it. Where both hold something else, both happen: each side merges what the other had.

Invariants: what is compared is bounded by `covered`, so an answer may stop anywhere and the next question goes on from
there; a key that both hold with one digest moves nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from quorate.core.errors import PeerError
from quorate.core.keyspace import prefix_end, storage_key

Entry = tuple[bytes, int]
"""(storage key, digest of the record there)"""


class Comparison:
    """The answerer's side: the asker's listing, against which its own records are seen one after the other."""

    __slots__ = ("_theirs",)

    def __init__(self, theirs: Sequence[Entry]) -> None:
        self._theirs = dict(theirs)

    def lacks(self, key: bytes, digest: int) -> bool:
        """This side holds `digest` under `key`: has the asker nothing, or something else? Ask once for each key."""
        held = self._theirs.get(key)
        if held == digest:
            del self._theirs[key]
            return False
        return True

    def wanted(self, covered: bytes) -> list[bytes]:
        """The keys to ask for, in order, when all own records up to `covered` (empty: all) were seen."""
        return [key for key in self._theirs if not covered or key <= covered]


def check_listing(entries: Sequence[Entry], after: bytes, upto: bytes) -> None:
    """Raise `PeerError` unless `entries` are in key order, each key once, above `after` and not above `upto`
    (empty: no bound)."""
    last = after
    for key, _ in entries:
        if key <= last:
            raise PeerError("a peer listed keys out of order")
        last = key
    if entries and upto and last > upto:
        raise PeerError("a peer listed a key beyond the range that it asked about")


def range_of_partition(partition: int) -> tuple[bytes, bytes]:
    """(start, end) of the storage keys of one partition: start ≤ key < end."""
    return partition.to_bytes(2, "big"), (partition + 1).to_bytes(2, "big")


def bounds_of_bucket(partition: int, bucket: bytes) -> tuple[bytes, bytes]:
    """(after, upto) such that after < key ≤ upto for just the storage keys of `bucket` in `partition`.

    Neither bound is a storage key itself: in a storage key at least one byte follows the bucket's name.
    """
    after = storage_key(partition, bucket, b"")
    return after, prefix_end(after)
