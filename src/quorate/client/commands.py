"""From the arguments of a call to a command: checked here, once, for both clients.

What is wrong with a call is said before anything is sent. Keys are text or bytes; a listing gives keys as text in
which bytes that are not UTF-8 are escaped, so that what was listed can be passed back and names the same key.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from quorate.client.protocol import Command, Safety, encode, option
from quorate.client.ring_told import RingTold
from quorate.client.values import Codec, encode_value
from quorate.core.buckets import TTL_S_MAX
from quorate.core.errors import CallerError, PeerError
from quorate.core.keyspace import canonical_name, check_bucket_name, check_key, slot_of_name
from quorate.core.limits import (
    CONTEXT_TOKEN_BYTES_MAX,
    LIST_PAGE_KEYS_MAX,
    REPLICAS_MAX,
    REQUEST_TIMEOUT_MAX_MS,
    SEEDS_MAX,
    SLOTS,
)
from quorate.core.ring.metadata import read_ring
from quorate.core.ring.ring import Ring

Key = str | bytes
Context = str | bytes

CLUSTER_TIMEOUT_MIN_MS: Final = 5_000
UPDATE_ATTEMPTS_MAX: Final = 100

_PUT: Final = b"*%d\r\n$6\r\nKV.PUT\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n$2\r\nOP\r\n$19\r\n%d\r\n%b"
_PUT_WITH_CONTEXT: Final = (
    b"*9\r\n$6\r\nKV.PUT\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n$2\r\nOP\r\n$19\r\n%d\r\n$3\r\nCTX\r\n$%d\r\n%b\r\n"
)
"""What most puts are, in one go."""
_DELETE: Final = b"*%d\r\n$6\r\nKV.DEL\r\n$%d\r\n%b\r\n$2\r\nOP\r\n$19\r\n%d\r\n%b"
_EMPTY_TIMEOUT: Final = option(b"TIMEOUT", b"")
_STRICT: Final = b"$6\r\nSTRICT\r\n"
_GET: Final = b"*%d\r\n$6\r\nKV.GET\r\n$%d\r\n%b\r\n%b"

OPERATION_ID_MIN: Final = 10**18
OPERATION_ID_FIRST_MAX: Final = 9 * 10**18
"""Operation ids have 19 digits and fit in 63 bits. A client counts up from a random one, so that two clients' ids
meet by chance only, and then do harm only if it is on the same key within its siblings' lives."""


def bucket_of(name: str | bytes) -> bytes:
    """The bytes of a bucket's name; raises `CallerError` if it is none."""
    bucket = name.encode() if isinstance(name, str) else bytes(name)
    check_bucket_name(bucket)
    return bucket


def name_of(bucket: bytes, key: object) -> bytes:
    """The canonical RESP name of a key; raises `CallerError` if it is none.

    What callers hand in has the type `object` here: compiled code would raise a `TypeError` of its own for anything but
    the types that it was promised, before it could be told what is wrong.
    """
    if isinstance(key, str):
        data = key.encode("utf-8", "surrogateescape")
    elif isinstance(key, bytes):
        data = key
    else:
        raise CallerError(f"a key is str or bytes, not {type(key).__name__}")
    check_key(data)
    return canonical_name(bucket, data)


def key_text(key: bytes) -> str:
    """A key as listings show it; `name_of` takes it back."""
    return key.decode("utf-8", "surrogateescape")


def get_command(bucket: bytes, key: object, r: object) -> Command:
    name = name_of(bucket, key)
    options = b""
    count = 4
    if r is not None:
        options = _quorum(b"R", r)
        count = 6
    head = _GET % (count, len(name), name, options)
    return Command("KV.GET", head, list, Safety.READ, slot_of_name(name), True)


def put_command(
    bucket: bytes,
    key: object,
    value: Any,
    operation: int,
    context: object,
    w: object,
    ttl: object,
    content_type: str | None,
    codec: Codec | None,
    strict: bool,
) -> Command:
    name = name_of(bucket, key)
    if value.__class__ is bytes and codec is None and content_type is None:
        data, content_type = value, ""
    else:
        data, content_type = encode_value(value, content_type, codec)
    if context is not None and not content_type and w is None and ttl is None and not strict:
        token = _token(context)
        head = _PUT_WITH_CONTEXT % (len(name), name, len(data), data, operation, len(token), token)
        return Command("KV.PUT", head, bytes, Safety.REPLAYABLE, slot_of_name(name), True)
    count = 7
    options = b""
    if content_type:
        options = option(b"TYPE", content_type.encode())
        count += 2
    if context is not None or w is not None:
        options += _write_options(context, w)
        count += 2 * ((context is not None) + (w is not None))
    if ttl is not None:
        options += option(b"TTL", _seconds(ttl))
        count += 2
    if strict:
        options += _STRICT
        count += 1
    head = _PUT % (count, len(name), name, len(data), data, operation, options)
    return Command("KV.PUT", head, bytes, Safety.REPLAYABLE, slot_of_name(name), True)


