"""The simulated network: frames, links and the life of connections, with two or three handlers that only listen."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

import pytest

from quorate.core.limits import PEER_PING_INTERVAL_MS, PEER_SILENCE_TIMEOUT_MS
from quorate.core.messages import Candidacy, CandidacyReply, Message, StatusRequest
from quorate.core.ring.transition import Departed
from quorate.sim.clocks import MachineClock
from quorate.sim.cluster import Layout, make_ring
from quorate.sim.loop import Process, VirtualLoop
from quorate.sim.network import Network
from quorate.sim.random_streams import Streams
from quorate.sim.trace import Trace
from quorate.sim.transport import SimTransport

SILENCE_MS = PEER_SILENCE_TIMEOUT_MS + PEER_PING_INTERVAL_MS


class Listener:
    """A node that notes what it hears, as (time in ms, what)."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self.heard: list[int] = []
        self.ages_ms: list[float] = []
        self.times_us: list[int] = []
        self.links: list[str] = []

    def on_message(self, member: int, message: Message, age_ms: float) -> None:
        assert isinstance(message, StatusRequest)
        self.heard.append(message.id)
        self.ages_ms.append(age_ms)
        self.times_us.append(self._loop.now_us)

    def on_connected(self, member: int) -> None:
        self.links.append(f"+{member}")

    def on_disconnected(self, member: int) -> None:
        self.links.append(f"-{member}")

    def on_candidacy(self, message: Candidacy, answer: Callable[[CandidacyReply], None]) -> None:
        raise AssertionError("nobody is a candidate here")

    def on_removed(self, reason: str) -> None:
        self.links.append("removed")


class Lab:
    """A few listeners on one network."""

    def __init__(self, seed: int = 0, nodes: int = 2) -> None:
        self.loop = VirtualLoop()
        self.trace = Trace()
        self.network = Network(self.loop, Streams(seed), self.trace, range(1, nodes + 1))
        self.ring = make_ring(nodes, 1, Layout())
        self.clocks = {number: MachineClock(self.loop, 1.0, 0.0, 1e6 * number) for number in range(1, nodes + 1)}
        self.processes: dict[int, Process] = {}
        self.transports: dict[int, SimTransport] = {}
        self.listeners: dict[int, Listener] = {}
        for number in self.clocks:
            self.start(number)
        self.run(2_000)

    def start(self, number: int) -> Listener:
        process = self.processes[number] = Process(self.loop)
        transport = self.transports[number] = self.network.transport(number, process, self.clocks[number])
        listener = self.listeners[number] = Listener(self.loop)
        transport.attach(listener)
        transport.set_members(self.ring.members)
        return listener

    def die(self, number: int, silently: bool = False) -> None:
        self.processes[number].kill()
        self.network.process_died(number, silently)

    def run(self, milliseconds: float) -> None:
        self.loop.run_until(self.loop.now_us + int(milliseconds * 1000))

    def send(self, source: int, target: int, number: int) -> bool:
        return self.transports[source].send(target, StatusRequest(number, 1_000))

    def linked(self) -> tuple[bool, bool]:
        return self.transports[1].connected(2), self.transports[2].connected(1)


def test_members_connect_to_each_other_and_not_to_themselves() -> None:
    lab = Lab(nodes=3)
    for number, listener in lab.listeners.items():
        assert sorted(listener.links) == [f"+{other}" for other in (1, 2, 3) if other != number]
        assert not lab.transports[number].connected(number)


def test_messages_of_one_turn_arrive_in_one_frame_and_in_order() -> None:
    lab = Lab()
    for number in range(5):
        assert lab.send(1, 2, number)
    lab.run(100)
    assert lab.listeners[2].heard == [0, 1, 2, 3, 4]
    assert lab.network.frames_delivered == 1


