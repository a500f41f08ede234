"""What only the asynchronous client has: many requests on one connection, one sweep, room for so many in flight."""

import asyncio
import threading
from typing import Any

import pytest

import quorate.aio
from quorate.client import asynchronous_calls, streams
from quorate.client.asynchronous_calls import AsyncCalls
from quorate.client.commands import ping_command
from quorate.client.protocol import AttemptFailure, FailureKind
from quorate.client.streams import Connection, StreamNode, Traffic
from quorate.core.errors import CallerError, OutcomeUnknown, QuorateError, Unavailable
from quorate.core.limits import CALLS_IN_FLIGHT_MAX, CONNECTION_SILENCE_MS, HELD_UP_AFTER_MS, NODE_SILENT_AFTER_MS
from tests.unit.client_fakes import HANG, FakeCluster


class FakeTransport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.aborted = False

    def write(self, data: Any) -> None:
        self.writes.append(bytes(data))

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def abort(self) -> None:
        self.aborted = True


def connection_of(traffic: Traffic) -> tuple[Connection, FakeTransport]:
    node = StreamNode("127.0.0.1:1")
    connection, transport = Connection(node, traffic), FakeTransport()
    connection.connection_made(transport)
    node.connections.append(connection)
    return connection, transport


async def turn() -> None:
    """Let everything run that is due in this turn of the loop."""
    await asyncio.sleep(0)


def test_one_turn_is_one_write_and_replies_find_their_requests_however_they_are_cut() -> None:
    async def main() -> None:
        traffic = Traffic()
        connection, transport = connection_of(traffic)
        futures = [connection.send(b"<%d>" % n, 1_000.0, streams.now_ms()) for n in range(5)]
        await turn()
        assert transport.writes == [b"<0><1><2><3><4>"]
        assert traffic.in_flight == connection.node.in_flight == 5
        for byte in b"".join(b":%d\r\n" % n for n in range(5)):
            connection.data_received(bytes([byte]))
        assert [future.result() for future in futures] == [0, 1, 2, 3, 4]
        assert traffic.in_flight == connection.node.in_flight == 0

    asyncio.run(main())


def test_a_node_that_left_may_answer_what_it_owes_and_gets_nothing_more() -> None:
    async def main() -> None:
        traffic = Traffic()
        connection, transport = connection_of(traffic)
        node = connection.node
        first, second = (connection.send(b"x", 1_000.0, streams.now_ms()) for _ in range(2))
        node.retire()
        assert node.best_connection(streams.now_ms()) is None
        await turn()
        assert transport.writes == [b"xx"], "what was on its way still goes"
        connection.data_received(b":1\r\n")
        assert not transport.aborted
        connection.data_received(b":2\r\n")
        assert (first.result(), second.result()) == (1, 2)
        assert transport.aborted
        assert traffic.in_flight == 0 and not traffic.connections

        idle, transport = connection_of(traffic)
        idle.node.retire()
        assert transport.aborted, "and one that owes nothing is closed at once"

    asyncio.run(main())


def test_a_cancelled_request_keeps_its_place() -> None:
    async def main() -> None:
        traffic = Traffic()
        connection, _ = connection_of(traffic)
        first, second = (connection.send(b"x", 1_000.0, streams.now_ms()) for _ in range(2))
        first.cancel()
        connection.data_received(b":1\r\n:2\r\n")
        assert second.result() == 2
        assert traffic.in_flight == 0

    asyncio.run(main())


def test_time_limits_are_kept_and_a_late_reply_is_not_the_next_ones() -> None:
    async def main() -> None:
        connection, transport = connection_of(Traffic())
        late = connection.send(b"x", 50.0, 1_000.0)
        patient = connection.send(b"y", 500.0, 1_000.0)
        connection.expire(1_049.0)
        assert not late.done()
        connection.expire(1_050.0)
        assert late.result().kind is FailureKind.TIMED_OUT
        assert not patient.done()
        connection.data_received(b":1\r\n:2\r\n")
        assert patient.result() == 2
        assert not transport.aborted

    asyncio.run(main())


