"""The side files of all nodes, merged by time and gone through once more, as if one looked at all disks all the time.

The simulator's `Observer` is told of every change and so learns the dots of all writes; on the way it checks records
and dots. Three more things are judged here, since here one knows what every disk held at that moment:

W      when a client was told "done", W nodes held the write, as replicas or (unless it was strict) in hints;
hint   a hint goes only when its home holds what it said (hard case 15);
store  what a life left behind is what the next one found: a change that the engine took is there after a kill.

A change that was under way when its node was killed counts if it was found afterwards, and else never happened: it was
not acknowledged to anybody, and its dots may be issued again.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from quorate.core.causality.version_vectors import descends, join
from quorate.core.hints import hint_key
from quorate.core.ports import Engine, Space
from quorate.core.record import Clock, Dot
from quorate.sim.history import Ack, Violation, WriteEntry, covers
from quorate.sim.observer import Observer, hinted_clock, known_clock, readable_hint
from quorate.trials.recording import RECORDED, Change, Life, holds, life_numbers, read_life

CLOCKS_KEPT_MAX: Final = 50_000
Contents = dict[Space, dict[bytes, bytes]]


class Replay:
    """All disks over the whole trial. `names`: member number → name; `replicas`: storage key → who holds it."""

    def __init__(self, folder: Path, names: Mapping[int, str], replicas: Callable[[bytes], Sequence[int]]) -> None:
        self._folder = folder
        self._names = names
        self._replicas = replicas
        self.observer = Observer()
        self.observer.other_hints = self._other_hints
        self.observer.on_hint_removed = self._hint_removed
        self.contents: dict[int, Contents] = {number: {space: {} for space in RECORDED} for number in names}
        """What each disk holds according to its side files."""
        self.violations: list[Violation] = []
        self.changes = 0
        self.unfinished = 0
        """Changes that were under way when their node died."""
        self.dropped = 0
        """Those of them that were not stored."""
        self._clocks: dict[tuple[bytes, bytes], Clock] = {}

    def run(self, writes: Sequence[WriteEntry], engines: Mapping[int, Engine]) -> None:
        """Go through everything. `engines`: the nodes' stores as they are in the end."""
        watch = {number: self.observer.of_member(number) for number in self._names}
        acks = sorted(
            ((ack.completed_us, index, ack) for index, write in enumerate(writes) for ack in write.acks),
            key=lambda entry: entry[:2],
        )
        turn = 0
        streams = [self._changes_of(number, engines[number]) for number in self._names]
        for time_ns, number, _, change in heapq.merge(*streams, key=lambda entry: entry[:3]):
            while turn < len(acks) and acks[turn][0] * 1000 < time_ns:
                self._acknowledged(writes[acks[turn][1]], acks[turn][2])
                turn += 1
            self._apply(number, change, watch[number])
        for _, index, ack in acks[turn:]:
            self._acknowledged(writes[index], ack)
        self.violations += self.observer.violations

    def _changes_of(self, number: int, engine: Engine) -> Iterator[tuple[int, int, int, Change]]:
        """(time in nanoseconds, member, position, change) of all that was stored by one node."""
        name = self._names[number]
        lives = [read_life(self._folder, name, life) for life in life_numbers(self._folder, name)]
        verdicts = dict(life.verdict for life in lives if life.verdict is not None)
        position = 0
        for life in lives:
            if not life.changes:
                continue
            stored = verdicts.get(life.number)
            if stored is None:
                stored = holds(engine, life.changes[-1])
            for change in life.changes if self._judge_end(name, life, stored) else life.changes[:-1]:
                position += 1
                yield change.time_ns, number, position, change

    def _judge_end(self, name: str, life: Life, stored: bool) -> bool:
        """Does the last change of this life count?"""
        if life.finished:
            if not stored:
                message = f"life {life.number} of {name} ended after a write that its store took, and the next finds it"
                self.violations.append(Violation("store", f"{message} missing or changed"))
            return True
        self.unfinished += 1
        self.dropped += not stored
        return stored

    def _apply(
        self, number: int, change: Change, watch: Callable[[Space, bytes, bytes | None, bytes | None], None]
    ) -> None:
        self.changes += 1
        contents = self.contents[number]
        operations = change.batch
        if change.cleared is not None:
            space, start, end = change.cleared
            operations = [(space, key, None) for key in sorted(contents[space]) if start <= key < end]
        for space, key, value in operations:
            held = contents[space]
            watch(Space(space), key, held.get(key), value)
            if value is None:
                held.pop(key, None)
            else:
                held[key] = value

    def _acknowledged(self, write: WriteEntry, ack: Ack) -> None:
        dots = self.observer.acked_dots(write, ack.clock)
        counts = [len(self._holders(write.storage_key, dot, write.strict)) for dot in dots]
        if dots and max(counts) < write.w:
            kind = "replicas" if write.strict else "nodes"
            message = f"write #{write.number} of {write.storage_key!r} was acknowledged with w={write.w}, and then"
            self.violations.append(Violation("W", f"{message} {max(counts)} {kind} held any of {dots}"))

    def _holders(self, key: bytes, dot: Dot, strict: bool) -> list[int]:
        replicas = self._replicas(key)
        return [
            number
            for number in self._names
            if (number in replicas and covers(self._knows(number, key), dot))
            or (not strict and any(covers(clock, dot) for clock in self._hinted(number, key)))
        ]

    def _knows(self, number: int, key: bytes) -> Clock:
        stored = self.contents[number][Space.DATA].get(key)
        if stored is None:
            return {}
        clock = self._clocks.get((key, stored))
        if clock is None:
            if len(self._clocks) >= CLOCKS_KEPT_MAX:
                self._clocks.clear()
            clock = self._clocks[key, stored] = known_clock(key, stored)
        return clock

    def _hinted(self, number: int, key: bytes, except_home: int = 0) -> list[Clock]:
        hints = self.contents[number][Space.HINTS]
        if not hints:
            return []
        keys = [hint_key(home, key) for home in self._names if home != except_home]
        return [hinted_clock(readable_hint(stored, hints[stored])) for stored in keys if stored in hints]

    def _other_hints(self, member: int, home: int, key: bytes) -> Clock:
        known: Clock = {}
        for clock in self._hinted(member, key, home):
            known = join(known, clock)
        return known

    def _hint_removed(self, member: int, home: int, key: bytes, clock: Clock, _created_ms: int) -> None:
        if not descends(self._knows(home, key), clock):
            known = self._knows(home, key)
            message = f"n{member} removed its hint of {key!r} for n{home}, which knows {known} and not all of {clock}"
            self.violations.append(Violation("hint", message))
