"""A node of a trial whose store forgets: when n2 is closed, some of what it took is gone.

The damage is beneath what writes the side files, as a disk's would be.
"""

from __future__ import annotations

import sys

from quorate.core.ports import Engine, Space
from quorate.trials.node import main

FORGOTTEN_MAX = 5


def forgetful(engine: Engine, name: str) -> Engine:
    """`engine`, of n2 one that forgets."""
    if name != "n2":
        return engine
    close = engine.close

    def forget_and_close() -> None:
        keys = [key for key, _ in engine.scan(Space.DATA, b"", b"\xff")][:FORGOTTEN_MAX]
        engine.write([(Space.DATA, key, None) for key in keys])
        close()

    engine.close = forget_and_close  # type: ignore[method-assign]
    return engine


if __name__ == "__main__":
    sys.exit(main(forgetful))
