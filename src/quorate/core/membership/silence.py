"""Silence: which peers owe an answer and say nothing at all, told within tens of milliseconds.

Suspicion takes requests that have failed, so it comes a second after a peer was stopped; until then a share of all
reads would wait for it. Silence needs no failed request: a peer that was asked something and from which *nothing*
comes, no answer, no request of its own, no part of a frame, is passed over by reads until it is heard again. It is a
soft judgement with a small effect: reads go elsewhere and reads under way ask one more replica. Writes still go to the
peer, and nobody stands in for it, so a peer that paused for its garbage or its disk has lost nothing.

Rules:
- Silence counts only against the promise of an answer; a peer that owes nothing may be as quiet as it likes.
- It has to last `SILENT_MS`, and `TIMES_USUAL` times as long as the peer's answers usually take.
- If more than half of the other members are silent, nobody is: it is this node that hears nothing, or all are late.
- A peer that is heard again stays aside for as long as its silence lasted, at most `ASIDE_MS_MAX`. One that works for
  a millisecond in every hundred would be trusted again with every sign of life, and cost the reads of the next 20 ms
  each time (hard case 33).

The judge of a moment is handed what is known at that moment, so a pause of this node is not its matter: who asks does
not ask when it was late itself.

Rejected: clearing it with the first frame (see above); counting it as a failure (a pause of 20 ms is none); a shorter
interval between pings (it measures the peer's ping, costs every idle link, and the answers owed are there anyway).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

SILENT_MS: Final = 20.0
TIMES_USUAL: Final = 4.0
ASIDE_MS_MAX: Final = 1_000.0


class Silence:
    """Judges who is silent. `peers` is what the hot path looks at: empty when all is well."""

    __slots__ = ("_until_ms", "peers")

    def __init__(self) -> None:
        self.peers: dict[int, bool] = {}
        """Those to be passed over; always the same dictionary."""
        self._until_ms: dict[int, float] = {}

    def judge(
        self, quiet_ms: Mapping[int, float], usual_ms: Mapping[int, float], others: int, now_ms: float
    ) -> list[int]:
        """Look again; gives the peers that have fallen silent since the last look.

        `quiet_ms`: peer → for how long it has owed an answer and said nothing. `usual_ms`: peer → how long its answers
        take. `others`: how many members there are beside this node.
        """
        until_ms = self._until_ms
        if not quiet_ms and not until_ms:
            return []
        silent = []
        for peer, lasted_ms in quiet_ms.items():
            if lasted_ms >= SILENT_MS and lasted_ms >= TIMES_USUAL * usual_ms.get(peer, 0.0):
                silent.append(peer)
                until_ms[peer] = now_ms + min(lasted_ms, ASIDE_MS_MAX)
        for peer in [peer for peer, end_ms in until_ms.items() if end_ms <= now_ms]:
            del until_ms[peer]
        before = self.peers.copy()
        self.peers.clear()
        if 2 * len(until_ms) <= others:
            self.peers.update(dict.fromkeys(until_ms, True))
        return [peer for peer in silent if peer in self.peers and peer not in before]

    def forget(self, peer: int) -> None:
        """The connection with `peer` ended, or a new one begins."""
        self.peers.pop(peer, None)
        self._until_ms.pop(peer, None)