def test_a_listener_knows_when_it_last_heard_the_other_by_its_own_clock() -> None:
    lab = Lab()
    assert lab.transports[2].heard_ms(3) == -inf
    lab.send(1, 2, 0)
    lab.run(100)
    (arrived_us,) = lab.listeners[2].times_us
    age_ms = (lab.loop.now_us - arrived_us) / 1000
    assert lab.transports[2].heard_ms(1) == pytest.approx(lab.clocks[2].monotonic_ms() - age_ms, abs=1)
    lab.network.reset(1, 2)
    lab.run(5)
    assert lab.linked() == (False, False)
    assert lab.transports[2].heard_ms(1) == -inf


def test_frames_keep_their_order_unless_the_link_reorders() -> None:
    def order(reordering: float) -> list[int]:
        lab = Lab()
        link = lab.network.links[1, 2]
        link.set_delay(0.1, 20.0)
        link.reordering = reordering
        for number in range(50):
            lab.send(1, 2, number)
            lab.run(1)
        lab.run(1_000)
        return lab.listeners[2].heard

    assert order(0.0) == list(range(50))
    shuffled = order(0.5)
    assert shuffled != list(range(50))
    assert sorted(shuffled) == list(range(50))


def test_a_lossy_link_loses_and_a_duplicating_one_repeats() -> None:
    lab = Lab()
    lab.network.links[1, 2].loss = 0.5
    lab.network.links[2, 1].duplication = 0.5
    for number in range(100):
        lab.send(1, 2, number)
        lab.send(2, 1, number)
        lab.run(1)
    lab.run(100)
    assert 20 < len(lab.listeners[2].heard) < 80
    assert len(lab.listeners[1].heard) > 120
    assert sorted(set(lab.listeners[1].heard)) == list(range(100))
    assert lab.linked() == (True, True), "loss is worse than TCP: the connection stays"


def test_nothing_is_sent_without_a_connection() -> None:
    lab = Lab()
    lab.die(2)
    lab.run(100)
    assert not lab.send(1, 2, 7)


def test_a_killed_process_resets_its_peers_and_its_next_life_gets_new_connections() -> None:
    lab = Lab()
    lab.send(1, 2, 1)
    lab.die(2)
    lab.run(20)
    assert lab.listeners[1].links == ["+2", "-2"]
    heir = lab.start(2)
    lab.run(2_000)
    assert lab.listeners[1].links == ["+2", "-2", "+2"]
    assert heir.links == ["+1"]
    assert heir.heard == [], "a frame to the former life does not reach the next one"


def test_a_lost_machine_is_noticed_after_silence() -> None:
    lab = Lab()
    lab.die(2, silently=True)
    lab.run(PEER_SILENCE_TIMEOUT_MS - 10)
    assert lab.transports[1].connected(2)
    lab.run(PEER_PING_INTERVAL_MS + 20)
    assert not lab.transports[1].connected(2)


def test_a_short_blockade_delays_frames_and_says_so_by_their_age() -> None:
    lab = Lab()
    lab.send(1, 2, 0)
    lab.run(10)
    lab.network.block(1, 2)
    lab.send(1, 2, 1)
    lab.run(500)
    assert lab.listeners[2].heard == [0]
    lab.network.unblock(1, 2)
    lab.run(10)
    assert lab.listeners[2].heard == [0, 1]
    assert 495 < lab.listeners[2].ages_ms[1] < 515
    assert lab.linked() == (True, True)


def test_a_long_one_way_blockade_ends_the_connection_for_both() -> None:
    lab = Lab()
    lab.network.block(1, 2)
    lab.send(1, 2, 1)
    lab.run(SILENCE_MS + 50)
    assert lab.linked() == (False, False)
    lab.run(5_000)
    assert lab.linked() == (False, False), "no handshake passes a link that is open in one direction only"
    lab.network.unblock(1, 2)
    lab.run(2_000)
    assert lab.linked() == (True, True)
    assert lab.listeners[2].heard == [], "what was held for the old connection is lost with it"


