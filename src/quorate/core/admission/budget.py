"""Budgets: how much extra work a node may make for others when things go badly.

A hedge or a retry helps when one replica is slow, and kills the cluster when all are (scylladb#5715, hard cases 32,
33). So extra requests are paid from a bucket that only regular requests fill: the extra load is bounded by a fraction
of the real one, whatever happens.
"""

from __future__ import annotations


class TokenBudget:
    """Each regular request earns `fraction` of a token, up to `tokens_max`; an extra request takes a whole one."""

    __slots__ = ("_fraction", "_tokens_max", "tokens")

    def __init__(self, fraction: float, tokens_max: float) -> None:
        assert 0 < fraction <= 1 <= tokens_max
        self._fraction = fraction
        self._tokens_max = tokens_max
        self.tokens = tokens_max

    def earn(self, requests: int = 1) -> None:
        """Regular requests were made."""
        tokens = self.tokens + self._fraction * requests
        self.tokens = tokens if tokens < self._tokens_max else self._tokens_max

    def take(self) -> bool:
        """May an extra request be sent? It is paid for if so."""
        if self.tokens < 1.0:
            return False
        self.tokens -= 1.0
        return True
