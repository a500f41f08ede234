"""`quorate start --join`: a node that is no member yet waits until an operator has it joined, and becomes one.

It makes its id, writes it down, and presents itself (`Candidacy`) to the members once a second: first to the one it was
told of, then to all of the ring that it is answered. No member has to remember it for long, and each can say who waits.
It is a member as soon as the newest ring that it was told has its id: it takes that ring and its number from there.

Until then nothing but DIR/candidate.json is written, so waiting costs nobody anything and may be given up at any time.
With that file the node keeps its id over restarts: an operator who has looked at who waits, and then confirms, means
the same node.

Rejected: joining at once, without an operator (a plan moves data, and several nodes are better joined by one plan); the
members connecting to the candidate (it may not be reachable yet, and who waits has to ask anyway).
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Any, NamedTuple

import uvloop

from quorate import __version__
from quorate.adapters.runtime.system import SystemRng
from quorate.adapters.transport.candidate import Answer, ask
from quorate.core.errors import CallerError, PeerError, StartupError
from quorate.core.limits import CANDIDACY_INTERVAL_MS, CANDIDACY_MEMBERS_MAX
from quorate.core.membership.ring_consensus import RingValue, value_fault
from quorate.core.messages import Candidacy
from quorate.core.ring.metadata import of_value
from quorate.core.ring.ring import Member
from quorate.core.wire.handshake import HandshakeRefused
from quorate.server.cluster_file import ClusterFile, joined_cluster
from quorate.server.configuration import EngineName, NodeConfiguration, decode_secret
from quorate.server.data_directory import (
    CANDIDATE_FORMAT,
    IDENTITY_FORMAT,
    Candidate,
    DataDirectory,
    Identity,
    new_id,
)
from quorate.server.founding import addresses_of_new, given_cluster
from quorate.server.listeners import bind
from quorate.server.output import EventWriter, log_name, set_up_logging
from quorate.server.stopping import unless_stopped, watch_stop

log = logging.getLogger("quorate.server")


class Application(NamedTuple):
    """What a node that wants to be joined brings along."""

    candidacy: Candidacy
    address: str
    """Peer address of the member that it turns to first."""
    cluster_id: str
    """Empty if it takes whatever cluster that one belongs to."""
    secret: str
    password: str
    engine: EngineName


def wait_to_be_joined(
    configuration: NodeConfiguration, directory: DataDirectory, attached: bool
) -> tuple[Identity, ClusterFile] | None:
    """What the node in this new directory has become; None if it was told to stop. Raises `StartupError`."""
    application = prepare(configuration, directory)
    candidacy = application.candidacy
    set_up_logging(log_name(candidacy.name, attached, configuration.log_format), configuration.log_format)
    directory.stand(Candidate(CANDIDATE_FORMAT, candidacy.id, candidacy.name))

    async def wait() -> tuple[Identity, ClusterFile] | None:
        stopping = asyncio.Event()
        watch_stop(asyncio.get_running_loop(), stopping, attached)
        return await Waiting(application, EventWriter(candidacy.name).emit).run(stopping)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(wait())


def prepare(configuration: NodeConfiguration, directory: DataDirectory) -> Application:
    """Settle who wants to be joined, and see that it could serve. Writes nothing; raises `StartupError`."""
    given = given_cluster(configuration)
    known = directory.candidate()
    name = configuration.name or (known.name if known is not None else "")
    if not name:
        raise StartupError("a node that joins a cluster needs a name; say --name NAME")
    secret = configuration.secret or (given.secret if given is not None else "")
    if not secret:
        raise StartupError(
            "to join a cluster takes its secret: name a member's cluster file by --cluster (each has a copy in its "
            "data directory), or set `secret` in the file of --config, or QUORATE_SECRET in the environment"
        )
    decode_secret(secret)
    password = configuration.password or (given.password if given is not None else "")
    listen, told = addresses_of_new(configuration, password)
    for what, words in (("client", "client"), ("http", "HTTP client"), ("peer", "peer")):
        bind(listen[what], words).close()
    engine: EngineName = configuration.engine or (given.engine if given is not None else "rocksdb")
    candidacy = Candidacy(
        id=known.node_id if known is not None else new_id(),
        name=name,
        host=configuration.host or socket.gethostname(),
        zone=configuration.zone,
        weight=configuration.weight,
        peer_address=told["peer"],
        client_address=told["client"],
        http_address=told["http"],
        software=__version__,
        engine=engine,
    )
    cluster_id = given.cluster_id if given is not None else ""
    return Application(candidacy, configuration.join, cluster_id, secret, password, engine)


class Waiting:
    """One node's wait. `emit(event, **fields)` is told once it waits: then all members have been asked, so that each
    that can be reached knows who waits."""

    def __init__(self, application: Application, emit: Callable[..., Any]) -> None:
        self._application = application
        self._emit = emit
        self._secret = decode_secret(application.secret)
        self._cluster_id = application.cluster_id
        self._rng = SystemRng()
        self._answered = False
        self._all_asked = False
        self._announced = False
        self._over = False
        self._wake = asyncio.Event()
        """The next round need not wait: the wait is over, or there are members to ask that were not known before."""
        self._failure = ""
        self._newest: RingValue | None = None
        self._members: list[Member] = []
        self._joined: tuple[Identity, ClusterFile] | None = None
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._asked_up_to = 0
        self._said: set[tuple[str, str]] = set()

    async def run(self, stopping: asyncio.Event) -> tuple[Identity, ClusterFile] | None:
        """Ask until the node is joined; None if `stopping` is set before. Raises `StartupError` if it never can be."""
        log.info("asking %s to be joined to its cluster", self._application.address)
        try:
            while not stopping.is_set() and not self._over:
                self._wake.clear()
                self._all_asked = self._answered
                for address in self._next_addresses():
                    if address not in self._asking:
                        self._asking[address] = asyncio.create_task(self._ask(address))
                await unless_stopped(self._wake, stopping, CANDIDACY_INTERVAL_MS / 1000)
        finally:
            tasks = list(self._asking.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if self._failure:
            raise StartupError(self._failure)
        return self._joined

    def _next_addresses(self) -> list[str]:
        """Whom to ask in this round: all members, or of very many the next ones, and always whom we were told of."""
        count = len(self._members)
        chosen = [self._members[(self._asked_up_to + i) % count] for i in range(min(count, CANDIDACY_MEMBERS_MAX))]
        self._asked_up_to += len(chosen)
        return list(dict.fromkeys([self._application.address, *(member.peer_address for member in chosen)]))

    async def _ask(self, address: str) -> None:
        try:
            answer = await ask(address, self._application.candidacy, self._secret, self._cluster_id, self._rng)
        except HandshakeRefused as error:
            self._on_refusal(address, error)
        except (OSError, PeerError, CallerError) as error:
            if isinstance(error, PeerError) and not self._answered:
                self._fail(f"{address} is no peer port of a member: {error}")
            self._say_once(address, f"cannot be asked: {error or type(error).__name__}; trying on")
        else:
            self._on_answer(answer)
        finally:
            self._asking.pop(address, None)
            if self._all_asked and not self._asking and not self._announced:
                self._announce()

    def _on_refusal(self, address: str, refusal: HandshakeRefused) -> None:
        """Before any member has answered, whatever is wrong is ours; later it may be one member's own trouble."""
        if not self._answered or refusal.proven:
            self._fail(f"{address} does not let this node in: {refusal}")
        else:
            self._say_once(address, f"does not let this node in: {refusal}")

    def _on_answer(self, answer: Answer) -> None:
        self._cluster_id = answer.cluster_id
        if answer.reply.refused:
            self._fail(f"{answer.name} refuses this node: {answer.reply.refused}")
            return
        try:
            self._learn(answer.reply.ring)
        except PeerError as error:
            self._say_once(answer.name, f"tells of no usable ring: {error}")
            return
        if not self._answered:
            self._answered = True
            self._wake.set()
        self._look_for_ourselves(answer.reply.grace_s)

    def _learn(self, value: RingValue) -> None:
        """Take over a newer ring; raises `PeerError` if it is none, or another cluster's."""
        if self._newest is not None and value.position <= self._newest.position:
            return
        fault = value_fault(value)
        if fault or value.cluster_id != self._cluster_id:
            raise PeerError(fault or f"it is of the cluster {value.cluster_id}")
        self._members = of_value(value).ring.members
        self._newest = value

    def _look_for_ourselves(self, grace_s: int) -> None:
        application, newest = self._application, self._newest
        assert newest is not None
        member = next((member for member in self._members if member.id == application.candidacy.id), None)
        if member is None or self._over:
            return
        log.info("joined to cluster %s as member %d", newest.cluster_id, member.number)
        identity = Identity(
            IDENTITY_FORMAT, newest.cluster_id, member.id, member.name, member.number, application.engine
        )
        cluster = joined_cluster(application.secret, application.password, application.engine, newest, grace_s)
        self._joined = identity, cluster
        self._end()

    def _announce(self) -> None:
        self._announced = True
        candidacy = self._application.candidacy
        first = min(self._members, key=lambda member: member.number)
        log.info(
            "waiting to be joined to cluster %s: run `quorate join %s --node %s`",
            *(self._cluster_id, candidacy.name, first.client_address),
        )
        self._emit("waiting", node_id=candidacy.id, cluster_id=self._cluster_id, member=first.client_address)

    def _fail(self, reason: str) -> None:
        self._failure = self._failure or reason
        self._end()

    def _end(self) -> None:
        self._over = True
        self._wake.set()

    def _say_once(self, who: str, what: str) -> None:
        """Log it, once for each of a bounded number of peers and reasons."""
        if (who, what) not in self._said and len(self._said) < CANDIDACY_MEMBERS_MAX:
            self._said.add((who, what))
            log.warning("%s %s", who, what)
