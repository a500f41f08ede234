"""Whom to answer: the name that was asked for, the page that asks, the password.

A browser sends requests to loopback addresses for any page that tells it to. Two checks keep such pages out, also where
no password is set:

- Host: a page that makes its own name resolve to this node (DNS rebinding) sends that name. Only names that this node
  is known by are answered; the rest get 421. An address as such cannot be rebound: loopback ones are always good, and
  all of them if the node listens on all interfaces.
- Origin: what changes something is refused (403) if it comes from a page that this node did not serve. There is no
  CORS, so other pages cannot read answers either, and nothing is changed by GET.

With a password every request has to bring it, as `Authorization: Bearer` or `Basic` (user `default`, as on the client
port, or none). It is compared in constant time.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
from collections.abc import Iterable

from quorate.api.http.problems import Problem
from quorate.core.errors import CallerError
from quorate.core.wire.address import split_address

USERS = (b"default", b"")
_CHALLENGE = {"WWW-Authenticate": 'Basic realm="quorate", charset="UTF-8", Bearer realm="quorate"'}
_HOSTS_REMEMBERED_MAX = 64


class Guard:
    """Decides for one node.

    `addresses`: where it listens, and what others are told (host:port); `names`: other names that it is asked by.
    """

    def __init__(self, addresses: Iterable[str], names: Iterable[str], password: str | None) -> None:
        self.password = None if password is None else password.encode()
        hosts = [split_address(address)[0] for address in addresses]
        self._names = frozenset(host.lower().rstrip(".") for host in (*hosts, *names, "localhost"))
        self._any_address = any(_is_unspecified(host) for host in hosts)
        self._remembered: set[str] = set()
        """Host headers that were found good. Clients send few different ones."""

    def check_host(self, host: str | None) -> None:
        """Raise a `Problem` unless `host`, the Host header, names this node."""
        if host in self._remembered:
            return
        if not host:
            raise Problem("bad-request", "the header Host is missing; HTTP/1.1 needs it", close=True)
        name = _name_of(host)
        if not self._is_known(name):
            raise Problem(
                "misdirected",
                f"this node is not known as '{name[:64]}'; ask it by its address, or name it by --http-host",
                close=True,
            )
        if len(self._remembered) < _HOSTS_REMEMBERED_MAX:
            self._remembered.add(host)

    def _is_known(self, name: str) -> bool:
        if name in self._names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return self._any_address or address.is_loopback or str(address) in self._names

    def check_origin(self, origin: str | None, host: str) -> None:
        """Raise a `Problem` if a page of another origin asks for a change. Programs send no Origin."""
        if origin is None:
            return
        scheme, separator, netloc = origin.lower().partition("://")
        if not separator or scheme not in ("http", "https") or netloc != host.lower():
            raise Problem("foreign-origin", f"the page {origin[:64]} was not served by this node", close=True)

    def check_password(self, authorization: str | None) -> None:
        """Raise a `Problem` unless the header Authorization has the password, or none is needed."""
        if self.password is None:
            return
        given = _password_in(authorization or "")
        if given is None or not hmac.compare_digest(given, self.password):
            word = "is wrong" if given is not None else "is missing"
            raise Problem(
                "authentication-required",
                f"the password {word}; send Authorization: Bearer PASSWORD, or Basic with user default",
                _CHALLENGE,
                close=True,
            )


def _name_of(host: str) -> str:
    """The host in a Host header, without port and brackets, in small letters."""
    try:
        name = split_address(host)[0]
    except CallerError:
        name = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    return name.lower().rstrip(".")


def _is_unspecified(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def _password_in(authorization: str) -> bytes | None:
    scheme, _, credentials = authorization.partition(" ")
    credentials = credentials.strip()
    match scheme.lower():
        case "bearer":
            return credentials.encode("utf-8", "surrogateescape")
        case "basic":
            try:
                user, colon, password = base64.b64decode(credentials, validate=True).partition(b":")
            except (binascii.Error, ValueError):
                return None
            return password if colon and user in USERS else None
    return None
