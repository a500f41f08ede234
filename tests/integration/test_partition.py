"""A network that falls into two and three nodes, and comes together again: real processes in two network namespaces.

Both halves must take writes, with W=1 and through fallbacks with W=2, from the first moment on, when nobody has noticed
yet. After healing nothing is lost, and what was written on both sides stands side by side (SOSP 2007, §4.4, §4.6).

Packets are lost without a word, as on a broken network: no connection is refused or reset. That needs root and network
namespaces; without them the test is skipped, and the simulator still has the same scenario.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import pytest

from quorate.cli.link import Link
from quorate.cli.local_cluster import LocalCluster
from quorate.core.ring.ring import Member
from quorate.server.cluster_file import found_cluster, write_cluster_file
from quorate.server.data_directory import new_id
from tests.conftest import Cluster
from tests.settled import differing, eventually, wait_for_all, wait_until_hints_are_home

pytestmark = pytest.mark.integration

PASSWORD = "open"
KEYS = 30
CLONE_NEWNET = 0x40000000
T = TypeVar("T")


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=10)


class Side:
    """One half of the network: a namespace with an address, and a thread that lives in it."""

    def __init__(self, name: str, index: int) -> None:
        self.name = name
        self.address = f"10.99.{index}.1"
        self.link_address = f"10.99.9.{index}"
        self.interface = f"{name}-link"
        self._thread = ThreadPoolExecutor(1)

    def make(self) -> None:
        ip("netns", "add", self.name)
        ip("-n", self.name, "link", "set", "lo", "up")
        ip("-n", self.name, "addr", "add", f"{self.address}/32", "dev", "lo")

    def join(self) -> None:
        """Move this thread, and every socket that it will open, into the namespace."""

        def enter() -> None:
            descriptor = os.open(f"/run/netns/{self.name}", os.O_RDONLY)
            try:
                assert ctypes.CDLL(None, use_errno=True).setns(descriptor, CLONE_NEWNET) == 0
            finally:
                os.close(descriptor)

        self._thread.submit(enter).result(timeout=10)

    def connect(self, other: Side) -> None:
        """The route to the other side."""
        route = [f"{other.address}/32", "via", other.link_address, "dev", self.interface, "src", self.address]
        ip("-n", self.name, "route", "replace", *route)

    def cut_off(self, other: Side) -> None:
        ip("-n", self.name, "route", "replace", "blackhole", f"{other.address}/32")

    def do(self, what: Callable[[], T]) -> T:
        """Do `what` on this side of the network."""
        return self._thread.submit(what).result(timeout=120)

    def remove(self) -> None:
        self._thread.shutdown()
        subprocess.run(["ip", "netns", "del", self.name], check=False, capture_output=True, timeout=10)


@pytest.fixture
def sides() -> Iterator[tuple[Side, Side]]:
    """Two connected namespaces; skips the test where they cannot be had."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and iproute2")
    left, right = Side(f"ql{os.getpid()}", 1), Side(f"qr{os.getpid()}", 2)
    try:
        try:
            left.make()
            right.make()
            ends = ["name", left.interface, "netns", left.name], ["name", right.interface, "netns", right.name]
            ip("link", "add", *ends[0], "type", "veth", "peer", *ends[1])
        except subprocess.CalledProcessError as error:
            pytest.skip(f"network namespaces are not allowed here: {error.stderr.decode().strip()}")
        for side, other in ((left, right), (right, left)):
            ip("-n", side.name, "addr", "add", f"{side.link_address}/24", "dev", side.interface)
            ip("-n", side.name, "link", "set", side.interface, "up")
            side.connect(other)
            side.join()
        yield left, right
    finally:
        left.remove()
        right.remove()


class Split(LocalCluster, frozen=True):
    """Nodes 1 and 2 on the left, 3, 4 and 5 on the right."""

    left: str = ""
    right: str = ""

    def start_command(self, member: Member) -> list[str]:
        namespace = self.left if member.number <= 2 else self.right
        return ["ip", "netns", "exec", namespace, *super().start_command(member)]


@pytest.fixture
def split(sides: tuple[Side, Side], tmp_path: Path) -> Iterator[Cluster]:
    """A running cluster over both sides, still connected."""
    left, right = sides
    members = [
        Member(
            number=number,
            id=new_id(),
            name=f"n{number}",
            host=f"{socket.gethostname()}-{number}",
            zone="",
            weight=1,
            peer_address=f"{side.address}:{7600 + number}",
            client_address=f"{side.address}:{7400 + number}",
            http_address=f"{side.address}:{7500 + number}",
        )
        for number, side in ((1, left), (2, left), (3, right), (4, right), (5, right))
    ]
    founding = found_cluster(new_id(), members, 64, "rocksdb", password=PASSWORD)
    plan = Split(tmp_path / "split", founding, True, left.name, right.name)
    write_cluster_file(plan.cluster_path, founding)
    cluster = Cluster(plan)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.close()


def test_both_halves_take_writes_and_nothing_is_lost(sides: tuple[Side, Side], split: Cluster) -> None:
    left, right = sides
    a = left.do(lambda: Link(split.address(1), PASSWORD))
    b = right.do(lambda: Link(split.address(3), PASSWORD))
    contexts = {number: a.command("KV.PUT", f"carts:both-{number}", "base", "W", 3) for number in range(KEYS)}

    left.cut_off(right)
    right.cut_off(left)
    for side, link in (("left", a), ("right", b)):
        # Nobody has noticed yet: the first writes still wait for replicas that will never answer. With an operation
        # id, as our clients give one, a node may take over what it has handed to a node that fell silent.
        for number in range(5):
            key = f"carts:early-{side}-{number}"
            link.command("KV.PUT", key, side, "W", 1 + number % 2, "OP", key)
    eventually("both sides notice", lambda: seen_down(a) == {"n3", "n4", "n5"} and seen_down(b) == {"n1", "n2"})
    for side, link in (("left", a), ("right", b)):
        for number in range(KEYS):
            w = 1 + number % 2
            link.command("KV.PUT", f"carts:both-{number}", side, "CTX", contexts[number], "W", w)
            link.command("KV.PUT", f"carts:new-{side}-{number}", side, "W", w)
            assert values(link, f"carts:new-{side}-{number}") == [side.encode()]

    left.connect(right)
    right.connect(left)
    wait_for_all(a, names=[member.name for member in split.members])
    wait_until_hints_are_home(a)
    news = [f"carts:new-{side}-{number}" for side in ("left", "right") for number in range(KEYS)]
    early = [f"carts:early-{side}-{number}" for side in ("left", "right") for number in range(5)]
    both = [f"carts:both-{number}" for number in range(KEYS)]
    assert differing(a, news + early + both) == [], "handoff alone makes all replicas the same"
    for key in news + early:
        assert values(b, key) == [key.split("-")[1].encode()]
    for number, key in enumerate(both):
        assert values(a, key) == [b"left", b"right"], "concurrent updates are siblings, and none is lost"
        context, _ = a.command("KV.GET", key)
        a.command("KV.PUT", key, f"merged {number}", "CTX", context)
        assert values(b, key) == [f"merged {number}".encode()]


def values(link: Link, key: str) -> list[Any]:
    return sorted(sibling[0] for sibling in link.command("KV.GET", key)[1])


def seen_down(link: Link) -> set[str]:
    """Whom the asked node takes for down."""
    document = link.document("KV.STATUS")
    reports = {member["name"]: member["report"] for member in document["members"]}
    peers = reports[document["seen_by"]]["peers"]
    return {name for name, opinion in peers.items() if opinion["state"] == "down"}