def test_a_connection_that_stays_silent_is_closed() -> None:
    async def main() -> None:
        traffic = Traffic()
        connection, transport = connection_of(traffic)
        connection.send(b"x", 50.0, 0.0)
        other = connection.send(b"y", 60_000.0, 0.0)
        await turn()
        connection.expire(51.0 + CONNECTION_SILENCE_MS)
        assert transport.aborted
        assert other.result().kind is FailureKind.LOST
        assert connection.node.connections == [] and traffic.connections == {}
        assert traffic.in_flight == connection.node.in_flight == 0

    asyncio.run(main())


def test_a_node_that_owes_replies_and_says_nothing_is_noticed_until_it_is_heard() -> None:
    async def main() -> None:
        traffic = Traffic()
        connection, _ = connection_of(traffic)
        node, now = connection.node, streams.now_ms()
        connection.note_silence(now + 60_000)
        assert node.silent_ms == 0.0, "it owes nothing"
        answer = connection.send(b"x", 1_000.0, now)
        connection.note_silence(now + NODE_SILENT_AFTER_MS - 1)
        assert node.silent_ms == 0.0
        connection.note_silence(now + NODE_SILENT_AFTER_MS)
        assert node.silent_ms == NODE_SILENT_AFTER_MS
        connection.note_silence(now + 70)
        assert node.silent_ms == 70
        connection.data_received(b":")
        assert node.silent_ms == 0.0 and not answer.done()
        connection.note_silence(node.heard_ms + NODE_SILENT_AFTER_MS - 1)
        assert node.silent_ms == 0.0, "half a reply is a sign of life"
        connection.note_silence(node.heard_ms + NODE_SILENT_AFTER_MS)
        assert node.silent_ms == pytest.approx(NODE_SILENT_AFTER_MS)
        connection.connection_lost(None)
        assert node.silent_ms == 0.0, "that is for doubt to judge"

    asyncio.run(main())


def test_a_node_that_is_heard_on_one_connection_is_not_silent_on_the_other() -> None:
    async def main() -> None:
        traffic = Traffic()
        held_up, _ = connection_of(traffic)
        node, now = held_up.node, streams.now_ms()
        other = Connection(node, traffic)
        other.connection_made(FakeTransport())
        held_up.send(b"x", 1_000.0, now - 500)
        other.send(b"y", 1_000.0, now)
        other.data_received(b":1\r\n")
        held_up.note_silence(node.heard_ms + 1)
        assert node.silent_ms == 0.0

    asyncio.run(main())


def test_while_a_node_is_silent_calls_go_to_others_long_before_an_attempt_is_given_up() -> None:
    async def main(cluster: FakeCluster) -> None:
        silent = cluster.nodes[0]
        hangs = False
        arrived = asyncio.Event()
        loop = asyncio.get_running_loop()

        def script(arguments: list[bytes]) -> object:
            nonlocal hangs
            if not hangs and arguments[0] != b"KV.GET":
                return None
            hangs = True  # From now on nothing is answered, nor is another connection introduced.
            loop.call_soon_threadsafe(arrived.set)
            return HANG

        silent.script = script
        async with quorate.aio.connect(cluster.seeds, timeout_ms=60_000) as db:
            bucket = db.bucket("b")
            (node,) = (node for node in db._calls._router.nodes.values() if node.address == silent.address)
            stuck = []
            while not node.in_flight:  # Unknown nodes are tried in turn.
                stuck.append(asyncio.create_task(bucket.get("k")))
                await turn()
            async with asyncio.timeout(10):
                await arrived.wait()  # The node reads in a thread of its own.
                # Silence is part of a node's score. Where machine and nodes are slow, it takes more of it.
                others = [other for other in db._calls._router.nodes.values() if other is not node]
                while node.silent_ms <= 50 * max(other.latency_ms for other in others):
                    await asyncio.wait(stuck, timeout=streams._SWEEP_INTERVAL_S)
            asked = len(silent.sent(b"KV.GET"))
            assert asked == node.in_flight
            await asyncio.gather(*(bucket.get("k") for _ in range(50)))
            assert len(silent.sent(b"KV.GET")) == asked
            for task in stuck:
                task.cancel()

    with FakeCluster(3) as cluster:
        asyncio.run(main(cluster))


