"""Gossip: how every member learns what every other one says about itself, and that there is a newer ring (SOSP 2007,
§4.8.1).

Once a second a node talks with one random other member. Each member writes one *state* about itself (its addresses,
the ring it has adopted, what it is filled for) and relays those of the others unread:

    Syn     my ring's rank, one hash for each of 16 groups of states     →
            ← Digest   my rank; (member, version, check) of every state in the groups whose hashes differ
    States  those that are newer here, and the numbers of those wanted   →
            ← States   those wanted

Equal tables end with the Syn, so a quiet cluster costs each node one small message a second, however many there are. A
change reaches all in O(log n) rounds, because both sides of a conversation learn.

Invariants:
- A table holds states of members of this node's ring, and of nobody else: whoever was removed is dropped with the ring
  that removes it and cannot come back (hard case 16), and garbage finds no room.
- Of two states of a member the greater by (incarnation, sequence, bytes) stands. That is a total order and the merge is
  its maximum: commutative, associative, idempotent, and no two tables can take turns in convincing each other.
- Only the member itself writes its state. If a greater one about it is under way than it ever wrote in this life (its
  clock went back and its disk is new), it goes above that one as soon as it hears of it.
- States are kept and passed on as the bytes that came. A node of the previous wire version relays fields that it does
  not know, and has the same hash for the state as everybody else.
- The rank on a message is that of the ring that the sender *holds*. Who sees a greater one fetches the ring from the
  sender, which has it; a rank that a peer made up misleads nobody else.
- A conversation is at most four messages (a fifth says only "this is me now"), each at most `STATES_BYTES_MAX` and a
  list of numbers long. What does not fit comes with a later round; where a message begins rotates.

A state says what was true when it was written. What must never be wrong (who has adopted a ring when a stage ends) may
be read here only if it can never become untrue again.

Rejected: heartbeats in the states, which make every table differ from every other one at all times (who is alive is
the failure detector's matter); the digest of all members in every Syn (20 KiB a second in a cluster of a thousand in
which nothing happens); believing no incarnation that is ahead of the own clock (tables would never agree where clocks
do not).
"""

from __future__ import annotations

import struct
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
from xxhash import xxh3_64_intdigest

from quorate.core.errors import CallerError, PeerError
from quorate.core.limits import KIB, MEMBER_TEXT_CHARACTERS_MAX, MEMBERS_MAX
from quorate.core.wire.version import WIRE_VERSION, WIRE_VERSION_MIN

if TYPE_CHECKING:
    from quorate.core.ports import Rng

ROUND_INTERVAL_MS: Final = 1_000.0
GROUPS: Final = 16
STATE_BYTES_MAX: Final = 1 * KIB
STATES_BYTES_MAX: Final = 64 * KIB
"""Of all states in one message."""
DIGEST_ENTRY: Final = struct.Struct(">IQII")
"""number, incarnation, sequence, the low half of the state's hash"""
INCARNATION_MAX: Final = 2**48 - 1
_CLOCK_MAX: Final = 2**47
"""A wall clock beyond this (in the year 6429) is broken, and leaves no room above it."""
SEQUENCE_MAX: Final = 2**32 - 1
SOFTWARE_CHARACTERS_MAX: Final = 32
_SUMS: Final = struct.Struct(f">{GROUPS}Q")

assert STATE_BYTES_MAX <= STATES_BYTES_MAX
assert _CLOCK_MAX < INCARNATION_MAX

_Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Number = Annotated[int, msgspec.Meta(ge=1, le=2**32 - 1)]
_Address = Annotated[str, msgspec.Meta(max_length=MEMBER_TEXT_CHARACTERS_MAX)]

RingRank = tuple[_Count, _Count]
"""(forced, version): how rings are ordered. `forced` counts the operator's overrides."""


class MemberFacts(msgspec.Struct, array_like=True, frozen=True):
    """What a node says about itself. New facts come at the end, with defaults."""

    confirmed: RingRank
    """The newest ring that it has adopted durably; it acts on no older one any more, in this life or a later one."""
    filled: RingRank
    """The ring that began the plan for which it holds all that it is to own; (0, 0): none."""
    leaving: bool
    """It was told to go, and waits for the ring that lets it."""
    peer_address: _Address
    """host:port"""
    client_address: _Address
    http_address: _Address
    software: Annotated[str, msgspec.Meta(max_length=SOFTWARE_CHARACTERS_MAX)]
    """Version of the program."""
    wire_version: _Count = WIRE_VERSION
    wire_version_min: _Count = WIRE_VERSION_MIN


