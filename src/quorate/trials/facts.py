"""Documents of facts that no other module makes a structure for."""

from __future__ import annotations

import msgspec


class DamagedFile(msgspec.Struct, frozen=True):
    """What was done to one file, and what came of the starts on it."""

    file: str
    size_bytes: int
    cut: int
    """Variants cut off, one at each offset."""
    flipped: int
    """Variants with one bit flipped, one for each byte."""
    started: int
    """Variants on which a node started, and said what it had found if it was anything."""
    refused: int
    """Variants on which it refused to start, naming the file and the next step."""
    wrong: int
    """Variants that gave a wrong value, a lone new cluster, or an error that nobody expected."""


class Damage(msgspec.Struct, frozen=True):
    """All damaged files. `how` says in a sentence what was tried, and with which command."""

    how: str
    files: list[DamagedFile]
