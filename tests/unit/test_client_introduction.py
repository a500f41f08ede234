"""What is said on a new connection before it is used: the rules alone, then both clients on real sockets."""

import asyncio
import re
from collections.abc import Callable
from typing import Any

import hiredis
import pytest

from quorate.client.introduction import Introduction
from quorate.client.protocol import AttemptFailure, FailureKind
from quorate.core.errors import Unavailable
from tests.unit.client_fakes import CLUSTER_ID, HANG, FakeCluster, FakeNode
from tests.unit.client_flavours import connected

NOT_SENT, REFUSED = FailureKind.NOT_SENT, FailureKind.REFUSED
OURS, THEIRS = CLUSTER_ID.encode(), b"d" * 32
WRONG = hiredis.ReplyError("WRONGPASS wrong password")
LOST = AttemptFailure(FailureKind.LOST, "the connection was lost")
both = pytest.mark.parametrize("flavour", ["sync", "async"])


def test_what_is_known_decides_what_is_said() -> None:
    said = {
        (password, cluster_id): [command.verb for command in Introduction(password, cluster_id).commands()]
        for password in (None, "secret")
        for cluster_id in (None, CLUSTER_ID)
    }
    assert said == {
        (None, None): [],
        ("secret", None): ["AUTH"],
        (None, CLUSTER_ID): ["KV.CLUSTER"],
        ("secret", CLUSTER_ID): ["AUTH", "KV.CLUSTER"],
    }


@pytest.mark.parametrize(
    ("password", "cluster_id", "replies"),
    [(None, None, []), ("x", None, [b"OK"]), (None, CLUSTER_ID, [OURS]), ("x", CLUSTER_ID, [b"OK", OURS])],
)
def test_good_answers(password: str | None, cluster_id: str | None, replies: list[Any]) -> None:
    introduction = Introduction(password, cluster_id)
    assert introduction.objection(replies) is None
    surplus = introduction.objection([*replies, LOST])
    assert surplus is not None and surplus.kind is NOT_SENT


@pytest.mark.parametrize(
    ("password", "cluster_id", "replies", "kind", "words"),
    [
        ("x", None, [WRONG], REFUSED, "wrong password"),
        ("x", None, [LOST], NOT_SENT, "lost"),
        ("x", None, [7], NOT_SENT, "AUTH"),
        (None, CLUSTER_ID, [THEIRS], NOT_SENT, f"cluster {THEIRS.decode()}, not to {CLUSTER_ID}"),
        (None, CLUSTER_ID, [b""], NOT_SENT, "belongs to cluster"),
        (None, CLUSTER_ID, [b"\xff" * 9_999], NOT_SENT, "xff, not to"),
        (None, CLUSTER_ID, [None], NOT_SENT, "KV.CLUSTER"),
        (None, CLUSTER_ID, [LOST], NOT_SENT, "lost"),
        (None, CLUSTER_ID, [hiredis.ReplyError("ERR unknown command 'KV.CLUSTER'")], NOT_SENT, "does not show"),
        (None, CLUSTER_ID, [hiredis.ReplyError("OVERLOADED retry-after-ms=5")], NOT_SENT, "overloaded"),
        ("x", CLUSTER_ID, [b"OK", THEIRS], NOT_SENT, THEIRS.decode()),
        ("x", CLUSTER_ID, [b"OK", LOST], NOT_SENT, "lost"),
        ("x", CLUSTER_ID, [LOST], NOT_SENT, "lost"),
        ("x", CLUSTER_ID, [WRONG, hiredis.ReplyError("NOAUTH")], NOT_SENT, "does not show .* wrong password"),
        ("x", CLUSTER_ID, [hiredis.ReplyError("ERR no password"), THEIRS], NOT_SENT, THEIRS.decode()),
        ("x", CLUSTER_ID, [hiredis.ReplyError("ERR no password"), OURS], NOT_SENT, "no password"),
    ],
)
def test_answers_that_close_the_connection(
    password: str | None, cluster_id: str | None, replies: list[Any], kind: FailureKind, words: str
) -> None:
    objection = Introduction(password, cluster_id).objection(replies)
    assert objection is not None
    assert objection.kind is kind
    assert re.search(words, objection.message)
    assert len(objection.message) < 500, "whatever the other side says, the message is readable"


@both
def test_every_connection_asks_at_first_and_once_but_for_the_one_that_tells_the_ring(flavour: str) -> None:
    async def main(cluster: FakeCluster) -> None:
        async with connected(flavour, cluster.seeds) as db:
            (source,) = [node for node in cluster.nodes if node.commands]
            assert [arguments[0] for arguments in source.commands] == [b"KV.RING", b"KV.BUCKETS"]
            for index in range(12):
                await db.bucket("b").put(f"k{index}", b"")
            for node in cluster.nodes:
                asked = len(node.sent(b"KV.CLUSTER"))
                assert asked == node.connections_made - (node is source)
                assert node is source or node.commands[:1] in ([], [[b"KV.CLUSTER"]])
            cluster.kill(source.number - 1)
            source.commands.clear()
            cluster.revive(source.number - 1)
            for other in cluster.nodes:
                if other is not source:
                    cluster.kill(other.number - 1)
            await db.bucket("b").get("k")
            assert source.commands[0] == [b"KV.CLUSTER"], "the one that told the ring is asked when it comes back"

    with FakeCluster(3) as cluster:
        asyncio.run(main(cluster))


def answers_after_both_words(node: FakeNode) -> Callable[..., object]:
    """A node that keeps its reply to AUTH back until it has been asked for its cluster."""
    usual = node.answer
    kept: dict[Any, object] = {}

    def answer(session: Any, arguments: list[bytes]) -> object:
        reply = usual(session, arguments)
        if arguments[0] == b"AUTH":
            kept[session] = reply
            return HANG
        return kept.pop(session, b"") + reply

    return answer


@both
def test_both_words_go_in_one_round_trip(flavour: str) -> None:
    async def main(cluster: FakeCluster) -> None:
        async with connected(flavour, cluster.seeds, password="secret") as db:
            await db.bucket("b").put("k", b"")
            cluster.kill(0)
            (node,) = cluster.nodes
            node.answer = answers_after_both_words(node)
            cluster.revive(0)
            await db.bucket("b").get("k")
            assert len(node.sent(b"AUTH")) == node.connections_made

    with FakeCluster(1, password="secret") as cluster:
        asyncio.run(main(cluster))


@both
def test_a_node_that_never_says_whose_it_is_gets_no_write(flavour: str) -> None:
    async def main(cluster: FakeCluster) -> None:
        async with connected(flavour, cluster.seeds) as db:
            cluster.kill(0)
            (node,) = cluster.nodes
            node.script = lambda arguments: HANG if arguments[0] == b"KV.CLUSTER" else None
            cluster.revive(0)
            with pytest.raises(Unavailable):
                await db.bucket("b").get("k", timeout_ms=200)
            with pytest.raises(Unavailable, match=r"no answer|no connection|connected"):
                await db.bucket("b").put("k", b"", timeout_ms=200)
            assert not node.sent(b"KV.PUT") and node.sent(b"KV.CLUSTER")

    with FakeCluster(1) as cluster:
        asyncio.run(main(cluster))
