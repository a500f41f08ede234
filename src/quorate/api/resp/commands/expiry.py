"""EXPIRE and its kin, PERSIST: the value that a plain client sees is put again with another lifetime.

Like every plain write this replaces what was read, siblings included, with their winner; a value put meanwhile stays
beside it. A lifetime of nothing or less deletes, as in Redis. The conditions NX, XX, GT and LT are refused, for they
could not be kept against concurrent writers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from quorate.api.resp import replies
from quorate.api.resp.commands.command import WRITE, Handler, on_key
from quorate.api.resp.commands.options import integer
from quorate.api.resp.commands.strings import delete_seen
from quorate.api.resp.commands.values import one_of
from quorate.api.resp.slots import Slot
from quorate.core.buckets import TTL_S_MAX
from quorate.core.errors import CallerError
from quorate.core.keyspace import split_name
from quorate.core.record import Sibling
from quorate.core.store import Failure, GetRequest, GetResult, PutRequest

if TYPE_CHECKING:
    from quorate.api.resp.connection import RespConnection

_TTL_MS_MAX = TTL_S_MAX * 1000
_UNIX_MS_MAX = 1 << 46
_YES, _NO = replies.integer(1), replies.integer(0)


def _expire(unit_ms: int, absolute: bool) -> Handler:
    """EXPIRE, PEXPIRE, EXPIREAT or PEXPIREAT."""

    def handler(connection: RespConnection, arguments: list[bytes]) -> None:
        if len(arguments) > 3:
            raise CallerError(
                f"'{arguments[3][:32].decode('latin-1')}' is not supported: a condition on a lifetime could not be "
                "kept against concurrent writers"
            )
        bucket, key = split_name(arguments[1])
        most = _UNIX_MS_MAX if absolute else _TTL_MS_MAX
        ttl_ms = unit_ms * integer(arguments[2], "the lifetime", -most // unit_ms, most // unit_ms)
        if absolute:
            ttl_ms = min(ttl_ms - connection.server.clock.wall_ms(), _TTL_MS_MAX)
        slot = connection.slot()
        if ttl_ms > 0:
            _put_again(slot, bucket, key, ttl_ms, lambda _: True)
        else:
            delete_seen(connection.store, bucket, key, lambda deleted: _answer(slot, deleted))

    return handler


def persist(connection: RespConnection, arguments: list[bytes]) -> None:
    bucket, key = split_name(arguments[1])
    _put_again(connection.slot(), bucket, key, 0, lambda sibling: sibling.expiry_ms != 0)


def _put_again(slot: Slot, bucket: bytes, key: bytes, ttl_ms: int, wanted: Callable[[Sibling], bool]) -> None:
    """Put what is read with another lifetime and answer 1; answer 0 if there is nothing to do."""
    store = slot.connection.store

    def on_read(result: GetResult) -> None:
        old = one_of(store, result.siblings)
        if old is None or not wanted(old):
            slot.fill(_NO)
            return
        request = PutRequest(bucket, key, old.value, old.content_type, result.context, ttl_ms=ttl_ms)
        store.put(request, slot.unless_failed(lambda _: slot.fill(_YES)))

    store.get(GetRequest(bucket, key), slot.unless_failed(on_read))


def _answer(slot: Slot, deleted: int | Failure) -> None:
    slot.fill(replies.failure(deleted) if isinstance(deleted, Failure) else replies.integer(deleted))


COMMANDS = [
    on_key("expire", _expire(1000, absolute=False), 3, 4, "Give a value a lifetime in seconds", WRITE, "generic"),
    on_key("pexpire", _expire(1, absolute=False), 3, 4, "Give a value a lifetime in milliseconds", WRITE, "generic"),
    on_key("expireat", _expire(1000, absolute=True), 3, 4, "Let a value expire at a Unix second", WRITE, "generic"),
    on_key("pexpireat", _expire(1, absolute=True), 3, 4, "Let a value expire at a Unix millisecond", WRITE, "generic"),
    on_key("persist", persist, 2, 2, "Let a value live for ever", WRITE, "generic"),
]
