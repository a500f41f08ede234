"""The checkers: pure functions from a history, the dots that its writes got, and the final records to violations.

D  no acknowledged write is lost: one of its acknowledged dots stands at the end, or some ok or unknown write on the
   key had a context that covers it; for last-write-wins also: or a later event on the key. Either way the final
   clock knows it.
Z  nothing that an acknowledged write replaced is back: no standing dot is covered by that write's context.
C  after healing all replicas of a key hold the same bytes, and nobody else holds any.
R  a strict read that must meet a strict write's replicas (R+W>N) and began after its acknowledgement knows of it.
   Fallbacks void this (SOSP 2007, §4.6), so where either was sloppy nothing is asked.
F  what was reported as not done is on no disk and in no answer, ever (hard case 31), and no answer holds a value that
   nobody wrote to that key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from quorate.core.causality.version_vectors import join
from quorate.core.record import TOMBSTONE, Clock, Dot, Record, Sibling
from quorate.sim.history import FAILED, OK, History, Violation, WriteEntry, covers
from quorate.sim.observer import Observer

NOTHING = Record({}, [])


def by_key(writes: Sequence[WriteEntry]) -> dict[bytes, list[WriteEntry]]:
    grouped: dict[bytes, list[WriteEntry]] = {}
    for write in writes:
        grouped.setdefault(write.storage_key, []).append(write)
    return grouped


def contexts_of(write: WriteEntry, observer: Observer) -> list[Clock]:
    """The clocks that `write` replaced: as the client said, or as its coordinators saw."""
    if write.overwrite_seen:
        return [observer.seen_clock(write.storage_key, dot) for dot in observer.dots_of(write)]
    return [write.context] if write.context else []


def check_no_loss(
    writes: Sequence[WriteEntry], final: Record, observer: Observer, last_write_wins: bool
) -> list[Violation]:
    """Check D for the writes of one key."""
    violations = []
    standing = {sibling.dot for sibling in final.siblings}
    replaced: Clock = {}
    for write in writes:
        if write.outcome != FAILED and _may_have_acted(write, final, observer):
            for context in contexts_of(write, observer):
                replaced = join(replaced, context)
    for write in writes:
        for ack in write.acks:
            dots = observer.acked_dots(write, ack.clock)
            if not dots:
                lost = _lost_unseen(ack.clock, final, last_write_wins or any(other.overwrite_seen for other in writes))
            else:
                lost = not any(
                    dot in standing
                    or (
                        covers(final.clock, dot)
                        and (
                            covers(replaced, dot)
                            or (last_write_wins and _beaten(write.storage_key, dot, final, observer))
                        )
                    )
                    for dot in dots
                )
            if lost:
                violations.append(
                    Violation("D", f"acknowledged write {_name(write)} with dots {dots} is lost; final: {final}")
                )
    return violations


def _may_have_acted(write: WriteEntry, final: Record, observer: Observer) -> bool:
    """Could `write` have removed something from the final record? Its event would be known there."""
    dots = observer.dots_of(write)
    return not dots or any(covers(final.clock, dot) for dot in dots)


def _lost_unseen(acked: Clock, final: Record, may_be_unseen: bool) -> bool:
    """An acknowledged event that no disk ever showed: overwritten or beaten within one turn of its coordinator.

    That takes another write that saw it there, or last-write-wins; then the final clock still covers it.
    """
    return not may_be_unseen or any(not covers(final.clock, dot) for dot in acked.items())


def _beaten(storage_key: bytes, dot: Dot, final: Record, observer: Observer) -> bool:
    """Has a later event of the key, known in the end, won over `dot` by time?"""
    dots = observer.dots[storage_key]
    mine = dots[dot]
    return any(
        (other.time, other.actor, other.counter) > (mine.time, mine.actor, mine.counter)
        and covers(final.clock, other_dot)
        for other_dot, other in dots.items()
        if other_dot != dot
    )


def check_nothing_back(writes: Sequence[WriteEntry], final: Record, observer: Observer) -> list[Violation]:
    """Check Z for the writes of one key."""
    violations = []
    for write in writes:
        if write.outcome != OK:
            continue
        own = observer.dots_of(write)
        for context in contexts_of(write, observer) if not write.overwrite_seen else []:
            violations += [
                Violation("Z", f"write {_name(write)} replaced {_show(sibling)}, which is back; final: {final}")
                for sibling in final.siblings
                if covers(context, sibling.dot) and sibling.dot not in own
            ]
    return violations


def check_replicas_equal(
    storage_key: bytes, replicas: Sequence[int], bodies: Mapping[int, bytes | None]
) -> list[Violation]:
    """Check C for one key. `bodies`: what each member of the cluster holds of it, None for nothing."""
    violations = []
    different = {bodies[member] for member in replicas}
    if len(different) > 1:
        shown = "; ".join(f"n{member}: {_show_body(bodies[member])}" for member in replicas)
        violations.append(Violation("C", f"the replicas of {storage_key!r} differ after healing: {shown}"))
    strays = [member for member, body in bodies.items() if body is not None and member not in replicas]
    if strays:
        violations.append(Violation("C", f"members {strays} hold {storage_key!r} and are not its replicas"))
    return violations


def _show_body(body: bytes | None) -> str:
    return "nothing" if body is None else body.hex()


def check_quorum_reads(history: History, observer: Observer, n: int) -> list[Violation]:
    """Check R over the whole history, in one sweep by time.

    After a legitimate loss only writes that began later count, and a read during which one happened says nothing.
    """
    LOSS, READ, ACK = 0, 1, 2  # noqa: N806 - at equal times a read has not yet seen the acknowledgement
    events: list[tuple[int, int, int, int]] = [(time_us, LOSS, 0, 0) for time_us in history.losses_us]
    events += [(read.invoked_us, READ, index, 0) for index, read in enumerate(history.reads)]
    events += [
        (ack.completed_us, ACK, index, turn)
        for index, write in enumerate(history.writes)
        for turn, ack in enumerate(write.acks)
    ]
    events.sort()
    losses = sorted(history.losses_us)
    floors: dict[tuple[bytes, int], Clock] = {}
    last_loss_us = -1
    violations = []
    for time_us, kind, index, turn in events:
        if kind == LOSS:
            last_loss_us = time_us
            floors.clear()
        elif kind == ACK:
            write, ack = history.writes[index], history.writes[index].acks[turn]
            if write.strict and ack.invoked_us > last_loss_us:
                floor = floors.setdefault((write.storage_key, write.w), {})
                dots = observer.acked_dots(write, ack.clock)
                if len(dots) == 1:
                    actor, counter = dots[0]
                    floor[actor] = max(floor.get(actor, 0), counter)
        else:
            read = history.reads[index]
            if not read.strict or any(read.invoked_us <= loss_us <= read.completed_us for loss_us in losses):
                continue
            for w in range(n - read.r + 1, n + 1):
                missed = [dot for dot in floors.get((read.storage_key, w), {}).items() if not covers(read.clock, dot)]
                if missed:
                    violations.append(
                        Violation(
                            "R",
                            f"a read of {read.storage_key!r} with r={read.r}, from {read.invoked_us} to "
                            f"{read.completed_us} µs, does not know {missed}, acknowledged before with w={w}",
                        )
                    )
    return violations


def check_failed_never_appears(history: History, observer: Observer, finals: Mapping[bytes, Record]) -> list[Violation]:
    """Check F: against everything that was ever stored, and everything that was ever answered."""
    violations = []
    writer: dict[tuple[bytes, bytes], WriteEntry] = {}
    for write in history.writes:
        if not write.delete:
            writer[write.storage_key, write.value] = write
        if write.outcome == FAILED and observer.dots_of(write):
            violations.append(Violation("F", f"write {_name(write)} was reported as not done and is on a disk"))
    answers = [(read.storage_key, read.siblings) for read in history.reads]
    answers += [(key, [s for s in record.siblings if s.kind != TOMBSTONE]) for key, record in finals.items()]
    for key, siblings in answers:
        for sibling in siblings:
            found = writer.get((key, sibling.value))
            if found is None:
                violations.append(
                    Violation("F", f"{key!r} was answered with {_show(sibling)}, which nobody wrote there")
                )
            elif found.outcome == FAILED:
                violations.append(Violation("F", f"{key!r} was answered with {_name(found)}, reported as not done"))
    return violations


def _show(sibling: Sibling) -> str:
    return f"{sibling.value!r} (dot {sibling.dot})" if sibling.kind != TOMBSTONE else f"the delete {sibling.dot}"


def _name(write: WriteEntry) -> str:
    return f"#{write.number} of {write.storage_key!r} ({'delete' if write.delete else repr(write.value)})"
