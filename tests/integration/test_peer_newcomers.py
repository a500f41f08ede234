"""Whom the peer port lets in beside the members of its ring: candidates, members of newer rings, and who lingers."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from quorate.adapters.transport.candidate import ask
from quorate.core.limits import PEER_DIAL_BACK_INTERVAL_MS, PEER_PING_INTERVAL_MS, PEER_SILENCE_TIMEOUT_MS
from quorate.core.membership.ring_consensus import RingValue
from quorate.core.messages import Candidacy, CandidacyReply, WriteReply
from quorate.core.ring.ring import Member
from quorate.core.ring.transition import Departed
from quorate.core.wire.codec import decode_messages, encode_messages
from quorate.core.wire.framing import frame_header
from quorate.core.wire.handshake import CANDIDATE, Handshake, HandshakeRefused, Identity, Refusal, RefusalCode, Role
from tests.peer_cluster import CLUSTER_ID, SECRET, ManualTime, SeededRng, make_identity, make_member, member_id
from tests.transport_peers import WAIT_SECONDS, Peer, RawPeer, members, started

pytestmark = pytest.mark.integration

CANDIDACY = Candidacy("ca" * 16, "n9", "host", "", 1, "127.0.0.1:7", "127.0.0.1:8", "127.0.0.1:9", "0.1", "memory")
REPLY = CandidacyReply(RingValue(CLUSTER_ID, 0, 1, (1,), b"ring"), "", 60)
GONE = [Departed(2, member_id(2))]


async def raw_candidate(peer: Peer) -> RawPeer:
    raw = await RawPeer.dial(peer.transport.address, 2)
    identity = Identity("", CANDIDATE, CANDIDACY.id, CANDIDACY.name)
    raw.handshake = Handshake(Role.DIALER, identity, SECRET, {}, os.urandom(32))
    await raw.shake_hands()
    return raw


# Candidates.


def test_a_candidate_is_heard_and_answered_and_is_no_peer(run: Callable[[Any], None]) -> None:
    async def main() -> None:
        peer = Peer(1, members())
        peer.handler.answer = REPLY
        async with started(peer) as log:
            for _ in range(2):
                answer = await ask(peer.transport.address, CANDIDACY, SECRET, "", SeededRng())
                assert (answer.member, answer.name, answer.cluster_id, answer.reply) == (1, "n1", CLUSTER_ID, REPLY)
            assert peer.handler.candidacies == [CANDIDACY] * 2
            assert peer.handler.events == [] and not peer.transport.connected(CANDIDATE)
            assert not peer.transport.send(CANDIDATE, WriteReply(1, 0))
            assert log.lines == [], "who asks every second is not worth a line each time"

    run(main())


def test_a_candidate_may_ask_again_on_its_connection(run: Callable[[Any], None]) -> None:
    async def main() -> None:
        peer = Peer(1, members())
        peer.handler.answer = REPLY
        async with started(peer):
            raw = await raw_candidate(peer)
            for _ in range(2):
                raw.write(encode_messages([CANDIDACY]))
                replies: list[Any] = []
                while not replies:  # pings come in between
                    replies = [message for body in await raw.bodies() for message in decode_messages(body)]
                assert replies == [REPLY]
            raw.writer.close()

    run(main())


def test_a_candidate_that_sends_anything_else_is_cut_off(run: Callable[[Any], None]) -> None:
    async def main() -> None:
        peer = Peer(1, members())
        async with started(peer) as log:
            raw = await raw_candidate(peer)
            raw.write(encode_messages([WriteReply(1, 0)]))
            await raw.until_closed()
            assert "a candidate sent a WriteReply, which only members may" in await log.until("candidate")
            assert peer.handler.events == [] and peer.handler.candidacies == []
            raw.writer.close()

    run(main())


def test_a_candidate_without_the_secret_or_of_another_cluster_is_refused(run: Callable[[Any], None]) -> None:
    async def main() -> None:
        peer = Peer(1, members())
        async with started(peer):
            for secret, cluster_id, code in (
                (b"another secret", "", RefusalCode.WRONG_SECRET),
                (SECRET, "d2" * 16, RefusalCode.WRONG_CLUSTER),
            ):
                with pytest.raises(HandshakeRefused) as refused:
                    await ask(peer.transport.address, CANDIDACY, secret, cluster_id, SeededRng())
                assert refused.value.code == code
            assert peer.handler.candidacies == []

    run(main())


@pytest.mark.sources
def test_candidates_are_bounded_and_silent_ones_are_dropped(
    run: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        by_hand = ManualTime()
        peer = Peer(1, members(), scheduler=by_hand)
        async with started(peer) as log:
            first = await raw_candidate(peer)
            second = await raw_candidate(peer)
            await second.until_closed()
            assert "too many candidates" in await log.until("too many")
            for _ in range(PEER_SILENCE_TIMEOUT_MS // PEER_PING_INTERVAL_MS + 1):
                by_hand.advance(PEER_PING_INTERVAL_MS)
            await first.until_closed()
            third = await raw_candidate(peer)
            third.write(encode_messages([CANDIDACY]))
            await peer.until(lambda: peer.handler.candidacies != [])
            for raw in (first, second, third):
                raw.writer.close()

    monkeypatch.setattr("quorate.adapters.transport.tcp.CANDIDATE_CONNECTIONS_MAX", 1)
    run(main())


# Members of newer rings.


def test_a_newcomer_is_a_peer_and_stays_one_when_its_ring_comes(run: Callable[[Any], None]) -> None:
    async def main() -> None:
        three = members(3)
        low, new = Peer(1, three, knows=three[:2]), Peer(3, three)
        async with started(low, new):
            await new.until_connected(1)
            await low.until_connected(3)
            assert 3 not in low.transport.peer_states()
            assert low.transport.send(3, WriteReply(1, 0)) and new.transport.send(1, WriteReply(2, 0))
            await new.until(lambda: new.handler.messages == [(1, WriteReply(1, 0))])
            await low.until(lambda: low.handler.messages == [(3, WriteReply(2, 0))])
            low.transport.set_members(three[:2])
            low.transport.set_members(three)
            assert low.transport.peer_states()[3]["connected"]
            assert low.handler.connections_of(3) == ["connected"]

    run(main())


def test_a_newcomer_whose_number_turns_out_to_be_nobodys_is_disconnected(run: Callable[[Any], None]) -> None:
    async def main() -> None:
        three = members(3)
        low, new = Peer(1, three, knows=three[:2]), Peer(3, three)
        async with started(low, new) as log:
            await low.until_connected(3)
            low.transport.set_members([*three[:2], make_member(4)])
            assert low.handler.connections_of(3) == ["connected", "disconnected"]
            await log.until("unknown member")

    run(main())


# Members that were removed.


def test_who_lingers_keeps_its_connection_for_as_long_as_it_does(run: Callable[[Any], None]) -> None:
    """Hard case 14: a member that has left may have hints to hand over."""

    async def main() -> None:
        both = members()
        low, high = Peer(1, both), Peer(2, both)
        async with started(low, high):
            await low.until_connected(2)
            await high.until_connected(1)
            for _ in range(2):
                low.transport.set_members([both[0]], GONE, [2])
            assert low.transport.connected(2) and low.transport.peer_states() == {}
            assert high.transport.send(1, WriteReply(1, 0)) and low.transport.send(2, WriteReply(2, 0))
            await low.until(lambda: low.handler.messages != [])
            await high.until(lambda: high.handler.messages != [])
            low.transport.set_members([both[0]], GONE, [])
            assert low.handler.connections_of(2) == ["connected", "disconnected"]
            await high.until(lambda: high.handler.removals != [])
            assert low.handler.connections_of(2) == ["connected", "disconnected"]

    run(main())


def test_a_removed_node_is_told_once_though_it_tries_on(run: Callable[[Any], None]) -> None:
    """Hard case 16: it comes back with the ring of its former life."""

    async def main() -> None:
        three = members(3)
        others = [Peer(number, three, knows=[three[0], three[1]]) for number in (1, 2)]
        for peer in others:
            peer.transport.set_members([three[0], three[1]], [Departed(3, member_id(3))])
        back = Peer(3, three)
        async with started(*others, back) as log:
            await back.until(lambda: back.handler.removals != [])
            for number in (1, 2):
                await log.until(f"refused by n{number}")
            assert len(back.handler.removals) == 1
            reason = back.handler.removals[0]
            assert member_id(3) in reason and "empty data directory" in reason
            assert all(peer.handler.connections_of(3) == [] for peer in others)

    run(main())


def test_a_removed_node_that_nobody_dials_finds_out_as_well(run: Callable[[Any], None]) -> None:
    """It has the lowest number, so all others should have dialled it; time is moved by hand."""

    async def main() -> None:
        both, by_hand = members(), ManualTime()
        back, other = Peer(1, both, scheduler=by_hand), Peer(2, both, knows=[both[1]])
        other.transport.set_members([both[1]], [Departed(1, member_id(1))])
        async with started(back, other):
            assert back.handler.removals == []
            by_hand.advance(PEER_DIAL_BACK_INTERVAL_MS)
            await back.until(lambda: back.handler.removals != [])

    run(main())


def test_a_dialler_at_the_door_cannot_remove_a_member(run: Callable[[Any], None]) -> None:
    async def main() -> None:
        both = members()
        peer = Peer(1, both)
        stranger = Handshake(
            Role.DIALER, make_identity(2), SECRET, {1: both[0]}, os.urandom(32), 1, [Departed(1, member_id(1))]
        )
        async with started(peer) as log:
            raw = await RawPeer.dial(peer.transport.address, 2)
            raw.write(stranger.start() or b"")
            with pytest.raises(HandshakeRefused) as refused:
                stranger.receive((await raw.bodies())[0])
            raw.write(refused.value.answer or b"")
            await raw.until_closed()
            assert "removed from the cluster" in await log.until("refused by")
            assert peer.handler.removals == []
            raw.writer.close()

    run(main())


def test_whoever_listens_at_the_address_of_a_member_cannot_remove_those_that_dial_it(
    run: Callable[[Any], None],
) -> None:
    """A refusal without proof of the secret is a line in the log, and no more."""

    async def main() -> None:
        both = members()

        async def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            body = msgspec.msgpack.encode(Refusal(RefusalCode.REMOVED, "go away", bytes(32)))
            writer.write(frame_header(len(body), 1.0) + body)
            await writer.drain()

        host, port = both[0].peer_address.split(":")
        server = await asyncio.start_server(refuse, host, int(port))
        peer = Peer(2, both)
        async with server, started(peer) as log:
            assert "removed from the cluster: go away" in await log.until("refused by n1")
            assert peer.handler.removals == []

    run(main())


# Who dials.


def moved(member: Member, elsewhere: Member) -> Member:
    return msgspec.structs.replace(member, peer_address=elsewhere.peer_address)


def test_a_node_that_is_not_where_the_ring_says_dials_all(run: Callable[[Any], None]) -> None:
    """Hard case 21. Its time is moved by hand, so it would never dial the higher number reluctantly."""

    async def main() -> None:
        both, elsewhere = members(), members(1)[0]
        here = moved(both[0], elsewhere)
        high = Peer(2, both)
        low = Peer(1, [here, both[1]], knows=both, advertised=here.peer_address, scheduler=ManualTime())
        async with started(high, low):
            await high.until_connected(1)
            await low.until_connected(2)

    run(main())


def test_a_node_dials_all_as_soon_as_the_ring_has_it_elsewhere_and_not_any_more_when_it_is_right(
    run: Callable[[Any], None],
) -> None:
    async def main() -> None:
        both, elsewhere, by_hand = members(), members(1)[0], ManualTime()
        peer = Peer(1, both, advertised=both[0].peer_address, scheduler=by_hand)
        dialled = asyncio.Event()

        async def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            dialled.set()
            writer.close()

        host, port = both[1].peer_address.split(":")
        server = await asyncio.start_server(accept, host, int(port))
        async with server, started(peer):
            peer.transport.set_members([moved(both[0], elsewhere), both[1]])
            by_hand.advance(0)
            async with asyncio.timeout(WAIT_SECONDS):
                await dialled.wait()
            assert peer.transport._dialers[2]._eager
            peer.transport.set_members(both)
            assert not peer.transport._dialers[2]._eager

    run(main())


def test_the_loss_of_a_connection_that_the_peer_had_opened_is_heard_of_by_the_reluctant_dialer(
    run: Callable[[Any], None],
) -> None:
    async def main() -> None:
        both, by_hand = members(), ManualTime()
        low, high = Peer(1, both, scheduler=by_hand), Peer(2, both)
        async with started(low, high):
            await low.until_connected(2)
            by_hand.advance(PEER_DIAL_BACK_INTERVAL_MS)  # It looks, finds the connection, and leaves it at that.
            await asyncio.sleep(0)
            await high.transport.stop()
            await low.until(lambda: not low.transport.connected(2))
            again = Peer(2, [moved(both[0], both[1]), both[1]])
            async with started(again):
                by_hand.advance(PEER_DIAL_BACK_INTERVAL_MS)
                await low.until_connected(2)
                assert low.handler.connections_of(2) == ["connected", "disconnected", "connected"]

    run(main())
