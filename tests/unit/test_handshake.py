"""The handshake: who gets in, who is refused and told why, and what somebody in between can achieve (nothing)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.core.limits import HANDSHAKE_FRAME_BYTES_MAX
from quorate.core.ring.ring import Member
from quorate.core.ring.transition import Departed
from quorate.core.wire.handshake import (
    CANDIDATE,
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
    expected: int | None = 1,
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
    departed: Sequence[Departed] = (),
) -> Handshake:
    return Handshake(Role.ACCEPTOR, identity or make_identity(1), secret, members, nonce(seed), None, departed)


def candidate(cluster_id: str = "", secret: bytes = SECRET) -> Handshake:
    identity = Identity(cluster_id, CANDIDATE, "ca" * 16, "n9")
    return dialer(None, identity=identity, secret=secret, members={})


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


REMAINING = {1: MEMBERS[1], 3: MEMBERS[3]}
DEPARTED = [Departed(2, member_id(2))]


def test_a_member_that_the_ring_does_not_know_is_refused() -> None:
    """Such as one whose joining was given up: it has a number that nobody has, and that nobody will have."""
    who, error, told = refusal(dialer(), acceptor(members=REMAINING))
    assert who == "acceptor" and error.code == told.code == RefusalCode.UNKNOWN_MEMBER
    assert error.number == 2 and member_id(2) in told.reason and "never returns" in told.reason
    assert not told.proven


@pytest.mark.parametrize(
    "claim",
    [
        make_identity(2),
        msgspec.structs.replace(make_identity(2), id="ab" * 16),
        msgspec.structs.replace(make_identity(7), id=member_id(2)),
        Identity("", CANDIDATE, member_id(2), "n2"),
    ],
)
def test_a_removed_node_is_refused_by_that_name_and_can_be_sure_of_it(claim: Identity) -> None:
    """Hard case 16: it comes back from a snapshot, with the right secret; or another has its number, or it has another
    number, or it asks to be joined under the id that it had."""
    expected = None if claim.number == CANDIDATE else 1
    who, error, told = refusal(dialer(expected, identity=claim), acceptor(members=REMAINING, departed=DEPARTED))
    assert who == "acceptor" and error.code == told.code == RefusalCode.REMOVED
    assert told.proven and claim.name in told.reason and claim.id in told.reason
    assert told.reason.endswith("give it an empty data directory, and join it as a new node")


def test_who_does_not_hold_the_secret_is_not_told_who_was_removed() -> None:
    _, error, told = refusal(dialer(secret=b"wrong"), acceptor(members=REMAINING, departed=DEPARTED))
    assert error.code == told.code == RefusalCode.WRONG_SECRET and not told.proven


def test_a_removal_that_no_member_proved_is_not_believed() -> None:
    """Whoever listens at a member's address can say so at every step; it takes the secret to be believed."""

    for mac in (b"", b"\0" * 32):
        forged = encode(Refusal(RefusalCode.REMOVED, "go away", mac))
        for steps in (0, 1):
            ours = dialer()
            if steps:
                ours.receive(acceptor(secret=b"guess").receive(ours.start() or b"") or b"")
            with pytest.raises(HandshakeRefused) as told:
                ours.receive(forged)
            assert told.value.code == RefusalCode.REMOVED and not told.value.proven


def test_a_proven_removal_is_only_good_for_its_own_handshake() -> None:
    proofs = []
    for seed in (9, 10):
        theirs, ours = acceptor(members=REMAINING, departed=DEPARTED, seed=seed), dialer()
        proof = ours.receive(theirs.receive(ours.start() or b"") or b"")
        with pytest.raises(HandshakeRefused) as error:
            theirs.receive(proof or b"")
        proofs.append((ours, error.value.answer or b""))
    with pytest.raises(HandshakeRefused) as told:
        proofs[0][0].receive(proofs[1][1])
    assert told.value.code == RefusalCode.REMOVED and not told.value.proven
    for change in ({"code": "removed"}, {"reason": "because"}):
        ours, answer = proofs[1][0], msgspec.msgpack.decode(proofs[1][1], type=Refusal)
        ours._state = ours._state.AWAIT_WELCOME
        with pytest.raises(HandshakeRefused) as told:
            ours.receive(encode(msgspec.structs.replace(answer, **change)))
        assert not told.value.proven, change


def test_a_removed_member_that_answers_at_the_address_of_another_is_refused_by_the_dialer() -> None:
    """Its successor has taken over its address, and somebody has started it again."""
    others = {3: MEMBERS[3], 4: make_member(4)}
    ours = Handshake(Role.DIALER, make_identity(3), SECRET, others, nonce(7), 4, DEPARTED)
    who, error, told = refusal(ours, acceptor(identity=make_identity(2)))
    assert who == "dialer" and error.code == told.code == RefusalCode.REMOVED and not told.proven


# Candidates, and members of newer rings.


