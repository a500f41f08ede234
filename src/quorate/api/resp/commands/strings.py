"""Plain writes: SET and its kin, MSET, DEL, UNLINK, GETDEL.

SET overwrites what its coordinator has seen, so a client that knows no contexts makes no siblings as long as its writes
meet. DEL and GETDEL delete exactly what they have read: a value put meanwhile, unseen, stays.

Conditions (NX, XX, IFEQ …) are refused: both of two concurrent writers would be told that they won.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from quorate.api.resp import replies
from quorate.api.resp.commands.command import ANY_NUMBER, WRITE, Command, on_key
from quorate.api.resp.commands.kv import check_value
from quorate.api.resp.commands.options import Convert, flag, integer, integer_option, parse_options
from quorate.api.resp.commands.values import bulk_of, one_of
from quorate.api.resp.fan_out import FanOut
from quorate.api.resp.slots import Slot
from quorate.core.buckets import TTL_S_MAX
from quorate.core.errors import CallerError
from quorate.core.keyspace import split_name
from quorate.core.store import Failure, GetRequest, GetResult, PutRequest, PutResult, Store

if TYPE_CHECKING:
    from quorate.api.resp.connection import RespConnection

_TTL_MS_MAX: Final = TTL_S_MAX * 1000
_UNIX_MS_MAX: Final = 1 << 46
"""Year 4199: an expiry beyond it is a mistake in the unit."""


class SetSlot(Slot):
    def on_result(self, result: PutResult | Failure) -> None:
        self.fill(replies.failure(result) if isinstance(result, Failure) else replies.OK)


def set_(connection: RespConnection, arguments: list[bytes]) -> None:
    bucket, key = split_name(arguments[1])
    value = arguments[2]
    check_value(connection, value)
    if len(arguments) == 3:
        _put(connection, PutRequest(bucket, key, value, overwrite_seen=True))
        return
    _refuse_conditions(arguments[3:])
    options = parse_options(arguments, 3, _SET_OPTIONS)
    ttl_ms = _ttl_ms_of(connection, options)
    if b"GET" in options or b"KEEPTTL" in options:
        _read_then_set(connection, bucket, key, value, ttl_ms, options)
    else:
        _put(connection, PutRequest(bucket, key, value, ttl_ms=ttl_ms, overwrite_seen=True))


def _put(connection: RespConnection, request: PutRequest) -> None:
    size = len(request.value)
    connection.held_bytes += size
    slot = SetSlot(connection, connection.resp3, size)
    connection.pending.append(slot)
    connection.store.put(request, slot.on_result)


def _read_then_set(
    connection: RespConnection, bucket: bytes, key: bytes, value: bytes, ttl_ms: int, options: dict[bytes, Any]
) -> None:
    """SET with GET or KEEPTTL: two requests, not one atomic step."""
    store = connection.store
    slot = connection.slot()

    def on_read(result: GetResult) -> None:
        old = one_of(store, result.siblings)
        lifetime_ms = ttl_ms
        if b"KEEPTTL" in options and old is not None:
            lifetime_ms = max(1, old.expiry_ms - connection.server.clock.wall_ms()) if old.expiry_ms else 0
        body = bulk_of(old, slot.resp3) if b"GET" in options else replies.OK
        request = PutRequest(bucket, key, value, ttl_ms=lifetime_ms, overwrite_seen=True)
        store.put(request, slot.unless_failed(lambda _: slot.fill(body)))

    store.get(GetRequest(bucket, key), slot.unless_failed(on_read))


def getset(connection: RespConnection, arguments: list[bytes]) -> None:
    bucket, key = split_name(arguments[1])
    check_value(connection, arguments[2])
    _read_then_set(connection, bucket, key, arguments[2], -1, {b"GET": True})


def setex(connection: RespConnection, arguments: list[bytes]) -> None:
    _set_with_lifetime(connection, arguments, 1000 * integer(arguments[2], "the lifetime (seconds)", 1, TTL_S_MAX))


def psetex(connection: RespConnection, arguments: list[bytes]) -> None:
    _set_with_lifetime(connection, arguments, integer(arguments[2], "the lifetime (ms)", 1, _TTL_MS_MAX))


def _set_with_lifetime(connection: RespConnection, arguments: list[bytes], ttl_ms: int) -> None:
    bucket, key = split_name(arguments[1])
    check_value(connection, arguments[3])
    _put(connection, PutRequest(bucket, key, arguments[3], ttl_ms=ttl_ms, overwrite_seen=True))


def mset(connection: RespConnection, arguments: list[bytes]) -> None:
    """Several keys, each as by SET; of a key named twice the last value counts."""
    if len(arguments) % 2 == 0:
        raise CallerError("wrong number of arguments for 'mset' command: each key needs a value")
    values = dict(zip(arguments[1::2], arguments[2::2], strict=True))
    requests = []
    for name, value in values.items():
        bucket, key = split_name(name)
        check_value(connection, value)
        requests.append(PutRequest(bucket, key, value, overwrite_seen=True))
    size = sum(len(value) for value in values.values())
    connection.held_bytes += size
    slot = Slot(connection, connection.resp3, size)
    connection.pending.append(slot)

    def ask(index: int, answer: Callable[[Any], None]) -> None:
        connection.store.put(requests[index], answer)

    def done(results: list[Any] | Failure) -> None:
        slot.fill(replies.failure(results) if isinstance(results, Failure) else replies.OK)

    FanOut(len(requests), ask, done, writes=True)


def del_(connection: RespConnection, arguments: list[bytes]) -> None:
    """Delete keys; the reply is how many of them had a value."""
    names = [split_name(name) for name in dict.fromkeys(arguments[1:])]
    slot = connection.slot()

    def ask(index: int, answer: Callable[[Any], None]) -> None:
        delete_seen(connection.store, *names[index], answer)

    def done(deleted: list[Any] | Failure) -> None:
        slot.fill(replies.failure(deleted) if isinstance(deleted, Failure) else replies.integer(sum(deleted)))

    FanOut(len(names), ask, done, writes=True)


def delete_seen(store: Store, bucket: bytes, key: bytes, answer: Callable[[int | Failure], None]) -> None:
    """Read the key and delete what was read: 1, or 0 if there was no value (then nothing is written)."""

    def on_read(result: GetResult | Failure) -> None:
        if isinstance(result, Failure):
            answer(result)
        elif not result.siblings:
            answer(0)
        else:
            store.put(PutRequest(bucket, key, context=result.context, delete=True), on_deleted)

    def on_deleted(result: PutResult | Failure) -> None:
        answer(result if isinstance(result, Failure) else 1)

    store.get(GetRequest(bucket, key), on_read)


def getdel(connection: RespConnection, arguments: list[bytes]) -> None:
    bucket, key = split_name(arguments[1])
    store = connection.store
    slot = connection.slot()

    def on_read(result: GetResult) -> None:
        old = one_of(store, result.siblings)
        body = bulk_of(old, slot.resp3)
        if old is None:
            slot.fill(body)
            return
        request = PutRequest(bucket, key, context=result.context, delete=True)
        store.put(request, slot.unless_failed(lambda _: slot.fill(body)))

    store.get(GetRequest(bucket, key), slot.unless_failed(on_read))


def _ttl_ms_of(connection: RespConnection, options: dict[bytes, Any]) -> int:
    """The lifetime that SET's options ask for; -1: as the bucket says."""
    given = [name for name in (b"EX", b"PX", b"EXAT", b"PXAT", b"KEEPTTL") if name in options]
    if len(given) > 1:
        raise CallerError(f"options {given[0].decode()} and {given[1].decode()} exclude each other")
    if not given or given[0] == b"KEEPTTL":
        return -1
    amount: int = options[given[0]]
    match given[0]:
        case b"EX":
            return amount * 1000
        case b"PX":
            return amount
        case b"EXAT":
            amount *= 1000
    return min(max(1, amount - connection.server.clock.wall_ms()), _TTL_MS_MAX)


