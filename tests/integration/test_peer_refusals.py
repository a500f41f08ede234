"""Who is not let in at the peer port: both sides say why, once, and strangers cost a bounded amount."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from quorate.adapters.transport.tcp import TcpTransport
from quorate.core.limits import (
    HANDSHAKE_TIMEOUT_MS,
    PEER_CONNECTIONS_MAX,
    RECONNECT_DELAY_MAX_MS,
)
from quorate.core.wire.handshake import Identity
from tests.peer_cluster import ManualTime, make_identity
from tests.transport_peers import WAIT_SECONDS, Peer, RawPeer, members, started

pytestmark = pytest.mark.integration


def other_cluster(identity: Identity) -> Identity:
    return msgspec.structs.replace(identity, cluster_id="d2" * 16)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"identity": other_cluster(make_identity(2))}, "wrong cluster"),
        ({"identity": msgspec.structs.replace(make_identity(2), id="ab" * 16)}, "wrong identity"),
        ({"secret": b"another secret"}, "wrong secret"),
        (
            {"identity": msgspec.structs.replace(make_identity(2), wire_version=9, wire_version_min=8)},
            "wire version",
        ),
    ],
)
def test_a_refused_peer_is_told_why_and_both_log_it_once(
    run: Callable[[Any], None], changes: dict[str, Any], reason: str
) -> None:
    """Hard cases 16 and 20. Time is moved by hand, so that many attempts pass quickly."""

    async def main() -> None:
        both, time_of_dialer = members(), ManualTime()
        low, high = Peer(1, both), Peer(2, both, scheduler=time_of_dialer, **changes)
        async with started(low, high) as log:
            refused_by = await log.until("refused by n1")
            refused = await log.until("no handshake with")
            assert reason in refused and reason in refused_by
            attempts = 4
            for _ in range(attempts):
                before = len(released)
                time_of_dialer.advance(RECONNECT_DELAY_MAX_MS)
                async with asyncio.timeout(WAIT_SECONDS):
                    while len(released) < before + 2:
                        changed.clear()
                        await changed.wait()
            assert reason in high.transport.peer_states()[1]["last_refusal"]
            assert low.handler.events == high.handler.events == []
            assert sum(reason in line for line in log.lines) == 2, log.lines

    released: list[Any] = []
    changed = asyncio.Event()
    original = TcpTransport.connection_released

    def keep(self: TcpTransport, connection: Any) -> None:
        released.append(connection)
        changed.set()
        original(self, connection)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TcpTransport, "connection_released", keep)
        run(main())


def test_an_address_that_leads_back_to_ourselves_is_refused(run: Callable[[Any], None]) -> None:
    async def main() -> None:
        both = members()
        misled = [msgspec.structs.replace(both[0], peer_address=both[1].peer_address), both[1]]
        async with started(Peer(2, misled)) as log:
            assert "connected to itself" in await log.until("refused by n1")

    run(main())


def test_a_redis_client_on_the_peer_port_is_cut_off(run: Callable[[Any], None]) -> None:
    async def main() -> None:
        peer = Peer(1, members())
        async with started(peer) as log:
            reader, writer = await asyncio.open_connection(*peer.transport.address.split(":"))
            writer.write(b"*1\r\n$4\r\nPING\r\n")
            async with asyncio.timeout(WAIT_SECONDS):
                assert await reader.read(100) == b""
            writer.close()
            assert "something else than a Quorate node" in await log.until("no handshake with")

    run(main())


def test_a_silent_stranger_is_cut_off_in_time(run: Callable[[Any], None]) -> None:
    async def main() -> None:
        by_hand = ManualTime()
        peer = Peer(1, members(), scheduler=by_hand)
        async with started(peer):
            raw = await RawPeer.dial(peer.transport.address, 2)
            raw.write(raw.handshake.start() or b"")
            assert len(await raw.bodies()) == 1, "the hello is answered"
            by_hand.advance(HANDSHAKE_TIMEOUT_MS)
            await raw.until_closed()
            raw.writer.close()

    run(main())


@pytest.mark.sources
def test_strangers_are_bounded(run: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Hard case 34: whoever opens connections and says nothing gets so many and no more."""

    async def main() -> None:
        peer = Peer(1, members())
        async with started(peer) as log:
            raws = [await RawPeer.dial(peer.transport.address, 2) for _ in range(5)]
            await log.until("wait for their handshake")
            for raw in raws[3:]:
                await raw.until_closed()
            await raws[0].shake_hands()
            assert raws[0].handshake.done, "those who came in time are served"
            for raw in raws:
                raw.writer.close()

    assert PEER_CONNECTIONS_MAX > 3
    monkeypatch.setattr("quorate.adapters.transport.tcp.PEER_CONNECTIONS_MAX", 3)
    run(main())
