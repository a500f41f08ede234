"""The failure detector: which peers answer, as this node alone has seen it from its own requests (SOSP 2007, §4.8.3).

Suspicion, not a switch. Every answer and every failure of a request moves a decaying ratio; a peer whose requests
mostly fail is *suspected*, which means asked last and replaced by a fallback in a put, and never more than that: being
down is an opinion of this node, not a change of membership. A peer without a connection is *down*.

A peer whose answers take many times as long as those of the others is *slow*: it is asked last in reads, and still
written to, so that its latency stays known (hard case 33). It is told by comparison, so load that slows all alike
makes nobody slow. A peer that owes answers and says nothing at all is *silent* long before it is suspected, and asked
last as well (see `silence`).

There are no heartbeats between healthy peers: traffic is the evidence. Only towards peers that do not answer or are
slow are probes due, to suspects at intervals that double, so that a recovered peer is noticed without traffic.

A node that is sick itself sees everybody fail. So the detector is told of its own stalls, and counts no timeout of a
request that was in flight during one.

Invariants: state is a function of what was reported and of `now_ms`, which is always an argument; success clears
suspicion at once, because an answer is proof; memory is one small object a peer. An answer costs two additions, since
there are three of them for every put; the decay is done for all at once by `tick`.

Rejected: phi-accrual over heartbeat arrivals (it measures an idle link, not whether requests succeed), and a fixed
count of timeouts (a busy peer that fails one in a hundred would be down all the time, an idle one never).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

from quorate.core.membership.silence import Silence

HALF_LIFE_MS: Final = 1_000.0
"""After this long an observation weighs half."""
FAILURES_MIN: Final = 3.0
"""Decayed failures that must have been seen before a peer is suspected at all."""
SUSPICION_RATIO: Final = 0.5
SLOW_MS: Final = 250.0
"""An answer that took longer neither clears a suspicion nor speaks against one: its request was given up long ago."""
RELATIVELY_SLOW: Final = 8.0
"""A peer is slow if its latency is so many times that of the faster half of the peers …"""
RELATIVELY_SLOW_MIN_MS: Final = 10.0
"""… and at least this."""
TICK_INTERVAL_MS: Final = 100.0
PROBE_INTERVAL_MIN_MS: Final = 100.0
PROBE_INTERVAL_MAX_MS: Final = 5_000.0
LATENCY_WEIGHT: Final = 0.05
UNREADY_MS: Final = 2_000.0
"""For so long after a peer's last word that it is being filled it is not asked first."""

State = Literal["up", "suspected", "down"]


class PeerView(NamedTuple):
    """What people see of the detector's opinion of one peer."""

    state: State
    reason: str
    latency_ms: float
    failures: float
    successes: float


class _Peer:
    __slots__ = (
        "connected",
        "failures",
        "latency_ms",
        "probe_interval_ms",
        "probed_at_ms",
        "reason",
        "successes",
        "suspected",
    )

    def __init__(self, now_ms: float) -> None:
        self.connected = False
        self.suspected = False
        self.successes = 0.0
        self.failures = 0.0
        self.latency_ms = 0.0
        self.probe_interval_ms = PROBE_INTERVAL_MIN_MS
        self.probed_at_ms = now_ms
        self.reason = "not connected yet"


