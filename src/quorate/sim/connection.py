"""A connection between two processes: two sides that open and close each for itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from quorate.core.wire.age import FrameAge

if TYPE_CHECKING:
    from quorate.sim.transport import SimTransport

OPENING: Final = 0
OPEN: Final = 1
CLOSED: Final = 2


class Connection:
    """`state`, `transports` and the age of frames are by member number."""

    __slots__ = ("_ages", "heard_ms", "state", "transports")

    def __init__(self, transports: dict[int, SimTransport]) -> None:
        assert len(transports) == 2
        self.transports = transports
        self.state = dict.fromkeys(transports, OPENING)
        self.heard_ms = {number: transport.clock.monotonic_ms() for number, transport in transports.items()}
        """When each side last got a frame, by its own monotonic clock."""
        self._ages = {number: FrameAge() for number in transports}

    def stands_between(self, first: SimTransport, second: SimTransport) -> bool:
        """Both sides are up (or coming up), and between these very lives of the two members."""
        ends = list(self.transports.values())
        return first in ends and second in ends and CLOSED not in self.state.values()

    def arrived(self, receiver: int, sent_ms: float, received_ms: float) -> float:
        """A frame came: gives its age, by the rule of production. Times by the sender's and the receiver's clock."""
        self.heard_ms[receiver] = received_ms
        return self._ages[receiver].of(sent_ms, received_ms)
