"""CLUSTER: the ring posing as a Redis Cluster, for clients that learn where to send each key."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from quorate.api.resp import replies
from quorate.api.resp.commands.command import ANY_NUMBER, CONNECTION, Command
from quorate.api.resp.topology import View, node_id, split_address
from quorate.core.errors import CallerError
from quorate.core.keyspace import slot_of_name
from quorate.core.limits import SLOTS
from quorate.core.ring.ring import Member
from quorate.core.ring.transition import Departed, StagedRing

if TYPE_CHECKING:
    from quorate.api.resp.connection import RespConnection

Tell = Callable[["RespConnection", View], Any]


def cluster(connection: RespConnection, arguments: list[bytes]) -> None:
    name = arguments[1].upper()
    if name == b"KEYSLOT":
        if len(arguments) != 3:
            raise CallerError("wrong number of arguments for 'cluster|keyslot' command")
        connection.reply(replies.integer(slot_of_name(arguments[2])))
        return
    tell = _SUBCOMMANDS.get(name)
    if tell is None:
        shown = arguments[1][:32].decode("latin-1")
        raise CallerError(f"'CLUSTER {shown}' is not supported: members are managed by the command quorate")
    if len(arguments) != 2:
        raise CallerError(f"wrong number of arguments for 'cluster|{name.decode().lower()}' command")
    connection.reply(replies.encode(tell(connection, connection.server.topology.view()), connection.resp3))


def _slots(_: RespConnection, view: View) -> list[Any]:
    return [
        [found.first, found.last, [*split_address(found.coordinator.client_address), node_id(found.coordinator)]]
        for found in view.ranges
    ]


def _shards(_: RespConnection, view: View) -> list[Any]:
    shards = []
    for member in view.ring.members:
        slots = [slot for found in view.ranges_of(member.number) for slot in (found.first, found.last)]
        if not slots:
            continue
        host, port = split_address(member.client_address)
        node = {
            "id": node_id(member),
            "port": port,
            "ip": host,
            "endpoint": host,
            "role": "master",
            "replication-offset": 0,
            "health": "online" if member.number in view.reachable else "fail",
        }
        shards.append({"slots": slots, "nodes": [node]})
    return shards


def _nodes(connection: RespConnection, view: View) -> str:
    """One line a member: id, address@bus-port, flags, master, ping, pong, epoch, link state, slots."""
    lines = []
    self_number = connection.store.self_number()
    for member in view.ring.members:
        up = member.number in view.reachable
        flags = ("myself," if member.number == self_number else "") + ("master" if up else "master,fail")
        host, port = split_address(member.client_address)
        _, bus_port = split_address(member.peer_address)
        link = "connected" if up else "disconnected"
        ranges = "".join(
            f" {found.first}-{found.last}" if found.first < found.last else f" {found.first}"
            for found in view.ranges_of(member.number)
        )
        lines.append(f"{node_id(member)} {host}:{port}@{bus_port} {flags} - 0 0 {view.ring.version} {link}{ranges}\n")
    return "".join(lines)


def _info(_: RespConnection, view: View) -> str:
    served = sum(found.last - found.first + 1 for found in view.ranges if found.coordinator.number in view.reachable)
    fields = {
        "cluster_state": "ok" if served == SLOTS else "fail",
        "cluster_slots_assigned": SLOTS,
        "cluster_slots_ok": served,
        "cluster_slots_pfail": 0,
        "cluster_slots_fail": SLOTS - served,
        "cluster_known_nodes": len(view.ring.members),
        "cluster_size": len({found.coordinator.number for found in view.ranges}),
        "cluster_current_epoch": view.ring.version,
        "cluster_my_epoch": view.ring.version,
    }
    return "".join(f"{name}:{value}\r\n" for name, value in fields.items())


def _my_id(connection: RespConnection, view: View) -> str:
    """Also of a node that joins and is not read yet, or that has left and still forwards."""
    number = connection.store.self_number()
    ring = connection.store.ring()
    departed = ring.departed if isinstance(ring, StagedRing) else []
    everybody: list[Member | Departed] = [*view.ring.members, *ring.members, *departed]
    for known in everybody:
        if known.number == number:
            return node_id(known)
    raise CallerError("this node is no member of the ring that it holds")


_SUBCOMMANDS: dict[bytes, Tell] = {
    b"SLOTS": _slots,
    b"SHARDS": _shards,
    b"NODES": _nodes,
    b"INFO": _info,
    b"MYID": _my_id,
}

COMMANDS = [Command("cluster", cluster, 2, ANY_NUMBER, "The ring as a Redis Cluster", CONNECTION, group="cluster")]
