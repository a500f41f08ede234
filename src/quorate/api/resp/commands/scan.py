"""SCAN: the keys of one bucket, page by page.

`MATCH bucket:pattern` names the bucket; without a colon it is the default bucket. Any node lists all keys, not only
those of its slots, so a cluster client that scans every node meets each key on each (SCAN allows repeats).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from quorate.api.resp import replies
from quorate.api.resp.commands.command import ANY_NUMBER, READ, Command
from quorate.api.resp.commands.options import Convert, integer, integer_option, parse_options
from quorate.api.resp.glob import Token, compile_glob, literal_prefix, matches
from quorate.core.errors import CallerError
from quorate.core.keyspace import DEFAULT_BUCKET, canonical_name, check_bucket_name
from quorate.core.limits import BUCKET_NAME_BYTES_MAX, KEY_BYTES_MAX, LIST_PAGE_KEYS_MAX
from quorate.core.store import KeysPage, KeysRequest

if TYPE_CHECKING:
    from quorate.api.resp.connection import RespConnection

_CURSOR_MAX = (1 << 63) - 1
_PATTERN_BYTES_MAX = BUCKET_NAME_BYTES_MAX + 1 + KEY_BYTES_MAX


def scan(connection: RespConnection, arguments: list[bytes]) -> None:
    cursors = connection.server.scan_cursors
    cursor = cursors.text_of(integer(arguments[1], "the cursor", 0, _CURSOR_MAX))
    options = parse_options(arguments, 2, _SCAN_OPTIONS)
    bucket, pattern = _split_pattern(options.get(b"MATCH", b"*"))
    no_match = options.get(b"TYPE", b"string").lower() != b"string"
    limit = min(options.get(b"COUNT", 10), LIST_PAGE_KEYS_MAX)
    prefix = literal_prefix(pattern)
    test = None if pattern == prefix + b"*" else compile_glob(pattern)
    slot = connection.slot()

    def on_page(page: KeysPage) -> None:
        keys = [] if no_match else _matching(page.keys, test)
        names = [canonical_name(bucket, key) for key in keys]
        number = str(cursors.number_of(page.cursor))
        slot.fill(replies.encode([number, names], slot.resp3))

    connection.store.keys(KeysRequest(bucket, prefix, limit, cursor), slot.unless_failed(on_page))


def _matching(keys: list[bytes], test: list[Token] | None) -> list[bytes]:
    return keys if test is None else [key for key in keys if matches(test, key)]


def _split_pattern(pattern: bytes) -> tuple[bytes, bytes]:
    """(bucket, pattern of its keys)."""
    name, colon, rest = pattern.partition(b":")
    if not colon:
        return DEFAULT_BUCKET, pattern
    if literal_prefix(name) != name:
        raise CallerError("MATCH must name one bucket: no wildcard may stand before the colon")
    check_bucket_name(name)
    return name, rest


def _pattern(text: bytes) -> bytes:
    if len(text) > _PATTERN_BYTES_MAX:
        raise CallerError(f"MATCH has at most {_PATTERN_BYTES_MAX} bytes; this one has {len(text)}")
    return text


_SCAN_OPTIONS: dict[bytes, Convert] = {
    b"MATCH": _pattern,
    b"COUNT": integer_option("COUNT", 1, 1 << 31),
    b"TYPE": bytes,
}

COMMANDS = [Command("scan", scan, 2, ANY_NUMBER, "A page of a bucket's keys", READ)]
