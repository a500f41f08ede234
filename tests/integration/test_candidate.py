"""A node that waits to be joined: whom it asks, what makes it a member, and what ends its wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from quorate.core.buckets import default_properties
from quorate.core.errors import StartupError
from quorate.core.membership.ring_consensus import RingValue
from quorate.core.messages import CandidacyReply
from quorate.core.ring.metadata import ClusterMetadata, to_value
from quorate.core.ring.ring import Member
from quorate.core.ring.transition import StagedRing
from quorate.server.cluster_file import (
    ClusterFile,
    found_cluster,
    joined_cluster,
    read_cluster_file,
    write_cluster_file,
)
from quorate.server.configuration import NodeConfiguration
from quorate.server.data_directory import Candidate, DataDirectory, Identity
from quorate.server.founding import Standing, establish, settle
from quorate.server.joining import Application, Waiting, prepare
from tests.free_ports import free_ports
from tests.peer_cluster import CLUSTER_ID, SECRET, make_member
from tests.transport_peers import WAIT_SECONDS, Peer, members, started

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def short_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quorate.server.joining.CANDIDACY_INTERVAL_MS", 20)


def ring_of(*present: Member, version: int = 1) -> RingValue:
    ring = StagedRing(CLUSTER_ID, version, list(present), [present[0].number] * 4, last_number=present[-1].number)
    return to_value(ClusterMetadata(ring, default_properties(3)), forced=0)


def configuration(member: Member, **changes: Any) -> NodeConfiguration:
    client, http, peer = (f"127.0.0.1:{port}" for port in free_ports(3))
    settings: dict[str, Any] = {"name": "n9", "join": member.peer_address, "secret": SECRET.decode()}
    settings |= {"client_listen": client, "http_listen": http, "peer_listen": peer, "engine": "memory"}
    return NodeConfiguration(**{**settings, **changes})


class Wait:
    """One candidate in a directory of its own, and what it emits."""

    def __init__(self, path: Path, settings: NodeConfiguration) -> None:
        self.settings = settings
        self.directory = DataDirectory.open(path)
        self.application: Application = prepare(settings, self.directory)
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.emitted = asyncio.Event()
        self.stopping = asyncio.Event()
        self.task = asyncio.create_task(Waiting(self.application, self._emit).run(self.stopping))

    @property
    def member(self) -> Member:
        """What it is in a ring that it was joined to, as number 9."""
        of = self.application.candidacy
        return msgspec.structs.replace(make_member(9, of.peer_address), id=of.id, name=of.name)

    async def result(self) -> tuple[Identity, ClusterFile] | None:
        async with asyncio.timeout(WAIT_SECONDS):
            return await self.task

    async def until_waiting(self) -> None:
        async with asyncio.timeout(WAIT_SECONDS):
            await self.emitted.wait()

    def _emit(self, event: str, **fields: Any) -> None:
        self.events.append((event, fields))
        self.emitted.set()


def test_it_asks_all_members_until_a_ring_has_it(run: Callable[[Any], None], tmp_path: Path) -> None:
    async def main() -> None:
        both = members()
        first, second = Peer(1, both), Peer(2, both)
        for peer in (first, second):
            peer.handler.answer = CandidacyReply(ring_of(*both), "", 77)
        async with started(first, second):
            wait = Wait(tmp_path / "n9", configuration(both[0]))
            await wait.until_waiting()
            assert wait.events == [
                ("waiting", {"node_id": wait.application.candidacy.id, "cluster_id": CLUSTER_ID, "member": ""}),
            ]
            await second.until(lambda: second.handler.candidacies != [])
            assert second.handler.candidacies[0] == wait.application.candidacy
            assert not wait.task.done()
            joined = ring_of(*both, wait.member, version=2)
            second.handler.answer = CandidacyReply(joined, "", 77)
            result = await wait.result()
            assert result is not None
            identity, cluster = result
            assert (identity.number, identity.node_id, identity.cluster_id) == (9, wait.member.id, CLUSTER_ID)
            assert (cluster.founding(), cluster.grace_s, cluster.secret) == (joined, 77, SECRET.decode())
            assert len(wait.events) == 1
            wait.directory.close()

    run(main())


def test_what_it_has_become_is_written_down_as_a_newborn_and_read_again(tmp_path: Path) -> None:
    """A ring's bytes are kept as they came: rings are told apart by their digests."""
    directory = DataDirectory.open(tmp_path / "n9")
    settings = configuration(make_member(1))
    addresses = {"client_address": settings.client_listen, "http_address": settings.http_listen}
    member = msgspec.structs.replace(make_member(9, settings.peer_listen), **addresses)
    value = ring_of(make_member(1), member, version=5)
    # As a later version may encode it: with one more field at the end of the map.
    body = msgspec.msgpack.decode(value.body)
    value = msgspec.structs.replace(value, body=msgspec.msgpack.encode({**body, "later": 1}))
    identity = Identity(1, CLUSTER_ID, member.id, member.name, 9, "memory")
    cluster = joined_cluster(SECRET.decode(), "", "memory", value, 60)
    directory.stand(Candidate(1, member.id, member.name))

    def begin(joined: tuple[Identity, ClusterFile] | None, **changes: Any) -> Standing:
        settings = NodeConfiguration(**changes)
        standing = settle(settings, directory, joined)
        establish(standing, directory)
        return standing

    born = begin((identity, cluster))
    assert born.newborn and born.is_new and born.cluster.founding() == value and not directory.candidate_path.exists()
    again = begin(None)
    assert (again.newborn, again.identity, again.cluster.founding()) == (False, identity, value)
    assert read_cluster_file(directory.cluster_path) == cluster
    # The founders' file is of the same cluster and does not know this node: only its secrets count.
    founders = found_cluster(CLUSTER_ID, [make_member(1)], 4, "memory", password="new", secret="another secret, long")
    write_cluster_file(tmp_path / "cluster.json", founders)
    given = begin(None, cluster=str(tmp_path / "cluster.json"))
    assert (given.cluster.password, given.cluster.secret) == ("new", "another secret, long")
    assert given.cluster.founding() == value and given.identity == identity
    directory.close()


