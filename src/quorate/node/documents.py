"""Documents of the META space: each with a checksum, so that a torn or damaged one is noticed, never believed (hard
cases 25, 26)."""

from __future__ import annotations

import xxhash

from quorate.core.errors import StartupError
from quorate.core.ports import Engine, Space

_CHECK_BYTES = 8


def sealed(document: bytes) -> bytes:
    """`document` as it is to be stored."""
    return xxhash.xxh3_64_digest(document) + document


def opened(stored: bytes) -> bytes | None:
    """The document in what is stored, or None unless every bit is as written."""
    document = stored[_CHECK_BYTES:]
    return document if sealed(document) == stored else None


def load_whole(engine: Engine, key: bytes) -> bytes | None:
    """A document that a node can do without: None if there never was one, and if it is damaged."""
    stored = engine.get(Space.META, key)
    return None if stored is None else opened(stored)


def load(engine: Engine, key: bytes) -> bytes | None:
    """A document that a node cannot do without, or None if there never was one; raises `StartupError` if it is
    damaged."""
    stored = engine.get(Space.META, key)
    if stored is None:
        return None
    document = opened(stored)
    if document is None:
        raise StartupError(
            f"the stored '{key.decode()}' document does not match its checksum; restore this data directory, or "
            "move it away and start the node with an empty one: its data comes back from the other replicas"
        )
    return document
