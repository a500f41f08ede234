"""The promise on real processes: five nodes, N=3, R=W=2, the default deadline of a second, and no write ever fails.

Each test breaks something while users go on, mends it, and then asks three things: was any user refused or lied to, is
every acknowledged write there, and are all replicas of it the same without anybody having read it. How fast all of it
is belongs to `benchmarks/availability.py`; here nothing depends on the speed of the machine.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from itertools import count

import pytest

import quorate
from quorate.cli.link import Link
from tests.background_load import Users
from tests.conftest import Cluster, clusters
from tests.settled import differing, eventually, hints_kept, wait_for_all, wait_until_hints_are_home

pytestmark = pytest.mark.integration

PAUSE_S = 10.0
CRAWL_TURNS = 40
SAMPLE = 200


@pytest.fixture(scope="module")
def five(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A running cluster of five nodes; every test leaves it whole."""
    for make in clusters(tmp_path_factory.mktemp("five")):
        yield make(5)


def live_through(cluster: Cluster, bucket: str, trouble: Callable[[Users], None]) -> None:
    """Let users work before, during and after `trouble`, which mends what it breaks; then check what they were told."""
    with Users(cluster.addresses, bucket) as users:
        users.wait_for(100)
        trouble(users)
        users.wait_for(100)
    assert users.failures == []
    with Link(cluster.address(1)) as link:
        wait_for_all(link, names=[member.name for member in cluster.members])
        wait_until_hints_are_home(link)
        keys = list(users.written)
        step = max(1, len(keys) // SAMPLE)
        assert differing(link, [f"{bucket}:{key}" for key in keys[::step]]) == []
    with quorate.connect(cluster.address(2), timeout_ms=5_000) as db:
        orders = db.bucket(bucket)
        lost = {key: value for key, value in users.written.items() if orders.get(key).value != value}
    assert lost == {}
    assert "this is a bug" not in cluster.logs()


def test_a_killed_node(five: Cluster) -> None:
    def trouble(users: Users) -> None:
        five.node(5).kill()
        users.wait_for(300)
        with Link(five.address(1)) as link:
            members = {member["name"]: member["report"] for member in link.document("KV.STATUS")["members"]}
        assert members["n1"]["peers"]["n5"]["state"] == "down"
        assert any("n5" in report["hints"]["homes"] for report in members.values() if "hints" in report)
        five.restart(5)

    live_through(five, "killed", trouble)


def test_two_killed_nodes(five: Cluster) -> None:
    """Some keys are left with one of their three replicas, and two fallbacks."""

    def trouble(users: Users) -> None:
        five.node(3).kill()
        five.node(5).kill()
        users.wait_for(300)
        five.restart(3)
        five.restart(5)

    live_through(five, "two-killed", trouble)


def test_a_paused_node(five: Cluster) -> None:
    """Its connections stay up and nobody answers on them: the failure that a closed connection does not tell."""

    def trouble(users: Users) -> None:
        five.node(4).stop()
        time.sleep(PAUSE_S)  # What is tested is a pause so long.
        users.wait_for(100)
        five.node(4).cont()

    live_through(five, "paused", trouble)


def test_a_crawling_node(five: Cluster) -> None:
    """It runs a few milliseconds of every hundred (hard case 33): it answers everything, far too late."""

    def trouble(users: Users) -> None:
        for _ in range(CRAWL_TURNS):
            five.node(2).stop()
            time.sleep(0.1)
            five.node(2).cont()
            time.sleep(0.004)
        users.wait_for(100)

    live_through(five, "crawled", trouble)


def test_a_flood(five: Cluster) -> None:
    """Hard case 32: far more than there is room for, on a schedule that waits for nobody; then users as before.

    What was not answered in time may or may not have been done, but it must not stay done in one place only.
    """
    flood = ["--workload", "mixed", "--rate", "100000", "--seconds", "4", "--warm-up", "0", "--keys", "300", "--json"]
    done = five.cli("bench", *flood)
    assert done.returncode == 0, done.stderr.decode()
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["success"] < 1, "it was no flood"

    attempts = count()

    def users_are_served() -> bool:
        with Users(five.addresses, f"after-{next(attempts)}") as users:
            return users.served(100)

    eventually("users are served as before", users_are_served)
    with Link(five.address(1)) as link:
        wait_until_hints_are_home(link)
        assert differing(link, [f"bench:user{number:012}" for number in range(300)]) == []
    assert "this is a bug" not in five.logs()


def test_hints_survive_their_holders(five: Cluster) -> None:
    """Hard case 9: the home is dead, then every holder of its hints restarts, then the home is back; nobody reads."""

    def trouble(users: Users) -> None:
        five.node(5).kill()
        users.wait_for(300)

    with Users(five.addresses, "kept") as users:
        trouble(users)
    with Link(five.address(1)) as link:
        kept = sum(
            member["report"]["hints"]["homes"]["n5"]["hints"]
            for member in link.document("KV.STATUS")["members"]
            if "n5" in member["report"].get("hints", {"homes": {}})["homes"]
        )
    assert kept > 0
    for number in range(1, 5):
        five.node(number).kill()
    for number in range(1, 5):
        five.node(number).start()
    five.wait_ready(1, 2, 3, 4)
    five.restart(5)
    with Link(five.address(1)) as link:
        eventually("all hints are home", lambda: hints_kept(link) == 0)
        assert differing(link, [f"kept:{key}" for key in users.written]) == []
