"""Listening sockets, bound before anything else is opened: a port in use refuses a start that has done nothing yet."""

from __future__ import annotations

import errno
import socket

from quorate.core.errors import StartupError
from quorate.server.addresses import parse_address

BACKLOG = 1024


def bind(address: str, what: str) -> socket.socket:
    """A socket bound to `address` ("host:port"); raises `StartupError` if it cannot be had."""
    host, port = parse_address(address, what)
    try:
        family, kind, protocol, _, resolved = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise StartupError(f"cannot listen for {what}s on {address}: {error.strerror}") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(resolved)
        # With SO_REUSEADDR two sockets may be bound to one port; only one may listen on it.
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise StartupError(f"cannot listen for {what}s on {address}: {_words(error, port)}") from None
    return listener


def _words(error: OSError, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} is in use; stop what uses it (`ss -ltnp 'sport = :{port}'` names it), or use another port"
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine has no such address"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"port {port} needs privileges that this user has not; use one above 1023"
    return (error.strerror or str(error)).lower()