def delete_command(bucket: bytes, key: object, operation: int, context: object, w: object, strict: bool) -> Command:
    name = name_of(bucket, key)
    count = 6 + 2 * ((context is not None) + (w is not None)) + strict
    options = _write_options(context, w) + (_STRICT if strict else b"")
    head = _DELETE % (count, len(name), name, operation, options)
    return Command("KV.DEL", head, bytes, Safety.REPLAYABLE, slot_of_name(name), True)


def keys_command(bucket: bytes, prefix: Key, limit: int, cursor: str) -> Command:
    start = prefix.encode("utf-8", "surrogateescape") if isinstance(prefix, str) else prefix
    arguments = [b"KV.KEYS", bucket, b"LIMIT", b"%d" % limit]
    if start:
        arguments += [b"PREFIX", start]
    if cursor:
        arguments += [b"CURSOR", cursor.encode()]
    head = encode(*arguments, b"TIMEOUT", b"")[: -len(_EMPTY_TIMEOUT)]
    return Command("KV.KEYS", head, list, Safety.READ, timed=True)


def page_size(limit: int | None) -> int:
    """How many keys to ask for when `limit` more are wanted (None: all)."""
    if limit is None:
        return LIST_PAGE_KEYS_MAX
    if not isinstance(limit, int) or limit < 1:
        raise CallerError(f"limit must be a number of keys from 1; got {limit!r}")
    return min(limit, LIST_PAGE_KEYS_MAX)


def page_of_reply(reply: list[Any]) -> tuple[list[str], str]:
    """(keys, next cursor) of a reply to KV.KEYS; an empty cursor: this was the last page."""
    try:
        cursor, keys = reply
        return [key_text(key) for key in keys], "" if cursor is None else cursor.decode("ascii")
    except (TypeError, ValueError, AttributeError):
        raise PeerError("the node's reply to KV.KEYS has not the shape [cursor, [key …]]") from None


def where_command(bucket: bytes, key: object) -> Command:
    name = name_of(bucket, key)
    return Command("KV.WHERE", encode(b"KV.WHERE", name), bytes, Safety.READ, slot_of_name(name))


def status_command() -> Command:
    return Command("KV.STATUS", encode(b"KV.STATUS"), bytes, Safety.READ)


def buckets_command() -> Command:
    return Command("KV.BUCKETS", encode(b"KV.BUCKETS"), bytes, Safety.READ)


def bucket_command(bucket: bytes, changes: Mapping[str, Any]) -> Command:
    """Show a bucket's properties, or with `changes` change them."""
    arguments = [f"{name}={value}".encode() for name, value in changes.items()]
    safety = Safety.ONCE if changes else Safety.READ
    return Command("KV.BUCKET", encode(b"KV.BUCKET", bucket, *arguments), bytes, safety)


def ring_command(known_version: int | None) -> Command:
    """Ask for the ring, if `known_version` is given only for a newer one (null: there is none)."""
    arguments = [b"KV.RING"] if known_version is None else [b"KV.RING", b"%d" % known_version]
    return Command("KV.RING", encode(*arguments), bytes, Safety.READ, nullable=True)


def ping_command() -> Command:
    return Command("PING", encode(b"PING"), bytes, Safety.READ)


def authentication_command(password: str) -> Command:
    return Command("AUTH", encode(b"AUTH", password.encode()), bytes, Safety.READ)


def cluster_command() -> Command:
    """Ask the node which cluster it belongs to."""
    return Command("KV.CLUSTER", encode(b"KV.CLUSTER"), bytes, Safety.READ)


