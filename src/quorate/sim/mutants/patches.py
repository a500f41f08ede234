"""Replacing parts of production code for a while, and putting all of it back.

Invariants: whatever was replaced is as before after `undo`, also if planting ended half-way; what has no such part is
refused, so that a mutant whose target was renamed does not quietly plant nothing.
"""

from __future__ import annotations

from typing import Any

_INHERITED = object()


class Patches:
    """What one mutant has replaced so far."""

    def __init__(self) -> None:
        self._replaced: list[tuple[Any, str, Any]] = []

    def replace(self, target: Any, name: str, value: Any) -> Any:
        """Let `target.name`, of a module or a class, be `value`; returns what it was. Raises `AttributeError` if there
        is no such part."""
        before = getattr(target, name)
        own = vars(target).get(name, _INHERITED)
        setattr(target, name, value)
        self._replaced.append((target, name, own))
        return before

    def undo(self) -> None:
        """Put everything back, the latest first."""
        while self._replaced:
            target, name, own = self._replaced.pop()
            if own is _INHERITED:
                delattr(target, name)
            else:
                setattr(target, name, own)
