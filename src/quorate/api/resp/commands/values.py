"""Plain keys as values: GET, MGET, EXISTS, STRLEN, TYPE, and the lifetimes that TTL and its kin tell.

Someone who speaks plain Redis wants one value. If there are siblings, it is their winner: the latest, then the one with
the highest dot, on every node the same. Each such reply is counted (`resp_get_conflict`); KV.GET shows all siblings.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from quorate.api.resp import replies
from quorate.api.resp.commands.command import ANY_NUMBER, READ, Command, Handler, on_key
from quorate.api.resp.fan_out import FanOut
from quorate.api.resp.slots import Slot
from quorate.core.causality.dotted_version_vectors import winner
from quorate.core.keyspace import split_name
from quorate.core.limits import COMMAND_BYTES_MAX
from quorate.core.record import Sibling
from quorate.core.store import Failure, GetRequest, GetResult, Store

if TYPE_CHECKING:
    from quorate.api.resp.connection import RespConnection

_ABSENT: Final = -2
_FOR_EVER: Final = -1


class GetSlot(Slot):
    def on_result(self, result: GetResult | Failure) -> None:
        if isinstance(result, Failure):
            self.fill(replies.failure(result))
            return
        siblings = result.siblings
        if len(siblings) == 1:
            value = siblings[0].value
            self.fill(b"$%d\r\n%b\r\n" % (len(value), value))
        else:
            self.fill(bulk_of(one_of(self.connection.store, siblings), self.resp3))


def one_of(store: Store, siblings: list[Sibling]) -> Sibling | None:
    """The sibling that a plain client sees; None if there is no value."""
    if not siblings:
        return None
    if len(siblings) > 1:
        store.count("resp_get_conflict")
    return winner(siblings)


def bulk_of(sibling: Sibling | None, resp3: bool) -> bytes:
    return replies.null(resp3) if sibling is None else replies.bulk(sibling.value)


def get(connection: RespConnection, arguments: list[bytes]) -> None:
    bucket, key = split_name(arguments[1])
    slot = GetSlot(connection, connection.resp3)
    connection.pending.append(slot)
    connection.store.get(GetRequest(bucket, key), slot.on_result)


def mget(connection: RespConnection, arguments: list[bytes]) -> None:
    names = [split_name(name) for name in arguments[1:]]
    store = connection.store
    slot = connection.slot()
    total_bytes = 0

    def ask(index: int, answer: Callable[[Any], None]) -> None:
        def on_result(result: GetResult | Failure) -> None:
            nonlocal total_bytes
            if isinstance(result, Failure):
                answer(result)
                return
            body = bulk_of(one_of(store, result.siblings), slot.resp3)
            total_bytes += len(body)
            if total_bytes > COMMAND_BYTES_MAX:
                answer(Failure("caller", f"the values have more than {COMMAND_BYTES_MAX} bytes; ask for fewer keys"))
            else:
                answer(body)

        store.get(GetRequest(*names[index]), on_result)

    def done(bodies: list[Any] | Failure) -> None:
        slot.fill(replies.failure(bodies) if isinstance(bodies, Failure) else replies.array(bodies))

    FanOut(len(names), ask, done, writes=False)


def exists(connection: RespConnection, arguments: list[bytes]) -> None:
    """How many of the keys there are; a key named twice counts twice, as in Redis."""
    names = [split_name(name) for name in arguments[1:]]
    store = connection.store
    slot = connection.slot()

    def ask(index: int, answer: Callable[[Any], None]) -> None:
        def on_result(result: GetResult | Failure) -> None:
            answer(result if isinstance(result, Failure) else bool(result.siblings))

        store.get(GetRequest(*names[index]), on_result)

    def done(found: list[Any] | Failure) -> None:
        slot.fill(replies.failure(found) if isinstance(found, Failure) else replies.integer(sum(found)))

    FanOut(len(names), ask, done, writes=False)


def _told_of_one(tell: Callable[[RespConnection, Sibling | None], bytes]) -> Handler:
    """A command that reads one key and tells something about its value."""

    def handler(connection: RespConnection, arguments: list[bytes]) -> None:
        bucket, key = split_name(arguments[1])
        slot = connection.slot()

        def on_result(result: GetResult) -> None:
            slot.fill(tell(connection, one_of(connection.store, result.siblings)))

        connection.store.get(GetRequest(bucket, key), slot.unless_failed(on_result))

    return handler


def _length(_: RespConnection, sibling: Sibling | None) -> bytes:
    return replies.integer(0 if sibling is None else len(sibling.value))


def _type(_: RespConnection, sibling: Sibling | None) -> bytes:
    return b"+none\r\n" if sibling is None else b"+string\r\n"


def _lifetime(tell: Callable[[int, int], int]) -> Handler:
    """TTL and its kin: `tell(expiry_ms, now_ms)` for a value that has an end."""

    def told(connection: RespConnection, sibling: Sibling | None) -> bytes:
        if sibling is None:
            return replies.integer(_ABSENT)
        if not sibling.expiry_ms:
            return replies.integer(_FOR_EVER)
        return replies.integer(tell(sibling.expiry_ms, connection.server.clock.wall_ms()))

    return _told_of_one(told)


_ttl: Final = _lifetime(lambda expiry_ms, now_ms: max(0, expiry_ms - now_ms + 500) // 1000)
_pttl: Final = _lifetime(lambda expiry_ms, now_ms: max(0, expiry_ms - now_ms))
_expiretime: Final = _lifetime(lambda expiry_ms, _: expiry_ms // 1000)
_pexpiretime: Final = _lifetime(lambda expiry_ms, _: expiry_ms)

COMMANDS = [
    on_key("get", get, 2, 2, "The value of a key", READ, "string"),
    Command("mget", mget, 2, ANY_NUMBER, "The values of several keys", READ, 1, -1, 1, "string"),
    Command("exists", exists, 2, ANY_NUMBER, "How many of these keys exist", READ, 1, -1, 1),
    on_key("strlen", _told_of_one(_length), 2, 2, "The size of a value in bytes", READ, "string"),
    on_key("type", _told_of_one(_type), 2, 2, "'string' if the key exists, else 'none'", READ, "generic"),
    on_key("ttl", _ttl, 2, 2, "Seconds until the value expires", READ, "generic"),
    on_key("pttl", _pttl, 2, 2, "Milliseconds until the value expires", READ, "generic"),
    on_key("expiretime", _expiretime, 2, 2, "Unix seconds at which the value expires", READ, "generic"),
    on_key("pexpiretime", _pexpiretime, 2, 2, "Unix milliseconds at which the value expires", READ, "generic"),
]
