"""KV.WHERE, KV.KEYS, KV.STATUS, KV.STALENESS, KV.RING, KV.CLUSTER, KV.BUCKETS, KV.BUCKET, KV.REPAIR: what tools and
clients ask.

Documents are JSON in a bulk string, so that a new field breaks no client.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from quorate.api.resp import replies
from quorate.api.resp.commands.command import ADMIN, ANY_NUMBER, CONNECTION, READ, Command, on_key
from quorate.api.resp.commands.options import Convert, integer, integer_option, parse_options
from quorate.core.errors import CallerError
from quorate.core.keyspace import check_bucket_name, split_name
from quorate.core.limits import KEY_BYTES_MAX, LIST_PAGE_KEYS_MAX, REQUEST_TIMEOUT_MAX_MS
from quorate.core.store import Admin, Failure, KeysPage, KeysRequest

if TYPE_CHECKING:
    from quorate.api.resp.connection import RespConnection

_RING_VERSION_MAX = (1 << 63) - 1
_NO_BUCKET = b""
"""No bucket has this name, so its properties are the defaults."""
_CURSOR_BYTES_MAX = 4 * KEY_BYTES_MAX


def kv_where(connection: RespConnection, arguments: list[bytes]) -> None:
    bucket, key = split_name(arguments[1])
    slot = connection.slot()
    connection.store.where(bucket, key, lambda result: slot.fill(replies.document(result)))


def kv_status(connection: RespConnection, arguments: list[bytes]) -> None:
    slot = connection.slot()
    connection.store.status(lambda result: slot.fill(replies.document(result)))


def kv_staleness(connection: RespConnection, arguments: list[bytes]) -> None:
    """`KV.STALENESS [bucket]`: how soon reads see writes; without a bucket, where the defaults hold."""
    bucket = arguments[1] if len(arguments) == 2 else b""
    if len(arguments) == 2:
        check_bucket_name(bucket)
    slot = connection.slot()

    def on_result(result: Admin | Failure) -> None:
        slot.fill(replies.document(result))

    connection.store.staleness(bucket, on_result)


def kv_keys(connection: RespConnection, arguments: list[bytes]) -> None:
    bucket = arguments[1]
    check_bucket_name(bucket)
    options = parse_options(arguments, 2, _KEYS_OPTIONS)
    request = KeysRequest(
        bucket,
        options.get(b"PREFIX", b""),
        options.get(b"LIMIT", 100),
        options.get(b"CURSOR", ""),
        options.get(b"TIMEOUT", 0),
    )
    slot = connection.slot()

    def on_page(page: KeysPage | Failure) -> None:
        if isinstance(page, Failure):
            slot.fill(replies.failure(page))
        else:
            slot.fill(replies.encode([page.cursor, page.keys], slot.resp3))

    connection.store.keys(request, on_page)


def kv_ring(connection: RespConnection, arguments: list[bytes]) -> None:
    """The ring with all that is in it and the defaults' n, or null if the client's version of it is not older.

    Our clients go by `core.ring.metadata.read_ring` of it. How many replicas the keys of most buckets have was decided
    with the ring, and does not follow from its members once these have changed.
    """
    known = integer(arguments[1], "the version", 0, _RING_VERSION_MAX) if len(arguments) == 2 else -1
    ring = connection.store.ring()
    if ring.version <= known:
        connection.reply(replies.null(connection.resp3))
        return
    default_n = connection.store.bucket_properties(_NO_BUCKET).n
    connection.reply(replies.json({**msgspec.structs.asdict(ring), "default_n": default_n}))


def kv_cluster(connection: RespConnection, arguments: list[bytes]) -> None:
    """The cluster's id. Our clients ask on every new connection, so as to notice another cluster (hard case 20)."""
    connection.reply(replies.bulk(connection.store.ring().cluster_id.encode()))


