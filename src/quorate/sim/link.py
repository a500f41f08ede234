"""One direction between two members: how long frames take, and what becomes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quorate.sim.random_streams import SeededRng

if TYPE_CHECKING:
    from quorate.sim.connection import Connection

HELD_FRAMES_MAX = 10_000
"""What a blocked link keeps for its connections, as a socket's buffer would; the rest is lost."""


class Link:
    """The condition of a link, set by faults, and its dice."""

    __slots__ = (
        "_held",
        "_last_arrival_us",
        "_rng",
        "blocked",
        "delay_mean_ms",
        "delay_min_ms",
        "duplication",
        "generation",
        "loss",
        "reordering",
    )

    def __init__(self, rng: SeededRng) -> None:
        self._rng = rng
        self._held: list[tuple[Connection, bytes, float]] = []
        self._last_arrival_us = 0
        self.blocked = False
        self.generation = 0
        """Counts blockades, so that a timer knows whether the one it was set for is still the current one."""
        self.recover()

    def recover(self) -> None:
        """A healthy local network: half a millisecond, now and then a few."""
        self.set_delay(0.1, 0.4)
        self.loss = 0.0
        self.duplication = 0.0
        self.reordering = 0.0

    def set_delay(self, min_ms: float, mean_ms: float) -> None:
        """A frame takes `min_ms` and an exponentially distributed time of `mean_ms` on average."""
        self.delay_min_ms = min_ms
        self.delay_mean_ms = mean_ms

    def loses(self) -> bool:
        return self.loss > 0.0 and self._rng.chance(self.loss)

    def duplicates(self) -> bool:
        return self.duplication > 0.0 and self._rng.chance(self.duplication)

    def arrival_us(self, now_us: int) -> int:
        """When a frame sent now arrives: not before the previous one, unless it is reordered."""
        arrival_us = now_us + int((self.delay_min_ms + self._rng.exponential(self.delay_mean_ms)) * 1000)
        if self.reordering > 0.0 and self._rng.chance(self.reordering):
            return arrival_us
        self._last_arrival_us = max(self._last_arrival_us, arrival_us)
        return self._last_arrival_us

    def block(self) -> None:
        assert not self.blocked
        self.blocked = True
        self.generation += 1

    def hold(self, connection: Connection, frame: bytes, sent_ms: float) -> None:
        """Keep a frame that was sent into the blockade."""
        assert self.blocked
        if len(self._held) < HELD_FRAMES_MAX:
            self._held.append((connection, frame, sent_ms))

    def unblock(self) -> list[tuple[Connection, bytes, float]]:
        """Open the link; returns the frames that were held, in order."""
        self.blocked = False
        held, self._held = self._held, []
        return held
