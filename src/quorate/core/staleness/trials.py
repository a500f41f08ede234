"""A write and a read of it, played over and over with latencies drawn from what was measured (Monte Carlo).

The four latencies are those of the paper (Bailis et al., VLDB 2012, §5): a write takes `W` to become visible at a
replica and `A` for its acknowledgement to come back; a read takes `R` to get there and `S` back. What differs from the
paper is how this store works, and the trial follows the store:

- The coordinator is a replica. Its own copy is there, and acknowledged, when it is committed locally.
- A read asks R replicas, not all N: the coordinator reads its own copy at once, and R - 1 others (decision 0008).

One trial draws everything once, and judges all R and W by it. Acknowledgements in their order tell when the put is
answered for each W; of the R replicas that a read asks, the one that would show the write first tells how long after
the answer the read has to begin. That time is the trial's *lag*: a read that begins `t` after the answer sees the write
if t ≥ lag. So the figures of all R and W are of the same draws, and never rise where they must not: asking one more
replica, or waiting for one more acknowledgement, never makes a lag longer.

Who coordinates the read? If it is who coordinated the write, its own copy shows it, whatever R and W are. Trials are of
all other cases; the mixture is put together in `figures`, exactly and not by chance.

Pure: the caller gives numbers in [0, 1), and decides how many trials are run at a time.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence

import msgspec

from quorate.core.staleness.legs import BUCKETS, Draw, bucket_of

TIMES_MS = (0.0, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)
"""Times after the acknowledgement for which the share of fresh reads is counted."""


class Link(msgspec.Struct, frozen=True):
    """The latencies between a coordinator and one other replica."""

    write_away: Draw
    write_back: Draw
    read_away: Draw | None = None
    """None: no reads were measured. They are then taken to arrive at once, which is when they see least."""
    read_back: Draw | None = None


def lags(
    commit_ms: float, visible_ms: Sequence[float], acknowledged_ms: Sequence[float], arrives_ms: Sequence[float]
) -> list[list[float]]:
    """How long after its acknowledgement a write is seen: `[w - 1][r - 1]`.

    All times but the last count from the beginning of the write. `commit_ms`: when the writer's own copy is there.
    `visible_ms`, `acknowledged_ms`: when that of each replica is, in the order in which the read asks them (the writer
    among them, with its own), and when the writer knows of it. `arrives_ms`: how long after its beginning the read is
    at each. A lag that is not above 0 means that every read sees the write.
    """
    seen_from = []
    least = visible_ms[0] - arrives_ms[0]
    for visible, arrives in zip(visible_ms, arrives_ms, strict=True):
        least = min(least, visible - arrives)
        seen_from.append(least)
    return [[seen - answered for seen in seen_from] for answered in sorted([commit_ms, *acknowledged_ms])]


class Cell:
    """What the trials have come to for one R and W whose quorums need not overlap."""

    __slots__ = ("by_time", "lags")

    def __init__(self) -> None:
        self.by_time = [0] * (len(TIMES_MS) + 1)
        """Lags up to each of `TIMES_MS`, and above the previous one."""
        self.lags = [0] * (BUCKETS + 1)
        """At 0 those that are not above 0; from 1 on by their buckets."""

    def add(self, lag_ms: float) -> None:
        if lag_ms <= 0.0:
            self.by_time[0] += 1
            self.lags[0] += 1
        else:
            self.by_time[bisect_left(TIMES_MS, lag_ms)] += 1
            self.lags[bucket_of(lag_ms) + 1] += 1


class Trials:
    """Trials of one bucket's replicas. All R and W at once."""

    def __init__(self, commit: Draw, groups: Sequence[Sequence[Link]], random: Callable[[], float]) -> None:
        """`commit`: how long the coordinator's own copy takes. `groups`: sets of other replicas, equally many in each,
        that keys of the bucket have; trials take them in turn."""
        self.others = len(groups[0])
        assert all(len(group) == self.others for group in groups)
        self.replicas = n = self.others + 1
        self.done = 0
        self.cells = {(r, w): Cell() for r in range(1, n + 1) for w in range(1, n + 1) if r + w <= n}
        self.write_waits = [[0] * BUCKETS for _ in range(n)]
        """By w - 1: how long puts wait for their acknowledgements."""
        self.read_waits = [[0] * BUCKETS for _ in range(n)]
        """By r - 1: how long gets wait for other replicas."""
        self.reads_known = all(link.read_away is not None for group in groups for link in group)
        self._commit = commit
        self._groups = groups
        self._random = random

    def run(self, trials: int) -> None:
        for _ in range(trials):
            self._play(self._groups[self.done % len(self._groups)])
            self.done += 1

    def _play(self, group: Sequence[Link]) -> None:
        random = self._random
        commit_ms = self._commit(random())
        visible_ms = [link.write_away(random()) for link in group]
        acknowledged_ms = [visible + link.write_back(random()) for visible, link in zip(visible_ms, group, strict=True)]
        for waits, answered_ms in zip(self.write_waits, sorted([commit_ms, *acknowledged_ms]), strict=True):
            waits[bucket_of(answered_ms)] += 1
        order = self._order()
        self._note_read_waits(group, order)
        if not order:
            return
        # The first of the order coordinates the read, at its own copy; then it asks the others and the writer.
        asked = order[1:]
        asked.insert(int(random() * (len(asked) + 1)), -1)
        visible_in_order = [visible_ms[order[0]]]
        arrives_ms = [0.0]
        for place in asked:
            visible_in_order.append(commit_ms if place < 0 else visible_ms[place])
            # The links of another node are not known here: they are taken to be like this node's to the same replica.
            read_away = group[order[0] if place < 0 else place].read_away
            arrives_ms.append(0.0 if read_away is None else read_away(random()))
        found = lags(commit_ms, visible_in_order, acknowledged_ms, arrives_ms)
        for (r, w), cell in self.cells.items():
            cell.add(found[w - 1][r - 1])

    def _order(self) -> list[int]:
        """The other replicas, shuffled."""
        order = list(range(self.others))
        for place in range(self.others - 1, 0, -1):
            other = int(self._random() * (place + 1))
            order[place], order[other] = order[other], order[place]
        return order

    def _note_read_waits(self, group: Sequence[Link], order: Sequence[int]) -> None:
        """How long a get by this node waits if it asks the others in this order."""
        if not self.reads_known:
            return
        random = self._random
        longest_ms = 0.0
        self.read_waits[0][0] += 1
        for place, waits in zip(order, self.read_waits[1:], strict=True):
            link = group[place]
            assert link.read_away is not None and link.read_back is not None
            longest_ms = max(longest_ms, link.read_away(random()) + link.read_back(random()))
            waits[bucket_of(longest_ms)] += 1
