"""A host with several workers, `quorate start --workers K`: which processes it has, and what each is started with.

Each worker is started as a node by itself, `quorate start` with its own name, directory and ports, and with whatever
else was said of the host. What is decided here is only what the workers cannot decide alone: that they are K, for good;
their addresses, one after the other from those of the first; and how a new directory becomes a member:

    a host that is new, nothing given   makes a cluster of its workers, as `quorate up` does
    --cluster FILE                      the members n4.1, n4.2, … of that file, if the host is n4
    --join HOST:PORT                    each waits to be joined; `quorate join n4` takes them all in by one plan
    a worker whose directory is lost    is the member that its siblings' cluster file knows, and is filled anew

The last must come before --join: who runs the same command again and again (a service) never wants a second n4.2, and
without either a worker with an empty directory would make a cluster of its own.

Rejected: threads or several loops in one process (one interpreter is one core); forking after the start (a store and a
loop do not survive a fork); one listening port for all workers (`SO_REUSEPORT`; clients go straight to a key's replica,
so they must be able to name it).
"""

from __future__ import annotations

import asyncio
import os
import shlex
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from quorate.cli.hosts import host_lines
from quorate.cli.program import program_name
from quorate.cli.supervisor import Child, Manner, Supervisor, Ward
from quorate.core.errors import CallerError, StartupError
from quorate.core.limits import PARTITIONS_DEFAULT
from quorate.core.ring.ring import Member
from quorate.core.ring.workers import worker_name
from quorate.core.wire.address import PORT_MAX, join_address
from quorate.server.addresses import parse_address
from quorate.server.cluster_file import found_cluster, read_cluster_file, write_cluster_file
from quorate.server.configuration import NAME_LENGTH_MAX, NodeConfiguration
from quorate.server.data_directory import DataDirectory, new_id
from quorate.server.founding import NAME_DEFAULT, addresses_of_new, given_cluster
from quorate.server.listeners import bind
from quorate.server.worker_directory import read_host_file, write_host_file

KINDS = ("client", "http", "peer")
_OWN_FLAGS = frozenset(
    {"name", "data", "workers", "cluster", "join", "password", "secret"}
    | {f"{kind}_{what}" for kind in KINDS for what in ("listen", "advertise")}
)
"""Settings that are worked out for each worker, or that others must not see on a command line."""


def has_workers(configuration: NodeConfiguration) -> bool:
    """Is this about a host with several workers? Raises `StartupError` if one node is asked for where several are."""
    known = read_host_file(Path(configuration.data)) if configuration.data else None
    if known is not None and configuration.workers == 1:
        raise _other_number(Path(configuration.data), known.name, known.workers)
    return known is not None or configuration.workers > 1


def run_host(configuration: NodeConfiguration, config_path: Path | None, flags: Mapping[str, Any]) -> int:
    """Run the workers until told to stop; returns the exit code. `flags`: what the command line said, by setting."""
    if not configuration.data:
        raise StartupError("a host with workers needs a data directory; say --data DIR")
    directory = DataDirectory.open(Path(configuration.data))
    try:
        host = WorkerHost(directory, configuration, config_path, flags)
        host.prepare()
        environment = dict(os.environ)
        for name in ("password", "secret"):
            if flags.get(name):
                environment[f"QUORATE_{name.upper()}"] = flags[name]
        manner = Manner("worker", environment, as_events=True, log_format=configuration.log_format)
        return asyncio.run(Supervisor(host.wards(), manner, host.announce, host.announce_waiting).run())
    finally:
        directory.close()