def test_a_partition_is_noticed_by_each_side_and_heals() -> None:
    lab = Lab(nodes=3)
    for source, target in ((1, 2), (2, 1)):
        lab.network.block(source, target)
    lab.run(2 * SILENCE_MS)
    assert lab.linked() == (False, False)
    assert lab.transports[1].connected(3) and lab.transports[2].connected(3)
    for source, target in ((1, 2), (2, 1)):
        lab.network.unblock(source, target)
    lab.run(2_000)
    assert lab.linked() == (True, True)


def test_a_reset_cuts_both_sides_and_they_dial_again() -> None:
    lab = Lab()
    lab.send(1, 2, 5)
    lab.network.reset(1, 2)
    lab.run(2_000)
    assert lab.listeners[1].links == ["+2", "-2", "+2"]
    assert lab.listeners[2].links == ["+1", "-1", "+1"]


@pytest.mark.parametrize(("pause_ms", "links"), [(1_000, ["+2"]), (4_000, ["+2", "-2", "+2"])])
def test_a_process_that_pauses_too_long_is_given_up(pause_ms: int, links: list[str]) -> None:
    lab = Lab()
    until_us = lab.loop.now_us + pause_ms * 1000
    lab.processes[2].pause(until_us)
    lab.network.process_paused(2, until_us)
    lab.run(pause_ms + 2_000)
    assert lab.listeners[1].links == links
    assert lab.linked() == (True, True)


@pytest.mark.parametrize("seed", range(20))
def test_every_connect_is_followed_by_one_disconnect_whatever_happens(seed: int) -> None:
    lab = Lab(seed, nodes=3)
    rng = Streams(seed).stream("test")
    acts: list[Callable[[], None]] = [
        lambda: lab.network.block(1, 2),
        lambda: lab.network.unblock(1, 2),
        lambda: lab.network.reset(2, 3),
        lambda: lab.network.block(3, 1),
        lambda: lab.network.unblock(3, 1),
        lambda: lab.network.reset(1, 2),
    ]
    for _ in range(30):
        rng.choice(acts)()
        lab.run(rng.uniform(0, 800))
    for listener in lab.listeners.values():
        for peer in "123":
            changes = [change[0] for change in listener.links if change[1] == peer]
            assert changes == [("+", "-")[turn % 2] for turn in range(len(changes))]


def with_members(lab: Lab, number: int, members: tuple[int, ...], removed: int = 0, lingers: bool = False) -> None:
    """Have this node go by a ring of these members, from which `removed` was removed."""
    departed = [Departed(removed, "")] if removed else []
    chosen = [member for member in lab.ring.members if member.number in members]
    lab.transports[number].set_members(chosen, departed, [removed] if lingers else [])


def test_a_newcomer_that_only_one_side_knows_is_let_in() -> None:
    lab = Lab(nodes=3)
    lab.die(3)
    lab.run(100)
    with_members(lab, 1, (1, 2))
    lab.start(3)
    lab.run(2_000)
    assert lab.transports[1].connected(3) and lab.transports[3].connected(1)


def test_a_number_that_is_none_of_a_newcomer_is_not_let_in() -> None:
    lab = Lab(nodes=3)
    with_members(lab, 3, (1, 3))
    lab.run(2_000)
    assert not lab.transports[3].connected(2) and not lab.transports[2].connected(3)
    assert "removed" not in lab.listeners[2].links


def test_who_was_removed_loses_its_connection_and_is_told_why() -> None:
    lab = Lab(nodes=3)
    with_members(lab, 1, (1, 3), removed=2)
    lab.run(2_000)
    assert lab.linked() == (False, False) and lab.transports[2].connected(3)
    assert lab.listeners[2].links[-1] == "removed"


def test_who_lingers_keeps_its_connection_and_may_have_another() -> None:
    lab = Lab(nodes=3)
    with_members(lab, 1, (1, 3), removed=2, lingers=True)
    lab.run(2_000)
    assert lab.linked() == (True, True)
    lab.network.reset(1, 2)
    lab.run(2_000)
    assert lab.linked() == (True, True)
    with_members(lab, 1, (1, 3), removed=2)
    lab.run(2_000)
    assert lab.linked() == (False, False) and lab.listeners[2].links[-1] == "removed"