class FailureDetector:
    """Opinions about peers, by member number. Unknown peers are down."""

    def __init__(self) -> None:
        self._peers: dict[int, _Peer] = {}
        self._stalled_until_ms = 0.0
        self._ticked_at_ms = 0.0
        self._silence = Silence()
        self.silent: dict[int, bool] = self._silence.peers
        """The peers that owe answers and say nothing, or did so just now; always the same dictionary."""
        self.unready: dict[int, float] = {}
        """The peers that are being filled, and answer some reads by saying so → until when that is assumed."""
        self.slow: dict[int, bool] = {}
        """The peers that are slow by comparison; as of the last tick."""
        self.suspects: dict[int, bool] = {}
        """The suspected and connected peers: what the hot path looks at, empty in a healthy cluster."""

    def on_connected(self, peer: int, now_ms: float) -> None:
        """A connection with `peer` is there: start with a clean slate."""
        state = self._peers[peer] = _Peer(now_ms)
        state.connected = True
        state.reason = ""
        self.suspects.pop(peer, None)
        self.slow.pop(peer, None)
        self._silence.forget(peer)

    def on_disconnected(self, peer: int, now_ms: float, reason: str = "connection lost") -> None:
        state = self._of(peer, now_ms)
        state.connected = False
        state.reason = reason
        state.suspected = False
        self.suspects.pop(peer, None)
        self.slow.pop(peer, None)
        self._silence.forget(peer)

    def forget(self, peer: int) -> None:
        """It is no member any more."""
        self._peers.pop(peer, None)
        self.suspects.pop(peer, None)
        self.slow.pop(peer, None)
        self.unready.pop(peer, None)
        self._silence.forget(peer)

    def on_answer(self, peer: int, latency_ms: float, weight: int = 1) -> None:
        """`peer` answered a request `latency_ms` after it was sent; it stands for `weight` requests."""
        state = self._peers.get(peer)
        if state is None:
            return
        state.latency_ms += LATENCY_WEIGHT * (latency_ms - state.latency_ms)
        if latency_ms < SLOW_MS:
            state.successes += weight
            if state.suspected:
                self._clear(peer, state)

    def _clear(self, peer: int, state: _Peer) -> None:
        state.suspected = False
        state.failures = 0.0
        state.reason = ""
        state.probe_interval_ms = PROBE_INTERVAL_MIN_MS
        del self.suspects[peer]

    def on_timeout(self, peer: int, waited_ms: float, now_ms: float) -> None:
        """A request to `peer`, sent `waited_ms` ago, has had no answer in the time it was given."""
        if now_ms - waited_ms < self._stalled_until_ms:
            return
        state = self._of(peer, now_ms)
        state.failures += 1.0
        if (
            state.connected
            and not state.suspected
            and state.failures >= FAILURES_MIN
            and state.failures > SUSPICION_RATIO * (state.failures + state.successes)
        ):
            state.suspected = True
            state.reason = f"{state.failures:.0f} requests unanswered lately, against {state.successes:.0f} answered"
            state.probe_interval_ms = PROBE_INTERVAL_MIN_MS
            state.probed_at_ms = now_ms
            self.suspects[peer] = True

    def on_not_ready(self, peer: int, now_ms: float) -> None:
        """`peer` said that its copy is being filled: it is well, and no use for reads."""
        self.unready[peer] = now_ms + UNREADY_MS

    def tick(self, now_ms: float) -> None:
        """Let all observations fade. Call about every `TICK_INTERVAL_MS`; a longer pause fades them more."""
        elapsed_ms = now_ms - self._ticked_at_ms
        self._ticked_at_ms = now_ms
        factor = 0.5 ** (elapsed_ms / HALF_LIFE_MS)
        for state in self._peers.values():
            state.successes *= factor
            state.failures *= factor
        self.slow = self._slow_peers()
        if self.unready:
            self.unready = {peer: until_ms for peer, until_ms in self.unready.items() if now_ms < until_ms}

    def _slow_peers(self) -> dict[int, bool]:
        latencies = {peer: state.latency_ms for peer, state in self._peers.items() if state.connected}
        known = sorted(latency_ms for latency_ms in latencies.values() if latency_ms > 0.0)
        if len(known) < 2:
            return {}
        limit_ms = max(RELATIVELY_SLOW_MIN_MS, RELATIVELY_SLOW * known[(len(known) - 1) // 2])
        return {peer: True for peer, latency_ms in latencies.items() if latency_ms > limit_ms}

    def judge_silence(self, quiet_ms: Mapping[int, float], now_ms: float) -> list[int]:
        """Who is silent? `quiet_ms`: peer → for how long it has owed an answer and said nothing.

        Gives the peers that were not silent at the last look and are now. Who is no peer any more, and may still owe an
        answer, is not judged.
        """
        judged_ms = {peer: quiet for peer, quiet in quiet_ms.items() if peer in self._peers}
        usual_ms = {peer: self._peers[peer].latency_ms for peer in judged_ms}
        return self._silence.judge(judged_ms, usual_ms, len(self._peers), now_ms)

    def on_own_stall(self, now_ms: float) -> None:
        """This node itself stood still until `now_ms`: timeouts of what was in flight say nothing about peers."""
        self._stalled_until_ms = now_ms

    def due_probes(self, now_ms: float) -> list[int]:
        """Suspected, slow and silent peers to probe now; the interval of a suspected one doubles with every probe."""
        due = []
        for peer in sorted(self.suspects | self.slow | self.silent):
            state = self._peers[peer]
            if now_ms - state.probed_at_ms >= state.probe_interval_ms:
                state.probed_at_ms = now_ms
                if state.suspected:
                    state.probe_interval_ms = min(2 * state.probe_interval_ms, PROBE_INTERVAL_MAX_MS)
                due.append(peer)
        return due

    def latency_ms(self, peer: int) -> float:
        """A moving average of the peer's recent latency; 0 if it never answered."""
        state = self._peers.get(peer)
        return state.latency_ms if state is not None else 0.0

    def view(self, peer: int, now_ms: float) -> PeerView:
        """The opinion of `peer`, with the reason for it."""
        state = self._of(peer, now_ms)
        opinion: State = "down" if not state.connected else "suspected" if state.suspected else "up"
        reason = state.reason
        if not reason and peer in self.slow:
            reason = "answers take many times as long as those of other nodes: asked last in reads"
        if not reason and peer in self.silent:
            reason = "owes answers and says nothing: asked last in reads"
        return PeerView(opinion, reason, state.latency_ms, state.failures, state.successes)

    def _of(self, peer: int, now_ms: float) -> _Peer:
        state = self._peers.get(peer)
        if state is None:
            state = self._peers[peer] = _Peer(now_ms)
        return state
