"""The version of the protocol between nodes. A program speaks this one and the one before, so that a cluster can be
upgraded node by node."""

from __future__ import annotations

from typing import Final

WIRE_VERSION: Final = 1
WIRE_VERSION_MIN: Final = max(1, WIRE_VERSION - 1)