class WorkerHost:
    """The workers of one host, in the directory that this process holds the lock of."""

    def __init__(
        self,
        directory: DataDirectory,
        configuration: NodeConfiguration,
        config_path: Path | None,
        flags: Mapping[str, Any],
    ) -> None:
        self._directory = directory
        self._path = directory.path
        self._configuration = configuration
        self._config_path = config_path
        self._flags = flags
        self.name = configuration.name
        self.workers = configuration.workers

    def prepare(self) -> None:
        """Settle who the workers are, and write it down if the host is new. Raises `StartupError`."""
        known = read_host_file(self._path)
        if known is None:
            self._begin()
            return
        if self.workers not in (0, known.workers):
            raise _other_number(self._path, known.name, known.workers)
        if self.name not in ("", known.name):
            raise StartupError(
                f"data directory {self._path} belongs to the workers of {known.name}, not to those of {self.name}; "
                "give each host its own --data directory"
            )
        self.name, self.workers = known.name, known.workers
        if self._makes_cluster():
            self._found()

    def wards(self) -> list[Ward]:
        """The workers for a supervisor."""
        wards = []
        for index in range(1, self.workers + 1):
            options = self.options(index)
            command = [sys.executable, "-m", "quorate.cli.main", "start", *options, "--attached"]
            revive = shlex.join([program_name(), "start", *options])
            wards.append(Ward(worker_name(self.name, index), command, self._path_of(index), revive))
        return wards

    def options(self, index: int) -> list[str]:
        """What `quorate start` is given for one worker."""
        options = ["--name", worker_name(self.name, index), "--data", str(self._path_of(index)), "--workers", "1"]
        if self._config_path is not None:
            options += ["--config", str(self._config_path)]
        for name, setting in self._flags.items():
            if name not in _OWN_FLAGS and setting is not None:
                options += _as_option(name, setting)
        for name, text in {**self._addresses(index), **self._membership(index)}.items():
            options += _as_option(name, text)
        return options

    def announce(self, children: list[Child]) -> None:
        """Say on stderr that the workers serve, and where."""
        (line,) = host_lines([(self.name, [child.listen for child in children])])
        self._say(f"{line}  ({len(children)} of {self.workers} workers)", "ready")

    def announce_waiting(self, children: list[Child]) -> None:
        """Say on stderr how the workers that wait are joined, all at once."""
        names = ", ".join(child.ward.name for child in children)
        command = f"{program_name()} join {self.name} --node {children[0].waits_at}"
        self._say(f"{names}: take them all into the cluster by one plan with: {command}", "waiting")

    def _say(self, text: str, what: str) -> None:
        if self._configuration.log_format == "text":
            click.echo(click.style(f"{what}: ", bold=True) + text, err=True)

    def _begin(self) -> None:
        """The directory is no host's yet: see that it can become one, and make it so."""
        if self._directory.identity() is not None or self._directory.candidate() is not None:
            raise StartupError(
                f"{self._path} is the data directory of one node, which cannot be split among workers: leave --workers "
                "out to resume it, or start a host of another name with an empty --data and let it take the node's "
                "place by `quorate replace`"
            )
        others = sorted(entry.parent.name for entry in self._path.glob("*/identity.json"))
        if others or self._directory.cluster_path.exists():
            raise StartupError(
                f"{self._path} holds a whole cluster ({', '.join(others) or 'no node was started yet'}); `quorate up` "
                "starts it. Give the workers an empty --data directory"
            )
        if not self.name and (self._configuration.join or self._configuration.cluster):
            raise StartupError(
                "a host that joins a cluster needs a name, which those of its workers begin with: --name"
            )
        self.name = self.name or NAME_DEFAULT
        if Path(self.name).name != self.name or len(worker_name(self.name, self.workers)) > NAME_LENGTH_MAX:
            raise StartupError(
                f"'{self.name}' cannot be a host's name: workers have directories called after it, and names of at "
                f"most {NAME_LENGTH_MAX} characters"
            )
        self._check_ports()
        write_host_file(self._path, self.name, self.workers)
        if self._makes_cluster():
            self._found()

    def _makes_cluster(self) -> bool:
        """Is there nothing that the workers could be members of?"""
        if self._configuration.join or self._configuration.cluster or self._directory.cluster_path.exists():
            return False
        names = ("identity.json", "candidate.json", "cluster.json")
        paths = [self._path_of(index) / name for index in range(1, self.workers + 1) for name in names]
        return not any(path.exists() for path in paths)

    def _found(self) -> None:
        """Make a cluster of the workers."""
        configuration = self._configuration
        _, told = self._addresses_of_first()
        members = [
            Member(
                number=index,
                id=new_id(),
                name=worker_name(self.name, index),
                host=configuration.host or socket.gethostname(),
                zone=configuration.zone,
                weight=configuration.weight,
                peer_address=_shifted(told["peer"], index, "peer"),
                client_address=_shifted(told["client"], index, "client"),
                http_address=_shifted(told["http"], index, "HTTP"),
            )
            for index in range(1, self.workers + 1)
        ]
        try:
            cluster = found_cluster(
                new_id(),
                members,
                configuration.partitions or PARTITIONS_DEFAULT,
                configuration.engine or "rocksdb",
                password=configuration.password,
                secret=configuration.secret,
                grace_s=configuration.grace_s,
            )
        except CallerError as error:
            raise StartupError(f"cannot make a cluster: {error}") from None
        write_cluster_file(self._directory.cluster_path, cluster)

    def _check_ports(self) -> None:
        """All ports of all workers are different, and free. Raises `StartupError`."""
        listen, _ = self._addresses_of_first()
        taken: dict[str, str] = {}
        for index in range(1, self.workers + 1):
            for kind in KINDS:
                address = _shifted(listen[kind], index, kind)
                if address in taken:
                    raise StartupError(
                        f"{taken[address]} and {kind}_listen would both use {address}: {self.workers} workers take "
                        f"that many ports of each kind, one after the other; put them at least {self.workers} apart"
                    )
                taken[address] = f"{kind}_listen"
                if not self._configuration.cluster or self._configuration.join:
                    bind(address, kind).close()

    def _addresses_of_first(self) -> tuple[dict[str, str], dict[str, str]]:
        """Of the first worker, if it is new: where it listens, and what others are told."""
        cluster = given_cluster(self._configuration)
        return addresses_of_new(
            self._configuration, self._configuration.password or (cluster.password if cluster else "")
        )

    def _addresses(self, index: int) -> dict[str, str]:
        """What this worker listens on and tells others, as far as it must be said."""
        configuration = self._configuration
        given = {
            f"{kind}_{what}": getattr(configuration, f"{kind}_{what}")
            for kind in KINDS
            for what in ("listen", "advertise")
        }
        if self._membership(index).get("join") and not self._is_member(index):
            listen, _ = self._addresses_of_first()
            given |= {f"{kind}_listen": listen[kind] for kind in KINDS}
        return {name: _shifted(text, index, name) for name, text in given.items() if text}

    def _membership(self, index: int) -> dict[str, str]:
        """By what this worker becomes a member, if it is none yet: see the module's text."""
        path, configuration = self._path_of(index), self._configuration
        joins = {"join": configuration.join} if configuration.join else {}
        given = {"cluster": configuration.cluster} if configuration.cluster else {}
        if self._is_member(index):
            kept = {"cluster": str(self._directory.cluster_path)} if self._directory.cluster_path.exists() else {}
            return {**kept, **given, **joins}
        if not (path / "candidate.json").exists():
            known_by = self._file_that_knows(worker_name(self.name, index))
            if known_by is not None:
                # An empty text overrules the file of --config.
                return {"cluster": str(known_by), "join": ""}
        if not joins and not given and not (path / "candidate.json").exists():
            raise StartupError(
                f"{worker_name(self.name, index)} is no member yet, and its siblings are: say --join HOST:PORT, the "
                "peer address of any member"
            )
        return {**given, **joins}

    def _file_that_knows(self, name: str) -> Path | None:
        """The cluster file of this host, or of a worker of it, that has a member of this name."""
        paths = [self._directory.cluster_path]
        paths += [self._path_of(index) / "cluster.json" for index in range(1, self.workers + 1)]
        for path in paths:
            cluster = read_cluster_file(path)
            if cluster is not None and any(member.name == name for member in cluster.ring.members):
                return path
        return None

    def _is_member(self, index: int) -> bool:
        return (self._path_of(index) / "identity.json").exists()

    def _path_of(self, index: int) -> Path:
        return self._path / worker_name(self.name, index)


def _shifted(address: str, index: int, what: str) -> str:
    """`address` for worker `index`: each has the port after the one before it."""
    host, port = parse_address(address, what)
    if port + index - 1 > PORT_MAX:
        raise StartupError(f"{what} {address}: worker {index} would need port {port + index - 1}, above {PORT_MAX}")
    return join_address(host, port + index - 1)


def _as_option(name: str, setting: Any) -> list[str]:
    """A setting as `quorate start` takes it: {"grace_s": 5} is --grace 5."""
    option = {"grace_s": "--grace", "http_hosts": "--http-host"}.get(name, "--" + name.replace("_", "-"))
    if setting is True:
        return [option]
    if isinstance(setting, list):
        return [text for each in setting for text in (option, str(each))]
    return [option, str(setting)]


def _other_number(path: Path, name: str, workers: int) -> StartupError:
    return StartupError(
        f"{path} holds the {workers} workers of {name}, and their number cannot be changed in place: leave --workers "
        "out to resume them. To have another number, start a host of another name with an empty --data, and let it "
        f"take the place of this one: `quorate replace {name} --by NAME`"
    )
