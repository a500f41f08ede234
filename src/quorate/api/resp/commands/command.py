"""What the server knows about one command: how to run it, and what COMMAND tells clients about it.

Redis Cluster clients ask for this table at first and route by it: a command whose key position they know goes straight
to the key's coordinator. That is why the table also has our own `KV.*` commands.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from quorate.api.resp.connection import RespConnection

ANY_NUMBER = 1 << 30

Handler = Callable[["RespConnection", list[bytes]], None]
"""Called with all arguments, the command's name first, after their number was checked. It takes exactly one slot, or
raises `CallerError` before taking one; taking it, it keeps replies in order even if it answers later."""


class Command:
    __slots__ = (
        "arguments_max",
        "arguments_min",
        "first_key",
        "flags",
        "group",
        "handler",
        "key_step",
        "last_key",
        "name",
        "summary",
    )

    def __init__(
        self,
        name: str,
        handler: Handler,
        arguments_min: int,
        arguments_max: int,
        summary: str,
        flags: tuple[str, ...] = (),
        first_key: int = 0,
        last_key: int = 0,
        key_step: int = 0,
        group: str = "generic",
    ) -> None:
        self.name = name
        """In lower case, as COMMAND shows it."""
        self.handler = handler
        self.arguments_min = arguments_min
        """The name counts as one."""
        self.arguments_max = arguments_max
        self.summary = summary
        self.flags = flags
        self.first_key = first_key
        """Position of the first key; 0: none."""
        self.last_key = last_key
        """Position of the last key; negative: from the end."""
        self.key_step = key_step
        self.group = group

    @property
    def arity(self) -> int:
        """As Redis has it: the number of arguments, or minus the least number if it varies."""
        return self.arguments_min if self.arguments_min == self.arguments_max else -self.arguments_min


READ = ("readonly", "fast")
WRITE = ("write", "denyoom")
ADMIN = ("admin", "loading", "stale")
CONNECTION = ("noscript", "loading", "stale", "fast")


def on_key(
    name: str,
    handler: Handler,
    arguments_min: int,
    arguments_max: int,
    summary: str,
    flags: tuple[str, ...],
    group: str,
) -> Command:
    """A command on one key, its first argument."""
    return Command(name, handler, arguments_min, arguments_max, summary, flags, 1, 1, 1, group)
