"""The handshake: who gets in, who is refused and told why, and what somebody in between can achieve (nothing)."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.core.limits import HANDSHAKE_FRAME_BYTES_MAX
from quorate.core.ring.ring import Member
from quorate.core.wire.handshake import (
    NONCE_BYTES,
    Handshake,
    HandshakeRefused,
    Hello,
    Identity,
    Proof,
    Refusal,
    RefusalCode,
    Role,
    Welcome,
)
from tests.peer_cluster import CLUSTER_ID, SECRET, make_identity, make_member, member_id

MEMBERS = {number: make_member(number) for number in (1, 2, 3)}
encode = msgspec.msgpack.encode


def nonce(seed: int) -> bytes:
    return bytes([seed]) * NONCE_BYTES


def dialer(
    expected: int = 1,
    identity: Identity | None = None,
    secret: bytes = SECRET,
    members: Mapping[int, Member] = MEMBERS,
    seed: int = 7,
) -> Handshake:
    return Handshake(Role.DIALER, identity or make_identity(2), secret, members, nonce(seed), expected)


def acceptor(
    identity: Identity | None = None,
    secret: bytes = SECRET,
    members: Mapping[int, Member] = MEMBERS,
    seed: int = 9,
) -> Handshake:
    return Handshake(Role.ACCEPTOR, identity or make_identity(1), secret, members, nonce(seed))


def exchange(first: Handshake, second: Handshake) -> list[bytes]:
    """Run both sides to the end; returns what went over the wire."""
    wire, sides, turn = [], (second, first), 0
    body = first.start()
    while body is not None:
        wire.append(body)
        body = sides[turn % 2].receive(body)
        turn += 1
    return wire


def refusal(first: Handshake, second: Handshake) -> tuple[str, HandshakeRefused, HandshakeRefused]:
    """Run both sides until one refuses: ("dialer" or "acceptor", its error, the error that the other side gets)."""
    sides, turn, body = (second, first), 0, first.start()
    while body is not None:
        side = sides[turn % 2]
        try:
            body = side.receive(body)
        except HandshakeRefused as error:
            assert error.answer is not None and len(error.answer) < HANDSHAKE_FRAME_BYTES_MAX
            with pytest.raises(HandshakeRefused) as told:
                sides[(turn + 1) % 2].receive(error.answer)
            return ("acceptor" if side is second else "dialer"), error, told.value
        turn += 1
    raise AssertionError("nobody refused")


def test_two_members_get_to_know_each_other() -> None:
    ours, theirs = dialer(), acceptor()
    wire = exchange(ours, theirs)
    assert [msgspec.msgpack.decode(body, type=Hello | Proof | Welcome | Refusal).__class__ for body in wire] == [
        Hello,
        Hello,
        Proof,
        Welcome,
    ]
    assert ours.done and ours.peer == MEMBERS[1]
    assert theirs.done and theirs.peer == MEMBERS[2]
    assert max(map(len, wire)) < HANDSHAKE_FRAME_BYTES_MAX
    assert not any(SECRET in body for body in wire)


def test_the_acceptor_knows_its_peer_before_the_dialer_does() -> None:
    """The dialer must not send before the Welcome: the acceptor may still refuse its proof."""
    ours, theirs = dialer(), acceptor()
    hello = theirs.receive(ours.start() or b"")
    proof = ours.receive(hello or b"")
    assert not ours.done and not theirs.done
    welcome = theirs.receive(proof or b"")
    assert theirs.done and not ours.done
    assert ours.receive(welcome or b"") is None
    assert ours.done


# Who is refused.


def test_another_cluster_is_refused_by_its_id() -> None:
    """Hard case 20: separate clusters never merge, even if they share a secret."""
    stranger = msgspec.structs.replace(make_identity(2), cluster_id="d2" * 16)
    who, error, told = refusal(dialer(identity=stranger), acceptor())
    assert who == "acceptor"
    assert error.code == told.code == RefusalCode.WRONG_CLUSTER
    assert "d2" * 16 in told.reason and CLUSTER_ID in told.reason
    assert error.answer is not None and told.answer is None


def test_a_removed_member_is_refused() -> None:
    """Hard case 16: it comes back from a snapshot, with the right secret, and the ring does not know it any more."""
    remaining = {1: MEMBERS[1], 3: MEMBERS[3]}
    who, error, told = refusal(dialer(), acceptor(members=remaining))
    assert who == "acceptor" and error.code == told.code == RefusalCode.UNKNOWN_MEMBER
    assert error.number == 2 and member_id(2) in told.reason and "never returns" in told.reason


def test_a_member_under_another_id_is_refused() -> None:
    """Hard case 16: member 2 was replaced; the old machine still believes to be member 2."""
    impostor = msgspec.structs.replace(make_identity(2), id="ab" * 16)
    who, error, _ = refusal(dialer(identity=impostor), acceptor())
    assert who == "acceptor" and error.code == RefusalCode.WRONG_IDENTITY
    assert "ab" * 16 in error.reason and member_id(2) in error.reason


def test_our_own_number_under_another_id_is_refused() -> None:
    impostor = msgspec.structs.replace(make_identity(1), id="ab" * 16)
    others = {2: MEMBERS[2], 3: MEMBERS[3]}
    for members in (MEMBERS, others):
        who, error, _ = refusal(dialer(3, identity=impostor), acceptor(members=members))
        assert who == "acceptor" and error.code == RefusalCode.WRONG_IDENTITY


def test_ourselves_are_refused() -> None:
    who, error, told = refusal(dialer(1, identity=make_identity(1)), acceptor())
    assert who == "acceptor" and error.code == told.code == RefusalCode.SELF


def test_another_member_than_the_one_dialled_is_refused_by_the_dialer() -> None:
    who, error, _ = refusal(dialer(expected=3), acceptor())
    assert who == "dialer" and error.code == RefusalCode.WRONG_IDENTITY
    assert "dialled member 3" in error.reason and "member 1" in error.reason


def test_a_dialer_with_the_wrong_secret_is_refused_by_the_acceptor() -> None:
    who, error, told = refusal(dialer(secret=b"wrong"), acceptor())
    assert who == "acceptor" and error.code == told.code == RefusalCode.WRONG_SECRET
    assert error.number == 2


def test_an_acceptor_that_skips_the_proof_is_refused_by_the_dialer() -> None:
    """It cannot know the secret, accepts anything, and makes up its own proof."""
    ours, theirs = dialer(), acceptor(secret=b"guess")
    proof = ours.receive(theirs.receive(ours.start() or b"") or b"")
    assert proof is not None
    with pytest.raises(HandshakeRefused) as error:
        ours.receive(encode(Welcome(b"\0" * 32)))
    assert error.value.code == RefusalCode.WRONG_SECRET and not ours.done


@pytest.mark.parametrize("mac", [b"", b"\0" * 31, b"\0" * 33])
def test_a_proof_of_any_length_is_judged(mac: bytes) -> None:
    theirs = acceptor()
    theirs.receive(dialer().start() or b"")
    with pytest.raises(HandshakeRefused):
        theirs.receive(encode(Proof(mac)))


def test_refusals_are_told_apart_by_who_spoke() -> None:
    with pytest.raises(HandshakeRefused) as error:
        dialer().receive(encode(Refusal("any\ncode" * 100, "line\x1b[31m\nbreak" * 1000)))
    assert error.value.answer is None
    assert error.value.reason.isprintable() and len(str(error.value)) < 500


# Versions.


def with_versions(identity: Identity, lowest: int, highest: int) -> Identity:
    return msgspec.structs.replace(identity, wire_version=highest, wire_version_min=lowest)


@pytest.mark.parametrize(
    ("ours", "theirs", "agreed"), [((1, 1), (1, 1), 1), ((1, 2), (2, 3), 2), ((2, 3), (1, 2), 2), ((1, 4), (2, 3), 3)]
)
def test_both_sides_agree_on_the_highest_common_version(
    ours: tuple[int, int], theirs: tuple[int, int], agreed: int
) -> None:
    first = dialer(identity=with_versions(make_identity(2), *ours))
    second = acceptor(identity=with_versions(make_identity(1), *theirs))
    exchange(first, second)
    assert first.version == second.version == agreed


def test_versions_too_far_apart_are_refused() -> None:
    first = dialer(identity=with_versions(make_identity(2), 3, 4))
    who, error, told = refusal(first, acceptor(identity=with_versions(make_identity(1), 1, 2)))
    assert who == "acceptor" and error.code == told.code == RefusalCode.WIRE_VERSION
    assert "3 to 4" in told.reason and "1 to 2" in told.reason


def test_a_hello_of_a_later_version_may_have_more_fields() -> None:
    hello = msgspec.msgpack.decode(dialer().start() or b"")
    assert acceptor().receive(encode([*hello, "new", {"field": 1}])) is not None


# Somebody in between.


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 3), st.data())
def test_any_change_in_flight_keeps_both_from_finishing(step: int, data: st.DataObject) -> None:
    """Whichever frame is altered, the side that would have finished on it, or on what follows, does not."""
    ours, theirs = dialer(), acceptor()
    sides, body = (theirs, ours), ours.start()
    for turn in range(4):
        assert body is not None
        if turn == step:
            position = data.draw(st.integers(0, len(body) - 1))
            flip = data.draw(st.integers(1, 255))
            body = body[:position] + bytes([body[position] ^ flip]) + body[position + 1 :]
        try:
            body = sides[turn % 2].receive(body)
        except HandshakeRefused:
            break
    assert not ours.done
    assert not theirs.done or step == 3, "only the last frame comes after the acceptor has finished"


def test_a_recorded_handshake_cannot_be_replayed() -> None:
    wire = exchange(dialer(), acceptor())
    later = acceptor(seed=10)
    later.receive(wire[0])
    with pytest.raises(HandshakeRefused, match="wrong secret"):
        later.receive(wire[2])


def test_a_proof_cannot_be_reflected() -> None:
    """An attacker without the secret echoes to the dialer what the dialer itself has sent."""
    ours = dialer()
    hello = msgspec.msgpack.decode(acceptor().receive(ours.start() or b"") or b"", type=Hello)
    proof = ours.receive(encode(hello))
    mac = msgspec.msgpack.decode(proof or b"", type=Proof).mac
    with pytest.raises(HandshakeRefused, match="wrong secret"):
        ours.receive(encode(Welcome(mac)))


def test_our_own_hello_echoed_is_refused() -> None:
    ours = dialer()
    with pytest.raises(HandshakeRefused, match="itself"):
        ours.receive(ours.start() or b"")


def test_a_proof_cannot_be_relayed_to_a_third_member() -> None:
    """Member 2 dials the attacker, who passes everything on to member 3, to be taken there for member 2's choice."""
    ours, third = dialer(expected=1), acceptor(identity=make_identity(3))
    answer = third.receive(ours.start() or b"")
    with pytest.raises(HandshakeRefused, match="dialled member 1"):
        ours.receive(answer or b"")


