"""The handshake: two nodes prove to each other who they are, and that they belong to one cluster, before any message.

    dialer                                  acceptor
      Hello  (who I am, nonce)         →      judges it
      judges it                        ←      Hello  (who I am, nonce)
      Proof  (HMAC of the transcript)  →      checks it, counts the dialer as known
      checks it, counts it as known    ←      Welcome (HMAC of the transcript)

Either side may answer `Refusal` (a code and a reason for people) instead, and closes.

Who may come in, beside the members that both sides know alike:

- a *candidate*: a dialer with the number `CANDIDATE`, which is no member yet and may not even know the cluster's id. It
  takes any member that proves the secret, and learns the id from its hello (`peer_cluster_id`).
- a *newcomer*: a number above all that this side knows. Numbers are given in ascending order and never twice, so it can
  only be a member of a newer ring than ours. It brings that ring, or it never could.

Each HMAC-SHA256, keyed with the cluster's secret, covers the prover's role and the exact bytes of both hellos: both
nonces, both identities, the cluster id and the version ranges. Hence a recorded proof is worthless (fresh nonces), a
proof reflected to its maker is worthless (roles differ), a proof relayed between two other members is worthless
(identities), and nobody in between can talk the two down to an older version. The dialer proves first, so a stranger
who merely connects is given nothing to guess the secret from.

What it does not do: it authenticates the connection when it begins, it does not encrypt or sign what follows. A peer
port belongs on a network where packets cannot be forged in flight. The secret must be long and random: an acceptor
that is an impostor receives one proof that it could test guesses against.

Refused by name: another cluster (hard case 20), a node that was removed and comes back (hard case 16), a member that
the ring does not know or knows under another id, a wrong secret, no common wire version, and ourselves.

A node that learns of its removal stops for good, so that must come from a member: it is told after the dialer's proof,
with an HMAC over the refusal (`HandshakeRefused.proven`). Other refusals are not proven; they are for people to read.

The layout of `Hello` never changes except by new fields at its end, in any wire version, so that two versions can
always at least tell each other why they part.

Rejected: TLS with a certificate per node (nobody runs a CA for `quorate up`). A port of their own for candidates
(another address to configure and to guard, for the same proof of the same secret).
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping, Sequence
from enum import Enum, StrEnum
from typing import Final

import msgspec

from quorate.core.errors import PeerError
from quorate.core.ring.ring import Member
from quorate.core.ring.transition import Departed
from quorate.core.wire.framing import Body
from quorate.core.wire.version import WIRE_VERSION, WIRE_VERSION_MIN

MAGIC: Final = "quorate"
NONCE_BYTES: Final = 32
REASON_CHARACTERS_MAX: Final = 400
CANDIDATE: Final = 0
"""The number of a node that is no member yet."""
_CODE_CHARACTERS_MAX: Final = 64
_NAME_CHARACTERS_MAX: Final = 128
_REFUSAL: Final = "quorate refusal"


class Role(Enum):
    DIALER = b"quorate dialer proof"
    ACCEPTOR = b"quorate acceptor proof"


class RefusalCode(StrEnum):
    """Why a connection is refused; the value travels on the wire."""

    WRONG_CLUSTER = "wrong cluster"
    UNKNOWN_MEMBER = "unknown member"
    REMOVED = "removed from the cluster"
    WRONG_IDENTITY = "wrong identity"
    WRONG_SECRET = "wrong secret"
    WIRE_VERSION = "wire version"
    SELF = "connected to itself"
    PROTOCOL = "not the protocol"


class Identity(msgspec.Struct, frozen=True):
    """Who a node says it is."""

    cluster_id: str
    """Empty: a candidate that does not know it yet."""
    number: int
    """Member number, or `CANDIDATE`."""
    id: str
    """UUID, 32 hexadecimal digits."""
    name: str
    wire_version: int = WIRE_VERSION
    wire_version_min: int = WIRE_VERSION_MIN


class Hello(msgspec.Struct, array_like=True, frozen=True, tag=1):
    magic: str
    wire_version: int
    wire_version_min: int
    cluster_id: str
    number: int
    id: str
    name: str
    nonce: bytes


class Proof(msgspec.Struct, array_like=True, frozen=True, tag=2):
    mac: bytes


class Welcome(msgspec.Struct, array_like=True, frozen=True, tag=3):
    mac: bytes


class Refusal(msgspec.Struct, array_like=True, frozen=True, tag=4):
    code: str
    reason: str
    mac: bytes = b""
    """Proves that a member refuses; empty before the dialer has proved itself."""


_HandshakeFrame = Hello | Proof | Welcome | Refusal
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(_HandshakeFrame).decode


class HandshakeRefused(PeerError):
    """The connection ends here.

    `code` is a `RefusalCode` value (or, if the peer sent it, any text); `number` is the member that the peer claims
    to be, None if it did not say; `answer` is the frame body to send before closing, None if it was the peer who
    refused; `proven` says that this peer has proved to hold the cluster's secret.
    """

    def __init__(self, code: str, reason: str, number: int | None, answer: bytes | None, proven: bool = False) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason
        self.number = number
        self.answer = answer
        self.proven = proven


class _State(Enum):
    AWAIT_HELLO = 1
    AWAIT_PROOF = 2
    AWAIT_WELCOME = 3
    DONE = 4
    FAILED = 5


class Handshake:
    """One side of one handshake. Frame bodies in, frame bodies out; `peer` is set once the other side is known.

    `nonce` is `NONCE_BYTES` of fresh randomness. `members` is the ring as this node knows it (it may hold this node),
    `departed` who was removed from it. `expected` is the number of the member that was dialled; an acceptor expects
    nobody in particular, and neither does a candidate.

    A `peer` that is no member of `members` has a number above all of them, or `CANDIDATE`; of such a one only number,
    id and name are known.
    """

    def __init__(
        self,
        role: Role,
        identity: Identity,
        secret: bytes,
        members: Mapping[int, Member],
        nonce: bytes,
        expected: int | None = None,
        departed: Sequence[Departed] = (),
    ) -> None:
        assert secret, "an empty secret proves nothing"
        assert len(nonce) == NONCE_BYTES
        assert (expected is not None) == (role is Role.DIALER and identity.number != CANDIDATE)
        assert role is Role.DIALER or identity.number != CANDIDATE, "a candidate has nothing to let anybody into"
        self.peer: Member | None = None
        self.peer_cluster_id = ""
        """Of the peer's hello; proven once `peer` is set."""
        self.version = 0
        """The wire version that both understand, once `peer` is set."""
        self._role = role
        self._identity = identity
        self._secret = secret
        self._members = members
        self._expected = expected
        self._departed = departed
        self._claimant: Member | None = None
        self._claims_removed = False
        self._claimed: int | None = None
        self._hello = _encode(
            Hello(
                MAGIC,
                identity.wire_version,
                identity.wire_version_min,
                identity.cluster_id,
                identity.number,
                identity.id,
                identity.name,
                nonce,
            )
        )
        self._transcript = b""
        self._state = _State.AWAIT_HELLO
        self._steps: dict[tuple[_State, type], Callable[[_HandshakeFrame, bytes], bytes | None]] = {
            (_State.AWAIT_HELLO, Hello): self._on_hello,
            (_State.AWAIT_PROOF, Proof): self._on_proof,
            (_State.AWAIT_WELCOME, Welcome): self._on_welcome,
        }

    @property
    def done(self) -> bool:
        return self._state is _State.DONE

    def start(self) -> bytes | None:
        """The body to send first, if this side speaks first."""
        return self._hello if self._role is Role.DIALER else None

    def receive(self, body: Body) -> bytes | None:
        """Take one frame body; returns the body to answer with, if any. Afterwards look at `done` and `peer`.

        Raises `HandshakeRefused`; the handshake is over then.
        """
        assert self._state not in {_State.DONE, _State.FAILED}, "the handshake is over"
        try:
            return self._step(bytes(body))
        except HandshakeRefused:
            self._state = _State.FAILED
            raise

    def _step(self, body: bytes) -> bytes | None:
        try:
            frame = _decode(body)
        except (ValueError, RecursionError) as error:
            raise self._refused(
                RefusalCode.PROTOCOL, f"a handshake frame is malformed: {_printable(str(error))}"
            ) from error
        if isinstance(frame, Refusal):
            raise self._refused_by_peer(frame)
        step = self._steps.get((self._state, type(frame)))
        if step is None:
            raise self._refused(RefusalCode.PROTOCOL, f"{type(frame).__name__} came while this side {self._waiting()}")
        return step(frame, body)

    def _waiting(self) -> str:
        return f"waits for a {self._state.name.removeprefix('AWAIT_').capitalize()}"

    def _on_hello(self, hello: _HandshakeFrame, body: bytes) -> bytes:
        assert isinstance(hello, Hello)
        self._claimed = hello.number
        self._check_protocol(hello)
        self._check_cluster(hello)
        self._claimant = self._check_identity(hello)
        self.peer_cluster_id = hello.cluster_id
        self.version = min(hello.wire_version, self._identity.wire_version)
        dialing = self._role is Role.DIALER
        first, second = (self._hello, body) if dialing else (body, self._hello)
        self._transcript = len(first).to_bytes(4, "big") + first + second
        self._state = _State.AWAIT_WELCOME if dialing else _State.AWAIT_PROOF
        return _encode(Proof(self._mac(Role.DIALER))) if dialing else self._hello

    def _on_proof(self, proof: _HandshakeFrame, _body: bytes) -> bytes:
        assert isinstance(proof, Proof)
        self._check_mac(proof.mac, Role.DIALER)
        if self._claims_removed:
            raise self._removed()
        self._finish()
        return _encode(Welcome(self._mac(Role.ACCEPTOR)))

    def _on_welcome(self, welcome: _HandshakeFrame, _body: bytes) -> None:
        assert isinstance(welcome, Welcome)
        self._check_mac(welcome.mac, Role.ACCEPTOR)
        self._finish()

    def _finish(self) -> None:
        assert self._claimant is not None
        self.peer, self._state = self._claimant, _State.DONE

    def _check_protocol(self, hello: Hello) -> None:
        ours = self._identity
        if hello.magic != MAGIC or len(hello.nonce) != NONCE_BYTES:
            raise self._refused(RefusalCode.PROTOCOL, "this is not a Quorate hello")
        if max(hello.wire_version_min, ours.wire_version_min) > min(hello.wire_version, ours.wire_version):
            raise self._refused(
                RefusalCode.WIRE_VERSION,
                f"{_printable(hello.name)} speaks wire versions {hello.wire_version_min} to {hello.wire_version}, "
                f"{ours.name} speaks {ours.wire_version_min} to {ours.wire_version}: upgrade the older one",
            )

    def _check_cluster(self, hello: Hello) -> None:
        """Only a candidate may know no cluster; its peer is then held to its own."""
        ours = self._identity
        claim, known = (ours, hello) if ours.number == CANDIDATE else (hello, ours)
        ignorant = claim.number == CANDIDATE and not claim.cluster_id
        if not known.cluster_id or not (ignorant or claim.cluster_id == known.cluster_id):
            raise self._refused(
                RefusalCode.WRONG_CLUSTER,
                f"{_printable(hello.name)} belongs to cluster {_printable(hello.cluster_id)}, {ours.name} to "
                f"{ours.cluster_id}: clusters never merge, correct the address or the data directory",
            )

    def _check_identity(self, hello: Hello) -> Member:
        """Who `hello` claims to be, if that one is let in once it has proved it; a removed one is refused then."""
        ours = self._identity
        if hello.id == ours.id:
            raise self._refused(RefusalCode.SELF, f"the address leads back to {ours.name} itself: correct the address")
        stranger = Member(hello.number, hello.id, _printable(hello.name), "", "", 0, "", "", "")
        if any(gone.id == hello.id or gone.number == hello.number for gone in self._departed):
            self._claimant, self._claims_removed = stranger, True
            if self._role is Role.DIALER:
                raise self._removed()
            return stranger
        if self._expected is not None and hello.number != self._expected:
            raise self._refused(
                RefusalCode.WRONG_IDENTITY,
                f"{ours.name} dialled member {self._expected} and {stranger.name}, member {hello.number}, answered: "
                "correct the address",
            )
        if CANDIDATE in (ours.number, hello.number):
            self._check_candidacy(hello)
            return stranger
        member = self._members.get(hello.number)
        if member is None and hello.number > max(ours.number, *self._known_numbers()):
            return stranger
        self._check_member(hello, member)
        assert member is not None
        return member

    def _check_candidacy(self, hello: Hello) -> None:
        """One of the two is a candidate: it must be the one that dialled, and the other a member."""
        if hello.number == CANDIDATE and self._role is Role.DIALER:
            raise self._refused(
                RefusalCode.WRONG_IDENTITY,
                f"{self._identity.name} dialled a member, and {_printable(hello.name)} is none: correct the address",
            )

    def _check_member(self, hello: Hello, member: Member | None) -> None:
        """`member` is who has the claimed number in our ring; it must be the one that claims it."""
        ours, name = self._identity, _printable(hello.name)
        if member is None and hello.number != ours.number:
            raise self._refused(
                RefusalCode.UNKNOWN_MEMBER,
                f"{name} (member {hello.number}, id {_printable(hello.id)}) is not in the ring that {ours.name} knows: "
                "a removed node never returns under its old id, join as a new one",
            )
        if member is None or member.id != hello.id:
            raise self._refused(
                RefusalCode.WRONG_IDENTITY,
                f"{name} claims to be member {hello.number} with id {_printable(hello.id)}, but the ring that "
                f"{ours.name} knows has id {member.id if member else ours.id} there",
            )

    def _known_numbers(self) -> list[int]:
        return [CANDIDATE, *self._members, *(gone.number for gone in self._departed)]

    def _removed(self) -> HandshakeRefused:
        claimant = self._claimant
        assert claimant is not None
        return self._refused(
            RefusalCode.REMOVED,
            f"{claimant.name} (member {claimant.number}, id {_printable(claimant.id)}) was removed from the cluster "
            "and never returns under its old id: give it an empty data directory, and join it as a new node",
        )

    def _mac(self, prover: Role) -> bytes:
        return hmac.digest(self._secret, prover.value + self._transcript, "sha256")

    def _check_mac(self, mac: bytes, prover: Role) -> None:
        if not hmac.compare_digest(mac, self._mac(prover)):
            assert self._claimant is not None
            raise self._refused(
                RefusalCode.WRONG_SECRET,
                f"{self._claimant.name} does not hold the cluster secret that {self._identity.name} holds: "
                "give both the same one",
            )

    def _refused(self, code: RefusalCode, reason: str) -> HandshakeRefused:
        reason = reason[:REASON_CHARACTERS_MAX]
        # Who has proved nothing is given nothing to guess the secret from.
        proves = code is RefusalCode.REMOVED and self._state is _State.AWAIT_PROOF
        mac = self._refusal_mac(code, reason) if proves else b""
        return HandshakeRefused(code, reason, self._claimed, _encode(Refusal(code, reason, mac)))

    def _refused_by_peer(self, refusal: Refusal) -> HandshakeRefused:
        proven = self._state is _State.AWAIT_WELCOME and hmac.compare_digest(
            refusal.mac, self._refusal_mac(refusal.code, refusal.reason)
        )
        code = _printable(refusal.code, _CODE_CHARACTERS_MAX)
        return HandshakeRefused(code, _printable(refusal.reason, REASON_CHARACTERS_MAX), self._claimed, None, proven)

    def _refusal_mac(self, code: str, reason: str) -> bytes:
        body = _encode([_REFUSAL, self._transcript, code, reason])
        return hmac.digest(self._secret, body, "sha256")


def _printable(text: str, characters_max: int = _NAME_CHARACTERS_MAX) -> str:
    """A stranger's text, safe for a log line: bounded, and without control characters."""
    return "".join(c if c.isprintable() else "?" for c in text[:characters_max])
