"""Questions to one certain node, for what conducts a trial: its status, its repair, its buckets.

Not the client library, which asks whichever node suits it best. Each question has a connection of its own and a bound
in time, so a node that is stopped costs no more than that.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Any

import hiredis

from quorate.client.protocol import encode
from quorate.core.errors import Unavailable
from quorate.core.limits import KIB

_READ_BYTES = 64 * KIB


async def ask(address: str, password: str, *arguments: str, timeout_s: float = 10.0) -> Any:
    """The JSON document that the node at `address` ("host:port") answers with; raises `Unavailable` if it does not."""
    try:
        async with asyncio.timeout(timeout_s):
            return await _ask(address, password, arguments)
    except (OSError, TimeoutError, hiredis.ProtocolError) as error:
        reason = str(error) or f"no answer within {timeout_s:g} s"
        raise Unavailable(f"{arguments[0]} at {address}: {reason}") from None


async def _ask(address: str, password: str, arguments: tuple[str, ...]) -> Any:
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        if password:
            await _command(reader, writer, "AUTH", password)
        return json.loads(await _command(reader, writer, *arguments))
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def _command(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *arguments: str) -> Any:
    writer.write(encode(*(argument.encode() for argument in arguments)))
    parser = hiredis.Reader()
    reply = parser.gets()
    while reply is False:
        data = await reader.read(_READ_BYTES)
        if not data:
            raise ConnectionError("the connection was closed")
        parser.feed(data)
        reply = parser.gets()
    if isinstance(reply, hiredis.ReplyError):
        raise Unavailable(f"{arguments[0]}: {reply}")
    return reply
