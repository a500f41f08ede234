"""What only the synchronous client has: threads, a bounded number of sockets, and a thread that keeps house."""

import gc
import itertools
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

import quorate
from quorate.client import sockets
from quorate.client.commands import get_command, ping_command
from quorate.client.introduction import Introduction
from quorate.client.protocol import AttemptFailure, FailureKind
from quorate.client.sockets import SocketNode
from quorate.client.synchronous_calls import SyncCalls, _keep_house
from quorate.core.errors import Unavailable
from tests.unit.client_fakes import HANG, FakeCluster


def test_threads_share_a_client() -> None:
    with FakeCluster(3) as cluster, quorate.connect(cluster.seeds, timeout_ms=10_000) as db:
        bucket = db.bucket("b")

        def work(worker: int) -> list[int]:
            for n in range(40):
                bucket.put(f"k{worker}-{n}", worker * 1_000 + n)
            return [bucket.get(f"k{worker}-{n}").value for n in range(40)]

        with ThreadPoolExecutor(8) as pool:
            results = list(pool.map(work, range(8)))
        assert results == [[worker * 1_000 + n for n in range(40)] for worker in range(8)]
        assert sum(node.connections_made for node in cluster.nodes) <= 8 * 3
        assert all(node.in_flight == 0 for node in db._calls._router.nodes.values())


def test_a_late_reply_is_never_taken_for_the_next_ones() -> None:
    with FakeCluster(1) as cluster, quorate.connect(cluster.seeds) as db:
        (node,) = cluster.nodes
        cluster.values = {b"b:first": (b"1", "", 0), b"b:second": (b"2", "", 0)}
        gate = threading.Event()
        node.script = lambda arguments: (gate.wait(10), None)[1] if b"b:first" in arguments else None
        with pytest.raises(Unavailable):
            db.bucket("b").get("first", timeout_ms=60)
        gate.set()
        assert db.bucket("b").get("second").value == b"2"


def test_a_connection_with_a_reply_outstanding_is_not_used_again() -> None:
    with FakeCluster(1) as cluster:
        cluster.nodes[0].script = lambda arguments: HANG if b"b:first" in arguments else None
        node = SocketNode(cluster.nodes[0].address)
        assert node.exchange(get_command(b"b", "first", None), 30.0, Introduction).kind is FailureKind.TIMED_OUT
        assert node.exchange(ping_command(), 2_000.0, Introduction) == b"PONG"
        assert cluster.nodes[0].connections_made == 2
        node.close()


@pytest.mark.sources
def test_the_sockets_of_a_node_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "SOCKETS_PER_NODE_MAX", 1)
    with FakeCluster(1) as cluster:
        arrived = threading.Event()
        cluster.nodes[0].script = lambda arguments: (arrived.set(), HANG)[1] if arguments[0] == b"KV.GET" else None
        node = SocketNode(cluster.nodes[0].address)
        holder = threading.Thread(target=node.exchange, args=(get_command(b"b", "k", None), 300.0, Introduction))
        holder.start()
        assert arrived.wait(10)
        refused = node.exchange(ping_command(), 20.0, Introduction)
        assert isinstance(refused, AttemptFailure) and refused.kind is FailureKind.NOT_SENT
        holder.join()
        assert node.exchange(ping_command(), 2_000.0, Introduction) == b"PONG"
        node.close()


def test_a_connection_that_the_node_closed_is_replaced_before_it_is_used() -> None:
    with FakeCluster(1) as cluster:
        node = SocketNode(cluster.nodes[0].address)
        assert node.exchange(ping_command(), 2_000.0, Introduction) == b"PONG"
        cluster.kill(0)
        failure = node.exchange(ping_command(), 2_000.0, Introduction)
        assert failure.kind is FailureKind.NOT_SENT, "certainly not sent, not merely lost"
        cluster.revive(0)
        assert node.exchange(ping_command(), 2_000.0, Introduction) == b"PONG"
        node.close()


def test_more_than_the_reply_is_malformed() -> None:
    with FakeCluster(1) as cluster:
        cluster.nodes[0].script = lambda arguments: b"+PONG\r\n+PONG\r\n"
        assert (
            SocketNode(cluster.nodes[0].address).exchange(ping_command(), 2_000.0, Introduction).kind
            is FailureKind.MALFORMED
        )


@pytest.mark.sources
def test_a_reply_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "REPLY_BYTES_MAX", 1_000)
    with FakeCluster(1) as cluster:
        cluster.nodes[0].script = lambda arguments: b"$9999\r\n" + b"x" * 2_000
        assert (
            SocketNode(cluster.nodes[0].address).exchange(ping_command(), 2_000.0, Introduction).kind
            is FailureKind.MALFORMED
        )


def test_the_housekeeping_thread_ends_with_a_forgotten_client() -> None:
    calls = SyncCalls(["127.0.0.1:1"], None, 100.0)
    reference = weakref.ref(calls)
    del calls
    gc.collect()
    _keep_house(reference, threading.Event(), threading.Event())


@pytest.mark.sources
def test_nothing_is_sent_once_connecting_has_used_up_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeCluster(1) as cluster:
        node = SocketNode(cluster.nodes[0].address)
        times_ms = itertools.count(0.0, 1_000.0)
        with monkeypatch.context() as patch:
            patch.setattr(sockets, "now_ms", lambda: next(times_ms))
            failure = node.exchange(ping_command(), 1_500.0, Introduction)
        assert failure.kind is FailureKind.NOT_SENT
        assert node.exchange(ping_command(), 2_000.0, Introduction) == b"PONG"
        assert cluster.nodes[0].commands == [[b"PING"]]
        assert cluster.nodes[0].connections_made == 1, "the connection was kept for the next one"
        node.close()
