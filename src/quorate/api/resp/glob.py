"""Redis's glob patterns on bytes: `*`, `?`, `[a-z]`, `[^x]` and backslash.

Cost is at most pattern x text: only the latest `*` is ever gone back to, which is enough, because a `*` that matched as
little as possible leaves the most for those after it.

Rejected: translating to a regular expression. Several `*` then cost a power of the text's length, and patterns come
from clients.
"""

from __future__ import annotations

from collections.abc import Callable

Token = Callable[[int], bool] | None
"""A test of one byte, or None for `*`."""

_SPECIAL = b"*?[\\"


def _never(_: int) -> bool:
    """Past the end of a pattern no byte matches."""
    return False


def literal_prefix(pattern: bytes) -> bytes:
    """What every matching text begins with."""
    for at, byte in enumerate(pattern):
        if byte in _SPECIAL:
            return pattern[:at]
    return pattern


def compile_glob(pattern: bytes) -> list[Token]:
    """The pattern as a list of tests, for `matches`."""
    tokens: list[Token] = []
    at = 0
    while at < len(pattern):
        byte = pattern[at]
        at += 1
        if byte == ord("*"):
            if not tokens or tokens[-1] is not None:
                tokens.append(None)
        elif byte == ord("?"):
            tokens.append(lambda _: True)
        elif byte == ord("["):
            token, at = _set(pattern, at)
            tokens.append(token)
        else:
            if byte == ord("\\") and at < len(pattern):
                byte = pattern[at]
                at += 1
            tokens.append(byte.__eq__)
    return tokens


def _set(pattern: bytes, at: int) -> tuple[Token, int]:
    """The set that begins at `at`, after its bracket, and where the pattern goes on."""
    negated = pattern[at : at + 1] == b"^"
    at += negated
    members: set[int] = set()
    while at < len(pattern) and pattern[at] != ord("]"):
        if pattern[at] == ord("\\") and at + 1 < len(pattern):
            at += 1
        low = high = pattern[at]
        at += 1
        if pattern[at : at + 1] == b"-" and at + 1 < len(pattern) and pattern[at + 1] != ord("]"):
            high = pattern[at + 1]
            at += 2
        members.update(range(min(low, high), max(low, high) + 1))
    if negated:
        return (lambda byte: byte not in members), at + 1
    return members.__contains__, at + 1


def matches(tokens: list[Token], text: bytes) -> bool:
    """Does the whole of `text` match?"""
    at = position = 0
    star = star_position = -1
    while position < len(text):
        token = tokens[at] if at < len(tokens) else _never
        if token is None:
            star, star_position = at, position
            at += 1
        elif token(text[position]):
            at += 1
            position += 1
        elif star >= 0:
            star_position += 1
            at, position = star + 1, star_position
        else:
            return False
    return all(token is None for token in tokens[at:])