def kv_buckets(connection: RespConnection, arguments: list[bytes]) -> None:
    buckets = connection.store.buckets()
    connection.reply(replies.json({bucket.decode(errors="replace"): buckets[bucket] for bucket in sorted(buckets)}))


def kv_bucket(connection: RespConnection, arguments: list[bytes]) -> None:
    """Show a bucket's properties, or change them: `KV.BUCKET carts n=3 conflicts=lww`."""
    bucket = arguments[1]
    check_bucket_name(bucket)
    if len(arguments) == 2:
        connection.reply(replies.json(connection.store.bucket_properties(bucket)))
        return
    changes: dict[str, str] = {}
    for argument in arguments[2:]:
        name, equals, value = argument.decode(errors="replace").partition("=")
        if not equals:
            raise CallerError(f"'{name[:32]}' is no property=value, such as n=3")
        if name in changes:
            raise CallerError(f"property '{name[:32]}' is given twice")
        changes[name] = value
    slot = connection.slot()

    def on_result(result: Admin | Failure) -> None:
        slot.fill(replies.document(result))

    connection.store.set_bucket(bucket, changes, on_result)


def kv_repair(connection: RespConnection, arguments: list[bytes]) -> None:
    """`KV.REPAIR START [bucket]` begins a pass of anti-entropy on this node, `KV.REPAIR STATUS` tells of it."""
    action = arguments[1].upper()
    bucket = arguments[2] if len(arguments) == 3 else b""
    if action not in (b"START", b"STATUS") or (action == b"STATUS" and bucket):
        raise CallerError("KV.REPAIR takes START, or START and a bucket, or STATUS")
    if len(arguments) == 3:
        check_bucket_name(bucket)
    slot = connection.slot()

    def on_result(result: Admin | Failure) -> None:
        slot.fill(replies.document(result))

    if action == b"START":
        connection.store.repair(bucket, on_result)
    else:
        connection.store.repair_status(on_result)


def _prefix(text: bytes) -> bytes:
    if len(text) > KEY_BYTES_MAX:
        raise CallerError(f"PREFIX has at most {KEY_BYTES_MAX} bytes; this one has {len(text)}")
    return text


def _cursor(text: bytes) -> str:
    if len(text) > _CURSOR_BYTES_MAX or not text.isascii():
        raise CallerError("CURSOR is none that an earlier KV.KEYS gave; begin again without it")
    return text.decode("ascii")


_KEYS_OPTIONS: dict[bytes, Convert] = {
    b"PREFIX": _prefix,
    b"LIMIT": integer_option("LIMIT", 1, LIST_PAGE_KEYS_MAX),
    b"CURSOR": _cursor,
    b"TIMEOUT": integer_option("TIMEOUT (ms)", 1, REQUEST_TIMEOUT_MAX_MS),
}

COMMANDS = [
    on_key("kv.where", kv_where, 2, 2, "Where a key lives and what each replica holds", READ, "kv"),
    Command("kv.keys", kv_keys, 2, ANY_NUMBER, "A page of a bucket's keys", READ, group="kv"),
    Command("kv.status", kv_status, 1, 1, "The cluster as this node sees it", ADMIN, group="kv"),
    Command(
        "kv.staleness", kv_staleness, 1, 2, "How soon reads see writes, by this node's measurements", ADMIN, group="kv"
    ),
    Command("kv.ring", kv_ring, 1, 2, "The ring, if it is newer than the given version", ADMIN, group="kv"),
    Command("kv.cluster", kv_cluster, 1, 1, "The id of the cluster that this node belongs to", CONNECTION, group="kv"),
    Command("kv.repair", kv_repair, 2, 3, "One pass of anti-entropy on this node, and its progress", ADMIN, group="kv"),
    Command("kv.buckets", kv_buckets, 1, 1, "Buckets whose properties were set", ADMIN, group="kv"),
    Command("kv.bucket", kv_bucket, 2, 66, "Show or change a bucket's properties", ADMIN, group="kv"),
]