class MemberState(msgspec.Struct, array_like=True, frozen=True):
    """One member's word about itself, with the version by which it supersedes earlier ones."""

    number: _Number
    id: Annotated[str, msgspec.Meta(min_length=32, max_length=32)]
    """The member's UUID: a number alone would let a state of another ring's member in."""
    incarnation: Annotated[int, msgspec.Meta(ge=0, le=INCARNATION_MAX)]
    """Rises with every start (`next_incarnation`)."""
    sequence: Annotated[int, msgspec.Meta(ge=0, le=SEQUENCE_MAX)]
    """Rises with every change within one incarnation."""
    facts: MemberFacts


class GossipSyn(msgspec.Struct, array_like=True, frozen=True, tag=39):
    """`sums`: for each group the XOR of its states' hashes, 8 bytes each, big-endian."""

    ring: RingRank
    sums: bytes


class GossipDigest(msgspec.Struct, array_like=True, frozen=True, tag=40):
    """All that the sender holds in those `groups` (a bit each) that differ, as `DIGEST_ENTRY`s."""

    ring: RingRank
    groups: Annotated[int, msgspec.Meta(ge=0, lt=1 << GROUPS)]
    entries: bytes


class GossipStates(msgspec.Struct, array_like=True, frozen=True, tag=41):
    """`states`: encoded `MemberState`s. `wanted`: numbers of members whose states the sender would like."""

    ring: RingRank
    states: list[bytes]
    wanted: list[_Number]


GossipMessage = GossipSyn | GossipDigest | GossipStates


class Heard(msgspec.Struct, frozen=True):
    """What came of one message."""

    answer: GossipMessage | None = None
    """To be sent back."""
    ring_newer: bool = False
    """The sender holds a newer ring than this node: fetch it there."""
    changed: tuple[int, ...] = ()
    """Members of which a newer state is known now."""
    refuted: bool = False
    """This node has gone above an older life's state: persist `Gossip.own.incarnation`. If it happens again and again,
    two processes run under one identity."""
    ignored: int = 0
    """States that were malformed, or of nobody in the ring that this node holds."""


def next_incarnation(previous: int, wall_ms: int) -> int:
    """The incarnation of a node that starts at `wall_ms` (Unix milliseconds) and last used `previous` (0: unknown).

    The persisted `previous` makes it rise when the clock goes back, the clock when the disk is new. Persist the result
    before the first round.
    """
    assert 0 <= previous <= INCARNATION_MAX
    return min(max(previous + 1, wall_ms if wall_ms < _CLOCK_MAX else 0), INCARNATION_MAX)


def encode_state(state: MemberState) -> bytes:
    """Raises `CallerError` if it is larger than `STATE_BYTES_MAX`, or a field is too long."""
    encoded = _encode(state)
    if len(encoded) > STATE_BYTES_MAX or decode_state(encoded) is None:
        raise CallerError(
            f"what member {state.number} says about itself is too long to be spread: shorten its addresses to "
            f"{MEMBER_TEXT_CHARACTERS_MAX} characters each"
        )
    return encoded


def decode_state(encoded: bytes) -> MemberState | None:
    """None if it is malformed or too large."""
    if len(encoded) > STATE_BYTES_MAX:
        return None
    try:
        return _decode_state(encoded)
    except (ValueError, RecursionError):
        return None


_encode: Final = msgspec.msgpack.Encoder().encode
_decode_state: Final = msgspec.msgpack.Decoder(MemberState).decode


class _Entry:
    __slots__ = ("encoded", "hash", "state", "version")

    def __init__(self, encoded: bytes, state: MemberState) -> None:
        self.encoded = encoded
        self.state = state
        self.hash = xxh3_64_intdigest(encoded)
        self.version = (state.incarnation, state.sequence)


