"""A candidate's side of the peer port: one question to one member, over a connection of its own.

A candidate listens nowhere and keeps no connection: each question dials, proves the secret, sends one `Candidacy`,
takes the answer, and leaves. So nothing has to be kept alive or replaced, and a member that hangs costs its own time
limit.

Rejected: the transport itself in the role of a candidate (it needs members with numbers, and a listener).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from quorate.core.limits import CANDIDACY_TIMEOUT_MS, FRAME_BYTES_MAX, HANDSHAKE_FRAME_BYTES_MAX, KIB
from quorate.core.messages import Candidacy, CandidacyReply
from quorate.core.ports import Rng
from quorate.core.wire.address import split_address
from quorate.core.wire.codec import decode_messages, encode_messages
from quorate.core.wire.framing import FrameReader, frame_header
from quorate.core.wire.handshake import CANDIDATE, NONCE_BYTES, Handshake, Identity, Role

_CHUNK_BYTES = 256 * KIB


class Answer(NamedTuple):
    """What one member said."""

    member: int
    """Its number."""
    name: str
    cluster_id: str
    reply: CandidacyReply


async def ask(address: str, candidacy: Candidacy, secret: bytes, cluster_id: str, rng: Rng) -> Answer:
    """Present `candidacy` to the member at `address` (host:port) and take its answer.

    `cluster_id` is the cluster that the candidate wants into, empty if it does not know. Raises `HandshakeRefused` if
    one of the two refuses the other, another `PeerError` if the peer is no member, `OSError` if there is no connection
    or it breaks, `TimeoutError` (an `OSError`) after `CANDIDACY_TIMEOUT_MS`.
    """
    identity = Identity(cluster_id, CANDIDATE, candidacy.id, candidacy.name)
    handshake = Handshake(Role.DIALER, identity, secret, {}, rng.token_bytes(NONCE_BYTES))
    async with asyncio.timeout(CANDIDACY_TIMEOUT_MS / 1000), _connected(address) as link:
        body = handshake.start()
        while body is not None:
            link.write(body)
            body = handshake.receive(await link.frame())
        peer = handshake.peer
        assert peer is not None
        link.grow()
        link.write(encode_messages([candidacy]))
        while True:
            for message in decode_messages(await link.frame()):
                if isinstance(message, CandidacyReply):
                    return Answer(peer.number, peer.name, handshake.peer_cluster_id, message)


class _Link:
    """Frames over one stream."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._frames = FrameReader(HANDSHAKE_FRAME_BYTES_MAX)
        self._arrived: list[bytes] = []

    def write(self, body: bytes) -> None:
        self._writer.write(frame_header(len(body), time.monotonic() * 1000) + body)

    def grow(self) -> None:
        """The peer has proved itself: it may send more at once."""
        self._frames.limit_bytes = FRAME_BYTES_MAX

    async def frame(self) -> bytes:
        while not self._arrived:
            chunk = await self._reader.read(_CHUNK_BYTES)
            if not chunk:
                raise ConnectionResetError("the member closed the connection")
            self._arrived.extend(bytes(body) for _, body in self._frames.frames(chunk))
        return self._arrived.pop(0)


@asynccontextmanager
async def _connected(address: str) -> AsyncIterator[_Link]:
    host, port = split_address(address)
    reader, writer = await asyncio.open_connection(host, port)
    try:
        yield _Link(reader, writer)
    finally:
        writer.close()
