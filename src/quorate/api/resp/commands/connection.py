"""Commands about the connection itself: HELLO, AUTH, CLIENT, PING, ECHO, SELECT, RESET, QUIT and their kin."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Any

from quorate.api.resp import replies
from quorate.api.resp.commands.command import ANY_NUMBER, CONNECTION, Command
from quorate.api.resp.commands.options import integer
from quorate.core.errors import CallerError
from quorate.core.limits import CLIENT_NAME_BYTES_MAX

if TYPE_CHECKING:
    from quorate.api.resp.connection import RespConnection

REDIS_VERSION = "7.2.0"
"""Clients choose what to send by this; it is the version whose cluster commands we answer."""
_USER = b"default"


def hello(connection: RespConnection, arguments: list[bytes]) -> None:
    """HELLO [2|3 [AUTH user password] [SETNAME name]]: nothing changes unless all of it is right."""
    resp3 = connection.resp3
    if len(arguments) > 1:
        if arguments[1] not in (b"2", b"3"):
            connection.reply(replies.error("NOPROTO", "unsupported protocol version; there are 2 and 3"))
            return
        resp3 = arguments[1] == b"3"
    credentials, name = _hello_options(arguments)
    if credentials is not None and not _is_right(connection, *credentials):
        _refuse_password(connection)
        return
    if credentials is None and not connection.authenticated:
        connection.reply(replies.error("NOAUTH", "Authentication required: send HELLO with AUTH user password"))
        return
    if credentials is not None:
        connection.set_authenticated(True)
    if name is not None:
        connection.name = name
    connection.resp3 = resp3
    greeting: dict[str, Any] = {
        "server": "redis",
        "version": REDIS_VERSION,
        "proto": 3 if resp3 else 2,
        "id": connection.number,
        "mode": "cluster",
        "role": "master",
        "modules": [],
    }
    connection.reply(replies.encode(greeting, resp3))


def _hello_options(arguments: list[bytes]) -> tuple[tuple[bytes, bytes] | None, bytes | None]:
    credentials = name = None
    at = 2
    while at < len(arguments):
        option = arguments[at].upper()
        if option == b"AUTH" and at + 2 < len(arguments):
            credentials = (arguments[at + 1], arguments[at + 2])
            at += 3
        elif option == b"SETNAME" and at + 1 < len(arguments):
            name = _checked_name(arguments[at + 1])
            at += 2
        else:
            shown = arguments[at][:32].decode("latin-1")
            raise CallerError(f"syntax error in HELLO option '{shown}'; there are: AUTH user password, SETNAME name")
    return credentials, name


def auth(connection: RespConnection, arguments: list[bytes]) -> None:
    user, password = (_USER, arguments[1]) if len(arguments) == 2 else (arguments[1], arguments[2])
    if connection.server.password is None and len(arguments) == 2:
        raise CallerError("AUTH <password> called without any password configured for the default user")
    if _is_right(connection, user, password):
        connection.set_authenticated(True)
        connection.reply(replies.OK)
    else:
        _refuse_password(connection)


def _is_right(connection: RespConnection, user: bytes, password: bytes) -> bool:
    """In constant time, so that the time taken tells nothing about the password."""
    expected = connection.server.password
    return user == _USER and (expected is None or hmac.compare_digest(password, expected))


def _refuse_password(connection: RespConnection) -> None:
    connection.reply(replies.error("WRONGPASS", "invalid username-password pair or user is disabled."))


def client(connection: RespConnection, arguments: list[bytes]) -> None:
    name = arguments[1].upper()
    count = len(arguments)
    match name:
        case b"SETINFO" if count == 4:
            connection.reply(replies.OK)
        case b"SETNAME" if count == 3:
            connection.name = _checked_name(arguments[2])
            connection.reply(replies.OK)
        case b"GETNAME" if count == 2:
            connection.reply(replies.bulk(connection.name) if connection.name else replies.null(connection.resp3))
        case b"ID" if count == 2:
            connection.reply(replies.integer(connection.number))
        case b"INFO" if count == 2:
            connection.reply(replies.bulk(_client_line(connection)))
        case b"LIST" if count == 2:
            connections = connection.server.connections.values()
            connection.reply(replies.bulk(b"".join([_client_line(other) for other in connections])))
        case b"NO-EVICT" | b"NO-TOUCH" if count == 3:
            connection.reply(replies.OK)
        case _:
            shown = arguments[1][:32].decode("latin-1")
            known = "SETINFO, SETNAME, GETNAME, ID, INFO, LIST, NO-EVICT, NO-TOUCH"
            raise CallerError(f"'CLIENT {shown}' with {count - 2} arguments is not supported; there are: {known}")


def _client_line(connection: RespConnection) -> bytes:
    seconds = (connection.server.now_ms - connection.connected_ms) / 1000
    return b"id=%d addr=%b name=%b age=%d idle=%d qbuf=0 omem=%d resp=%d\n" % (
        connection.number,
        connection.address.encode(),
        connection.name,
        seconds,
        connection.idle_ms() / 1000,
        connection.held_bytes,
        3 if connection.resp3 else 2,
    )


def _checked_name(name: bytes) -> bytes:
    if len(name) > CLIENT_NAME_BYTES_MAX or not all(0x20 < byte < 0x7F for byte in name):
        raise CallerError(f"a client's name has at most {CLIENT_NAME_BYTES_MAX} printable characters and no spaces")
    return name


def ping(connection: RespConnection, arguments: list[bytes]) -> None:
    connection.reply(b"+PONG\r\n" if len(arguments) == 1 else replies.bulk(arguments[1]))


def echo(connection: RespConnection, arguments: list[bytes]) -> None:
    connection.reply(replies.bulk(arguments[1]))


def agree(connection: RespConnection, arguments: list[bytes]) -> None:
    """READONLY, READWRITE, ASKING: there is no difference here, for any node answers for any key."""
    connection.reply(replies.OK)


def select(connection: RespConnection, arguments: list[bytes]) -> None:
    if integer(arguments[1], "the database", 0, 1 << 31):
        raise CallerError("SELECT is not allowed in cluster mode: there is only database 0; use buckets")
    connection.reply(replies.OK)


def reset(connection: RespConnection, arguments: list[bytes]) -> None:
    connection.resp3 = False
    connection.name = b""
    connection.set_authenticated(connection.server.password is None)
    connection.reply(b"+RESET\r\n")


def quit_(connection: RespConnection, arguments: list[bytes]) -> None:
    connection.reply(replies.OK)
    connection.close_after_replies()


def not_http(connection: RespConnection, arguments: list[bytes]) -> None:
    """Lines of an HTTP request. A web page can make a browser send one here; its body must not be run as commands."""
    connection.reply(replies.error("ERR", "this is the Redis protocol port; HTTP has its own port"))
    connection.close_after_replies()


BEFORE_AUTHENTICATION: list[Command] = [
    Command("hello", hello, 1, ANY_NUMBER, "Choose the protocol version", CONNECTION, group="connection"),
    Command("auth", auth, 2, 3, "Authenticate with a password", CONNECTION, group="connection"),
    Command("quit", quit_, 1, ANY_NUMBER, "Close the connection", CONNECTION, group="connection"),
    Command("reset", reset, 1, 1, "Return the connection to how it began", CONNECTION, group="connection"),
]
HTTP: dict[bytes, Command] = {
    name: Command("http", not_http, 1, ANY_NUMBER, "No command: HTTP is refused") for name in (b"POST", b"HOST:")
}
COMMANDS = [
    *BEFORE_AUTHENTICATION,
    Command("ping", ping, 1, 2, "Is anyone there?", CONNECTION, group="connection"),
    Command("echo", echo, 2, 2, "Answer the argument", CONNECTION, group="connection"),
    Command("client", client, 2, ANY_NUMBER, "About client connections", CONNECTION, group="connection"),
    Command("select", select, 2, 2, "Choose database 0, the only one", CONNECTION, group="connection"),
    Command("readonly", agree, 1, 1, "Accepted; changes nothing", CONNECTION, group="cluster"),
    Command("readwrite", agree, 1, 1, "Accepted; changes nothing", CONNECTION, group="cluster"),
    Command("asking", agree, 1, 1, "Accepted; changes nothing", CONNECTION, group="cluster"),
]