class StateTable:
    """The greatest known state of each member; `members` (number → UUID) says who is one."""

    def __init__(self) -> None:
        self._members: dict[int, str] = {}
        self._entries: dict[int, _Entry] = {}
        self._sums = [0] * GROUPS

    def set_members(self, members: Mapping[int, str]) -> None:
        """Drops the states of all others."""
        assert len(members) <= MEMBERS_MAX
        self._members = dict(sorted(members.items()))
        for number, entry in list(self._entries.items()):
            if self._members.get(number) != entry.state.id:
                del self._entries[number]
                self._sums[number % GROUPS] ^= entry.hash

    def welcomes(self, state: MemberState) -> bool:
        """Is it the state of a member?"""
        return self._members.get(state.number) == state.id

    def take(self, encoded: bytes, state: MemberState) -> bool:
        """Merge `state`, whose encoding is `encoded`; true if it is greater than what was known of the member."""
        assert self.welcomes(state)
        entry, known = _Entry(encoded, state), self._entries.get(state.number)
        if known is not None and (entry.version, encoded) <= (known.version, known.encoded):
            return False
        self._entries[state.number] = entry
        self._sums[state.number % GROUPS] ^= entry.hash ^ (known.hash if known is not None else 0)
        return True

    def state(self, number: int) -> MemberState | None:
        entry = self._entries.get(number)
        return entry.state if entry is not None else None

    def states(self) -> dict[int, MemberState]:
        """By number, in ascending order."""
        return {number: self._entries[number].state for number in self._members if number in self._entries}

    def encoded(self, numbers: Iterable[int]) -> list[tuple[int, bytes]]:
        """(number, state) of those that are known."""
        return [(number, self._entries[number].encoded) for number in numbers if number in self._entries]

    @property
    def sums(self) -> bytes:
        """As in `GossipSyn`."""
        return _SUMS.pack(*self._sums)

    def differing(self, sums: bytes) -> int:
        """The groups (a bit each) that have other sums here."""
        pairs = zip(self._sums, _SUMS.unpack(sums), strict=True)
        return sum(1 << group for group, (ours, theirs) in enumerate(pairs) if ours != theirs)

    def digest(self, groups: int) -> bytes:
        """As in `GossipDigest`."""
        return b"".join(
            DIGEST_ENTRY.pack(number, *entry.version, entry.hash & 0xFFFF_FFFF)
            for number, entry in self._entries.items()
            if groups >> number % GROUPS & 1
        )

    def compare(self, groups: int, digest: bytes) -> tuple[list[int], list[int]]:
        """What to do about a peer's digest of `groups`: (members whose states to send, those whose to ask for).

        States of one version and different bytes go both ways, and each side finds the greater.
        """
        missing = {number: True for number in self._entries if groups >> number % GROUPS & 1}
        newer, wanted = [], []
        for number, incarnation, sequence, check in DIGEST_ENTRY.iter_unpack(digest):
            if number not in self._members:
                continue
            ours = self._entries.get(number)
            missing.pop(number, None)
            theirs = (incarnation, sequence)
            if ours is not None and ours.version == theirs and ours.hash & 0xFFFF_FFFF == check:
                continue
            if ours is not None and ours.version >= theirs:
                newer.append(number)
            if ours is None or ours.version <= theirs:
                wanted.append(number)
        return sorted([*missing, *newer]), sorted(wanted)


