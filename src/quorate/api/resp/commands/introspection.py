"""COMMAND, INFO, CONFIG GET, TIME: what clients and tools ask a Redis about itself.

COMMAND is what cluster clients route by; the answers to INFO and CONFIG GET are as few as keep redis-cli,
redis-benchmark and the common clients content. They are a courtesy to them: our own tools use KV.STATUS.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from quorate.api.resp import replies
from quorate.api.resp.commands.command import ANY_NUMBER, CONNECTION, Command
from quorate.api.resp.commands.connection import REDIS_VERSION
from quorate.api.resp.glob import compile_glob, matches
from quorate.core.errors import CallerError
from quorate.core.limits import COMMAND_BYTES_MAX

if TYPE_CHECKING:
    from quorate.api.resp.connection import RespConnection

_PATTERN_BYTES_MAX = 256
_PATTERNS_MAX = 64


def command(connection: RespConnection, arguments: list[bytes]) -> None:
    """COMMAND [INFO | DOCS [name …] | COUNT | LIST | GETKEYS command …]"""
    table = {entry.name: entry for name, entry in connection.commands.items() if name.lower() == entry.name.encode()}
    subcommand = arguments[1].upper() if len(arguments) > 1 else b""
    named = [name.decode("latin-1").lower() for name in arguments[2:]]
    answer: Any
    match subcommand:
        case b"":
            answer = [_entry(entry) for entry in table.values()]
        case b"INFO":
            answer = [_entry(table[name]) if name in table else None for name in named or table]
        case b"DOCS":
            answer = {name: _docs(table[name]) for name in named or table if name in table}
        case b"COUNT":
            answer = len(table)
        case b"LIST":
            answer = list(table)
        case b"GETKEYS" | b"GETKEYSANDFLAGS":
            answer = _keys_of(table.get(named[0]) if named else None, arguments[2:])
        case _:
            raise CallerError("unknown COMMAND subcommand; there are: INFO, DOCS, COUNT, LIST, GETKEYS")
    connection.reply(replies.encode(answer, connection.resp3))


def _entry(entry: Command) -> list[Any]:
    flags = list(entry.flags)
    return [entry.name, entry.arity, flags, entry.first_key, entry.last_key, entry.key_step, [], [], [], []]


def _docs(entry: Command) -> dict[str, Any]:
    return {"summary": entry.summary, "since": REDIS_VERSION, "group": entry.group, "complexity": "O(1)"}


def _keys_of(entry: Command | None, arguments: list[bytes]) -> list[bytes]:
    if entry is None or not entry.arguments_min <= len(arguments) <= entry.arguments_max:
        raise CallerError("invalid command or number of arguments")
    if not entry.first_key:
        raise CallerError("the command has no key arguments")
    last = entry.last_key if entry.last_key > 0 else len(arguments) + entry.last_key
    return arguments[entry.first_key : last + 1 : entry.key_step]


def info(connection: RespConnection, arguments: list[bytes]) -> None:
    """The sections that are asked for; all of them by default."""
    server = connection.server
    seconds = int((server.now_ms - server.started_ms) / 1000)
    sections: dict[str, dict[str, Any]] = {
        "Server": {"redis_version": REDIS_VERSION, "redis_mode": "cluster", "uptime_in_seconds": seconds},
        "Clients": {"connected_clients": len(server.connections), "maxclients": server.connections_max},
        "Persistence": {"loading": 0},
        "Replication": {"role": "master", "connected_slaves": 0},
        "Cluster": {"cluster_enabled": 1},
    }
    wanted = {argument.decode("latin-1").lower() for argument in arguments[1:]} - {"default", "all", "everything"}
    chosen = [title for title in sections if not wanted or title.lower() in wanted]
    connection.reply(replies.bulk("\r\n".join(_section(title, sections[title]) for title in chosen).encode()))


def _section(title: str, fields: dict[str, Any]) -> str:
    return f"# {title}\r\n" + "".join(f"{name}:{value}\r\n" for name, value in fields.items())


def config(connection: RespConnection, arguments: list[bytes]) -> None:
    if arguments[1].upper() != b"GET" or not 3 <= len(arguments) <= 2 + _PATTERNS_MAX:
        raise CallerError("only CONFIG GET pattern is supported: a node is configured by its file and its command line")
    known = {
        b"save": b"",
        b"appendonly": b"no",
        b"maxmemory": b"0",
        b"maxmemory-policy": b"noeviction",
        b"databases": b"1",
        b"cluster-enabled": b"yes",
        b"maxclients": b"%d" % connection.server.connections_max,
        b"timeout": b"%d" % (connection.server.timeouts.idle_ms // 1000),
        b"proto-max-bulk-len": b"%d" % COMMAND_BYTES_MAX,
    }
    found = _config_matches(known, arguments[2:])
    connection.reply(replies.encode({name: known[name] for name in found}, connection.resp3))


def _config_matches(names: Iterable[bytes], patterns: list[bytes]) -> list[bytes]:
    if any(len(pattern) > _PATTERN_BYTES_MAX for pattern in patterns):
        raise CallerError(f"a pattern has at most {_PATTERN_BYTES_MAX} bytes")
    globs = [compile_glob(pattern.lower()) for pattern in patterns]
    return [name for name in names if any(matches(glob, name) for glob in globs)]


def time(connection: RespConnection, arguments: list[bytes]) -> None:
    now_ms = connection.server.clock.wall_ms()
    connection.reply(replies.encode([str(now_ms // 1000), str(now_ms % 1000 * 1000)], connection.resp3))


COMMANDS = [
    Command("command", command, 1, ANY_NUMBER, "What commands there are", CONNECTION, group="server"),
    Command("info", info, 1, ANY_NUMBER, "About this server", CONNECTION, group="server"),
    Command("config", config, 2, ANY_NUMBER, "Some of the configuration", CONNECTION, group="server"),
    Command("time", time, 1, 1, "The server's clock", CONNECTION, group="server"),
]
