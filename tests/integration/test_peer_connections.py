"""One connection a peer: which of two stays, who may replace it, and members that leave or move meanwhile."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from quorate.core.messages import WriteReply
from quorate.core.ring.ring import Member
from quorate.core.ring.transition import Departed
from quorate.core.wire.handshake import Handshake, Role
from tests.peer_cluster import make_identity, make_member, member_id
from tests.transport_peers import Peer, RawPeer, members, started

pytestmark = pytest.mark.integration


def test_the_newest_connection_replaces_the_older(run: Callable[[Any], None]) -> None:
    """A peer whose machine lost power dials again before its old connection has timed out."""

    async def main() -> None:
        peer = Peer(1, members())
        async with started(peer):
            old = await RawPeer.dial(peer.transport.address, 2)
            await old.shake_hands()
            await peer.until_connected(2)
            new = await RawPeer.dial(peer.transport.address, 2)
            await new.shake_hands()
            await old.until_closed()
            assert peer.handler.connections_of(2) == ["connected", "disconnected", "connected"]
            assert peer.transport.send(2, WriteReply(1, 0))
            assert len(await new.bodies()) == 1
            assert peer.transport.peer_states()[2]["connects"] == 2
            for raw in (old, new):
                raw.writer.close()

    run(main())


def test_a_member_removed_while_it_is_replaced_does_not_get_in(run: Callable[[Any], None]) -> None:
    """The handler, told that the older connection is lost, removes the member whose newer one is just being let in."""

    async def main() -> None:
        both = members()
        peer = Peer(1, both)
        peer.handler.on_disconnect = lambda member: peer.transport.set_members([both[0]], [Departed(2, member_id(2))])
        async with started(peer):
            old, new = [await RawPeer.dial(peer.transport.address, 2) for _ in range(2)]
            await old.shake_hands()
            await peer.until_connected(2)
            await new.shake_hands()
            await new.until_closed()
            assert peer.handler.connections_of(2) == ["connected", "disconnected"]
            assert not peer.transport.connected(2) and peer.transport.peer_states() == {}
            for raw in (old, new):
                raw.writer.close()

    run(main())


def test_an_unproven_connection_replaces_nothing(run: Callable[[Any], None]) -> None:
    async def main() -> None:
        peer = Peer(1, members())
        async with started(peer) as log:
            real = await RawPeer.dial(peer.transport.address, 2)
            await real.shake_hands()
            await peer.until_connected(2)
            fake = await RawPeer.dial(peer.transport.address, 2)
            fake.handshake = Handshake(
                Role.DIALER, make_identity(2), b"a guess", {1: make_member(1)}, os.urandom(32), expected=1
            )
            fake.write(fake.handshake.start() or b"")
            fake.write(fake.handshake.receive((await fake.bodies())[0]) or b"")
            await log.until("wrong secret")
            assert peer.transport.connected(2) and peer.handler.connections_of(2) == ["connected"]
            for raw in (real, fake):
                raw.writer.close()

    run(main())


def test_a_member_removed_during_its_handshake_does_not_get_in(run: Callable[[Any], None]) -> None:
    """Hard case 16, in its narrowest moment: the hello was judged by an older ring than the proof."""

    async def main() -> None:
        both = members()
        peer = Peer(1, both)
        async with started(peer) as log:
            raw = await RawPeer.dial(peer.transport.address, 2)
            raw.write(raw.handshake.start() or b"")
            proof = raw.handshake.receive((await raw.bodies())[0])
            peer.transport.set_members([both[0]], [Departed(2, member_id(2))])
            raw.write(proof or b"")
            await raw.until_closed()
            assert "no member any more" in await log.until("no handshake with")
            assert peer.handler.events == [] and peer.transport.peer_states() == {}
            raw.writer.close()

    run(main())


def test_a_late_attempt_does_not_replace_a_good_connection(run: Callable[[Any], None]) -> None:
    """Else each replacement would look to the dialer like a loss, and it would go on dialling for ever."""

    async def main() -> None:
        both = members()
        low, high = Peer(1, both), Peer(2, both)
        async with started(low, high):
            await high.until_connected(1)
            await low.until_connected(2)
            await high.transport._connect(both[0], *_host_and_port(both[0]))
            high.transport.send(1, WriteReply(1, 0))
            await low.until(lambda: low.handler.messages != [])
            assert low.handler.connections_of(2) == high.handler.connections_of(1) == ["connected"]
            assert len(high.transport._open) == 1

    run(main())


def _host_and_port(member: Member) -> tuple[str, int]:
    host, _, port = member.peer_address.rpartition(":")
    return host, int(port)


def test_a_member_moves_to_another_address(run: Callable[[Any], None]) -> None:
    """Hard case 21: identity is not tied to an address."""

    async def main() -> None:
        both, elsewhere = members(), members(1)[0]
        low, high = Peer(1, both), Peer(2, both)
        async with started(high):
            await low.transport.start()
            await high.until_connected(1)
            await low.transport.stop()
            await high.until(lambda: not high.transport.connected(1))
            moved = [elsewhere, both[1]]
            low = Peer(1, moved)
            async with started(low):
                high.transport.set_members(moved)
                await high.until_connected(1)
                assert high.transport.peer_states()[1]["address"] == elsewhere.peer_address

    run(main())
