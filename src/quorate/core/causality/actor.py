"""Actors: under which name a store may issue dots, so that no dot is ever issued twice.

An actor is (member, epoch): one life of one store, as far as it can vouch for its own memory. A store may go on under
the actor it last used for a key only if it still holds every event that this actor issued there. It notes the actor
beside the record (the *marker*); whenever it cannot vouch for it, it mints a new epoch, and old events of its former
lives are then simply another actor's events: never reissued, never claimed. It cannot vouch when
- it holds no record of the key (a wiped disk, a dropped partition, a damaged record), or
- the record came by replication alone, so there is no marker, or
- the marker is of an epoch before the *floor*, which an unclean stop that may have lost writes raises.

Invariants: epochs of a member only grow, over all its lives; an epoch is minted only below a ceiling that was made
durable first, so a crash may waste epochs and cannot repeat one.

Rejected: an epoch a key, kept with the key: it is lost with the key, and a record that a handoff merges into nothing
then continues under dots that were already issued (hard cases 1 and 2). Random epochs alone: nothing could be told
about their order, so the floor could not exist, and old clock entries could not be recognised as old.
"""

from __future__ import annotations

from typing import Final

from quorate.core.errors import StartupError
from quorate.core.record import Actor

MEMBER_BITS: Final = 16
EPOCH_BITS: Final = 48
EPOCH_MASK: Final = (1 << EPOCH_BITS) - 1
ACTOR_MAX: Final = (1 << (MEMBER_BITS + EPOCH_BITS)) - 1

BIRTH_RANDOM_BITS: Final = 17
_BIRTH_SECONDS_MAX: Final = (1 << (EPOCH_BITS - BIRTH_RANDOM_BITS)) - 1
_UNIX_SECONDS_2020: Final = 1_577_836_800


def make_actor(member: int, epoch: int) -> Actor:
    """The actor of `member` (its number in the ring, from 1) in `epoch`. Never 0, which stands for no actor."""
    assert 1 <= member < 1 << MEMBER_BITS, "a member's number has 16 bits and starts at 1"
    assert 0 <= epoch <= EPOCH_MASK, "an epoch has 48 bits"
    return member << EPOCH_BITS | epoch


def member_of(actor: Actor) -> int:
    """The number of the member that issues dots as `actor`."""
    return actor >> EPOCH_BITS


def epoch_of(actor: Actor) -> int:
    return actor & EPOCH_MASK


def vouches(local_actor: Actor, floor_epoch: int, member: int) -> bool:
    """May the store of `member` go on as `local_actor`, the marker beside a record it holds (0: no marker)?

    `floor_epoch` is the first epoch since this store last may have lost writes.
    """
    return local_actor >> EPOCH_BITS == member and local_actor & EPOCH_MASK >= floor_epoch and local_actor != 0


def first_epoch(wall_ms: int, random_bits: int) -> int:
    """Where a fresh store's epochs begin: seconds since 2020 << 17 | 17 random bits.

    A wiped disk takes the counter with it, so the beginning comes from the clock: it lies above every epoch of the
    former life unless that minted more than 131 072 a second throughout, or the clock has been set back since; for
    that case there are the random bits. Raises `StartupError` if the clock cannot be right.
    """
    seconds = wall_ms // 1000 - _UNIX_SECONDS_2020
    if not 0 <= seconds < _BIRTH_SECONDS_MAX:
        raise StartupError(
            f"a new store needs a clock that is roughly right, and this one says {wall_ms} ms since 1970, which is"
            " not between 2020 and 2087: set the clock and start again"
        )
    return seconds << BIRTH_RANDOM_BITS | random_bits & (1 << BIRTH_RANDOM_BITS) - 1


class EpochCounter:
    """The node-wide source of epochs. Pure: the caller makes each reserved ceiling durable before it mints below it."""

    __slots__ = ("_ceiling", "_member", "_next")

    def __init__(self, member: int, next_epoch: int) -> None:
        """`next_epoch`: the ceiling that was last made durable, or `first_epoch` for a fresh store."""
        self._member = member
        self._next = next_epoch
        self._ceiling = next_epoch

    @property
    def next_epoch(self) -> int:
        """The epoch that will be minted next; as a floor, it distrusts every marker made so far."""
        return self._next

    @property
    def ceiling(self) -> int:
        """The first epoch that is not reserved."""
        return self._ceiling

    def needs_reservation(self, margin: int) -> bool:
        """Are fewer than `margin` epochs left below the ceiling?"""
        return self._ceiling - self._next < margin

    def reserve(self, count: int) -> int:
        """Raise the ceiling by `count` and return it: it must be durable before `mint` is called again."""
        assert count >= 1
        self._ceiling += count
        assert self._ceiling <= EPOCH_MASK, "epochs are used up"
        return self._ceiling

    def mint(self) -> Actor:
        """An actor that this member has never been."""
        assert self._next < self._ceiling, "an epoch is reserved durably before it is minted"
        epoch = self._next
        self._next = epoch + 1
        return make_actor(self._member, epoch)
