"""Version vectors: how much of every actor's history is known, as one number per actor.

An actor numbers its events 1, 2, 3 …, and a vector that holds (actor, n) knows the first n of them: no gaps, because
a coordinator sends whole records, never single events. So comparing two histories is comparing numbers.

Invariants: counters are at least 1 (an unknown actor is simply absent, so that equal histories are equal dicts); a
vector that is part of a record or a context is never changed in place, which lets `join` hand back one of its
arguments.

Rejected: vectors with one entry per client, which grow with the number of clients and have to be pruned, and pruning
invents conflicts (DeCandia et al., SOSP 2007, §4.4; hard case 7).
"""

from __future__ import annotations

from quorate.core.record import Actor, Clock


def covers(clock: Clock, actor: Actor, counter: int) -> bool:
    """Does `clock` know the event (actor, counter)?"""
    return clock.get(actor, 0) >= counter


def descends(left: Clock, right: Clock) -> bool:
    """Does `left` know everything that `right` knows? True of equal vectors."""
    if len(right) > len(left):
        return False
    for actor, counter in right.items():  # noqa: SIM110 - a generator costs twice as much on the hot path
        if left.get(actor, 0) < counter:
            return False
    return True


def join(left: Clock, right: Clock) -> Clock:
    """The smallest vector that knows what either knows; it may be one of the arguments, so do not change it."""
    if descends(left, right):
        return left
    if descends(right, left):
        return right
    joined = dict(left)
    for actor, counter in right.items():
        if joined.get(actor, 0) < counter:
            joined[actor] = counter
    return joined
