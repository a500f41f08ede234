"""Addresses of peers: `host:port`, `[IPv6]:port`.

Only the form is checked; resolving a host name is the adapter's business.
"""

from __future__ import annotations

from quorate.core.errors import CallerError

PORT_MAX = 65_535
_PORT_DIGITS_MAX = 5


def split_address(address: str) -> tuple[str, int]:
    """(host, port) of `host:port`; an IPv6 address stands in brackets. Port 0 means "any free one" to a listener.

    Raises `CallerError` if `address` is not of that form.
    """
    host, colon, port = address.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if bracketed:
        host = host[1:-1]
    if not colon or not host or (":" in host and not bracketed):
        raise CallerError(f"{address!r} is not an address: write host:port, with an IPv6 host in brackets")
    if not (port.isascii() and port.isdigit() and len(port) <= _PORT_DIGITS_MAX and int(port) <= PORT_MAX):
        raise CallerError(f"{address!r} has no port between 0 and {PORT_MAX} after its last colon")
    return host, int(port)


def join_address(host: str, port: int) -> str:
    """The inverse of `split_address`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