def test_what_had_not_left_when_the_connection_went_was_not_sent() -> None:
    async def main() -> None:
        connection, transport = connection_of(Traffic())
        left = connection.send(b"x", 1_000.0, streams.now_ms())
        await turn()
        stayed = connection.send(b"y", 1_000.0, streams.now_ms())
        connection.connection_lost(None)
        await turn()
        assert left.result().kind is FailureKind.LOST
        assert stayed.result().kind is FailureKind.NOT_SENT
        assert transport.writes == [b"x"]

    asyncio.run(main())


@pytest.mark.parametrize("garbage", [b"?\r\n", b":1\r\n:2\r\n:3\r\n", b"$-7\r\n", b"*1\r\n?\r\n"])
def test_garbage_closes_the_connection_and_fails_what_waits(garbage: bytes) -> None:
    async def main() -> None:
        traffic = Traffic()
        connection, transport = connection_of(traffic)
        futures = [connection.send(b"x", 1_000.0, streams.now_ms()) for _ in range(2)]
        await turn()
        connection.data_received(garbage)
        assert transport.aborted
        assert all(future.done() for future in futures)
        assert traffic.in_flight == connection.node.in_flight == 0

    asyncio.run(main())


@pytest.mark.sources
def test_a_reply_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        connection, transport = connection_of(Traffic())
        future = connection.send(b"x", 1_000.0, streams.now_ms())
        await turn()
        connection.data_received(b"$9999\r\n")
        while not transport.aborted:
            connection.data_received(b"x" * 100)
        assert future.result().kind is FailureKind.MALFORMED

    monkeypatch.setattr(streams, "REPLY_BYTES_MAX", 1_000)
    asyncio.run(main())


def test_a_blocked_connection_takes_no_more() -> None:
    async def main() -> None:
        connection, _ = connection_of(Traffic())
        connection.pause_writing()
        assert connection.node.best_connection(0.0) is None
        connection.resume_writing()
        assert connection.node.best_connection(0.0) is connection

    asyncio.run(main())


def test_waiting_for_room_ends_with_room_or_with_the_time() -> None:
    async def main() -> None:
        traffic = Traffic()
        traffic.in_flight = CALLS_IN_FLIGHT_MAX
        first, cancelled, third = (asyncio.create_task(traffic.room(5_000.0)) for _ in range(3))
        too_late = await traffic.room(1.0)
        assert isinstance(too_late, AttemptFailure) and too_late.kind is FailureKind.NOT_SENT
        traffic.in_flight -= 1
        traffic.admit()
        assert await first is None
        assert not third.done()
        traffic.admit()
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        assert await third is None, "a cancelled call passes its turn on"

    asyncio.run(main())


def test_more_calls_than_may_be_in_flight_are_all_served() -> None:
    async def main(cluster: FakeCluster) -> None:
        async with quorate.aio.connect(cluster.seeds, timeout_ms=20_000) as db:
            bucket = db.bucket("b")
            await asyncio.gather(*(bucket.put(f"k{n}", n) for n in range(3 * CALLS_IN_FLIGHT_MAX)))
            found = await asyncio.gather(*(bucket.get(f"k{n}") for n in range(3 * CALLS_IN_FLIGHT_MAX)))
            assert [each.value for each in found] == list(range(3 * CALLS_IN_FLIGHT_MAX))

    with FakeCluster(3) as cluster:
        asyncio.run(main(cluster))


@pytest.mark.sources
def test_no_more_calls_are_in_flight_than_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    send = Connection.send

    def counting(self: Connection, payload: bytes, attempt_ms: float, now: float) -> Any:
        future = send(self, payload, attempt_ms, now)
        if b"KV.PUT" in payload:
            seen.append(self._traffic.in_flight)
        return future

    async def main(cluster: FakeCluster) -> None:
        async with quorate.aio.connect(cluster.seeds, timeout_ms=20_000) as db:
            await asyncio.gather(*(db.bucket("b").put(f"k{n}", n) for n in range(200)))

    monkeypatch.setattr(Connection, "send", counting)
    for module in (streams, asynchronous_calls):
        monkeypatch.setattr(module, "CALLS_IN_FLIGHT_MAX", 20)
    with FakeCluster(1) as cluster:
        asyncio.run(main(cluster))
    assert max(seen) == 20