def _refuse_conditions(options: list[bytes]) -> None:
    for option in options:
        if option.upper() in _CONDITIONS:
            raise CallerError(
                f"SET with {option.upper().decode()} is not supported: two concurrent writers would both be told that "
                "they won; use KV.PUT with CTX, and KV.GET to see siblings"
            )


_SET_OPTIONS: Final[dict[bytes, Convert]] = {
    b"EX": integer_option("EX", 1, TTL_S_MAX),
    b"PX": integer_option("PX", 1, _TTL_MS_MAX),
    b"EXAT": integer_option("EXAT", 1, _UNIX_MS_MAX // 1000),
    b"PXAT": integer_option("PXAT", 1, _UNIX_MS_MAX),
    b"KEEPTTL": flag,
    b"GET": flag,
}
_CONDITIONS: Final = frozenset((b"NX", b"XX", b"IFEQ", b"IFNE", b"IFDEQ", b"IFDNE"))

COMMANDS = [
    on_key("set", set_, 3, ANY_NUMBER, "Set a key, replacing what its coordinator has seen", WRITE, "string"),
    on_key("getset", getset, 3, 3, "Set a key and answer its old value", WRITE, "string"),
    on_key("setex", setex, 4, 4, "Set a key with a lifetime in seconds", WRITE, "string"),
    on_key("psetex", psetex, 4, 4, "Set a key with a lifetime in milliseconds", WRITE, "string"),
    Command("mset", mset, 3, ANY_NUMBER, "Set several keys, each by itself", WRITE, 1, -1, 2, "string"),
    Command("del", del_, 2, ANY_NUMBER, "Delete keys", WRITE, 1, -1, 1),
    Command("unlink", del_, 2, ANY_NUMBER, "Delete keys", WRITE, 1, -1, 1),
    on_key("getdel", getdel, 2, 2, "Delete a key and answer its value", WRITE, "string"),
]
