"""The body of a frame: one msgpack list of messages, everything that was sent to a peer within one turn.

msgspec checks every type on arrival, and takes memory for a list or map only as its elements turn up, so a body cannot
make the decoder allocate what it merely declares. An empty list is a ping.
"""

from __future__ import annotations

from typing import Final

import msgspec

from quorate.core.errors import PeerError
from quorate.core.limits import BUCKET_NAME_BYTES_MAX, KEY_BYTES_MAX, KIB
from quorate.core.messages import Message, Read, ReadReply, Write, WriteReply
from quorate.core.wire.framing import BODY_BYTES_MAX, Body

encode_messages: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(list[Message]).decode

PING: Final = encode_messages([])
LIGHT_BYTES: Final = 2 * KIB
"""More than a message takes on the wire beside its body (its numbers, and a key), list header included."""
MESSAGE_BYTES_MAX: Final = BODY_BYTES_MAX - LIGHT_BYTES
"""A message that weighs more fits in no frame."""


def decode_messages(body: Body) -> list[Message]:
    """The messages in `body`; raises `PeerError` if it holds anything else."""
    try:
        return _decode(body)
    except (ValueError, RecursionError) as error:
        # ValueError is the base of msgspec's errors and of UnicodeDecodeError.
        raise PeerError(f"a frame holds no valid messages: {error}") from error


def weigh(message: Message) -> int:
    """About how many bytes `message` takes on the wire, never less: to bound queues before anything is encoded.

    The four kinds of the hot path are judged by what they carry (a bound on small messages need not be tight); the
    others are simply encoded.
    """
    # Exact types: `isinstance` on these classes is several times slower when the answer is no.
    if type(message) is WriteReply or type(message) is Read:
        return LIGHT_BYTES
    if type(message) is Write or type(message) is ReadReply:
        return LIGHT_BYTES + len(message.body)
    return LIGHT_BYTES + len(encode_messages(message))


assert KEY_BYTES_MAX + BUCKET_NAME_BYTES_MAX + 256 < LIGHT_BYTES
