"""The commands: one concept a file, and here the tables that a connection looks them up in."""

from __future__ import annotations

from quorate.api.resp.commands import (
    admin,
    cluster,
    connection,
    expiry,
    introspection,
    kv,
    membership,
    scan,
    strings,
    values,
)
from quorate.api.resp.commands.command import Command

_MODULES = (kv, values, strings, expiry, scan, admin, membership, cluster, connection, introspection)


def _table(commands: list[Command]) -> dict[bytes, Command]:
    table = {command.name.upper().encode(): command for command in commands}
    assert len(table) == len(commands), "each command has one definition"
    return table


ALL_COMMANDS = {**_table([command for module in _MODULES for command in module.COMMANDS]), **connection.HTTP}
"""By name in upper case."""
COMMANDS_BEFORE_AUTHENTICATION = {**_table(connection.BEFORE_AUTHENTICATION), **connection.HTTP}
