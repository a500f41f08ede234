"""Values of the YCSB workloads: a record of fields, or one piece.

A record is a msgpack map of its fields, as YCSB's rows are. A key-value store replaces a value as a whole, so an update
writes a whole new record (what YCSB calls `writeallfields=true`); only read-modify-write, which has read the record
anyway, replaces one field of it and writes the rest back.

Values are made before the load begins, and taken in turns: making one takes longer than asking for one to be stored.
There are enough of them that a storage engine which compresses its blocks finds no two alike in one.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from itertools import cycle
from typing import Final, NamedTuple

import msgspec

from quorate.core.errors import QuorateError

POOL: Final = 64
_decode = msgspec.msgpack.Decoder(dict[str, bytes]).decode
_encode = msgspec.msgpack.Encoder().encode


class WrongRecord(QuorateError):
    """A key holds a value of another layout than this run writes."""


class Values(NamedTuple):
    """Where values come from."""

    new: Callable[[], bytes]
    """A whole value."""
    changed: Callable[[bytes], bytes]
    """The value with one field replaced, or all of it if it has no fields; raises `WrongRecord`."""


def pieces(value_bytes: int) -> Values:
    """Values of `value_bytes` random bytes."""
    new = cycle([os.urandom(value_bytes) for _ in range(POOL)]).__next__
    return Values(new, lambda value: new())


def records(fields: int, field_bytes: int) -> Values:
    """Records of the fields field0, field1 …, each of `field_bytes` random bytes."""
    names = [f"field{number}" for number in range(fields)]
    new = cycle([_encode({name: os.urandom(field_bytes) for name in names}) for _ in range(POOL)]).__next__
    new_field = cycle([os.urandom(field_bytes) for _ in range(POOL)]).__next__

    def changed(value: bytes) -> bytes:
        try:
            record = _decode(value)
        except msgspec.DecodeError:
            raise WrongRecord("the bucket holds values of another layout; run the load phase again") from None
        record[random.choice(names)] = new_field()
        return _encode(record)

    return Values(new, changed)
