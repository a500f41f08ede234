"""The hints that this node keeps for others: storing, reading, counting, and their bounds.

Counted incrementally and recounted at start, so that the bound on bytes holds over restarts.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from quorate.core import messages
from quorate.core.causality.dotted_version_vectors import resolve_last_write_wins, sync
from quorate.core.errors import DamagedRecord, Overloaded, PeerError
from quorate.core.hints import Hint, hint_key, pack_hint, split_hint_key, unpack_hint
from quorate.core.ports import Clock, Engine, Space
from quorate.core.record import Record, decode_record, encode_record
from quorate.node.commit_queue import CommitQueue

log = logging.getLogger(__name__)

_END = b"\xff\xff\xff"


class HomeCount:
    """How much is kept for one home."""

    __slots__ = ("hints", "size_bytes")

    def __init__(self) -> None:
        self.hints = 0
        self.size_bytes = 0


def _ignore(argument: object, durable: bool) -> None:
    pass


class HintStore:
    """Hints by home."""

    def __init__(
        self,
        *,
        engine: Engine,
        commits: CommitQueue,
        clock: Clock,
        bytes_max: int,
        age_max_ms: int,
        count: Callable[[str], None],
    ) -> None:
        self._engine = engine
        self._commits = commits
        self._clock = clock
        self._bytes_max = bytes_max
        self._age_max_ms = age_max_ms
        self._swept = b""
        self._count = count
        self.by_home: dict[int, HomeCount] = {}
        self.size_bytes = 0
        for stored_key, stored in engine.scan(Space.HINTS, b"", _END):
            self._add(split_hint_key(stored_key)[0], 1, len(stored_key) + len(stored))

    def keep(
        self,
        home: int,
        key: bytes,
        body: bytes,
        flags: int,
        actor: int,
        callback: Callable[[Any, bool], None] = _ignore,
        argument: Any = None,
        synced: bool | None = None,
        since_ms: int = 0,
    ) -> None:
        """Keep `body`, a record, for `home`; `callback(argument, durable)` follows, after a sync if `synced`.

        `synced` None: as `flags` say. `since_ms`: see `messages.HintedWrite`.

        Raises `Overloaded` if the bound on bytes is reached, `PeerError` if `body` is no record.
        """
        stored_key = hint_key(home, key)
        old, old_bytes = self._read(stored_key)
        created_ms = self._clock.wall_ms()
        if since_ms:
            created_ms = min(created_ms, since_ms)
        if old is not None:
            created_ms = min(created_ms, old.created_ms)
            body = _merged(old.body, body, flags)
            actor = actor or old.actor
        stored = pack_hint(stored_key, Hint(created_ms, flags, actor, body))
        growth = len(stored_key) + len(stored) - old_bytes
        if growth > 0 and self.size_bytes + growth > self._bytes_max:
            self._count("hints_refused")
            raise Overloaded("this node keeps as many hints as it may", 1_000)
        self._add(home, 0 if old_bytes else 1, growth)
        self._count("hints_kept")
        if synced is None:
            synced = bool(flags & messages.FLAG_FSYNC)
        self._commits.put_hint(stored_key, stored, synced, callback, argument)

    def remove_if_unchanged(self, stored_key: bytes, stored: bytes) -> bool:
        """Remove a hint whose content has reached its home, or is of no use, unless it was changed meanwhile."""
        if self._commits.get_hint(stored_key) != stored:
            return False
        self._add(split_hint_key(stored_key)[0], -1, -len(stored_key) - len(stored))
        self._commits.put_hint(stored_key, None, False, _ignore, None)
        return True

    def forget_all(self) -> None:
        """All hints were removed from the disk."""
        self.by_home.clear()
        self.size_bytes = 0
        self._swept = b""

    def page(self, home: int, after: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Up to `limit` hints of `home` in order, as (stored key, stored bytes), from above the stored key `after`."""
        self._commits.flush()
        start = after + b"\x00" if after else home.to_bytes(2, "big")
        found: list[tuple[bytes, bytes]] = []
        for pair in self._engine.scan(Space.HINTS, start, (home + 1).to_bytes(2, "big")):
            found.append(pair)
            if len(found) >= limit:
                break
        return found

    def expired(self, hint: Hint) -> bool:
        """Is it beyond the horizon, so that it could bring back what was deleted (hard case 15)?"""
        return self._clock.wall_ms() - hint.created_ms > self._age_max_ms

    def sweep(self, limit: int) -> None:
        """Look at the next `limit` hints and remove the expired: also those of homes that never come back."""
        self._commits.flush()
        for looked_at, (stored_key, stored) in enumerate(self._engine.scan(Space.HINTS, self._swept, _END), 1):
            self._swept = stored_key + b"\x00"
            hint, _ = self._unpacked(stored_key, stored)
            if hint is not None and self.expired(hint) and self.remove_if_unchanged(stored_key, stored):
                self._count("hints_expired")
            if looked_at >= limit:
                return
        self._swept = b""

    def held(self, homes: Sequence[int], key: bytes, actor_of: int = 0) -> tuple[Record | None, int]:
        """What this node keeps of `key` for any of `homes`, merged; and the actor to go on with for `actor_of`, or 0.

        An actor lives and ends with one hint. Another home's hint may hold it with fewer events, and going on from
        there would issue a dot twice (hard cases 1, 2).
        """
        if not self.by_home:
            return None, 0
        record: Record | None = None
        actor = 0
        for home in homes:
            hint, _ = self._read(hint_key(home, key))
            if hint is not None:
                found = decode_record(hint.body)
                record = found if record is None else sync(record, found)
                if home == actor_of:
                    actor = hint.actor
        return record, actor

    def held_written(self, homes: Sequence[int], key: bytes) -> Record | None:
        """As `held`, for whoever shows it to somebody else: a kill does not take it back any more (hard case 1)."""
        if not self.by_home:
            return None
        for home in homes:
            self._commits.settle_hint(hint_key(home, key))
        return self.held(homes, key)[0]

    def oldest_ms(self, homes: Sequence[int], key: bytes) -> int:
        """From when the oldest of the hints is that `held` merges (Unix milliseconds); 0 if there is none.

        A put that is built on them may hold what they hold, and must not make it younger (hard case 15).
        """
        found = [hint for hint, _ in (self._read(hint_key(home, key)) for home in homes) if hint is not None]
        return min((hint.created_ms for hint in found), default=0)

    def _read(self, stored_key: bytes) -> tuple[Hint | None, int]:
        """(the hint, its size in bytes with its key); a damaged or expired one counts as not there, but its size
        counts."""
        stored = self._commits.get_hint(stored_key)
        if stored is None:
            return None, 0
        hint, size_bytes = self._unpacked(stored_key, stored)
        return (hint if hint is not None and not self.expired(hint) else None), size_bytes

    def _unpacked(self, stored_key: bytes, stored: bytes) -> tuple[Hint | None, int]:
        size_bytes = len(stored_key) + len(stored)
        try:
            return unpack_hint(stored_key, stored), size_bytes
        except DamagedRecord as error:
            self._count("hints_damaged")
            log.error("%s", error)
            return None, size_bytes

    def _add(self, home: int, hints: int, size_bytes: int) -> None:
        count = self.by_home.get(home)
        if count is None:
            count = self.by_home[home] = HomeCount()
        count.hints += hints
        count.size_bytes += size_bytes
        self.size_bytes += size_bytes
        if count.hints <= 0:
            del self.by_home[home]


def _merged(old: bytes, new: bytes, flags: int) -> bytes:
    """The join of two hint bodies."""
    if old == new:
        return old
    try:
        record = sync(decode_record(old), decode_record(new))
    except msgspec.DecodeError as error:
        raise PeerError(f"a peer sent a record that cannot be read: {error}") from error
    if flags & messages.FLAG_LAST_WRITE_WINS:
        record = resolve_last_write_wins(record)
    return encode_record(record)
