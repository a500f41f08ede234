"""Exit codes of every command: one per outcome that a script has to tell apart."""

from __future__ import annotations

from quorate.core.errors import OutcomeUnknown, QuorateError, SiblingsError, Unavailable

OK = 0
ERROR = 1
USAGE = 2
SIBLINGS = 3
NOT_FOUND = 4
UNAVAILABLE = 5
OUTCOME_UNKNOWN = 6
INTERRUPTED = 130


class NotFound(QuorateError):
    """The key holds no value."""


class Ended(QuorateError):
    """A command that has said everything already and ends with this code."""

    def __init__(self, code: int) -> None:
        super().__init__(f"exit {code}")
        self.code = code


def exit_code(error: QuorateError) -> int:
    """The exit code that tells a script what `error` tells a person."""
    if isinstance(error, Ended):
        return error.code
    for kind, code in (
        (SiblingsError, SIBLINGS),
        (NotFound, NOT_FOUND),
        (Unavailable, UNAVAILABLE),
        (OutcomeUnknown, OUTCOME_UNKNOWN),
    ):
        if isinstance(error, kind):
            return code
    return ERROR
