"""How long a client of the Redis protocol may take."""

from __future__ import annotations

import msgspec

from quorate.core import limits


class RespTimeouts(msgspec.Struct, frozen=True):
    """All in milliseconds."""

    authentication_ms: float = limits.AUTHENTICATION_TIMEOUT_MS
    command_ms: float = limits.COMMAND_TIMEOUT_MS
    """For the bytes of one command to arrive, and for replies to be read."""
    idle_ms: float = limits.CLIENT_IDLE_TIMEOUT_MS
    sweep_ms: float = limits.CLIENT_SWEEP_INTERVAL_MS
