"""KV.GET, KV.PUT, KV.DEL: the store as it is, with contexts and siblings.

A context travels as an opaque token, the empty string standing for "nothing seen". A put without one is concurrent with
everything there is; a delete without one would then delete nothing, so it takes what its coordinator has seen.

    KV.GET key [R n] [TIMEOUT ms]                     -> [context, [[value, content-type, unix-ms] ...]]
    KV.PUT key value [CTX c] [W n] [TTL s] [TYPE content-type] [OP id] [STRICT] [TIMEOUT ms]   -> context
    KV.DEL key [CTX c] [W n] [OP id] [STRICT] [TIMEOUT ms]                                     -> context
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from xxhash import xxh3_64_intdigest

from quorate.api.resp import replies
from quorate.api.resp.commands.command import ANY_NUMBER, READ, WRITE, on_key
from quorate.api.resp.commands.options import Convert, flag, integer_option, parse_options
from quorate.api.resp.slots import Slot
from quorate.core.buckets import TTL_S_MAX
from quorate.core.causality.context import decode_context, encode_context
from quorate.core.errors import CallerError
from quorate.core.keyspace import split_name
from quorate.core.limits import CONTENT_TYPE_BYTES_MAX, OPERATION_ID_BYTES_MAX, REPLICAS_MAX, REQUEST_TIMEOUT_MAX_MS
from quorate.core.record import Sibling
from quorate.core.store import Failure, GetRequest, GetResult, PutRequest, PutResult

if TYPE_CHECKING:
    from quorate.api.resp.connection import RespConnection


class KvGetSlot(Slot):
    def on_result(self, result: GetResult | Failure) -> None:
        if isinstance(result, Failure):
            self.fill(replies.failure(result))
            return
        token = encode_context(result.context).encode()
        siblings = result.siblings
        body = b"".join([_sibling(sibling) for sibling in siblings])
        self.fill(b"*2\r\n$%d\r\n%b\r\n*%d\r\n%b" % (len(token), token, len(siblings), body))


class KvPutSlot(Slot):
    def on_result(self, result: PutResult | Failure) -> None:
        if isinstance(result, Failure):
            self.fill(replies.failure(result))
        else:
            self.fill(replies.bulk(encode_context(result.context).encode("ascii")))


def _sibling(sibling: Sibling) -> bytes:
    value = sibling.value
    content_type = sibling.content_type.encode()
    return b"*3\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n:%d\r\n" % (
        len(value),
        value,
        len(content_type),
        content_type,
        sibling.time >> 16,
    )


def kv_get(connection: RespConnection, arguments: list[bytes]) -> None:
    bucket, key = split_name(arguments[1])
    if len(arguments) == 2:
        request = GetRequest(bucket, key)
    else:
        options = parse_options(arguments, 2, _GET_OPTIONS)
        request = GetRequest(bucket, key, options.get(b"R", 0), options.get(b"TIMEOUT", 0))
    slot = KvGetSlot(connection, connection.resp3)
    connection.pending.append(slot)
    connection.store.get(request, slot.on_result)


def kv_put(connection: RespConnection, arguments: list[bytes]) -> None:
    bucket, key = split_name(arguments[1])
    value = arguments[2]
    check_value(connection, value)
    if len(arguments) == 3:
        request = PutRequest(bucket, key, value)
    else:
        options = parse_options(arguments, 3, _PUT_OPTIONS)
        request = PutRequest(
            bucket,
            key,
            value,
            options.get(b"TYPE", ""),
            options.get(b"CTX"),
            options.get(b"W", 0),
            options.get(b"TTL", -1),
            options.get(b"OP", 0),
            options.get(b"TIMEOUT", 0),
            strict=b"STRICT" in options,
        )
    put(connection, request)


def kv_del(connection: RespConnection, arguments: list[bytes]) -> None:
    bucket, key = split_name(arguments[1])
    options = parse_options(arguments, 2, _DEL_OPTIONS)
    context = options.get(b"CTX")
    request = PutRequest(
        bucket,
        key,
        context=context,
        w=options.get(b"W", 0),
        operation=options.get(b"OP", 0),
        timeout_ms=options.get(b"TIMEOUT", 0),
        delete=True,
        overwrite_seen=context is None,
        strict=b"STRICT" in options,
    )
    put(connection, request)


def put(connection: RespConnection, request: PutRequest) -> None:
    """Put, and answer with the new context."""
    size = len(request.value)
    connection.held_bytes += size
    slot = KvPutSlot(connection, connection.resp3, size)
    connection.pending.append(slot)
    connection.store.put(request, slot.on_result)


def check_value(connection: RespConnection, value: bytes) -> None:
    """Refuse a value above the limit; the connection stays usable."""
    value_bytes_max = connection.server.value_bytes_max
    if len(value) > value_bytes_max:
        raise CallerError(f"a value has at most {value_bytes_max} bytes; this one has {len(value)}")


def _content_type(text: bytes) -> str:
    if len(text) > CONTENT_TYPE_BYTES_MAX:
        raise CallerError(f"TYPE has at most {CONTENT_TYPE_BYTES_MAX} bytes; this one has {len(text)}")
    content_type = text.decode("latin-1")
    if not (content_type.isascii() and content_type.isprintable()):
        raise CallerError("TYPE must be printable ASCII, such as application/json")
    return content_type


def _operation(text: bytes) -> int:
    """An operation id as the record keeps it: 64 bits, never 0, which means none."""
    if not 1 <= len(text) <= OPERATION_ID_BYTES_MAX:
        raise CallerError(f"OP has 1 to {OPERATION_ID_BYTES_MAX} bytes; this one has {len(text)}")
    return xxh3_64_intdigest(text) or 1


def _ttl_ms(text: bytes) -> int:
    return int(_ttl_s(text)) * 1000


_ttl_s: Final = integer_option("TTL (seconds)", 0, TTL_S_MAX)
_timeout: Final = integer_option("TIMEOUT (ms)", 1, REQUEST_TIMEOUT_MAX_MS)

_GET_OPTIONS: Final[dict[bytes, Convert]] = {b"R": integer_option("R", 1, REPLICAS_MAX), b"TIMEOUT": _timeout}
_DEL_OPTIONS: Final[dict[bytes, Convert]] = {
    b"CTX": decode_context,
    b"W": integer_option("W", 1, REPLICAS_MAX),
    b"OP": _operation,
    b"STRICT": flag,
    b"TIMEOUT": _timeout,
}
_PUT_OPTIONS: Final[dict[bytes, Convert]] = {**_DEL_OPTIONS, b"TTL": _ttl_ms, b"TYPE": _content_type}

COMMANDS = [
    on_key("kv.get", kv_get, 2, ANY_NUMBER, "All siblings of a key and their context", READ, "kv"),
    on_key("kv.put", kv_put, 3, ANY_NUMBER, "Put a value that replaces what the context has seen", WRITE, "kv"),
    on_key("kv.del", kv_del, 2, ANY_NUMBER, "Delete what the context has seen", WRITE, "kv"),
]
