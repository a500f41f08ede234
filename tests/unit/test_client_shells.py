"""Both clients against a scripted cluster on real sockets. Each scenario runs with the synchronous and the
asynchronous client: the synchronous one is driven through a proxy that puts every call on a thread."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any

import pytest

from quorate.core.errors import CallerError, OutcomeUnknown, Overloaded, PeerError, SiblingsError, Unavailable
from quorate.core.keyspace import slot_of_name
from quorate.core.ring.preference import PreferenceLists
from tests.unit.client_fakes import CLOSE, HANG, FakeCluster, FakeNode, array, bulk, got, options
from tests.unit.client_flavours import connected

Scenario = Callable[[Any, FakeCluster], Awaitable[None]]


@pytest.fixture(params=["sync", "async"])
def flavour(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def play(flavour: str) -> Callable[..., None]:
    """Run a scenario with a client of this flavour."""

    def run(scenario: Scenario, nodes: int = 3, password: str | None = None, **named: Any) -> None:
        async def main(cluster: FakeCluster) -> None:
            async with connected(flavour, cluster.seeds, password=password, **named) as db:
                await scenario(db, cluster)

        with FakeCluster(nodes, password=password) as cluster:
            asyncio.run(main(cluster))

    return run


def on(verb: bytes, *replies: object) -> Callable[[list[bytes]], object]:
    """A script: these replies to `verb`, one after the other, the last for ever; the rest as usual."""
    left = list(replies)

    def script(arguments: list[bytes]) -> object:
        if arguments[0] != verb:
            return None
        return left.pop(0) if len(left) > 1 else left[0]

    return script


def whoever_comes_first(cluster: FakeCluster, verb: bytes, reply: object) -> list[FakeNode]:
    """The node that is sent the first `verb` answers it with `reply`, always; gives a list that will name it."""
    chosen: list[FakeNode] = []

    def script_of(node: FakeNode) -> Callable[[list[bytes]], object]:
        def script(arguments: list[bytes]) -> object:
            if arguments[0] != verb:
                return None
            if not chosen:
                chosen.append(node)
            return reply if chosen[0] is node else None

        return script

    for node in cluster.nodes:
        node.script = script_of(node)
    return chosen


def test_put_get_delete(play) -> None:
    async def scenario(db: Any, cluster: FakeCluster) -> None:
        carts = db.bucket("carts")
        assert not await carts.get("alice")
        assert await carts.put("alice", {"milk": 1}) == "c1"
        found = await carts.get("alice")
        assert found and found.value == {"milk": 1} and found.context == "c1"
        assert await carts.delete("alice", context=found.context) == "c2"
        assert not await carts.get("alice")

    play(scenario)


def test_arguments_arrive(play) -> None:
    async def scenario(db: Any, cluster: FakeCluster) -> None:
        carts = db.bucket("carts")
        await carts.put("k", b"v", context="tok", w=2, ttl=60, content_type="image/png", timeout_ms=800, strict=True)
        ((_, name, value, *rest),) = cluster.sent(b"KV.PUT")
        given = options([b"", *rest], 1)
        assert (name, value) == (b"carts:k", b"v")
        assert 0 < int(given.pop(b"TIMEOUT")) <= 800
        assert len(given.pop(b"OP")) == 19
        assert given == {b"CTX": b"tok", b"W": b"2", b"TTL": b"60", b"TYPE": b"image/png", b"STRICT": b""}
        await carts.get(b"k", r=1)
        assert options(cluster.sent(b"KV.GET")[0], 2)[b"R"] == b"1"
        await carts.delete("k", context=b"tok", w=1)
        given = options(cluster.sent(b"KV.DEL")[0], 2)
        assert (given[b"CTX"], given[b"W"]) == (b"tok", b"1")
        await db.bucket("default").put("bare", b"")
        assert {arguments[1] for arguments in cluster.sent(b"KV.PUT")} == {b"carts:k", b"bare"}

    play(scenario)


def test_each_call_has_its_own_operation_id(play) -> None:
    async def scenario(db: Any, cluster: FakeCluster) -> None:
        for index in range(20):
            await db.bucket("b").put(f"k{index}", b"")
        assert len({options(arguments, 3)[b"OP"] for arguments in cluster.sent(b"KV.PUT")}) == 20

    play(scenario)


def test_requests_go_straight_to_replicas(play) -> None:
    async def scenario(db: Any, cluster: FakeCluster) -> None:
        for index in range(60):
            await db.bucket("b").put(f"k{index}", b"")
        lists = PreferenceLists(cluster.ring)
        for node in cluster.nodes:
            for arguments in node.sent(b"KV.PUT"):
                partition = cluster.ring.partition_of_slot(slot_of_name(arguments[1]))
                assert node.number in lists.of(partition, 3).replicas
        assert len(cluster.sent(b"KV.PUT")) == 60

    play(scenario, nodes=6)


def test_a_bucket_with_one_replica_is_routed_to_it(flavour: str) -> None:
    async def main(cluster: FakeCluster) -> None:
        async with connected(flavour, cluster.seeds) as db:
            for index in range(30):
                await db.bucket("single").put(f"k{index}", b"")
        for node in cluster.nodes:
            assert all(cluster.owner(arguments[1]) is node for arguments in node.sent(b"KV.PUT"))

    with FakeCluster(4) as cluster:
        cluster.buckets = {"single": {"n": 1}}
        asyncio.run(main(cluster))


@pytest.mark.parametrize(
    "trouble", [CLOSE, HANG, b"-UNAVAILABLE n2 is down\r\n", b"?garbage\r\n", b":5\r\n", b"-UNKNOWN\r\n"]
)
def test_one_troubled_node_is_worked_around(play, trouble: object) -> None:
    async def scenario(db: Any, cluster: FakeCluster) -> None:
        for verb in (b"KV.PUT", b"KV.GET"):
            troubled = whoever_comes_first(cluster, verb, trouble)
            for index in range(12):
                if verb == b"KV.PUT":
                    await db.bucket("b").put(f"k{index}", index)
                else:
                    assert (await db.bucket("b").get(f"k{index}")).value == index
        ids: dict[bytes, set[bytes]] = {}
        for arguments in cluster.sent(b"KV.PUT"):
            ids.setdefault(arguments[1], set()).add(options(arguments, 3)[b"OP"])
        assert all(len(found) == 1 for found in ids.values()), "a retry is the same operation"
        assert len(troubled) == 1

    play(scenario, timeout_ms=800)


def test_a_dead_node_is_worked_around_and_used_again_when_back(play) -> None:
    async def scenario(db: Any, cluster: FakeCluster) -> None:
        bucket = db.bucket("b")
        troubled = whoever_comes_first(cluster, b"KV.GET", CLOSE)
        await bucket.get("k")
        (node,) = troubled
        cluster.kill(node.number - 1)
        for index in range(12):
            await bucket.put(f"k{index}", b"")
        for other in cluster.nodes:
            other.script = None
        node.commands.clear()
        cluster.revive(node.number - 1)
        deadline = monotonic() + 10
        while not node.sent(b"KV.GET"):
            assert monotonic() < deadline
            await bucket.get("k")
        assert node.sent(b"PING"), "a probe came first"

    play(scenario)


def test_silence_everywhere_is_unknown_for_a_write_and_unavailable_for_a_read(play) -> None:
    async def scenario(db: Any, cluster: FakeCluster) -> None:
        for node in cluster.nodes:
            node.script = lambda arguments: HANG if arguments[0] in (b"KV.PUT", b"KV.GET", b"KV.DEL") else None
        with pytest.raises(OutcomeUnknown, match="may or may not"):
            await db.bucket("b").put("k", b"", timeout_ms=80)
        with pytest.raises(OutcomeUnknown):
            await db.bucket("b").delete("k", timeout_ms=80)
        with pytest.raises(Unavailable, match="no answer"):
            await db.bucket("b").get("k", timeout_ms=80)

    play(scenario)


def test_no_node_at_all_is_unavailable_also_for_a_write(play) -> None:
    async def scenario(db: Any, cluster: FakeCluster) -> None:
        await db.bucket("b").put("k", b"")
        for index in range(3):
            cluster.kill(index)
        with pytest.raises(Unavailable) as caught:
            await db.bucket("b").put("k", b"", timeout_ms=300)
        assert "no connection" in str(caught.value)

    play(scenario)


def test_what_the_nodes_say_of_missing_replicas_reaches_the_caller(play) -> None:
    async def scenario(db: Any, cluster: FakeCluster) -> None:
        for node in cluster.nodes:
            node.script = on(b"KV.PUT", b"-UNAVAILABLE 1 of 2 replicas answered; n2, n3 did not\r\n")
        with pytest.raises(Unavailable, match="n2, n3 did not"):
            await db.bucket("b").put("k", b"")

    play(scenario)


def test_overload_is_waited_out(play) -> None:
    async def scenario(db: Any, cluster: FakeCluster) -> None:
        for node in cluster.nodes:
            node.script = on(b"KV.PUT", b"-OVERLOADED retry-after-ms=1 shed\r\n", b"$2\r\nok\r\n")
        assert await db.bucket("b").put("k", b"") == "ok"
        for node in cluster.nodes:
            node.script = on(b"KV.PUT", b"-OVERLOADED retry-after-ms=4000 shed\r\n")
        with pytest.raises(Overloaded) as caught:
            await db.bucket("b").put("k", b"")
        assert caught.value.retry_after_ms == 4000

    play(scenario)


def test_a_refusal_is_a_caller_error_and_not_retried(play) -> None:
    async def scenario(db: Any, cluster: FakeCluster) -> None:
        for node in cluster.nodes:
            node.script = on(b"KV.PUT", b"-ERR the context is malformed\r\n")
        with pytest.raises(CallerError, match="the context is malformed"):
            await db.bucket("b").put("k", b"", context="x")
        assert len(cluster.sent(b"KV.PUT")) == 1

    play(scenario)


def test_wrong_arguments_are_refused_before_anything_is_sent(play) -> None:
    async def scenario(db: Any, cluster: FakeCluster) -> None:
        bucket = db.bucket("b")
        before = len(cluster.sent(b"KV.PUT"))
        for key, named in [
            ("", {}),
            ("x" * 1025, {}),
            (5, {}),
            ("k", {"w": 0}),
            ("k", {"w": "2"}),
            ("k", {"ttl": -1}),
            ("k", {"ttl": 1.5}),
            ("k", {"timeout_ms": 0}),
            ("k", {"timeout_ms": 10**9}),
            ("k", {"context": "x" * 9000}),
            ("k", {"content_type": "a\r\nb"}),
        ]:
            with pytest.raises(CallerError):
                await bucket.put(key, b"", **named)
        with pytest.raises(CallerError):
            await bucket.get("k", r=17)
        with pytest.raises(CallerError):
            await bucket.update("k", lambda value: value, attempts=0)
        for name in ("", "a:b", "x" * 65):
            with pytest.raises(CallerError):
                db.bucket(name)
        assert len(cluster.sent(b"KV.PUT")) == before

    play(scenario)


def test_authentication(play) -> None:
    async def scenario(db: Any, cluster: FakeCluster) -> None:
        for index in range(9):
            await db.bucket("b").put(f"k{index}", b"")
        assert len(cluster.sent(b"AUTH")) == sum(node.connections_made for node in cluster.nodes)

    play(scenario, password="secret")


@pytest.mark.parametrize(("password", "words"), [(None, "pass password="), ("wrong", "wrong password")])
def test_bad_authentication(flavour: str, password: str | None, words: str) -> None:
    async def main(cluster: FakeCluster) -> None:
        with pytest.raises(CallerError, match=words):
            async with connected(flavour, cluster.seeds, password=password):
                pass

    with FakeCluster(1, password="secret") as cluster:
        asyncio.run(main(cluster))


def test_seeds(flavour: str) -> None:
    async def main(cluster: FakeCluster) -> None:
        cluster.kill(0)
        async with connected(flavour, cluster.seeds, timeout_ms=2_000) as db:
            await db.bucket("b").put("k", b"")
        cluster.kill(1)
        cluster.kill(2)
        with pytest.raises(Unavailable, match="no node told the ring"):
            async with connected(flavour, cluster.seeds):
                pass
        for seeds in ("", "nohost", "host:", "host:0", "host:99999", ":7401", [f"h:{n}" for n in range(1, 66)]):
            with pytest.raises(CallerError):
                async with connected(flavour, seeds):
                    pass

    with FakeCluster(3) as cluster:
        asyncio.run(main(cluster))


def test_a_failure_makes_the_client_learn_the_new_ring(play) -> None:
    async def scenario(db: Any, cluster: FakeCluster) -> None:
        bucket = db.bucket("b")
        for index in range(12):
            await bucket.put(f"k{index}", b"")
        assert not cluster.nodes[3].sent(b"KV.PUT")
        cluster.ring = cluster.ring_of(cluster.nodes[1:], version=2)
        cluster.kill(0)
        deadline = monotonic() + 10
        index = 0
        while not cluster.nodes[3].sent(b"KV.PUT"):
            assert monotonic() < deadline
            index += 1
            await bucket.put(f"k{index}", b"")

    with_three = FakeCluster.ring_of
    FakeCluster.ring_of = lambda self, nodes, version=1: with_three(self, nodes[:3] if version == 1 else nodes, version)
    try:
        play(scenario, nodes=4)
    finally:
        FakeCluster.ring_of = with_three


def test_a_request_under_way_at_a_node_that_leaves_is_answered_by_it(flavour: str) -> None:
    """The client learns that n1 has left while it waits for n1's answer."""

    async def main(cluster: FakeCluster) -> None:
        cluster.ring = cluster.ring_of(cluster.nodes[:2])
        asked = threading.Event()

        def slow(arguments: list[bytes]) -> object:
            if arguments[0] != b"KV.PUT":
                return None
            asked.set()
            return HANG

        async with connected(flavour, cluster.seeds, timeout_ms=8_000) as db:
            for node in cluster.nodes:
                node.script = slow
            put = asyncio.ensure_future(db.bucket("b").put("k", b""))
            await asyncio.to_thread(asked.wait, 5)
            leaver, stays = sorted(cluster.nodes[:2], key=lambda node: not node.sent(b"KV.PUT"))
            for node in cluster.nodes:
                node.script = None
            cluster.ring = cluster.ring_of([stays, cluster.nodes[2]], version=2)
            calls = getattr(db, "target", db)._calls
            calls._router.ring_questions = list(calls._router.nodes).index(stays.address)
            if flavour == "async":
                await calls._learn_ring(1_000)
            else:
                await asyncio.to_thread(calls._learn_ring, 1_000)
            assert leaver.address not in calls._router.nodes
            assert not put.done(), "its connection is not cut"
            session = leaver.sessions[0]
            cluster.loop.call_soon_threadsafe(session.write, bulk("late but true"))
            assert await put == "late but true"
            assert await db.bucket("b").put("k2", b"")
            assert not leaver.sent(b"KV.PUT")[1:]

    with FakeCluster(3) as cluster:
        asyncio.run(main(cluster))


