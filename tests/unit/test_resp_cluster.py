"""The ring posing as a Redis Cluster, and what servers tell about themselves."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from quorate.api.resp.commands import ALL_COMMANDS
from quorate.core.keyspace import slot_of_name
from quorate.core.limits import SLOTS
from quorate.core.ring.preference import PreferenceLists
from tests.unit.resp_session import Session


def coordinators(session: Session) -> list[int]:
    """For each slot the number of the member that CLUSTER SLOTS names."""
    numbers: list[int] = []
    for first, last, node in session.call("CLUSTER", "SLOTS"):
        assert first == len(numbers), "ranges are in order, without gap or overlap"
        assert len(node) == 3, "one coordinator, no replicas"
        numbers += [node[1] - 7400] * (last - first + 1)
    assert len(numbers) == SLOTS
    return numbers


def expected(session: Session) -> list[int]:
    """The brute-force twin: for each slot the first reachable member of its preference list."""
    ring = session.store.ring()
    lists = PreferenceLists(ring)
    found = []
    for slot in range(SLOTS):
        preference = lists.of(ring.partition_of_slot(slot), 3)
        found.append(
            next(member for member in preference.replicas + preference.fallbacks if session.store.reachable(member))
        )
    return found


@pytest.mark.parametrize("down", [set(), {1}, {2}, {2, 3}])
def test_each_slot_has_its_first_reachable_replica(down: set[int]) -> None:
    session = Session()
    assert coordinators(session) == expected(session)
    session.store.data.down |= down
    assert coordinators(session) == expected(session)
    assert down.isdisjoint(coordinators(session))
    session.store.data.down.clear()
    assert set(coordinators(session)) == {1, 2, 3}


def test_neighbours_with_one_coordinator_are_one_range() -> None:
    session = Session()
    assert len(session.call("CLUSTER", "SLOTS")) == 3
    session.store.data.down |= {2, 3}
    assert [entry[:2] for entry in session.call("CLUSTER", "SLOTS")] == [[0, SLOTS - 1]]


def test_the_view_is_made_again_only_when_something_changed() -> None:
    session = Session()
    topology = session.server.topology
    view = topology.view()
    assert topology.view() is view
    session.store.data.down.add(2)
    changed = topology.view()
    assert changed is not view
    ring = session.store.ring()
    owners = [owner % 3 + 1 for owner in ring.owners]
    session.store.data.ring = msgspec.structs.replace(ring, version=2, owners=owners)
    assert topology.view() is not changed
    assert coordinators(session) == expected(session)


def test_with_nobody_reachable_there_is_still_an_answer() -> None:
    session = Session()
    session.store.data.down |= {1, 2, 3}
    assert session.call("CLUSTER", "SLOTS")[0][2][1] == 7401
    assert b"cluster_state:fail\r\n" in session.call("CLUSTER", "INFO")
    assert b"cluster_slots_ok:0\r\n" in session.call("CLUSTER", "INFO")


def test_nodes_shards_slots_and_my_id_agree() -> None:
    session = Session()
    session.call("HELLO", 3)
    session.store.data.down.add(3)
    slots: dict[bytes, list[int]] = {}
    for first, last, (_, _, node) in session.call("CLUSTER", "SLOTS"):
        slots.setdefault(node, []).extend((first, last))
    shards = {shard[b"nodes"][0][b"id"]: shard[b"slots"] for shard in session.call("CLUSTER", "SHARDS")}
    assert shards == slots
    lines = [line.split() for line in session.call("CLUSTER", "NODES").splitlines()]
    assert {fields[0]: [int(slot) for part in fields[8:] for slot in part.split(b"-")] for fields in lines} == {
        **slots,
        lines[2][0]: [],
    }
    assert [fields[1] for fields in lines] == [b"127.0.0.1:%d@%d" % (7400 + i, 7600 + i) for i in (1, 2, 3)]
    assert [(fields[2], fields[7]) for fields in lines] == [
        (b"myself,master", b"connected"),
        (b"master", b"connected"),
        (b"master,fail", b"disconnected"),
    ]
    assert all(len(fields[0]) == 40 for fields in lines)
    assert session.call("CLUSTER", "MYID") == lines[0][0]


def test_cluster_info_and_key_slots() -> None:
    session = Session()
    assert b"cluster_state:ok\r\n" in session.call("CLUSTER", "INFO")
    for name in ("foo", "carts:{alice}:1", "{}x", "a{b"):
        assert session.call("CLUSTER", "KEYSLOT", name) == slot_of_name(name.encode())
    assert session.call("CLUSTER", "KEYSLOT", "foo") == 12182


def test_managing_the_cluster_by_redis_is_refused() -> None:
    session = Session()
    for arguments in (["MEET", "127.0.0.1", "1"], ["FAILOVER"], ["RESET"], ["NOSUCH"]):
        assert "members are managed by the command quorate" in session.error("CLUSTER", *arguments)
    assert "wrong number of arguments" in session.error("CLUSTER", "SLOTS", "x")
    assert "wrong number of arguments" in session.error("CLUSTER", "KEYSLOT")


def table_of(session: Session) -> dict[bytes, list[Any]]:
    return {entry[0]: entry for entry in session.call("COMMAND")}


def test_command_tells_the_positions_of_keys() -> None:
    table = table_of(Session())
    positions = {name.decode(): tuple(entry[3:6]) for name, entry in table.items()}
    assert positions["kv.put"] == positions["get"] == positions["expire"] == (1, 1, 1)
    assert positions["del"] == positions["mget"] == (1, -1, 1)
    assert positions["mset"] == (1, -1, 2)
    assert positions["kv.keys"] == positions["ping"] == positions["cluster"] == (0, 0, 0)
    assert table[b"get"][1:3] == [2, [b"readonly", b"fast"]]
    assert table[b"kv.put"][1:3] == [-3, [b"write", b"denyoom"]]
    assert b"http" not in table


def test_subcommands_of_command() -> None:
    session = Session()
    table = table_of(session)
    assert session.call("COMMAND", "COUNT") == len(table)
    assert set(session.call("COMMAND", "LIST")) == set(table)
    assert session.call("COMMAND", "INFO", "GET", "nosuch") == [table[b"get"], None]
    assert session.call("COMMAND", "GETKEYS", "MSET", "a", "1", "b", "2") == [b"a", b"b"]
    assert session.call("COMMAND", "GETKEYS", "KV.PUT", "a", "1") == [b"a"]
    assert "no key arguments" in session.error("COMMAND", "GETKEYS", "PING")
    assert "invalid command" in session.error("COMMAND", "GETKEYS", "NOSUCH")
    session.call("HELLO", 3)
    assert set(session.call("COMMAND", "DOCS")) == set(table)
    assert session.call("COMMAND", "DOCS", "get")[b"get"][b"group"] == b"string"


def test_every_command_says_when_its_arguments_are_too_few() -> None:
    session = Session()
    for name, command in ALL_COMMANDS.items():
        if command.arguments_min > 1:
            error = session.error(name)
            assert error == f"ERR wrong number of arguments for '{command.name}' command"


def test_info_config_and_time() -> None:
    session = Session()
    info = session.call("INFO")
    for field in (b"redis_version:7.2.0", b"redis_mode:cluster", b"cluster_enabled:1", b"connected_clients:1"):
        assert field + b"\r\n" in info
    assert session.call("INFO", "cluster") == b"# Cluster\r\ncluster_enabled:1\r\n"
    assert session.call("CONFIG", "GET", "save") == [b"save", b""]
    session.call("HELLO", 3)
    assert session.call("CONFIG", "GET", "append*", "nosuch") == {b"appendonly": b"no"}
    assert "only CONFIG GET" in session.error("CONFIG", "SET", "save", "x")
    assert session.call("TIME") == [b"1700000000", b"0"]


def test_commands_about_the_connection() -> None:
    session = Session()
    assert session.call("PING", "x") == b"x"
    assert session.call("ECHO", "x") == b"x"
    assert session.call("SELECT", 0) == b"OK"
    for name in ("READONLY", "READWRITE", "ASKING"):
        assert session.call(name) == b"OK"
    assert session.call("CLIENT", "ID") == 1
    assert session.call("CLIENT", "GETNAME") is None
    assert session.call("CLIENT", "SETNAME", "me") == b"OK"
    assert session.call("CLIENT", "GETNAME") == b"me"
    assert session.call("CLIENT", "SETINFO", "LIB-NAME", "x") == b"OK"
    assert session.call("CLIENT", "NO-EVICT", "on") == b"OK"
    assert b"id=1 addr=127.0.0.1:50000 name=me " in session.call("CLIENT", "INFO")
    assert session.call("CLIENT", "LIST").count(b"\n") == 1
    assert "no spaces" in session.error("CLIENT", "SETNAME", "a b")
    assert "'CLIENT TRACKING' with 1 arguments is not supported" in session.error("CLIENT", "TRACKING", "ON")
    assert session.call("RESET") == b"RESET"
    assert session.call("CLIENT", "GETNAME") is None


def test_auth_without_a_password_configured() -> None:
    session = Session()
    assert "without any password configured" in session.error("AUTH", "x")
    assert session.call("AUTH", "default", "x") == b"OK"
    assert session.call("HELLO", 3, "AUTH", "default", "x")[b"proto"] == 3