@pytest.mark.parametrize("cluster_id", ["", CLUSTER_ID])
def test_a_candidate_and_a_member_get_to_know_each_other(cluster_id: str) -> None:
    ours, theirs = candidate(cluster_id), acceptor(departed=DEPARTED)
    exchange(ours, theirs)
    assert ours.peer is not None and theirs.peer is not None
    assert (ours.peer.number, ours.peer.id, ours.peer.name) == (1, member_id(1), "n1")
    assert ours.peer_cluster_id == CLUSTER_ID
    assert (theirs.peer.number, theirs.peer.id, theirs.peer.name) == (CANDIDATE, "ca" * 16, "n9")


def test_a_candidate_that_has_become_a_member_meanwhile_is_let_in() -> None:
    """It does not know yet, and this is how it learns."""
    joined = {**MEMBERS, 9: msgspec.structs.replace(make_member(9), id="ca" * 16)}
    theirs = acceptor(members=joined)
    exchange(candidate(), theirs)
    assert theirs.peer is not None and theirs.peer.number == CANDIDATE


def test_a_candidate_has_to_prove_the_secret() -> None:
    who, error, told = refusal(candidate(secret=b"wrong"), acceptor())
    assert who == "acceptor" and error.code == told.code == RefusalCode.WRONG_SECRET


def test_a_candidate_believes_nobody_without_the_secret() -> None:
    ours, theirs = candidate(), acceptor(secret=b"guess")
    ours.receive(theirs.receive(ours.start() or b"") or b"")
    with pytest.raises(HandshakeRefused, match="wrong secret"):
        ours.receive(encode(Welcome(b"\0" * 32)))


def test_a_candidate_that_knows_its_cluster_gets_into_no_other() -> None:
    who, error, told = refusal(candidate("d2" * 16), acceptor())
    assert who == "acceptor" and error.code == told.code == RefusalCode.WRONG_CLUSTER
    elsewhere = acceptor(identity=msgspec.structs.replace(make_identity(1), cluster_id="d2" * 16))
    ours, first = candidate(CLUSTER_ID), candidate("")
    answer = elsewhere.receive(first.start() or b"")
    with pytest.raises(HandshakeRefused, match="wrong cluster"):
        ours.receive(answer or b"")


def test_only_a_candidate_may_know_no_cluster() -> None:
    nowhere = msgspec.structs.replace(make_identity(2), cluster_id="")
    assert refusal(dialer(identity=nowhere), acceptor())[1].code == RefusalCode.WRONG_CLUSTER
    answer = encode(msgspec.msgpack.decode(acceptor().receive(dialer().start() or b"") or b"", type=Hello))
    hello = msgspec.structs.replace(msgspec.msgpack.decode(answer, type=Hello), cluster_id="")
    for ours in (dialer(), candidate(CLUSTER_ID), candidate()):
        with pytest.raises(HandshakeRefused, match="wrong cluster"):
            ours.receive(encode(hello))


def test_nobody_that_was_dialled_is_a_candidate() -> None:
    hello = Hello("quorate", 1, 1, CLUSTER_ID, CANDIDATE, "cb" * 16, "n8", nonce(3))
    for ours in (dialer(), candidate(), candidate(CLUSTER_ID)):
        with pytest.raises(HandshakeRefused, match="wrong identity"):
            ours.receive(encode(hello))


def test_a_number_above_all_known_ones_is_a_member_of_a_newer_ring() -> None:
    theirs = acceptor(departed=[Departed(4, member_id(4))])
    exchange(dialer(identity=make_identity(5)), theirs)
    assert theirs.peer is not None and (theirs.peer.number, theirs.peer.id) == (5, member_id(5))


@pytest.mark.parametrize("number", [-1, 4])
def test_a_number_that_nobody_has_and_that_is_below_others_is_unknown(number: int) -> None:
    departed = [Departed(5, member_id(5))]
    who, error, _ = refusal(
        dialer(identity=msgspec.structs.replace(make_identity(7), number=number)), acceptor(departed=departed)
    )
    assert who == "acceptor" and error.code == RefusalCode.UNKNOWN_MEMBER


def test_a_number_above_all_but_our_own_is_unknown() -> None:
    others = {2: MEMBERS[2], 3: MEMBERS[3]}
    ours = dialer(expected=9, identity=make_identity(8))
    who, error, _ = refusal(ours, acceptor(identity=make_identity(9), members=others))
    assert who == "acceptor" and error.code == RefusalCode.UNKNOWN_MEMBER


def test_a_newcomer_has_to_prove_the_secret() -> None:
    who, error, _ = refusal(dialer(identity=make_identity(5), secret=b"wrong"), acceptor())
    assert who == "acceptor" and error.code == RefusalCode.WRONG_SECRET


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
    hostile = msgspec.structs.replace(make_identity(2), name="\x1b[2J\n" * 300, id="x\r\n" * 300)
    _, error, told = refusal(dialer(identity=hostile), acceptor())
    for text in (error.reason, told.reason):
        assert text.isprintable() and len(text) <= 400