def test_keys_come_in_pages(play) -> None:
    async def scenario(db: Any, cluster: FakeCluster) -> None:
        bucket = db.bucket("b")
        names = [f"k{index:04}" for index in range(2_345)]
        cluster.values = {f"b:{name}".encode(): (b"", "", 0) for name in names}
        assert [key async for key in bucket.keys(prefix="")] == names
        assert [key async for key in bucket.keys("k00", limit=7)] == names[:7]
        assert [key async for key in bucket.keys(limit=1_500)] == names[:1_500]
        assert [key async for key in bucket.keys("nothing")] == []
        page, cursor = await bucket.keys_page("k", 2)
        assert page == names[:2] and cursor
        with pytest.raises(CallerError):
            await bucket.keys_page("k", 0)
        cluster.values = {b"b:\xff\x00": (b"v", "", 0)}
        (odd,) = [key async for key in bucket.keys(prefix="")]
        assert (await bucket.get(odd)).value == b"v"

    play(scenario)


def test_update_merges_siblings_and_writes_with_their_context(play) -> None:
    async def scenario(db: Any, cluster: FakeCluster) -> None:
        bucket = db.bucket("b")
        for node in cluster.nodes:
            node.script = on(
                b"KV.GET", got("both", (b'{"a":1}', "application/json", 1), (b'{"b":2}', "application/json", 2))
            )
        with pytest.raises(SiblingsError):
            await bucket.update("k", lambda value: value)
        written = await bucket.update("k", lambda value: value | {"c": 3}, merge=lambda a, b: a | b)
        assert written == {"a": 1, "b": 2, "c": 3}
        ((_, _, value, *rest),) = cluster.sent(b"KV.PUT")
        assert value == b'{"a":1,"b":2,"c":3}'
        assert options([b"", *rest], 1)[b"CTX"] == b"both"

    play(scenario)


