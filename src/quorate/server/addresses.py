"""Addresses as people write them: `host:port`, with brackets around an IPv6 host."""

from __future__ import annotations

import ipaddress

from quorate.core.errors import StartupError

PORT_MAX = 65_535


def parse_address(text: str, what: str = "an address") -> tuple[str, int]:
    """(host, port) of `host:port` or `[v6]:port`; raises `StartupError` that names `what`."""
    host, colon, port_text = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port_text.isascii() or not port_text.isdigit():
        raise StartupError(f"{what} is written host:port, such as 127.0.0.1:7401; got '{text}'")
    port = int(port_text)
    if not 1 <= port <= PORT_MAX:
        raise StartupError(f"{what} has port {port}; ports go from 1 to {PORT_MAX}")
    return host, port


def format_address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


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