class Gossip:
    """One node's part: its own state, its table, and its side of conversations."""

    def __init__(self, number: int, id: str, incarnation: int, facts: MemberFacts) -> None:
        """`incarnation` is from `next_incarnation`. Nothing is gossiped before `set_ring`.

        Raises `CallerError` if `facts` are too long.
        """
        self._own = MemberState(number, id, incarnation, 0, facts)
        self._own_encoded = encode_state(self._own)
        self._ring: RingRank = (0, 0)
        self._peers: list[int] = []
        self._is_member = False
        self._table = StateTable()
        self._sent_last = 0
        """Where the last page of states ended."""

    @property
    def own(self) -> MemberState:
        """What this node says about itself."""
        return self._own

    @property
    def ring(self) -> RingRank:
        return self._ring

    def state(self, member: int) -> MemberState | None:
        """The newest known state of a member; None if it has not been heard of yet, or is none."""
        return self._table.state(member)

    def states(self) -> dict[int, MemberState]:
        """The known states of members, this node's included, by number."""
        return self._table.states()

    def set_ring(self, rank: RingRank, members: Mapping[int, str]) -> None:
        """This node holds another ring now, of these members (number → UUID). An older one is ignored."""
        if rank < self._ring:
            return
        self._ring = rank
        self._table.set_members(members)
        self._is_member = self._table.welcomes(self._own)
        self._peers = [number for number in sorted(members) if number != self._own.number]
        if self._is_member:
            self._table.take(self._own_encoded, self._own)

    def announce(self, facts: MemberFacts) -> bool:
        """Say this about this node from now on; false if it says so already. Raises `CallerError` if it is too long."""
        if facts == self._own.facts:
            return False
        incarnation, sequence = self._own.incarnation, self._own.sequence + 1
        if sequence > SEQUENCE_MAX:
            incarnation, sequence = incarnation + 1, 0
        self._become(MemberState(self._own.number, self._own.id, incarnation, sequence, facts))
        return True

    def _become(self, own: MemberState) -> None:
        self._own_encoded = encode_state(own)
        self._own = own
        if self._is_member:
            taken = self._table.take(self._own_encoded, own)
            assert taken, "a member's own state only ever rises"

    def round(self, rng: Rng, down: Container[int] = ()) -> tuple[int, GossipSyn] | None:
        """Begin a conversation: (member to send it to, message). Call about every `ROUND_INTERVAL_MS`.

        None if there is nobody to talk to but those that are `down`, or this node is not in the ring that it holds.
        """
        peers = [number for number in self._peers if number not in down]
        if not peers or not self._is_member:
            return None
        return peers[rng.below(len(peers))], GossipSyn(self._ring, self._table.sums)

    def receive(self, message: GossipMessage) -> Heard:
        """Take in a member's message. Raises `PeerError` if it is longer than any this program would send."""
        newer = message.ring > self._ring
        if isinstance(message, GossipSyn):
            return Heard(self._answer_syn(message), newer)
        if isinstance(message, GossipDigest):
            return Heard(self._answer_digest(message), newer)
        return self._take_states(message, newer)

    def _answer_syn(self, syn: GossipSyn) -> GossipDigest | None:
        if len(syn.sums) != _SUMS.size:
            raise PeerError(f"a gossip syn has {len(syn.sums)} bytes of sums where {_SUMS.size} belong")
        groups = self._table.differing(syn.sums)
        if groups == 0 and syn.ring >= self._ring:
            return None
        return GossipDigest(self._ring, groups, self._table.digest(groups))

    def _answer_digest(self, digest: GossipDigest) -> GossipStates | None:
        size = len(digest.entries)
        if size % DIGEST_ENTRY.size or size > MEMBERS_MAX * DIGEST_ENTRY.size:
            raise PeerError(f"a gossip digest of {size} bytes is not a list of at most {MEMBERS_MAX} entries")
        newer, wanted = self._table.compare(digest.groups, digest.entries)
        return GossipStates(self._ring, self._page(newer), wanted) if newer or wanted else None

    def _page(self, numbers: Sequence[int]) -> list[bytes]:
        """As many states of these members (ascending) as one message carries, beginning after the last one sent."""
        states: list[bytes] = []
        room = STATES_BYTES_MAX
        after = [number for number in numbers if number > self._sent_last]
        for number, encoded in self._table.encoded([*after, *numbers[: len(numbers) - len(after)]]):
            room -= len(encoded)
            if room < 0:
                break
            states.append(encoded)
            self._sent_last = number
        return states

    def _take_states(self, message: GossipStates, ring_newer: bool) -> Heard:
        if sum(map(len, message.states)) > STATES_BYTES_MAX or len(message.states) > MEMBERS_MAX:
            raise PeerError(f"gossip brought states of more than {STATES_BYTES_MAX} bytes, or more than {MEMBERS_MAX}")
        if len(message.wanted) > MEMBERS_MAX:
            raise PeerError(f"gossip asks for {len(message.wanted)} states, and a ring has at most {MEMBERS_MAX}")
        changed: list[int] = []
        refuted, ignored = False, 0
        for encoded in message.states:
            state = decode_state(encoded)
            if state is None or not self._table.welcomes(state):
                ignored += 1
            elif state.number == self._own.number:
                refuted = self._refute(encoded, state) or refuted
            elif self._table.take(encoded, state):
                changed.append(state.number)
        wanted = self._page(sorted({*message.wanted, *([self._own.number] if refuted else [])}))
        answer = GossipStates(self._ring, wanted, []) if wanted else None
        return Heard(answer, ring_newer, tuple(changed), refuted, ignored)

    def _refute(self, encoded: bytes, state: MemberState) -> bool:
        """A state of this node came by. If it is greater than this node's own, it is an earlier life's: go above it."""
        own = self._own
        if (state.incarnation, state.sequence, encoded) <= (own.incarnation, own.sequence, self._own_encoded):
            return False
        if state.incarnation == INCARNATION_MAX:
            # Nothing is above it, and no life of this node can have written it: let it stand rather than fall over it.
            return False
        self._become(MemberState(own.number, own.id, state.incarnation + 1, 0, own.facts))
        return True
