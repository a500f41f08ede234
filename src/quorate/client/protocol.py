"""RESP as a client speaks it: commands to bytes, error replies to what they mean for the one who asked.

A command is encoded once; only its time limit is appended for each attempt. A reply is whatever hiredis makes of it:
`bytes`, `list`, `int`, `None`, or a `hiredis.ReplyError`. What may follow from a failed attempt depends on one question
only, whether the node may have done the work, so every failure is sorted into a `FailureKind` here and nowhere else.

Rejected: `hiredis.pack_command`, which takes twice the time of one `%`-format for commands whose shape is known.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Any, Final

import hiredis

Reply = Any
"""bytes, int, list, None, `hiredis.ReplyError`, or an `AttemptFailure` made by the client itself."""

NO_SLOT: Final = -1
"""The slot of commands that any node answers equally well."""


class Safety(Enum):
    """What a retry would do if the failed attempt was done after all."""

    READ = 0
    """Nothing: reads change nothing."""
    REPLAYABLE = 1
    """Nothing: the write carries an operation id, and siblings with the same id are one write."""
    ONCE = 2
    """Perhaps harm: it is retried only if it was certainly not done."""


class FailureKind(Enum):
    """How one attempt at one node failed."""

    NOT_SENT = "not sent"
    """No connection could be made, or there was no room: certainly not done."""
    LOST = "connection lost"
    TIMED_OUT = "no answer"
    UNAVAILABLE = "unavailable"
    """The node says: not done."""
    OVERLOADED = "overloaded"
    """The node says: not done, come back later."""
    UNKNOWN = "outcome unknown"
    REFUSED = "refused"
    """The caller's input is wrong, so every node would refuse it."""
    MALFORMED = "malformed reply"


MAY_BE_DONE: Final = (FailureKind.LOST, FailureKind.TIMED_OUT, FailureKind.UNKNOWN, FailureKind.MALFORMED)
"""After these failures of a write nobody knows whether it was done."""

NODE_IN_DOUBT: Final = (FailureKind.NOT_SENT, FailureKind.LOST, FailureKind.TIMED_OUT, FailureKind.MALFORMED)
"""These failures speak against the node itself; the others were sent by a node that is well."""


class AttemptFailure:
    __slots__ = ("kind", "message", "retry_after_ms")

    def __init__(self, kind: FailureKind, message: str, retry_after_ms: int = 0) -> None:
        self.kind = kind
        self.message = message
        self.retry_after_ms = retry_after_ms


class Command:
    """An encoded command; `timed` commands want the bytes of `time_limit` after `head`."""

    __slots__ = ("expects", "head", "nullable", "safety", "slot", "timed", "verb")

    def __init__(
        self,
        verb: str,
        head: bytes,
        expects: type,
        safety: Safety,
        slot: int = NO_SLOT,
        timed: bool = False,
        nullable: bool = False,
    ) -> None:
        self.verb = verb
        self.head = head
        self.expects = expects
        """The exact class of a good reply: `bytes` or `list`."""
        self.safety = safety
        self.slot = slot
        self.timed = timed
        self.nullable = nullable
        """`None` is a good reply, too."""

    def to_any_node(self) -> Command:
        """The same, as if every node answered it equally well."""
        return Command(self.verb, self.head, self.expects, self.safety, NO_SLOT, self.timed, self.nullable)

    def payload(self, attempt_ms: float) -> bytes:
        """The bytes to send for an attempt that is given up after `attempt_ms`."""
        return self.head + time_limit(attempt_ms) if self.timed else self.head

    def accepts(self, reply: Reply) -> bool:
        return reply.__class__ is self.expects or (reply is None and self.nullable)


def encode(*arguments: bytes) -> bytes:
    """A command as RESP: an array of bulk strings."""
    parts = [b"*%d\r\n" % len(arguments)]
    parts += [b"$%d\r\n%b\r\n" % (len(argument), argument) for argument in arguments]
    return b"".join(parts)


def option(name: bytes, value: bytes) -> bytes:
    """Two more bulk strings of a command."""
    return b"$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(name), name, len(value), value)


_TIME_LIMITS_KEPT_MAX: Final = 4_096
_time_limits: Final[dict[int, bytes]] = {}


def time_limit(attempt_ms: float) -> bytes:
    """`TIMEOUT` for an attempt: a tenth less than the client waits.

    A node that is alive so answers in time, if only with an error; silence then means that the node is in trouble.
    """
    limit_ms = int(attempt_ms * 0.9) or 1
    encoded = _time_limits.get(limit_ms)
    if encoded is None:
        encoded = option(b"TIMEOUT", b"%d" % limit_ms)
        if len(_time_limits) < _TIME_LIMITS_KEPT_MAX:
            _time_limits[limit_ms] = encoded
    return encoded


_RETRY_AFTER: Final = re.compile(r"retry-after-ms=(\d{1,9})\s*")
_PREFIXES: Final = {
    "ERR": FailureKind.REFUSED,
    "UNAVAILABLE": FailureKind.UNAVAILABLE,
    "OVERLOADED": FailureKind.OVERLOADED,
    "UNKNOWN": FailureKind.UNKNOWN,
    "NOAUTH": FailureKind.REFUSED,
    "WRONGPASS": FailureKind.REFUSED,
}


def failure_of(command: Command, reply: Reply) -> AttemptFailure:
    """What a reply that `command` does not accept means. An error with an unknown prefix may stand for anything."""
    if isinstance(reply, AttemptFailure):
        return reply
    if not isinstance(reply, hiredis.ReplyError):
        message = (
            f"the reply to {command.verb} should be of type {command.expects.__name__}, not {type(reply).__name__}"
        )
        return AttemptFailure(FailureKind.MALFORMED, message)
    prefix, _, message = str(reply).partition(" ")
    kind = _PREFIXES.get(prefix)
    if kind is None:
        return AttemptFailure(FailureKind.MALFORMED, f"unexpected error '{reply}'")
    if prefix == "NOAUTH":
        message = f"{message} (pass password=… to connect)"
    if kind is FailureKind.OVERLOADED:
        found = _RETRY_AFTER.search(message)
        retry_after_ms = int(found[1]) if found else 100
        return AttemptFailure(kind, _RETRY_AFTER.sub("", message) or "overloaded", retry_after_ms)
    return AttemptFailure(kind, message)