def object_of_reply(command: Command, reply: bytes) -> dict[str, Any]:
    """The JSON object in a reply; raises `PeerError` if it holds none."""
    try:
        return msgspec.json.decode(reply, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise PeerError(f"the node's reply to {command.verb} is not a JSON object: {error}") from None


def ring_of_reply(reply: bytes) -> tuple[Ring, int]:
    """(the ring as readers see it, the defaults' n or 0) in a reply to KV.RING.

    Raises `PeerError` unless the ring is one that can be walked. What it says about a change under way is left out:
    who is going to be read from comes with a later version.
    """
    try:
        told = msgspec.json.decode(reply, type=RingTold)
    except (msgspec.DecodeError, RecursionError) as error:
        raise PeerError(f"the node's reply to KV.RING is not a ring: {error}") from None
    side = read_ring(told)
    ring = Ring(told.cluster_id, told.version, side.members, side.owners)
    partitions = ring.partitions
    if not 1 <= partitions <= SLOTS or partitions & (partitions - 1):
        raise PeerError(f"a ring has a power of two of partitions; this one has {partitions}")
    if not {member.number for member in ring.members}.issuperset(ring.owners):
        raise PeerError("the ring names an owner that is no member")
    return ring, told.default_n if 1 <= told.default_n <= REPLICAS_MAX else 0


def check_timeout(timeout_ms: float) -> float:
    if isinstance(timeout_ms, int | float) and 1 <= timeout_ms <= REQUEST_TIMEOUT_MAX_MS:
        return timeout_ms
    raise CallerError(f"timeout_ms must be from 1 to {REQUEST_TIMEOUT_MAX_MS}; got {timeout_ms!r}")


def patient_ms(timeout_ms: float) -> float:
    """The time limit of what asks the whole cluster, for a client whose calls have `timeout_ms`."""
    return max(timeout_ms, CLUSTER_TIMEOUT_MIN_MS)


def first_operation_id() -> int:
    """Where a client's operation ids begin. Taken from the operating system: two processes never share a sequence."""
    return OPERATION_ID_MIN + secrets.randbelow(OPERATION_ID_FIRST_MAX - OPERATION_ID_MIN)


def check_attempts(attempts: int) -> int:
    if isinstance(attempts, int) and 1 <= attempts <= UPDATE_ATTEMPTS_MAX:
        return attempts
    raise CallerError(f"attempts must be from 1 to {UPDATE_ATTEMPTS_MAX}; got {attempts!r}")


def seed_addresses(seeds: str | Sequence[str]) -> list[str]:
    """The addresses in "host:port,host:port", or in a sequence of such; raises `CallerError` if one is malformed."""
    texts = seeds.split(",") if isinstance(seeds, str) else list(seeds)
    addresses = list(dict.fromkeys(text.strip() for text in texts if text.strip()))
    if not 1 <= len(addresses) <= SEEDS_MAX:
        raise CallerError(f"give 1 to {SEEDS_MAX} addresses host:port of nodes; got {len(addresses)}")
    for address in addresses:
        split_address(address)
    return addresses


def split_address(address: str) -> tuple[str, int]:
    """(host, port) of "host:port" or "[IPv6]:port"; raises `CallerError` otherwise."""
    host, colon, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (colon and host and port.isascii() and port.isdigit() and 1 <= int(port) <= 65_535):
        raise CallerError(f"'{address}' is not the address of a node; it should look like 127.0.0.1:7401")
    return host, int(port)


def _write_options(context: object, w: object) -> bytes:
    options = b"" if context is None else option(b"CTX", _token(context))
    return options if w is None else options + _quorum(b"W", w)


def _token(context: object) -> bytes:
    token = context.encode("ascii", "replace") if isinstance(context, str) else context
    if not isinstance(token, bytes):
        raise CallerError(f"a context is what a get or a put has given; got a {type(context).__name__}")
    if len(token) > CONTEXT_TOKEN_BYTES_MAX:
        raise CallerError(f"a context has at most {CONTEXT_TOKEN_BYTES_MAX} bytes; this one has {len(token)}")
    return token


def _quorum(name: bytes, count: object) -> bytes:
    if not isinstance(count, int) or not 1 <= count <= REPLICAS_MAX:
        raise CallerError(f"{name.decode().lower()} must be from 1 to {REPLICAS_MAX}; got {count!r}")
    return option(name, b"%d" % count)


def _seconds(ttl: object) -> bytes:
    if not isinstance(ttl, int) or not 0 <= ttl <= TTL_S_MAX:
        raise CallerError(f"ttl must be a whole number of seconds from 0 (for ever) to {TTL_S_MAX}; got {ttl!r}")
    return b"%d" % ttl
