"""What a node may do with an address: who can reach it, and whether others can be told of it."""

from __future__ import annotations

import ipaddress

from quorate.core.errors import CallerError, StartupError
from quorate.core.wire.address import split_address

LOOPBACK = "127.0.0.1"


def parse_address(text: str, what: str = "an address") -> tuple[str, int]:
    """(host, port) of `host:port` or `[v6]:port`; raises `StartupError` that names `what`."""
    try:
        host, port = split_address(text)
    except CallerError as error:
        raise StartupError(f"{what}: {error}") from None
    if port == 0:
        raise StartupError(f"{what} has port 0; others have to know where to connect, so choose one")
    return host, port


def is_loopback(host: str) -> bool:
    """Can only this machine reach it? A name other than `localhost` may resolve to anything, so it counts as not."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_wildcard(host: str) -> bool:
    """All interfaces (0.0.0.0 or ::): good to listen on, useless to tell others."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False