def test_both_identities_and_nonces_are_under_the_proof() -> None:
    """The same secret, another nonce or identity on either side: another proof."""

    def proof(first: Handshake, second: Handshake) -> bytes:
        return exchange(first, second)[2]

    base = proof(dialer(), acceptor())
    assert proof(dialer(), acceptor()) == base
    renamed = msgspec.structs.replace(make_identity(2), name="other")
    others = [
        proof(dialer(seed=8), acceptor()),
        proof(dialer(), acceptor(seed=8)),
        proof(dialer(identity=renamed), acceptor()),
        proof(dialer(expected=3), acceptor(identity=make_identity(3))),
    ]
    assert len({base, *others}) == 5


# Frames out of place.


@pytest.mark.parametrize(
    "body", [encode(Proof(b"x")), encode(Welcome(b"x")), b"", b"\xc1", encode([9, 1]), encode(None), b"\x91" * 3000]
)
def test_nothing_but_a_hello_comes_first(body: bytes) -> None:
    for side in (dialer(), acceptor()):
        with pytest.raises(HandshakeRefused) as error:
            side.receive(body)
        assert error.value.code == RefusalCode.PROTOCOL and error.value.number is None


def test_a_second_hello_is_refused() -> None:
    theirs, hello = acceptor(), dialer().start() or b""
    theirs.receive(hello)
    with pytest.raises(HandshakeRefused, match="Hello came while this side waits for a Proof"):
        theirs.receive(hello)


def test_a_welcome_does_not_replace_the_proof() -> None:
    theirs = acceptor()
    theirs.receive(dialer().start() or b"")
    with pytest.raises(HandshakeRefused, match="waits for a Proof"):
        theirs.receive(encode(Welcome(b"\0" * 32)))


@pytest.mark.parametrize("size", [0, 1, NONCE_BYTES - 1, NONCE_BYTES + 1])
def test_a_nonce_has_one_length(size: int) -> None:
    hello = msgspec.msgpack.decode(dialer().start() or b"", type=Hello)
    with pytest.raises(HandshakeRefused, match="not a Quorate hello"):
        acceptor().receive(encode(msgspec.structs.replace(hello, nonce=b"n" * size)))


def test_what_a_stranger_calls_itself_cannot_harm_the_log() -> None:
    hostile = msgspec.structs.replace(make_identity(9), name="\x1b[2J\n" * 300, id="x\r\n" * 300)
    _, error, told = refusal(dialer(identity=hostile), acceptor())
    for text in (error.reason, told.reason):
        assert text.isprintable() and len(text) <= 400
