"""The word of a person before something is done that is hard to undo.

Scripts say --yes. Without it and without a terminal nobody could answer, so the command is refused as wrongly used,
before it has asked the cluster anything.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def yes_option(function: F) -> F:
    return click.option("--yes", is_flag=True, help="Do not ask; for scripts.")(function)


def check_answerable(yes: bool, as_json: bool) -> None:
    """Raise `UsageError` if the command would have to ask, and nobody could answer."""
    if yes:
        return
    if as_json:
        raise click.UsageError("--json is for scripts, which cannot be asked: give --yes as well")
    if not sys.stdin.isatty():
        raise click.UsageError("this asks before it does anything, and there is no terminal: give --yes")