def test_a_call_that_cannot_use_its_room_passes_it_on() -> None:
    async def main() -> None:
        calls = AsyncCalls([], None, 1_000.0)
        connection, _ = connection_of(calls._traffic)
        node = connection.node
        calls._traffic.in_flight = CALLS_IN_FLIGHT_MAX
        sends = [asyncio.create_task(calls._send(node, ping_command(), 200.0, 60_000.0)) for _ in range(3)]
        await turn()
        node.connections.clear()
        calls._traffic.in_flight -= 1
        calls._traffic.admit()
        assert [failure.kind for failure in await asyncio.gather(*sends)] == [FailureKind.NOT_SENT] * 3

    asyncio.run(main())


def test_one_connection_carries_all_as_long_as_its_replies_come() -> None:
    async def main(cluster: FakeCluster) -> None:
        async with quorate.aio.connect(cluster.seeds, timeout_ms=10_000) as db:
            bucket = db.bucket("b")
            for _ in range(5):
                await asyncio.gather(*(bucket.put(f"k{n}", n) for n in range(50)))
        assert cluster.nodes[0].connections_made == 1

    with FakeCluster(1) as cluster:
        asyncio.run(main(cluster))


def test_what_is_held_up_is_passed_over_for_the_emptiest_of_the_others() -> None:
    async def main() -> None:
        traffic = Traffic()
        node = StreamNode("127.0.0.1:1")
        first, second = Connection(node, traffic), Connection(node, traffic)
        node.connections += [first, second]
        first.send(b"", 1_000.0, 0.0)
        assert node.best_connection(HELD_UP_AFTER_MS) is first
        assert node.best_connection(HELD_UP_AFTER_MS + 1) is second
        second.send(b"", 1_000.0, 0.0)
        second.send(b"", 1_000.0, 0.0)
        assert node.best_connection(HELD_UP_AFTER_MS + 1) is first, "both are held up: the shorter queue"
        first.blocked = second.blocked = True
        assert node.best_connection(0.0) is None

    asyncio.run(main())


def test_a_cancelled_call_leaves_the_next_ones_reply_alone() -> None:
    async def main(cluster: FakeCluster) -> None:
        (node,) = cluster.nodes
        cluster.values = {b"b:first": (b"1", "", 0), b"b:second": (b"2", "", 0)}
        arrived, gate = threading.Event(), threading.Event()

        def script(arguments: list[bytes]) -> None:
            if arguments[0] == b"KV.GET":
                arrived.set()
                assert gate.wait(10)

        node.script = script
        async with quorate.aio.connect(cluster.seeds, timeout_ms=10_000) as db:
            first = asyncio.create_task(db.bucket("b").get("first"))
            await asyncio.to_thread(arrived.wait, 10)
            second = asyncio.create_task(db.bucket("b").get("second"))
            await turn()
            first.cancel()
            gate.set()
            assert (await second).value == b"2"
            with pytest.raises(asyncio.CancelledError):
                await first

    with FakeCluster(1) as cluster:
        asyncio.run(main(cluster))


def test_closing_ends_calls_under_way_truthfully() -> None:
    async def main(cluster: FakeCluster) -> None:
        arrived = asyncio.Event()
        loop = asyncio.get_running_loop()

        def script(arguments: list[bytes]) -> object:
            if arguments[0] not in (b"KV.PUT", b"KV.GET"):
                return None
            loop.call_soon_threadsafe(arrived.set)
            return HANG

        cluster.nodes[0].script = script
        db = await quorate.aio.connect(cluster.seeds, timeout_ms=5_000)
        calls = [asyncio.create_task(db.bucket("b").put("k", b"")), asyncio.create_task(db.bucket("b").get("k"))]
        await arrived.wait()
        await db.close()
        put, get = await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(put, OutcomeUnknown)
        assert isinstance(get, Unavailable)
        with pytest.raises(CallerError):
            await db.bucket("b").get("k")

    with FakeCluster(1) as cluster:
        asyncio.run(main(cluster))


def test_connecting_fails_without_leaving_anything_open() -> None:
    async def main(cluster: FakeCluster) -> None:
        cluster.nodes[0].script = lambda arguments: HANG
        with pytest.raises(QuorateError):
            await quorate.aio.connect(cluster.seeds, timeout_ms=60)
        assert len(asyncio.all_tasks()) == 1

    with FakeCluster(1) as cluster:
        asyncio.run(main(cluster))
