"""Options of commands: what follows the positional arguments, as names in any case, each with one value or none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from quorate.core.errors import CallerError

Convert = Callable[[bytes], Any]
"""From an option's text to its value; raises `CallerError`."""

INTEGER_DIGITS_MAX: Final = 19


def flag(_: bytes) -> bool:
    """The conversion of an option that has no value: it is there."""
    return True


def integer(text: bytes, name: str, least: int, most: int) -> int:
    """The integer in `text`; raises `CallerError` unless it is one from `least` to `most`."""
    digits = text[1:] if text[:1] == b"-" else text
    if not digits.isdigit() or len(digits) > INTEGER_DIGITS_MAX:
        raise CallerError(f"{name} must be an integer; got '{text[:32].decode('latin-1')}'")
    number = int(text)
    if not least <= number <= most:
        raise CallerError(f"{name} must be from {least} to {most}; got {number}")
    return number


def integer_option(name: str, least: int, most: int) -> Convert:
    return lambda text: integer(text, name, least, most)


def parse_options(arguments: list[bytes], start: int, known: dict[bytes, Convert]) -> dict[bytes, Any]:
    """The options in `arguments[start:]`, by their names in upper case; raises `CallerError`."""
    options: dict[bytes, Any] = {}
    at, end = start, len(arguments)
    while at < end:
        name = arguments[at]
        convert = known.get(name)
        if convert is None:
            name = name.upper()
            convert = known.get(name)
            if convert is None:
                raise CallerError(_unknown(arguments[at], known))
        at += 1
        if name in options:
            raise CallerError(f"option {name.decode()} is given twice")
        if convert is flag:
            options[name] = True
            continue
        if at == end:
            raise CallerError(f"option {name.decode()} needs a value")
        options[name] = convert(arguments[at])
        at += 1
    return options


def _unknown(name: bytes, known: Mapping[bytes, Convert]) -> str:
    shown = name[:32].decode("latin-1")
    if not known:
        return f"unknown option '{shown}'; there are none"
    return f"unknown option '{shown}'; there are: {', '.join(option.decode() for option in known)}"