@pytest.mark.parametrize("refused", ["there is a node n9 already", ""])
def test_a_refusal_ends_the_wait(run: Callable[[Any], None], tmp_path: Path, refused: str) -> None:
    async def main() -> None:
        both = members()
        peer = Peer(1, both)
        peer.handler.answer = CandidacyReply(ring_of(*both), refused, 77)
        async with started(peer):
            wait = Wait(tmp_path / "n9", configuration(both[0]))
            if refused:
                with pytest.raises(StartupError, match=f"n1 refuses this node: {refused}"):
                    await wait.result()
                assert wait.events == []
            else:
                await wait.until_waiting()
                wait.stopping.set()
                assert await wait.result() is None
            wait.directory.close()

    run(main())


@pytest.mark.parametrize("secret", ["another secret, long enough"])
def test_a_wrong_secret_ends_the_wait(run: Callable[[Any], None], tmp_path: Path, secret: str) -> None:
    async def main() -> None:
        both = members()
        peer = Peer(1, both)
        async with started(peer):
            wait = Wait(tmp_path / "n9", configuration(both[0], secret=secret))
            with pytest.raises(StartupError, match="does not let this node in: wrong secret"):
                await wait.result()
            wait.directory.close()

    run(main())


def test_something_else_than_a_peer_port_ends_the_wait(run: Callable[[Any], None], tmp_path: Path) -> None:
    async def main() -> None:
        async def speak(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"-ERR unknown command\r\n")
            await writer.drain()

        server = await asyncio.start_server(speak, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            wait = Wait(tmp_path / "n9", configuration(make_member(1, f"127.0.0.1:{port}")))
            with pytest.raises(StartupError, match="is no peer port of a member"):
                await wait.result()
            wait.directory.close()

    run(main())


def test_it_waits_for_a_member_that_is_not_there_yet(run: Callable[[Any], None], tmp_path: Path) -> None:
    async def main() -> None:
        both = members()
        wait = Wait(tmp_path / "n9", configuration(both[0]))
        await asyncio.sleep(0)
        peer = Peer(1, both)
        peer.handler.answer = CandidacyReply(ring_of(*both, wait.member, version=2), "", 77)
        async with started(peer):
            result = await wait.result()
            assert result is not None and result[0].number == 9
        wait.directory.close()

    run(main())


@pytest.mark.parametrize("kind", ["body", "cluster"])
def test_a_ring_that_is_none_or_of_another_cluster_is_not_believed(
    run: Callable[[Any], None], tmp_path: Path, kind: str
) -> None:
    async def main() -> None:
        both = members()
        peer = Peer(1, both)
        wait = Wait(tmp_path / "n9", configuration(both[0]))
        good = ring_of(*both, wait.member, version=2)
        changes: dict[str, Any] = {"body": b"none"} if kind == "body" else {"cluster_id": "d2" * 16}
        peer.handler.answer = CandidacyReply(msgspec.structs.replace(good, **changes), "", 77)
        async with started(peer):
            await peer.until(lambda: len(peer.handler.candidacies) >= 2)
            assert not wait.task.done() and wait.events == []
            wait.stopping.set()
            assert await wait.result() is None
        wait.directory.close()

    run(main())


def test_an_older_ring_that_had_it_does_not_count(run: Callable[[Any], None], tmp_path: Path) -> None:
    """Its plan was taken back; one member has not heard of that."""

    async def main() -> None:
        both = members()
        first, second = Peer(1, both), Peer(2, both)
        wait = Wait(tmp_path / "n9", configuration(both[0]))
        first.handler.answer = CandidacyReply(ring_of(*both, version=3), "", 77)
        second.handler.answer = CandidacyReply(ring_of(*both, wait.member, version=2), "", 77)
        async with started(first, second):
            await second.until(lambda: len(second.handler.candidacies) >= 2)
            assert not wait.task.done()
            wait.stopping.set()
            assert await wait.result() is None
        wait.directory.close()

    run(main())
