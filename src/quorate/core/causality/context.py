"""Context tokens: what a client hands back with a put, to say what it has seen.

base64url without padding of: version (1 byte) ‖ msgpack of the `Context` ‖ xxh32 of both (4 bytes). The empty context
is the empty token. Opaque to clients and safe in URLs, headers and shells; the checksum is there for truncated and
mixed-up tokens and does not authenticate, for a client that may write a key may also overwrite it.

Invariants: a token is bounded before anything is decoded; every context that `encode_context` makes, `decode_context`
accepts; a decoded context has actors of 64 bits, counters from 1, and a time that leaves room for later ones. A clock
with too many entries for a token loses its oldest epochs: a put with it then sees less than its writer did, which may
leave a sibling and cannot lose a write.

Rejected: naming the context by a digest and keeping it on the node, because any node must accept any context, also
after a restart. Refusing to encode a large clock, because its key could not be read any more (hard case 7).
"""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64
from typing import Final

import msgspec
from xxhash import xxh32_digest

from quorate.core.causality.actor import ACTOR_MAX, epoch_of
from quorate.core.errors import CallerError
from quorate.core.limits import CONTEXT_ENTRIES_MAX, CONTEXT_TOKEN_BYTES_MAX
from quorate.core.record import EMPTY_CONTEXT, Context, in_order

COUNTER_MAX: Final = (1 << 63) - 1
TIME_MAX: Final = (1 << 63) - 1

_VERSION: Final = b"\x01"
_CHECK_BYTES: Final = 4
_TO_URL: Final = bytes.maketrans(b"+/", b"-_")
_FROM_URL: Final = bytes.maketrans(b"-_+/=", b"+/!!!")

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Context).decode

_ADVICE: Final = "hand back, unchanged, the context of a get or put of this key, or leave it out"


def encode_context(context: Context) -> str:
    """The token of `context`: equal contexts have equal tokens, at most `CONTEXT_TOKEN_BYTES_MAX` long."""
    if not context.clock:
        return ""
    if len(context.clock) > CONTEXT_ENTRIES_MAX or not in_order(context.clock):
        context = _canonical(context)
    payload = _VERSION + _encode(context)
    encoded = b2a_base64(payload + xxh32_digest(payload), newline=False)
    return encoded.rstrip(b"=").translate(_TO_URL).decode("ascii")


def decode_context(token: str | bytes) -> Context:
    """The context in `token`; raises `CallerError` if it is not a token that a node made."""
    if not token:
        return EMPTY_CONTEXT
    if len(token) > CONTEXT_TOKEN_BYTES_MAX:
        raise CallerError(
            f"malformed context: {len(token)} bytes, and none is longer than {CONTEXT_TOKEN_BYTES_MAX}; {_ADVICE}"
        )
    try:
        text = token.encode("ascii") if isinstance(token, str) else token
        packed = a2b_base64(text.translate(_FROM_URL) + b"=" * (-len(text) % 4), strict_mode=True)
    except ValueError:
        raise CallerError(f"malformed context: not base64url without padding; {_ADVICE}") from None
    payload = packed[:-_CHECK_BYTES]
    if xxh32_digest(payload) != packed[-_CHECK_BYTES:]:
        raise CallerError(f"malformed context: it was cut short or changed; {_ADVICE}")
    if payload[:1] != _VERSION:
        raise CallerError(f"malformed context: not of a version that this node knows; {_ADVICE}")
    try:
        context = _decode(payload[1:])
    except (ValueError, RecursionError):  # Also what is nested too deeply, or holds no UTF-8.
        raise CallerError(f"malformed context: it does not hold a clock and a time; {_ADVICE}") from None
    _check(context)
    return context


def _check(context: Context) -> None:
    if not 1 <= len(context.clock) <= CONTEXT_ENTRIES_MAX:
        raise CallerError(
            f"malformed context: {len(context.clock)} actors, and there are 1 to {CONTEXT_ENTRIES_MAX}; {_ADVICE}"
        )
    for actor, counter in context.clock.items():
        if not (1 <= counter <= COUNTER_MAX and 1 <= actor <= ACTOR_MAX):
            raise CallerError(f"malformed context: no event can be number {counter} of actor {actor}; {_ADVICE}")
    if not 0 <= context.time <= TIME_MAX:
        raise CallerError(f"malformed context: no event can have the time {context.time}; {_ADVICE}")


def _canonical(context: Context) -> Context:
    actors = sorted(context.clock)
    if len(actors) > CONTEXT_ENTRIES_MAX:
        actors = sorted(sorted(actors, key=epoch_of)[-CONTEXT_ENTRIES_MAX:])
    return Context({actor: context.clock[actor] for actor in actors}, context.time)
