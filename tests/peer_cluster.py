"""What tests of the peer wire share: a manual clock and scheduler, a handler that records, members of one cluster."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush

from quorate.core.messages import Candidacy, CandidacyReply, Message
from quorate.core.ring.ring import Member
from quorate.core.wire.handshake import Identity

CLUSTER_ID = "c1" * 16
SECRET = b"a long and random cluster secret"


def member_id(number: int) -> str:
    return f"{number:032x}"


def make_member(number: int, peer_address: str = "127.0.0.1:1") -> Member:
    return Member(number, member_id(number), f"n{number}", "host", "zone", 1, peer_address, "", "")


def make_identity(number: int) -> Identity:
    return Identity(CLUSTER_ID, number, member_id(number), f"n{number}")


class SeededRng:
    def __init__(self, seed: int = 1) -> None:
        self._generator = random.Random(seed)

    def random(self) -> float:
        return self._generator.random()

    def below(self, bound: int) -> int:
        return self._generator.randrange(bound)

    def token_bytes(self, size: int) -> bytes:
        return self._generator.randbytes(size)


class _Timer:
    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class ManualTime:
    """The `Clock` and `Scheduler` ports, moved by hand: nothing happens but in `turn` and `advance`."""

    def __init__(self) -> None:
        self.now_ms = 1000.0
        self._soon: deque[Callable[[], None]] = deque()
        self._later: list[tuple[float, int, _Timer]] = []
        self._made = 0

    def wall_ms(self) -> int:
        return 1_700_000_000_000 + int(self.now_ms)

    def monotonic_ms(self) -> float:
        return self.now_ms

    def call_soon(self, callback: Callable[[], None]) -> None:
        self._soon.append(callback)

    def call_later(self, delay_ms: float, callback: Callable[[], None]) -> _Timer:
        timer = _Timer(callback)
        self._made += 1
        heappush(self._later, (self.now_ms + delay_ms, self._made, timer))
        return timer

    def turn(self) -> None:
        """Run what was due when the turn began."""
        for _ in range(len(self._soon)):
            self._soon.popleft()()

    def advance(self, duration_ms: float) -> None:
        """Let time pass, timer by timer."""
        end_ms = self.now_ms + duration_ms
        self.turn()
        while self._later and self._later[0][0] <= end_ms:
            deadline_ms, _, timer = heappop(self._later)
            self.now_ms = deadline_ms
            if timer.callback is not None:
                timer.callback()
            self.turn()
        self.now_ms = end_ms


class RecordingHandler:
    """Keeps everything that it is told, in order; `react` may answer, `wake` hears that something came."""

    def __init__(self) -> None:
        self.events: list[tuple[str, int]] = []
        self.messages: list[tuple[int, Message]] = []
        self.ages_ms: list[float] = []
        self.candidacies: list[Candidacy] = []
        self.removals: list[str] = []
        self.answer: CandidacyReply | None = None
        """What candidates are answered; None: nothing."""
        self.react: Callable[[int, Message], None] | None = None
        self.on_connect: Callable[[int], None] | None = None
        self.on_disconnect: Callable[[int], None] | None = None
        self.wake: Callable[[], None] = lambda: None

    def on_message(self, member: int, message: Message, age_ms: float) -> None:
        self.events.append(("message", member))
        self.messages.append((member, message))
        self.ages_ms.append(age_ms)
        self.wake()
        if self.react is not None:
            self.react(member, message)

    def on_connected(self, member: int) -> None:
        self.events.append(("connected", member))
        self.wake()
        if self.on_connect is not None:
            self.on_connect(member)

    def on_disconnected(self, member: int) -> None:
        self.events.append(("disconnected", member))
        self.wake()
        if self.on_disconnect is not None:
            self.on_disconnect(member)

    def on_candidacy(self, message: Candidacy, answer: Callable[[CandidacyReply], None]) -> None:
        self.candidacies.append(message)
        self.wake()
        if self.answer is not None:
            answer(self.answer)

    def on_removed(self, reason: str) -> None:
        self.removals.append(reason)
        self.wake()

    def connections_of(self, member: int) -> list[str]:
        """What was told about the connection with `member`, without messages."""
        return [event for event, number in self.events if number == member and event != "message"]
