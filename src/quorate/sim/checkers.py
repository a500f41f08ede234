"""The checkers: pure functions from a history, the dots that its writes got, and the final records to violations.

D  no acknowledged write is lost: one of its acknowledged dots stands at the end, or some ok or unknown write on the
   key had a context that covers it; for last-write-wins also: or a later event on the key. Either way the final
   clock knows it.
Z  nothing that an acknowledged write replaced is back: no standing dot is covered by that write's context. No read
   shows what a write that it knows of had replaced, nor a value that had expired by every clock. (And nothing
   comes back after what replaced it was collected: `graves.py`.)
C  after healing all replicas of a key hold the same bytes, and nobody else holds any.
R  a strict read that must meet a strict write's replicas (R+W>N) and began after its acknowledgement knows of it.
   Fallbacks void this (SOSP 2007, §4.6), so where either was sloppy nothing is asked.
L  a listing of a strict bucket names every key that was put before and that nobody deleted, none that was surely
   deleted or expired before, and none that nobody wrote.
F  what was reported as not done is on no disk and in no answer, ever (hard case 31), and no answer holds a value that
   nobody wrote to that key, or another than was written there under its dot.

What was collected counts as standing for D (`Graves.with_collected`), and need not be known for R.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from quorate.core.causality.version_vectors import join
from quorate.core.keyspace import split_storage_key
from quorate.core.record import TOMBSTONE, Clock, Dot, Record, Sibling
from quorate.sim.graves import Graves
from quorate.sim.history import FAILED, OK, History, ListEntry, ReadEntry, Violation, WriteEntry, covers
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
    writes: Sequence[WriteEntry], final: Record, observer: Observer, last_write_wins: bool, w_min: int = 1
) -> list[Violation]:
    """Check D for the writes of one key. Those that were acknowledged with a w below `w_min` may be lost."""
    violations = []
    standing = {sibling.dot for sibling in final.siblings}
    replaced: Clock = {}
    for write in writes:
        if write.outcome != FAILED and _may_have_acted(write, final, observer):
            for context in contexts_of(write, observer):
                replaced = join(replaced, context)
    for write in writes:
        for ack in write.acks if write.w >= w_min else []:
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


def check_answers(
    history: History, writes: Mapping[bytes, Sequence[WriteEntry]], observer: Observer
) -> list[Violation]:
    """Check Z for all that was ever answered."""
    violations = []
    killers: dict[tuple[bytes, Dot], list[Dot]] = {}
    replacing = {key: _replacing(mine, observer) for key, mine in writes.items()}
    for read in history.reads:
        for sibling in read.siblings:
            if 0 < sibling.expiry_ms <= read.wall_ms:
                message = f"{read.storage_key!r} was answered with {_show(sibling)}, expired at {sibling.expiry_ms}, at"
                violations.append(Violation("Z", f"{message} {read.wall_ms} by every clock"))
            place = (read.storage_key, sibling.dot)
            if place not in killers:
                killers[place] = _killers(replacing.get(read.storage_key, ()), sibling.dot)
            known = [dot for dot in killers[place] if covers(read.clock, dot)]
            if known:
                message = f"{read.storage_key!r} was answered with {_show(sibling)}, although the read knew"
                violations.append(
                    Violation("Z", f"{message} {known}, which replaced it; it ended at {read.completed_us}")
                )
    return violations


def _replacing(writes: Sequence[WriteEntry], observer: Observer) -> list[tuple[Clock, list[Dot]]]:
    """(context, its own dots) of each write with a context of its own. What a coordinator saw can be told from disks
    only roughly: several puts of one turn reach them as one record."""
    return [(write.context, observer.dots_of(write)) for write in writes if write.context is not None]


def _killers(replacing: Sequence[tuple[Clock, list[Dot]]], dot: Dot) -> list[Dot]:
    """The dots of all writes that replaced `dot`: whoever knows one of them no longer shows it."""
    actor, counter = dot  # Read once: this is the innermost loop of all checks.
    return [
        killer for context, dots in replacing if context.get(actor, 0) >= counter for killer in dots if killer != dot
    ]


def check_quorum_reads(
    history: History, observer: Observer, n: int, graves: Graves | None = None, quorum_min: int = 1
) -> list[Violation]:
    """Check R over the whole history, in one sweep by time; of reads and writes with this r and w at least.

    After a legitimate loss only writes that began later count, and a read during which one happened says nothing.
    """
    damages = [(time_us, key) for key, times in history.key_losses_us.items() for time_us in times]
    losses = sorted(history.losses_us)
    floors: dict[tuple[bytes, int], Clock] = {}
    last_loss_us = -1
    last_damage_us: dict[bytes, int] = {}
    violations = []
    for time_us, kind, index, turn in _events_in_order(history, damages):
        if kind == LOSS and turn:
            key = damages[index][1]
            last_damage_us[key] = time_us
            for place in [place for place in floors if place[0] == key]:
                del floors[place]
        elif kind == LOSS:
            last_loss_us = time_us
            floors.clear()
        elif kind == ACK:
            write, ack = history.writes[index], history.writes[index].acks[turn]
            if write.strict and ack.invoked_us > max(last_loss_us, last_damage_us.get(write.storage_key, -1)):
                floor = floors.setdefault((write.storage_key, write.w), {})
                dots = observer.acked_dots(write, ack.clock)
                if len(dots) == 1:
                    actor, counter = dots[0]
                    floor[actor] = max(floor.get(actor, 0), counter)
        else:
            read = history.reads[index]
            mine = history.key_losses_us.get(read.storage_key, [])
            if not read.strict or read.r < quorum_min:
                continue
            if any(read.invoked_us <= loss_us <= read.completed_us for loss_us in [*losses, *mine]):
                continue
            for w in range(max(quorum_min, n - read.r + 1), n + 1):
                missed = [
                    dot
                    for dot in floors.get((read.storage_key, w), {}).items()
                    if not covers(read.clock, dot) and not _excused(read, dot, graves)
                ]
                if missed:
                    violations.append(
                        Violation(
                            "R",
                            f"a read of {read.storage_key!r} with r={read.r}, from {read.invoked_us} to "
                            f"{read.completed_us} µs, does not know {missed}, acknowledged before with w={w}",
                        )
                    )
    return violations


LOSS, READ, ACK = 0, 1, 2
"""In this order at equal times: a read has not yet seen the acknowledgement."""


def _events_in_order(history: History, damages: list[tuple[int, bytes]]) -> list[tuple[int, int, int, int]]:
    """(time, kind, index, turn) of all losses, reads and acknowledgements."""
    events = [(time_us, LOSS, 0, 0) for time_us in history.losses_us]
    events += [(time_us, LOSS, index, 1) for index, (time_us, _) in enumerate(damages)]
    events += [(read.invoked_us, READ, index, 0) for index, read in enumerate(history.reads)]
    events += [
        (ack.completed_us, ACK, index, turn)
        for index, write in enumerate(history.writes)
        for turn, ack in enumerate(write.acks)
    ]
    return sorted(events)


def _excused(read: ReadEntry, dot: Dot, graves: Graves | None) -> bool:
    return graves is not None and graves.excuses(read.storage_key, dot, read.completed_us)


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
            if observer.dots.get(key, {}).get(sibling.dot, sibling) != sibling:
                violations.append(Violation("F", f"{key!r} was answered with {sibling}, which is not what was written"))
            found = writer.get((key, sibling.value))
            if found is None:
                violations.append(
                    Violation("F", f"{key!r} was answered with {_show(sibling)}, which nobody wrote there")
                )
            elif found.outcome == FAILED:
                violations.append(Violation("F", f"{key!r} was answered with {_name(found)}, reported as not done"))
    return violations


def check_listings(
    history: History, writes: Mapping[bytes, Sequence[WriteEntry]], observer: Observer, n: int
) -> list[Violation]:
    """Check L. Listings ask as many replicas as a read does, so a write with a majority W must be met."""
    violations = []
    names: dict[bytes, dict[bytes, bytes]] = {}
    for stored_key in writes:
        _, bucket, key = split_storage_key(stored_key)
        names.setdefault(bucket, {})[key] = stored_key
    for listing in history.listings:
        known = names.get(listing.bucket, {})
        listed = set(listing.keys)
        for key in listing.keys:
            if key not in known:
                violations.append(Violation("L", f"{key!r} was listed in {listing.bucket!r} and never written"))
        for key, stored_key in known.items():
            verdict = _must_be_listed(listing, writes[stored_key], history, observer, n)
            if verdict is not None and verdict != (key in listed):
                wrong = "was not listed, and stands" if verdict else "was listed, and is gone"
                message = f"{listing.bucket!r} {key!r} {wrong}; the listing ended at {listing.completed_us} µs"
                violations.append(Violation("L", message))
    return violations


def _must_be_listed(
    listing: ListEntry, writes: Sequence[WriteEntry], history: History, observer: Observer, n: int
) -> bool | None:
    """Must the key with these `writes` be in `listing` (True), must it not (False), or is either right (None)?"""
    begun = [write for write in writes if write.invoked_us <= listing.completed_us and write.outcome != FAILED]
    settled = [
        write
        for write in begun
        if write.strict and write.w > n // 2 and any(ack.completed_us < listing.invoked_us for ack in write.acks)
    ]
    if not settled or history.lost_since(writes[0].storage_key, 0):
        return None
    puts = [write for write in begun if not write.delete]
    dots = observer.dots.get(writes[0].storage_key, {})
    if len(puts) == len(begun) and all(dots[dot].expiry_ms == 0 for put in puts for dot in observer.dots_of(put)):
        return True
    covered: Clock = {}
    for write in settled:
        if write.delete and len(contexts_of(write, observer)) == 1:
            covered = join(covered, contexts_of(write, observer)[0])
    gone = all(
        covers(covered, dot) or 0 < dots[dot].expiry_ms <= listing.wall_ms
        for put in puts
        for dot in observer.dots_of(put)
    )
    return False if gone and listing.wall_ms else None


def _show(sibling: Sibling) -> str:
    return f"{sibling.value!r} (dot {sibling.dot})" if sibling.kind != TOMBSTONE else f"the delete {sibling.dot}"


def _name(write: WriteEntry) -> str:
    return f"#{write.number} of {write.storage_key!r} ({'delete' if write.delete else repr(write.value)})"
