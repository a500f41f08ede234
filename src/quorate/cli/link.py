"""One connection to one node, for commands that ask a question and end.

Deliberately not the client library: a command makes one or two requests, so learning the ring first would cost more
than the node's forwarding does, and `--node` has to mean this node and no other. The parser is hiredis; the errors
are the tree of `quorate.core.errors`, told apart by the first word of the reply as Redis clients do.
"""

from __future__ import annotations

import json
import re
import socket
from types import TracebackType
from typing import Any

import hiredis

from quorate.core.errors import CallerError, OutcomeUnknown, Overloaded, PeerError, QuorateError, Unavailable
from quorate.core.limits import REQUEST_TIMEOUT_MAX_MS
from quorate.server.addresses import parse_address

CONNECT_TIMEOUT_S = 5.0
REPLY_TIMEOUT_S = REQUEST_TIMEOUT_MAX_MS / 1000 + 5.0
"""Longer than any deadline a node keeps: only a node that hangs is given up on our side."""
_READ_BYTES = 64 * 1024

_ERROR_KINDS: dict[str, type[QuorateError]] = {
    "ERR": CallerError,
    "UNAVAILABLE": Unavailable,
    "UNKNOWN": OutcomeUnknown,
}
_RETRY_AFTER = re.compile(r"retry-after-ms=(\d{1,9})\s*")


class Link:
    """A connection to the node at `address` ("host:port"); raises `Unavailable` if none answers there."""

    def __init__(self, address: str, password: str | None = None, reply_timeout_s: float = REPLY_TIMEOUT_S) -> None:
        self.address = address
        host, port = parse_address(address, "--node")
        try:
            self._socket = socket.create_connection((host, port), CONNECT_TIMEOUT_S)
        except OSError as error:
            raise Unavailable(
                f"no node answers at {address} ({_words(error)}); start a cluster with `quorate up`, "
                "or name a running node with --node"
            ) from None
        self._socket.settimeout(reply_timeout_s)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = hiredis.Reader()
        if password:
            try:
                self.command("AUTH", password)
            except QuorateError:
                self.close()
                raise

    def command(self, *arguments: bytes | str | int, write: bool = False) -> Any:
        """The reply to one command: bytes, int, None or a list of such.

        Raises the error that the node reports. If the connection is lost first: `OutcomeUnknown` for a `write`,
        `Unavailable` for anything else.
        """
        try:
            self._socket.sendall(encode_command(arguments))
            reply = self._reader.gets()
            while reply is False:
                data = self._socket.recv(_READ_BYTES)
                if not data:
                    raise ConnectionError("connection closed by the node")
                self._reader.feed(data)
                reply = self._reader.gets()
        except (OSError, hiredis.ProtocolError) as error:
            lost = f"lost the connection to {self.address} before it answered ({_words(error)})"
            if write:
                raise OutcomeUnknown(f"{lost}: it may or may not have been done; look before you repeat it") from None
            raise Unavailable(f"{lost}; is this the client port of a Quorate node?") from None
        if isinstance(reply, hiredis.ReplyError):
            raise reply_error(str(reply))
        return reply

    def document(self, *arguments: bytes | str | int, write: bool = False) -> Any:
        """The reply to a command that answers with a JSON document; errors as of `command`."""
        return json.loads(self.command(*arguments, write=write))

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Link:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def encode_command(arguments: tuple[bytes | str | int, ...]) -> bytes:
    """A RESP array of bulk strings."""
    parts = [b"*%d\r\n" % len(arguments)]
    for argument in arguments:
        body = argument if isinstance(argument, bytes) else str(argument).encode("utf-8", "surrogateescape")
        parts.append(b"$%d\r\n%b\r\n" % (len(body), body))
    return b"".join(parts)


def reply_error(text: str) -> QuorateError:
    """The error behind a RESP error reply, whose first word says its kind."""
    kind, _, message = text.partition(" ")
    if kind == "NOAUTH":
        return CallerError("this cluster needs a password; give it with --password or QUORATE_PASSWORD")
    if kind == "WRONGPASS":
        return CallerError("the password is wrong")
    if kind == "OVERLOADED":
        found = _RETRY_AFTER.match(message)
        return Overloaded(_RETRY_AFTER.sub("", message), int(found[1]) if found else 100)
    if kind in _ERROR_KINDS:
        return _ERROR_KINDS[kind](message)
    return PeerError(f"the node answered with an error that this version does not know: {text}")


def _words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "timed out"
    text = getattr(error, "strerror", None) or str(error)
    return text[:1].lower() + text[1:]
