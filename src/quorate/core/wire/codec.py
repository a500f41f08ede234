"""The body of a frame: one msgpack list of messages, everything that was sent to a peer within one turn.

msgspec checks every type on arrival, and takes memory for a list or map only as its elements turn up, so a body cannot
make the decoder allocate what it merely declares. An empty list is a ping.
"""

from __future__ import annotations

from typing import Final

import msgspec

from quorate.core.errors import PeerError
from quorate.core.messages import Message, Read, ReadReply, Write, WriteReply
from quorate.core.wire.framing import BODY_BYTES_MAX

encode_messages: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(list[Message]).decode

PING: Final = encode_messages([])
MESSAGE_OVERHEAD_BYTES: Final = 64
"""More than what a small message, or the fields of a large one beside its body and key, take on the wire; also more
than what a list adds to its only message."""
MESSAGE_BYTES_MAX: Final = BODY_BYTES_MAX - MESSAGE_OVERHEAD_BYTES
"""A message that weighs more fits in no frame."""


def decode_messages(body: bytes | memoryview) -> list[Message]:
    """The messages in `body`; raises `PeerError` if it holds anything else."""
    try:
        return _decode(body)
    except (ValueError, RecursionError) as error:
        # ValueError is the base of msgspec's errors and of UnicodeDecodeError.
        raise PeerError(f"a frame holds no valid messages: {error}") from error


def weigh(message: Message) -> int:
    """About how many bytes `message` takes on the wire, never less: to bound queues before anything is encoded.

    The four kinds of the hot path are estimated from what they carry; the others are simply encoded.
    """
    # Exact types: `isinstance` on these classes is several times slower when the answer is no.
    if type(message) is WriteReply:
        return MESSAGE_OVERHEAD_BYTES
    if type(message) is Write:
        return MESSAGE_OVERHEAD_BYTES + len(message.body) + len(message.key)
    if type(message) is ReadReply:
        return MESSAGE_OVERHEAD_BYTES + len(message.body)
    if type(message) is Read:
        return MESSAGE_OVERHEAD_BYTES + len(message.key)
    return len(encode_messages(message))
