"""Names and places of keys: RESP names, slots, and the byte strings under which records are stored.

Invariants:
- A (bucket, key) pair has exactly one canonical RESP name, and that name alone decides its slot, whichever
  interface the key came by.
- slot = CRC16 (XMODEM) of the canonical name, or of its `{tag}`, modulo 16384, as in Redis Cluster; that is what
  lets every Redis Cluster client route straight to a coordinator.
- A storage key starts with its partition, so that a partition is one contiguous range: cheap to stream, hash, drop.
"""

from __future__ import annotations

from binascii import crc_hqx
from typing import Final

from quorate.core.errors import CallerError
from quorate.core.limits import BUCKET_NAME_BYTES_MAX, KEY_BYTES_MAX, SLOTS

DEFAULT_BUCKET: Final = b"default"
_SLOT_MASK: Final = SLOTS - 1
_FORBIDDEN_IN_BUCKET: Final = frozenset(range(0x20)) | {0x3A, 0x7F}


def split_name(name: bytes) -> tuple[bytes, bytes]:
    """(bucket, key) of a RESP name: the bucket stands before the first colon; without a colon it is `default`.

    Raises `CallerError` if either part is empty or too long.
    """
    bucket, colon, key = name.partition(b":")
    if not colon:
        bucket, key = DEFAULT_BUCKET, name
    check_bucket_name(bucket)
    check_key(key)
    return bucket, key


def canonical_name(bucket: bytes, key: bytes) -> bytes:
    """The one RESP name of (bucket, key). The default bucket's keys go bare unless they contain a colon."""
    if bucket == DEFAULT_BUCKET and b":" not in key:
        return key
    return bucket + b":" + key


def slot_of_name(name: bytes) -> int:
    """The Redis Cluster slot of a canonical name, 0…16383.

    Only the text between the first `{` and the next `}` counts, if there is any.
    """
    opening = name.find(b"{")
    if opening >= 0:
        closing = name.find(b"}", opening + 1)
        if closing > opening + 1:
            return crc_hqx(name[opening + 1 : closing], 0) & _SLOT_MASK
    return crc_hqx(name, 0) & _SLOT_MASK


def storage_key(partition: int, bucket: bytes, key: bytes) -> bytes:
    """partition (2 bytes, big-endian) ‖ length of bucket (1 byte) ‖ bucket ‖ key."""
    return b"%b%c%b%b" % (partition.to_bytes(2, "big"), len(bucket), bucket, key)


def split_storage_key(stored: bytes) -> tuple[int, bytes, bytes]:
    """(partition, bucket, key): the inverse of `storage_key`."""
    end = 3 + stored[2]
    return int.from_bytes(stored[:2], "big"), stored[3:end], stored[end:]


def prefix_end(prefix: bytes) -> bytes:
    """The smallest byte string above everything that starts with `prefix`, itself the beginning of a storage key."""
    stripped = prefix.rstrip(b"\xff")
    assert stripped, "a storage key starts with its partition, which is below 0x4000"
    return stripped[:-1] + bytes([stripped[-1] + 1])


def check_bucket_name(bucket: bytes) -> None:
    if not 1 <= len(bucket) <= BUCKET_NAME_BYTES_MAX:
        raise CallerError(f"a bucket's name has 1 to {BUCKET_NAME_BYTES_MAX} bytes; this one has {len(bucket)}")
    if not _FORBIDDEN_IN_BUCKET.isdisjoint(bucket):
        raise CallerError("a bucket's name holds neither colons nor control characters")


def check_key(key: bytes) -> None:
    if not 1 <= len(key) <= KEY_BYTES_MAX:
        raise CallerError(f"a key has 1 to {KEY_BYTES_MAX} bytes; this one has {len(key)}")
