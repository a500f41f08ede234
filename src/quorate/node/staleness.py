"""How stale reads may be: worked out from what was measured, when somebody asks (see `core.staleness`).

Nothing is computed unless somebody looks, and then once for all who look within `STALENESS_KEPT_MS`. The work is cut
into slices of about a millisecond, a turn of the loop each with a pause between, so that clients do not notice it; one
computation is under way at a time, and who asks meanwhile waits for its turn.

How long the coordinator's own copy takes is not in anybody's reply. It is timed here, by a few waits for the batch of
the turn (`commit_queue`), which is what a put waits for.

Invariants: every question is answered exactly once; the results kept are at most one for each n and durability.
Rejected: a computation at intervals, whether or not anybody looks; asking all nodes for their measurements (each node
knows its own links, and says whose they are).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from quorate.core.errors import CallerError
from quorate.core.keyspace import check_bucket_name
from quorate.core.limits import (
    STALENESS_COMMITS,
    STALENESS_GROUPS_MAX,
    STALENESS_KEPT_MS,
    STALENESS_SAMPLES_MIN,
    STALENESS_SLICE_PAUSE_MS,
    STALENESS_SLICE_REPLICAS,
    STALENESS_TRIALS,
    STALENESS_WAITING_MAX,
)
from quorate.core.staleness.figures import configurations, links_of, resolution
from quorate.core.staleness.legs import Draw, Measured
from quorate.core.staleness.trials import TIMES_MS, Trials
from quorate.core.store import Admin, Failure
from quorate.node.cluster_view import BucketView
from quorate.node.context import NodeContext
from quorate.node.steps import Wait, pause, run

Reply = Callable[[Admin | Failure], None]
_Kind = tuple[int, bool]
"""(n, synced): what buckets have in common whose figures are of the same trials."""


class _Computed:
    """What one computation came to."""

    __slots__ = ("at_ms", "measured", "trials")

    def __init__(self, at_ms: float, measured: Measured, trials: Trials) -> None:
        self.at_ms = at_ms
        self.measured = measured
        self.trials = trials


class Staleness:
    """Answers `core.store.Store.staleness`."""

    def __init__(self, node: NodeContext) -> None:
        self._node = node
        self._kept: dict[_Kind, _Computed] = {}
        self._waiting: list[tuple[bytes, Reply]] = []
        self._running = False

    def ask(self, bucket: bytes, reply: Reply) -> None:
        """`bucket` empty: the defaults."""
        try:
            if bucket:
                check_bucket_name(bucket)
        except CallerError as error:
            reply(Failure("caller", str(error)))
            return
        if len(self._waiting) >= STALENESS_WAITING_MAX:
            text = "too many questions about staleness wait already"
            reply(Failure("overloaded", text, retry_after_ms=STALENESS_KEPT_MS))
            return
        self._waiting.append((bucket, reply))
        if not self._running:
            self._running = True
            run(self._work(), lambda done: None)

    async def _work(self) -> None:
        """Answer all that wait, one kind after the other."""
        while self._waiting:
            bucket, reply = self._waiting.pop(0)
            reply(await self._answer(bucket))
        self._running = False

    async def _answer(self, bucket: bytes) -> Admin | Failure:
        node = self._node
        view = node.view.bucket(bucket)
        kind = (view.properties.n, view.synced)
        now_ms = node.clock.monotonic_ms()
        self._kept = {known: found for known, found in self._kept.items() if now_ms - found.at_ms < STALENESS_KEPT_MS}
        if kind not in self._kept:
            reason = await self._compute(view, kind)
            if reason:
                measured = node.legs.measured(now_ms, ())
                return Admin({**self._head(bucket, view, measured), "ready": False, "reason": reason})
            # Settings and clock may have moved on meanwhile; the trials are of what was asked.
            now_ms = node.clock.monotonic_ms()
        found = self._kept[kind]
        trials = found.trials
        document = {
            **self._head(bucket, view, found.measured),
            "ready": True,
            "reason": "",
            "replicas": trials.replicas,
            "computed_s_ago": round((now_ms - found.at_ms) / 1000, 1),
            "trials": trials.done,
            "resolution": resolution(trials, found.measured.write_count),
            "times_ms": list(TIMES_MS),
            "configurations": configurations(trials, view.r, view.w),
        }
        return Admin(document)

    def _head(self, bucket: bytes, view: BucketView, measured: Measured) -> dict[str, Any]:
        node = self._node
        return {
            "bucket": bucket.decode(errors="backslashreplace") if bucket else None,
            "seen_by": node.names([node.self_number])[0],
            "n": view.properties.n,
            "r": view.r,
            "w": view.w,
            "measured": {
                "writes": measured.write_count,
                "reads": measured.read_count,
                "needed": STALENESS_SAMPLES_MIN,
                "window_s": round(measured.window_ms / 1000, 1),
            },
        }

    async def _compute(self, view: BucketView, kind: _Kind) -> str:
        """Keep the figures for this kind; gives the reason if there can be none."""
        node = self._node
        groups = self._groups(view)
        if not groups:
            return "this node is a replica of no key of such a bucket; ask another node"
        peers = sorted({peer for group in groups for peer in group})
        measured = node.legs.measured(node.clock.monotonic_ms(), peers)
        if groups[0] and measured.write_count < STALENESS_SAMPLES_MIN:
            return f"not enough measurements yet ({measured.write_count} of {STALENESS_SAMPLES_MIN})"
        commits = await self._time_commits(view.synced)
        if not commits:
            return f"this node takes no writes: {node.fenced_because}"
        links = links_of(measured, peers)
        trials = Trials(_evenly(commits), [[links[peer] for peer in group] for group in groups], node.rng.random)
        slice_trials = max(1, STALENESS_SLICE_REPLICAS // trials.replicas)
        while trials.done < STALENESS_TRIALS:
            trials.run(min(slice_trials, STALENESS_TRIALS - trials.done))
            await pause(node, STALENESS_SLICE_PAUSE_MS)
        self._kept[kind] = _Computed(node.clock.monotonic_ms(), measured, trials)
        return ""

    def _groups(self, view: BucketView) -> list[tuple[int, ...]]:
        """The other replicas of keys that this node coordinates, from partitions all round the ring."""
        own = [placement.others for placement in view.placements if placement.coordinates]
        if not own:
            return []
        most = max(len(others) for others in own)
        whole = [others for others in own if len(others) == most]
        return whole[:: -(-len(whole) // STALENESS_GROUPS_MAX)]

    async def _time_commits(self, synced: bool) -> list[float]:
        """How long some local commits take, in milliseconds; none if nothing is committed here."""
        node = self._node
        found = []
        for _ in range(STALENESS_COMMITS):
            began_ms = node.clock.monotonic_ms()
            durable = await _commit(node, synced)
            if not durable:
                return []
            found.append(node.clock.monotonic_ms() - began_ms)
            await pause(node, STALENESS_SLICE_PAUSE_MS)
        return found


def _commit(node: NodeContext, synced: bool) -> Wait[bool]:
    """Wait until the batch of this turn is as durable as a bucket asks; False: it never will be."""

    def start(resume: Callable[[bool], None]) -> None:
        node.commits.wait(synced, lambda argument, durable: resume(durable), None)

    return Wait(start)


def _evenly(found: Sequence[float]) -> Draw:
    """Draws one of a few measurements."""
    count = len(found)
    return lambda chance: found[int(chance * count)]
