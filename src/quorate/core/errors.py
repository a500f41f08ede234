"""Errors, as one small tree in which each class says who is to blame and what is known.

Three outcomes exist for a request, and each class stands for exactly one of them (hard case 31):
done (no error), *not done* and will never be (`CallerError`, `Unavailable`), *may be done* (`OutcomeUnknown`).
Our own bugs are assertions, never these classes.
"""

from __future__ import annotations


class QuorateError(Exception):
    """Root of everything that Quorate raises on purpose."""


class CallerError(QuorateError):
    """The caller's input is wrong; nothing was done, and asking again unchanged will not help."""


class Unavailable(QuorateError):
    """The request was not done and never will be: too few replicas could be reached. Asking again is safe."""


class Overloaded(Unavailable):
    """The node shed the request before doing anything; ask again after `retry_after_ms`."""

    def __init__(self, message: str, retry_after_ms: int = 100) -> None:
        super().__init__(message)
        self.retry_after_ms = retry_after_ms


class OutcomeUnknown(QuorateError):
    """A write may or may not have been done: it left for at least one replica and no quorum answered in time."""


class SiblingsError(QuorateError):
    """One value was asked for and the key holds several concurrent ones."""


class PeerError(QuorateError):
    """A peer broke the protocol; its connection is closed."""


class StorageError(QuorateError):
    """The node's own disk failed (ENOSPC, EIO, read-only). The node fences itself and stops acknowledging."""


class DamagedRecord(StorageError):
    """A stored record does not match its checksum. It is never returned; the replica counts as not having it."""


class StartupError(QuorateError):
    """A node cannot start; the message names the cause and the next step."""