def test_update_of_an_absent_key_begins_with_none(play) -> None:
    async def scenario(db: Any, cluster: FakeCluster) -> None:
        bucket = db.bucket("b")
        for expected in (1, 2, 3):
            assert await bucket.update("n", lambda value: (value or 0) + 1) == expected

    play(scenario)


def test_update_begins_anew_only_if_nothing_was_done(play) -> None:
    async def scenario(db: Any, cluster: FakeCluster) -> None:
        (node,) = cluster.nodes
        seen = []
        node.script = on(b"KV.PUT", b"-OVERLOADED retry-after-ms=110 shed\r\n", b"$2\r\nok\r\n")
        await db.bucket("b").update("k", lambda value: seen.append(value) or 1, timeout_ms=100)
        assert len(seen) == 2
        node.script = on(b"KV.PUT", HANG)
        with pytest.raises(OutcomeUnknown):
            await db.bucket("b").update("k", lambda value: seen.append(value) or 1, timeout_ms=60)
        assert len(seen) == 3

    play(scenario, nodes=1)


def test_documents(play) -> None:
    async def scenario(db: Any, cluster: FakeCluster) -> None:
        assert await db.status() == {"nodes": 3}
        assert await db.ring() == cluster.ring
        assert await db.where("b", "k") == {"slot": slot_of_name(b"b:k")}
        assert (await db.bucket("b").set(n=1, r=1))["n"] == 1
        assert (await db.bucket("b").properties())["r"] == 1
        assert "b" in await db.buckets()
        for node in cluster.nodes:
            node.script = on(b"KV.STATUS", bulk("not json"))
        with pytest.raises(PeerError, match="not a JSON object"):
            await db.status()
        for node in cluster.nodes:
            node.script = on(b"KV.KEYS", array(b":1\r\n"))
        with pytest.raises(PeerError):
            await db.bucket("b").keys_page()

    play(scenario)


def test_a_closed_client_says_so(play) -> None:
    async def scenario(db: Any, cluster: FakeCluster) -> None:
        await db.close()
        await db.close()
        with pytest.raises(CallerError, match="closed"):
            await db.bucket("b").get("k")

    play(scenario)


def test_a_plain_redis_is_recognised(flavour: str) -> None:
    async def main(cluster: FakeCluster) -> None:
        cluster.nodes[0].script = on(b"KV.RING", b"-ERR unknown command 'KV.RING'\r\n")
        with pytest.raises(CallerError, match="not the client port of a Quorate node"):
            async with connected(flavour, cluster.seeds):
                pass

    with FakeCluster(1) as cluster:
        asyncio.run(main(cluster))
