"""What every adapter of the `Transport` port promises. One suite; a factory per adapter.

A `Network` gives each member a transport and a handler that records, and can let things happen until a condition holds.
The suite assumes a network without faults: what a transport may do to messages under faults is its own tests' matter.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from math import inf
from typing import Protocol

import pytest
import uvloop

from quorate.adapters.runtime.system import LoopScheduler, SystemClock
from quorate.adapters.transport.faults import FaultyTransport
from quorate.adapters.transport.tcp import TcpTransport
from quorate.core.limits import FRAME_BYTES_MAX, MIB
from quorate.core.messages import Message, Read, ReadReply, Write, WriteReply
from quorate.core.ports import Transport
from quorate.core.ring.ring import Member
from tests.free_ports import free_ports
from tests.peer_cluster import SECRET, RecordingHandler, SeededRng, make_identity, make_member

WAIT_SECONDS = 10.0


class Network(Protocol):
    """Three members, 1 to 3, none of them running at first."""

    members: dict[int, Member]
    handlers: dict[int, RecordingHandler]

    def start(self, number: int, knows: list[int] | None = None) -> Transport:
        """Start a member (again); it knows these members, or all."""
        ...

    def stop(self, number: int) -> None: ...

    def run_until(self, condition: Callable[[], bool]) -> None:
        """Let things happen until `condition` holds; fail if it never does."""
        ...

    def run_turns(self, turns: int) -> None:
        """Let a few turns of the loops pass."""
        ...

    def close(self) -> None: ...


class TcpNetwork:
    """Real sockets on loopback, all on one loop."""

    def __init__(self, new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
        self._loop = new_loop()
        self._running: dict[int, TcpTransport] = {}
        self._changed = asyncio.Event()
        self.handlers = {number: RecordingHandler() for number in (1, 2, 3)}
        for handler in self.handlers.values():
            handler.wake = self._changed.set
        self.members = {
            number: make_member(number, f"127.0.0.1:{port}") for number, port in enumerate(free_ports(3), 1)
        }

    def start(self, number: int, knows: list[int] | None = None) -> Transport:
        scheduler = LoopScheduler(self._loop)
        transport = TcpTransport(
            identity=make_identity(number),
            secret=SECRET,
            members=[self.members[known] for known in knows or self.members],
            handler=self.handlers[number],
            clock=SystemClock(),
            rng=SeededRng(number),
            scheduler=scheduler,
            bind_address=self.members[number].peer_address,
        )
        self._loop.run_until_complete(transport.start())
        self._running[number] = transport
        return self.wrap(transport, scheduler)

    def wrap(self, transport: TcpTransport, scheduler: LoopScheduler) -> Transport:
        return transport

    def stop(self, number: int) -> None:
        self._loop.run_until_complete(self._running.pop(number).stop())

    def run_until(self, condition: Callable[[], bool]) -> None:
        async def wait() -> None:
            async with asyncio.timeout(WAIT_SECONDS):
                while not condition():
                    self._changed.clear()
                    await self._changed.wait()

        self._loop.run_until_complete(wait())

    def run_turns(self, turns: int) -> None:
        async def pass_by() -> None:
            for _ in range(turns):
                await asyncio.sleep(0)

        self._loop.run_until_complete(pass_by())

    def close(self) -> None:
        for number in list(self._running):
            self.stop(number)
        self._loop.close()


class _NoFaults:
    def delay_ms(self, member: int, message: Message) -> float:
        return 0.0


class FaultyTcpNetwork(TcpNetwork):
    """The wrapper that injects faults, injecting none."""

    def wrap(self, transport: TcpTransport, scheduler: LoopScheduler) -> Transport:
        return FaultyTransport(transport, scheduler, _NoFaults())


FACTORIES: dict[str, Callable[[], Network]] = {
    "tcp on asyncio": lambda: TcpNetwork(asyncio.new_event_loop),
    "tcp on uvloop": lambda: TcpNetwork(uvloop.new_event_loop),
    "tcp with faults": lambda: FaultyTcpNetwork(uvloop.new_event_loop),
}


@pytest.fixture(params=FACTORIES)
def network(request: pytest.FixtureRequest) -> Iterator[Network]:
    made = FACTORIES[request.param]()
    yield made
    made.close()


def connect(network: Network, *numbers: int) -> dict[int, Transport]:
    """Start these members, and wait until each is connected with each."""
    transports = {number: network.start(number) for number in numbers}
    network.run_until(
        lambda: all(transports[a].connected(b) for a in numbers for b in numbers if a != b),
    )
    return transports


def reply(number: int) -> WriteReply:
    return WriteReply(number, 0)


def received(network: Network, number: int) -> list[tuple[int, Message]]:
    return network.handlers[number].messages


def test_members_connect_with_each_other_and_not_with_themselves(network: Network) -> None:
    transports = connect(network, 1, 2, 3)
    for number in (1, 2, 3):
        others = [other for other in (1, 2, 3) if other != number]
        assert sorted(network.handlers[number].events) == [("connected", other) for other in others]
        assert not transports[number].connected(number)
        assert not transports[number].connected(99)


def test_nothing_is_sent_without_a_connection(network: Network) -> None:
    alone = network.start(1)
    assert not alone.connected(2)
    for number in (1, 2, 99):
        assert alone.send(number, reply(7)) is False
    other = network.start(2)
    network.run_until(lambda: alone.connected(2) and other.connected(1))
    assert other.send(1, reply(8))
    network.run_until(lambda: received(network, 1) != [])
    assert received(network, 1) == [(2, reply(8))] and received(network, 2) == []


def test_messages_arrive_in_order_whole_and_from_whom_they_are(network: Network) -> None:
    transports = connect(network, 1, 2, 3)
    sent: list[Message] = [
        Write(1, 900, 3, b"bucket:key", bytes(range(256)) * 40, 1),
        Read(2, 900, 3, b"", False),
        ReadReply(3, 0, 2**64 - 1, b"x" * 100_000),
        *(reply(number) for number in range(500)),
    ]
    for message in sent:
        assert transports[2].send(1, message)
    assert transports[3].send(1, reply(-1 & 0xFFFF))
    network.run_until(lambda: len(received(network, 1)) == len(sent) + 1)
    assert [message for number, message in received(network, 1) if number == 2] == sent
    assert [message for number, message in received(network, 1) if number == 3] == [reply(0xFFFF)]


def test_both_directions_work_and_a_handler_may_answer_at_once(network: Network) -> None:
    transports = connect(network, 1, 2)
    rounds = 50

    def answer(own: int, other: int) -> Callable[[int, Message], None]:
        def react(member: int, message: Message) -> None:
            assert member == other and isinstance(message, WriteReply)
            if message.id < rounds:
                transports[own].send(other, reply(message.id + 1))

        return react

    for own, other in ((1, 2), (2, 1)):
        network.handlers[own].react = answer(own, other)
    transports[1].send(2, reply(0))
    network.run_until(lambda: len(received(network, 1)) + len(received(network, 2)) == rounds + 1)


def test_a_handler_may_send_when_it_hears_of_the_connection(network: Network) -> None:
    first = network.start(1)
    network.handlers[1].on_connect = lambda member: first.send(member, reply(5)) and None
    network.start(2)
    network.run_until(lambda: received(network, 2) != [])
    assert received(network, 2) == [(1, reply(5))]


def test_a_message_has_an_age(network: Network) -> None:
    transports = connect(network, 1, 2)
    for number in range(10):
        transports[2].send(1, reply(number))
        network.run_until(lambda expected=number + 1: len(received(network, 1)) == expected)  # type: ignore[misc]
    assert all(0.0 <= age_ms < WAIT_SECONDS * 1000 for age_ms in network.handlers[1].ages_ms)


def test_a_value_of_megabytes_travels(network: Network) -> None:
    transports = connect(network, 1, 2)
    large = Write(1, 1000, 1, b"key", b"v" * 9 * MIB, 0)
    assert transports[1].send(2, large) and transports[1].send(2, reply(1))
    network.run_until(lambda: len(received(network, 2)) == 2)
    assert [message for _, message in received(network, 2)] == [large, reply(1)]


def test_a_message_that_fits_in_no_frame_is_refused_and_harms_nothing(network: Network) -> None:
    transports = connect(network, 1, 2)
    assert transports[1].send(2, Write(1, 1000, 1, b"key", bytes(FRAME_BYTES_MAX), 0)) is False
    assert transports[1].send(2, reply(1))
    network.run_until(lambda: received(network, 2) != [])
    assert received(network, 2) == [(1, reply(1))]


def test_a_handler_that_fails_costs_nobody_else_a_message(network: Network) -> None:
    transports = connect(network, 1, 2)

    def fail(member: int, message: Message) -> None:
        raise RuntimeError("a bug of the handler")

    network.handlers[2].react = fail
    for number in range(3):
        transports[1].send(2, reply(number))
    network.run_until(lambda: len(received(network, 2)) == 3)
    assert transports[1].connected(2) and transports[2].connected(1)


def test_it_is_known_when_a_peer_was_last_heard(network: Network) -> None:
    transports = {number: network.start(number) for number in (1, 2)}
    assert transports[1].heard_ms(3) == -inf
    network.run_until(lambda: transports[1].connected(2) and transports[2].connected(1))
    before_ms = SystemClock().monotonic_ms()
    assert transports[2].heard_ms(1) <= before_ms
    assert transports[1].send(2, reply(1))
    network.run_until(lambda: received(network, 2) != [])
    assert before_ms <= transports[2].heard_ms(1) <= SystemClock().monotonic_ms()
    assert transports[2].heard_ms(3) == -inf
    network.stop(1)
    network.run_until(lambda: not transports[2].connected(1))
    assert transports[2].heard_ms(1) == -inf


def test_a_stopped_peer_is_disconnected_and_comes_back(network: Network) -> None:
    transports = connect(network, 1, 2, 3)
    for stopped in (1, 2, 3):
        others = [number for number in (1, 2, 3) if number != stopped]
        network.stop(stopped)
        network.run_until(lambda: not any(transports[other].connected(stopped) for other in others))  # noqa: B023
        for other in others:
            assert network.handlers[other].connections_of(stopped)[-1] == "disconnected"
            assert transports[other].send(stopped, reply(1)) is False
        transports[stopped] = network.start(stopped)
        network.run_until(
            lambda: all(transports[o].connected(stopped) and transports[stopped].connected(o) for o in others)  # noqa: B023
        )
    for number in (1, 2, 3):
        for other in (1, 2, 3):
            told = network.handlers[number].connections_of(other)
            assert told == ["connected", "disconnected"] * (len(told) // 2) + ["connected"] * (len(told) % 2)


def test_a_removed_member_is_disconnected_at_once_and_may_be_added_again(network: Network) -> None:
    transports = connect(network, 1, 2)
    everybody = list(network.members.values())
    transports[1].set_members([network.members[1], network.members[3]])
    assert not transports[1].connected(2)
    assert network.handlers[1].connections_of(2) == ["connected", "disconnected"]
    assert transports[1].send(2, reply(1)) is False
    network.run_until(lambda: not transports[2].connected(1))
    transports[1].set_members(everybody)
    network.run_until(lambda: transports[1].connected(2) and transports[2].connected(1))
    assert transports[2].send(1, reply(2))
    network.run_until(lambda: received(network, 1) != [])


def test_setting_the_same_members_changes_nothing(network: Network) -> None:
    transports = connect(network, 1, 2)
    for transport in transports.values():
        transport.set_members(list(network.members.values()))
    network.run_turns(50)
    for number, other in ((1, 2), (2, 1)):
        assert network.handlers[number].connections_of(other) == ["connected"]
        assert transports[number].connected(other)


def test_nothing_is_delivered_after_the_sender_was_removed(network: Network) -> None:
    """A handler removes the sender while a frame of many messages is being delivered."""
    transports = connect(network, 1, 2)

    def remove(member: int, message: Message) -> None:
        transports[1].set_members([network.members[1]])

    network.handlers[1].react = remove
    for number in range(20):
        transports[2].send(1, reply(number))
    network.run_until(lambda: not transports[2].connected(1))
    assert network.handlers[1].events == [("connected", 2), ("message", 2), ("disconnected", 2)]


def test_a_member_that_the_other_does_not_know_is_not_connected(network: Network) -> None:
    """Hard case 16: membership is decided by the ring of each side, not by who dials."""
    first, third = network.start(1, knows=[1, 3]), network.start(3)
    second = network.start(2)
    network.run_until(lambda: first.connected(3) and second.connected(3) and third.connected(2))
    assert not first.connected(2) and not second.connected(1)
    assert network.handlers[1].connections_of(2) == []
