"""The Python clients against a cluster of real processes: what users do with them, and what they get when nodes go."""

from __future__ import annotations

import asyncio
import operator
import random
from collections.abc import Iterator
from typing import Any

import pytest

import quorate
import quorate.aio
from quorate.core.errors import CallerError, OutcomeUnknown, QuorateError, SiblingsError, Unavailable
from tests.conftest import Cluster, MakeCluster

pytestmark = pytest.mark.integration


@pytest.fixture
def db(shared_cluster: Cluster) -> Iterator[quorate.Client]:
    with quorate.connect(shared_cluster.address(1), timeout_ms=5_000) as client:
        yield client


def test_values_come_back_as_they_were(db: quorate.Client) -> None:
    bucket = db.bucket("kinds")
    for key, value in {"json": {"milk": 1, "eggs": [1, 2.5, None, True]}, "text": "Käse", "bytes": b"\x00\xff"}.items():
        context = bucket.put(key, value)
        found = bucket.get(key)
        assert found.value == value
        assert found.context == context
    assert bucket.get("json").siblings[0].content_type == "application/json"
    assert bucket.get("bytes").siblings[0].last_modified.year >= 2024


def test_absent_deleted_and_again(db: quorate.Client) -> None:
    bucket = db.bucket("gone")
    assert not bucket.get("k")
    bucket.delete("k", context=bucket.put("k", 1))
    assert not bucket.get("k")
    for value in (1, 2):
        bucket.put("k", value)
    assert len(bucket.get("k")) == 2
    bucket.delete("k")  # Without a context: all that its coordinator has seen.
    deleted = bucket.get("k")
    assert not deleted
    bucket.put("k", 2, context=deleted.context)
    assert bucket.get("k").value == 2


def test_two_writers_with_one_context_leave_two_siblings_and_a_merge_one(db: quorate.Client) -> None:
    carts = db.bucket("carts")
    context = carts.put("alice", {"milk": 1})
    carts.put("alice", {"milk": 1, "tea": 1}, context=context)
    carts.put("alice", {"milk": 1, "jam": 1}, context=context)
    found = carts.get("alice")
    assert len(found.siblings) == 2
    with pytest.raises(SiblingsError):
        _ = found.value
    written = carts.update("alice", lambda cart: cart | {"bread": 1}, merge=operator.or_)
    assert written == {"milk": 1, "tea": 1, "jam": 1, "bread": 1}
    assert carts.get("alice").value == written


def test_keys_properties_and_documents(db: quorate.Client, shared_cluster: Cluster) -> None:
    bucket = db.bucket("listing")
    for index in range(30):
        bucket.put(f"k{index:02}", index)
    assert sorted(bucket.keys("k1")) == [f"k1{index}" for index in range(10)]
    assert len(list(bucket.keys(limit=5))) == 5
    assert bucket.properties()["n"] == 3
    assert db.bucket("single").set(n=1, r=1, w=1)["n"] == 1
    assert db.buckets()["single"]["n"] == 1
    with pytest.raises(CallerError, match="colour"):
        bucket.set(colour="blue")
    assert [member.client_address for member in db.ring().members] == shared_cluster.addresses
    assert db.status() and db.where("listing", "k00")


def test_what_the_cluster_refuses_is_a_caller_error(db: quorate.Client) -> None:
    bucket = db.bucket("refused")
    with pytest.raises(CallerError, match="context"):
        bucket.put("k", 1, context="nonsense")
    with pytest.raises(CallerError, match="w=9"):
        bucket.put("k", 1, w=9)
    assert not bucket.get("k")


def test_the_password_is_asked_for(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(nodes=1, engine="memory", password="sesame")
    with pytest.raises(CallerError, match="pass password="):
        quorate.connect(cluster.address(1))
    with pytest.raises(CallerError):
        quorate.connect(cluster.address(1), password="wrong")
    with quorate.connect(cluster.address(1), password="sesame") as client:
        client.bucket("b").put("k", 1)


async def put_many(bucket: Any, first: int, count: int, workers: int = 32) -> dict[int, QuorateError | None]:
    """Put keys `first`… from many workers at once; gives what became of each."""
    outcomes: dict[int, QuorateError | None] = {}
    numbers = iter(range(first, first + count))

    async def work() -> None:
        for number in numbers:
            try:
                await bucket.put(f"k{number}", number)
                outcomes[number] = None
            except QuorateError as error:
                outcomes[number] = error

    await asyncio.gather(*(work() for _ in range(workers)))
    return outcomes


@pytest.mark.parametrize("fault", ["kill", "stop"])
def test_one_node_of_three_gone_is_not_noticed(cluster: Cluster, fault: str) -> None:
    async def main() -> None:
        async with quorate.aio.connect(cluster.addresses, timeout_ms=4_000) as client:
            bucket = client.bucket("b")
            before = await put_many(bucket, 0, 300)
            running = asyncio.create_task(put_many(bucket, 300, 3_000))
            await bucket.put("marker", 0)
            assert not running.done(), "the fault comes into the middle of the writes"
            getattr(cluster.node(random.randint(1, 3)), fault)()
            outcomes = before | await running
            assert [error for error in outcomes.values() if error is not None] == []
            for number in range(0, 3_300, 50):
                assert (await bucket.get(f"k{number}")).value == number

    asyncio.run(main())


def test_with_two_of_three_gone_the_outcome_told_is_true(cluster: Cluster) -> None:
    async def lose_two() -> dict[int, QuorateError | None]:
        async with quorate.aio.connect(cluster.addresses, timeout_ms=1_000) as client:
            bucket = client.bucket("b")
            assert all(error is None for error in (await put_many(bucket, 0, 100)).values())
            running = asyncio.create_task(put_many(bucket, 100, 400, workers=16))
            await bucket.put("marker", 0)
            assert not running.done(), "the fault comes into the middle of the writes"
            cluster.node(2).kill()
            cluster.node(3).kill()
            outcomes = await running
            with pytest.raises(Unavailable, match=r"n2|n3"):
                await bucket.get("k0")
            return outcomes

    outcomes = asyncio.run(lose_two())
    not_done = [n for n, error in outcomes.items() if isinstance(error, Unavailable)]
    assert not_done, "some writes were refused"
    assert {type(error) for error in outcomes.values()} <= {type(None), Unavailable, OutcomeUnknown}
    cluster.restart(2)
    cluster.restart(3)
    with quorate.connect(cluster.address(2), timeout_ms=10_000) as client:
        bucket = client.bucket("b")
        for number, error in outcomes.items():
            found = bucket.get(f"k{number}", r=3)
            if error is None:
                assert found.value == number, "an acknowledged write is there"
            elif isinstance(error, Unavailable):
                assert not found, "what was reported as not done never appears"
