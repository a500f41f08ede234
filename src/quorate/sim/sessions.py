"""The four session guarantees, as far as this store promises them (Terry et al., PDIS 1994; SOSP 2007, §4.4 and §4.5).

A session is one client, which asks one thing at a time. Quorate keeps nothing of a session on any server: what a
session may rely on follows from quorums and from the contexts that the client itself carries. So two of the guarantees
are about quorums, and hold only where replicas must meet, and two are about causality, and always hold.

S-RYW  Read your writes. A strict read with R+W>N that begins after the session's own strict write was acknowledged
       knows that write's dot. Known is not shown: another write may have replaced it.
S-MR   Monotonic reads. What a strict read of the session knew, a later strict read of it knows as well, if both must
       meet in a replica. A dot that was acknowledged with W before the later read began stands on W replicas, so
       R+W>N suffices. Any other dot may stand on a single replica, the one that the first read had asked (a write
       that is under way, or that came to nothing); then only a read of all N replicas must meet it. A read with R<N
       may therefore miss what the one before it has shown: the store is no linearizable register (`registers/`).
S-MW   Monotonic writes. A put with the context that the answer to an own earlier put gave follows that put for ever:
       whoever knows the later event knows all that the context covers, and shows nothing of it.
S-WFR  Writes follow reads. The same for a put with the context of a read: whoever knows it knows all that was read.

S-MW and S-WFR say that the causal order of dotted version vectors is closed: a record that knows a dot knows its past.
That is asked of every answer (reads, acknowledgements) and of every final record, without any excuse: records are
written, lost, sent and merged as wholes, so no fault and no quorum can tear a dot from its past. A clock that covers
the fifth event of an actor covers the four before it, so their pasts are demanded too; an actor that issued a dot
twice, or claimed events that it had forgotten, shows up here (hard cases 1, 2).

Excuses of S-RYW and S-MR, as in `checkers.check_quorum_reads`: a copy may have been lost legitimately since (after a
loss only what began later counts, and a read during which one happened says nothing), and what was collected need not
be known. Dots that were read before they were synced may also go with a lost machine, which for them is a loss even
where no acknowledged write can be. While the members change, only quorums of the bucket's r and w are promised to
meet (`core.ring.advance`): what stands on one replica need not have been handed over before the next ring is read, so
then even r=n makes no dot sure that nobody acknowledged.

No guarantee follows for a put without a context, nor for `overwrite_seen`: its context is what its coordinator held,
which the session never saw. Where fallbacks may answer, no quorum is sure to meet (SOSP 2007, §4.6).

A vacuous pass would be worse than none, so the findings say how many pairs of operations each guarantee was asked of.
The cost is linear in the operations times the length of a clock: each actor's pasts are joined once, in the order of
its events. Rejected: comparing each read with every write before it, which is the definition, is quadratic, and judges
the tests instead.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec

from quorate.core.causality.version_vectors import descends, join
from quorate.core.record import Actor, Clock, Dot, Record, Sibling
from quorate.sim.graves import Graves
from quorate.sim.history import History, ReadEntry, Violation, WriteEntry, covers
from quorate.sim.observer import Observer

READ_YOUR_WRITES: Final = "S-RYW"
MONOTONIC_READS: Final = "S-MR"
MONOTONIC_WRITES: Final = "S-MW"
WRITES_FOLLOW_READS: Final = "S-WFR"
GUARANTEES: Final = (READ_YOUR_WRITES, MONOTONIC_READS, MONOTONIC_WRITES, WRITES_FOLLOW_READS)

_READ, _ACK = 0, 1
"""In this order at equal times: a read has not yet seen the acknowledgement."""


class SessionFindings(msgspec.Struct):
    """What `check_sessions` found. `pairs`: guarantee → how many pairs of an earlier and a later operation (for S-MW
    and S-WFR: of a write and an answer that knows it) it was asked of."""

    violations: list[Violation] = []
    pairs: dict[str, int] = msgspec.field(default_factory=lambda: dict.fromkeys(GUARANTEES, 0))


def check_sessions(
    history: History,
    observer: Observer,
    n: int,
    graves: Graves | None = None,
    quorum_min: int = 1,
    finals: Mapping[bytes, Record] | None = None,
) -> SessionFindings:
    """All four guarantees over a whole history.

    `n`: replicas of every key; `graves`: what was collected; `quorum_min`: reads and writes with a smaller r or w are
    promised nothing, and more than 1 says that the members may have changed; `finals`: storage key → the record that
    stands in the end.
    """
    findings = SessionFindings()
    _Quorums(history, observer, n, graves, quorum_min, findings).check()
    _Causality(history, observer, findings).check(finals or {})
    return findings


class _Losses:
    """When something that a read has to know may have been lost: of all keys, and of single ones."""

    def __init__(self, times_us: list[int], key_times_us: Mapping[bytes, list[int]]) -> None:
        self._times_us = sorted(times_us)
        self._of_key = {key: sorted([*times_us, *times]) for key, times in key_times_us.items()}

    def of(self, key: bytes) -> list[int]:
        """When something of `key` may have been lost, in the order of time."""
        return self._of_key.get(key, self._times_us)


def _last_us(losses_us: list[int], until_us: int) -> int:
    """The last loss at `until_us` or before; -1 if there was none."""
    index = bisect_right(losses_us, until_us) if losses_us else 0
    return losses_us[index - 1] if index else -1


class _AckedDots:
    """The acknowledged dots of one actor on one key, in order: parallel lists."""

    __slots__ = ("completed_us", "counters", "invoked_us")

    def __init__(self, acked: list[tuple[int, int, int]]) -> None:
        """`acked`: (counter, completed_us, invoked_us) of each."""
        acked.sort()
        self.counters = [counter for counter, _, _ in acked]
        self.completed_us = [completed_us for _, completed_us, _ in acked]
        self.invoked_us = [invoked_us for _, _, invoked_us in acked]

    def last(self, counter: int, before_us: int, after_us: int) -> int:
        """The last counter up to `counter` whose write began after `after_us` and was acknowledged before `before_us`;
        0 if there is none, or none but through late retries of events that were made before `after_us`."""
        index = bisect_right(self.counters, counter) - 1
        while index >= 0:
            completed_us = self.completed_us[index]
            if completed_us <= after_us:
                return 0  # The events before it had been made by then: nothing is asked of them any more.
            if completed_us < before_us and self.invoked_us[index] > after_us:
                return self.counters[index]
            index -= 1
        return 0


class _Quorums:
    """S-RYW and S-MR: session by session, key by key, in the order of time."""

    def __init__(
        self,
        history: History,
        observer: Observer,
        n: int,
        graves: Graves | None,
        quorum_min: int,
        findings: SessionFindings,
    ) -> None:
        self._history = history
        self._n = n
        self._graves = graves
        self._quorum_min = quorum_min
        self._changing = quorum_min > 1
        self._findings = findings
        self._losses = _Losses(history.losses_us, history.key_losses_us)
        self._any_losses = _Losses([*history.losses_us, *history.unsynced_losses_us], history.key_losses_us)
        self._acked: dict[tuple[bytes, int], dict[Actor, _AckedDots]] = {}
        """(storage key, w) → the dots that were acknowledged with this w at least, by their actor."""
        self._courses: dict[tuple[int, bytes], list[tuple[int, int, int]]] = {}
        """(session, storage key) → (time, kind, index) of its strict reads and acknowledgements."""
        self._own: list[tuple[int, int, Dot]] = []
        """(w, when it was invoked, dot) of all strict acknowledgements."""
        self._collect(observer)

    def _collect(self, observer: Observer) -> None:
        found: dict[tuple[bytes, int], dict[Actor, list[tuple[int, int, int]]]] = {}
        for index, read in enumerate(self._history.reads):
            if read.strict and read.session and read.r >= self._quorum_min:
                self._courses.setdefault((read.session, read.storage_key), []).append((read.invoked_us, _READ, index))
        for write in self._history.writes:
            if not write.strict or not write.acks or write.w < self._quorum_min:
                continue
            dots = observer.dots_of(write)
            places = [
                found.setdefault((write.storage_key, w), {}) for w in range(max(1, self._quorum_min), write.w + 1)
            ]
            course = self._courses.setdefault((write.session, write.storage_key), []) if write.session else []
            for ack in write.acks:
                known = [dot for dot in dots if covers(ack.clock, dot)]
                if len(known) != 1:
                    continue  # Which of several was acknowledged, nobody can tell.
                actor, counter = known[0]
                acked = (counter, ack.completed_us, ack.invoked_us)
                for place in places:
                    place.setdefault(actor, []).append(acked)
                course.append((ack.completed_us, _ACK, len(self._own)))
                self._own.append((write.w, ack.invoked_us, known[0]))
        self._acked = {
            place: {actor: _AckedDots(acked) for actor, acked in actors.items()} for place, actors in found.items()
        }

    def check(self) -> None:
        for (_, key), course in self._courses.items():
            if len(course) > 1:
                course.sort()
                self._follow(key, course)

    def _follow(self, key: bytes, course: list[tuple[int, int, int]]) -> None:
        """One session's course on one key. `own`: w → what it wrote since the last loss; `seen`: all that it has read;
        `sure`: what it has read since anything was lost that no acknowledgement may have protected."""
        own: dict[int, Clock] = {}
        own_loss_us = sure_loss_us = -1
        seen: Clock = {}
        sure: Clock = {}
        losses_us, any_losses_us = self._losses.of(key), self._any_losses.of(key)
        for time_us, kind, index in course:
            read = self._history.reads[index] if kind == _READ else None
            until_us = time_us if read is None else read.completed_us
            loss_us = _last_us(losses_us, until_us)
            if loss_us > own_loss_us:
                own, own_loss_us = {}, loss_us
            if read is None:
                w, invoked_us, (actor, counter) = self._own[index]
                if invoked_us > loss_us:
                    floor = own.setdefault(w, {})
                    floor[actor] = max(floor.get(actor, 0), counter)
                continue
            self._check_own(read, own)
            self._check_acked(read, seen, loss_us)
            _grow(seen, read.clock)
            if self._changing:
                continue
            loss_us = _last_us(any_losses_us, until_us)
            if loss_us > sure_loss_us:
                sure, sure_loss_us = {}, loss_us
            if sure and read.r >= self._n:
                self._check_sure(read, sure)
            if loss_us < read.invoked_us:
                _grow(sure, read.clock)

    def _check_own(self, read: ReadEntry, own: Mapping[int, Clock]) -> None:
        for w, floor in own.items():
            if read.r + w <= self._n:
                continue
            self._findings.pairs[READ_YOUR_WRITES] += len(floor)
            missed = self._missed(read, floor)
            if missed:
                text = f"its session wrote {missed} before, acknowledged with w={w}"
                self._found(READ_YOUR_WRITES, read, text)

    def _check_acked(self, read: ReadEntry, seen: Clock, loss_us: int) -> None:
        """What the session has seen of acknowledged writes is known."""
        acked = self._acked.get((read.storage_key, max(self._quorum_min, self._n - read.r + 1)))
        if acked is None or not seen:
            return
        floor: Clock = {}
        for actor, counter in seen.items():
            dots = acked.get(actor)
            last = dots.last(counter, read.invoked_us, loss_us) if dots is not None else 0
            if last:
                floor[actor] = last
        self._findings.pairs[MONOTONIC_READS] += bool(floor)
        missed = self._missed(read, floor)
        if missed:
            self._found(MONOTONIC_READS, read, f"its session had read {missed} before, which were acknowledged")

    def _check_sure(self, read: ReadEntry, sure: Clock) -> None:
        self._findings.pairs[MONOTONIC_READS] += 1
        missed = self._missed(read, sure)
        if missed:
            self._found(MONOTONIC_READS, read, f"its session had read {missed} before, and now asked all replicas")

    def _missed(self, read: ReadEntry, floor: Clock) -> list[Dot]:
        clock, graves = read.clock, self._graves
        missed = [dot for dot in floor.items() if clock.get(dot[0], 0) < dot[1]]
        if missed and graves is not None:
            missed = [dot for dot in missed if not graves.excuses(read.storage_key, dot, read.completed_us)]
        return missed

    def _found(self, guarantee: str, read: ReadEntry, text: str) -> None:
        message = f"a read of {read.storage_key!r} by session {read.session} with r={read.r}, from {read.invoked_us}"
        message += f" to {read.completed_us} µs, knows only {read.clock}, and {text}"
        self._findings.violations.append(Violation(guarantee, message))


def _grow(floor: Clock, clock: Clock) -> None:
    """Join `clock` into `floor`."""
    for actor, counter in clock.items():
        if floor.get(actor, 0) < counter:
            floor[actor] = counter


class _Past(NamedTuple):
    """What follows from knowing the first so many events of one actor: the joined contexts that they carried."""

    clock: Clock
    events: int
    from_puts: int
    """How many events of these had a context of their own, and how many of those contexts came from a put."""


NO_PAST: Final = _Past({}, 0, 0)

Events = dict[Actor, list[tuple[int, WriteEntry]]]
"""Actor → (counter, the write with a context of its own that got this dot), in the order of the counters."""


def _pasts_of(events: list[tuple[int, WriteEntry]]) -> list[_Past]:
    """By counter: the past of this event of one actor, and of all before it. The last holds for all later ones."""
    pasts: list[_Past] = []
    joined: Clock = {}
    past = NO_PAST
    from_puts = 0
    for index, (counter, write) in enumerate(events):
        pasts.extend([past] * (counter - len(pasts)))
        joined = join(joined, write.context or {})
        from_puts += write.context_source == "put"
        past = _Past(joined, index + 1, from_puts)
    pasts.append(past)
    return pasts


class _Causality:
    """S-MW and S-WFR: every answer and every final record is closed under causality."""

    def __init__(self, history: History, observer: Observer, findings: SessionFindings) -> None:
        self._history = history
        self._findings = findings
        self._events: dict[bytes, Events] = {}
        for write in history.writes:
            if write.context and write.context_source:
                for actor, counter in observer.dots_of(write):
                    events = self._events.setdefault(write.storage_key, {}).setdefault(actor, [])
                    events.append((counter, write))
        for actors in self._events.values():
            for events in actors.values():
                events.sort(key=_counter)
        self._pasts = {
            key: {actor: _pasts_of(events) for actor, events in actors.items()} for key, actors in self._events.items()
        }

    def check(self, finals: Mapping[bytes, Record]) -> None:
        for read in self._history.reads:
            self._check(read.storage_key, read.clock, read.siblings, "read", read.completed_us)
        for write in self._history.writes:
            for ack in write.acks:
                self._check(write.storage_key, ack.clock, (), "acknowledgement", ack.completed_us)
        for key, record in finals.items():
            self._check(key, record.clock, record.siblings, "final record", 0)

    def _check(
        self, key: bytes, clock: Clock, siblings: tuple[()] | list[Sibling], where: str, completed_us: int
    ) -> None:
        actors = self._pasts.get(key)
        if actors is None:
            return
        events = from_puts = 0
        ignorant = False
        replaced: list[Sibling] = []
        for actor, counter in clock.items():
            pasts = actors.get(actor)
            if pasts is None:
                continue
            past, count, puts = pasts[counter] if counter < len(pasts) else pasts[-1]
            events += count
            from_puts += puts
            if past and not descends(clock, past):
                ignorant = True
            for sibling in siblings:
                if past.get(sibling.actor, 0) >= sibling.counter and sibling not in replaced:
                    replaced.append(sibling)
        for wrong in [*replaced, None] if ignorant else replaced:
            self._blame((key, clock, where, completed_us), wrong)
        self._findings.pairs[MONOTONIC_WRITES] += from_puts
        self._findings.pairs[WRITES_FOLLOW_READS] += events - from_puts

    def _blame(self, answer: tuple[bytes, Clock, str, int], shown: Sibling | None) -> None:
        """Name the events of which this answer does not know the past, or that had replaced what is `shown`; one for
        each guarantee."""
        key, clock = answer[:2]
        blamed: list[str] = []
        for actor, events in self._events[key].items():
            for counter, write in events:
                if not covers(clock, (actor, counter)):
                    break
                context, source = write.context or {}, write.context_source
                if shown is not None:
                    wrong = covers(context, shown.dot)
                    text = f"shows {shown.value!r} (dot {shown.dot})"
                else:
                    missed = [dot for dot in context.items() if not covers(clock, dot)]
                    wrong = bool(missed)
                    text = f"does not know {missed}"
                if wrong and source not in blamed:
                    blamed.append(source)
                    self._found(write, answer, text)
        assert blamed, "what the joined past covers, the context of some event covers"

    def _found(self, write: WriteEntry, answer: tuple[bytes, Clock, str, int], text: str) -> None:
        guarantee = MONOTONIC_WRITES if write.context_source == "put" else WRITES_FOLLOW_READS
        source = "its own put" if write.context_source == "put" else "a read"
        key, clock, where, completed_us = answer
        when = f" at {completed_us} µs" if completed_us else ""
        message = f"a {where} of {key!r}{when} with the clock {clock} knows write #{write.number} of session"
        message += f" {write.session}, which carried the context {write.context} from {source}, and {text}"
        self._findings.violations.append(Violation(guarantee, message))


def _counter(event: tuple[int, WriteEntry]) -> int:
    return event[0]
