"""Hash trees on the disk, from a clean stop until the next start.

A clean stop writes the trees into the META space, and the next start reads them and removes them before anything else
is written: so trees on the disk are always those of the data beside them, and a start that finds none, or was preceded
by an unclean stop, makes them anew from the data (hard case 28). One document for each tree that is not empty, and last
a head that says how many there are and what they were made for; each with a checksum, so that a torn or damaged one
is noticed (hard case 25).

Rejected: trees kept on the disk all the time (each write would write a second place, or the two would differ after a
crash); one document for all (megabytes in one value).
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
import xxhash

from quorate.core.merkle.trees import Forest
from quorate.core.ports import Engine, Space, WriteOperation

PREFIX: Final = b"tree:"
_PREFIX_END: Final = b"tree;"
_HEAD_KEY: Final = PREFIX + b"head"
_FORMAT: Final = 1
_DOCUMENTS_PER_BATCH: Final = 256


class Shape(msgspec.Struct, frozen=True, array_like=True):
    """What trees were made for. Those of another shape are of no use."""

    partitions: int
    leaf_count: int
    default_n: int
    special_n: dict[bytes, int]
    """Buckets whose n is not the default."""


class _Head(msgspec.Struct, frozen=True, array_like=True):
    format: int
    shape: Shape
    documents: int
    unready: list[int]
    """Partitions whose trees were not exact when the node stopped; the others without a document are empty."""


def save_trees(engine: Engine, shape: Shape, forests: Mapping[int, Forest], unready: Sequence[int]) -> None:
    """Write all trees but those of the `unready` partitions; `forests` by n. Raises `StorageError`."""
    left_out = frozenset(unready)
    documents = 0
    batch: list[WriteOperation] = []
    for n, forest in forests.items():
        for partition in range(shape.partitions):
            if partition in left_out or forest.empty(partition):
                continue
            documents += 1
            key = _key(n, partition)
            batch.append((Space.META, key, _sealed(key, _to_bytes(forest.leaves(partition)))))
            if len(batch) >= _DOCUMENTS_PER_BATCH:
                engine.write(batch)
                batch = []
    head = msgspec.msgpack.encode(_Head(_FORMAT, shape, documents, list(unready)))
    batch.append((Space.META, _HEAD_KEY, _sealed(_HEAD_KEY, head)))
    engine.write(batch)


def load_trees(engine: Engine, shape: Shape, forests: Mapping[int, Forest]) -> list[int] | None:
    """Plant what was saved into the empty `forests` and return the partitions that were not ready.

    None, with something planted or not, if what is there is not whole, damaged, or of another shape. Raises
    `StorageError`.
    """
    sealed = engine.get(Space.META, _HEAD_KEY)
    raw = None if sealed is None else _opened(_HEAD_KEY, sealed)
    if raw is None:
        return None
    try:
        head = msgspec.msgpack.decode(raw, type=_Head)
    except msgspec.DecodeError:
        return None
    if head.format != _FORMAT or head.shape != shape:
        return None
    documents = 0
    for key, sealed in engine.scan(Space.META, PREFIX, _PREFIX_END):
        if key == _HEAD_KEY:
            continue
        raw = _opened(key, sealed)
        if raw is None or len(raw) != 8 * shape.leaf_count:
            return None
        n, partition = _split_key(key)
        forests[n].plant(partition, _from_bytes(raw))
        documents += 1
    return head.unready if documents == head.documents else None


def remove_trees(engine: Engine) -> None:
    """Remove what was saved, in a batch of its own. Raises `StorageError`."""
    batch: list[WriteOperation] = [(Space.META, key, None) for key, _ in engine.scan(Space.META, PREFIX, _PREFIX_END)]
    if batch:
        engine.write(batch)


def _key(n: int, partition: int) -> bytes:
    return b"%b%c%b" % (PREFIX, n, partition.to_bytes(2, "big"))


def _split_key(key: bytes) -> tuple[int, int]:
    place = len(PREFIX)
    return key[place], int.from_bytes(key[place + 1 :], "big")


def _to_bytes(leaves: array[int]) -> bytes:
    """Little-endian on every machine: a data directory may move."""
    if sys.byteorder == "big":
        leaves = leaves[:]
        leaves.byteswap()
    return leaves.tobytes()


def _from_bytes(raw: bytes) -> array[int]:
    leaves = array("Q", raw)
    if sys.byteorder == "big":
        leaves.byteswap()
    return leaves


def _sealed(key: bytes, document: bytes) -> bytes:
    return xxhash.xxh3_64_digest(key + document) + document


def _opened(key: bytes, sealed: bytes) -> bytes | None:
    document = sealed[8:]
    return document if xxhash.xxh3_64_digest(key + document) == sealed[:8] else None
