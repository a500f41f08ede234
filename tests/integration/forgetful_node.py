"""A node of a trial whose store forgets: when n2 is closed, some of what it took is gone.

The damage is beneath what writes the side files, as a disk's would be.
"""

from __future__ import annotations

import sys
from typing import Any, cast

from quorate.core.ports import Engine, Space
from quorate.trials.node import main

FORGOTTEN_MAX = 5


class Forgetful:
    """An engine that forgets some of its records when it is closed, and is otherwise the one that it holds."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def close(self) -> None:
        keys = [key for key, _ in self._engine.scan(Space.DATA, b"", b"\xff")][:FORGOTTEN_MAX]
        self._engine.write([(Space.DATA, key, None) for key in keys])
        self._engine.close()


def forgetful(engine: Engine, name: str) -> Engine:
    """`engine`, of n2 one that forgets."""
    return cast(Engine, Forgetful(engine)) if name == "n2" else engine


if __name__ == "__main__":
    sys.exit(main(forgetful))
