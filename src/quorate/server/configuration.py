"""A node's configuration: a TOML file, overridden by command-line flags, checked as a whole before anything starts.

Every field has the same name in the file and (with dashes) on the command line. An unknown key is an error, since a
misspelt one would silently mean the default. What a node has to know for life (its identity) is not here but in its
data directory.

Safety rule: a listener that other machines can reach needs authentication, a password for clients and a secret
between nodes. `insecure` lifts the rule, and the node says so in its log at every start.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from quorate.core.errors import StartupError
from quorate.core.limits import (
    CLOCK_SKEW_MAX_MS,
    FRAME_BYTES_MAX,
    KIB,
    MEMBER_WEIGHT_MAX,
    SLOTS,
    VALUE_BYTES_MAX_DEFAULT,
    WORKERS_MAX,
)
from quorate.server.addresses import is_loopback, is_wildcard, parse_address
from quorate.server.documents import reason
from quorate.server.memory import CACHE_BYTES_MIN

EngineName = Literal["rocksdb", "memory"]

SECRET_BYTES_MIN = 16
NAME_LENGTH_MAX = 64
LABEL_LENGTH_MAX = 255
GRACE_MIN_S = 5
GRACE_MAX_S = 366 * 86_400
VALUE_BYTES_CEILING = FRAME_BYTES_MAX // 4
"""A record of a few siblings must still fit into one frame between nodes."""


class NodeConfiguration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a person may set about one node. An empty text means: as the cluster file says, or the default."""

    name: str = ""
    data: str = ""
    cluster: str = ""
    """Path of a cluster's founding file; gives a fresh data directory its membership, by `name`."""
    join: str = ""
    """Peer address of a member: a fresh data directory waits to be joined to that one's cluster."""
    client_listen: str = ""
    http_listen: str = ""
    peer_listen: str = ""
    client_advertise: str = ""
    """What other machines connect to, if it is not the address listened on."""
    http_advertise: str = ""
    peer_advertise: str = ""
    http_hosts: list[str] = []
    """Other names that the HTTP port may be asked by (the header Host): those of proxies, for instance."""
    host: str = ""
    zone: str = ""
    weight: int = 1
    """Of each worker, if there are several."""
    workers: int = 0
    """Processes that serve as members of one host, so that several cores do; 0: as many as the data directory has, or
    one."""
    secret: str = ""
    """Cluster secret: hexadecimal digits or any text, at least 16 bytes."""
    password: str = ""
    engine: EngineName | Literal[""] = ""
    partitions: int = 0
    """Only for a cluster that is being created; 0: the default."""
    grace_s: int = 0
    """Only for a cluster that is being created: seconds after which what is deleted may be forgotten; 0: a day."""
    value_bytes_max: int = VALUE_BYTES_MAX_DEFAULT
    clock_skew_max_ms: int = CLOCK_SKEW_MAX_MS
    cache_bytes_max: int = 0
    """What the caches may hold (of each worker); 0: a share of the machine's memory, see `quorate.server.memory`."""
    log_format: Literal["text", "json"] = "text"
    insecure: bool = False

    def secret_bytes(self) -> bytes:
        return decode_secret(self.secret)


def load_configuration(path: Path | None, flags: Mapping[str, Any]) -> NodeConfiguration:
    """The file's settings with `flags` (those that are not None) on top; raises `StartupError`."""
    settings = _read_toml(path) if path is not None else {}
    settings.update({name: value for name, value in flags.items() if value is not None})
    unknown = [name for name in settings if name not in NodeConfiguration.__struct_fields__]
    if unknown:
        raise StartupError(f"unknown configuration {_describe(unknown)}{f' in {path}' if path else ''}")
    try:
        configuration = msgspec.convert(settings, NodeConfiguration)
    except msgspec.ValidationError as error:
        raise StartupError(f"bad configuration{f' in {path}' if path else ''}: {error}") from None
    _check(configuration)
    return configuration


def check_exposure(listen: Mapping[str, str], password: str, secret: bytes, insecure: bool) -> str | None:
    """Refuse listeners that others can reach without authentication; raises `StartupError`.

    `listen`: what → address. Returns a warning to log if `insecure` let them through, None if all is well.
    """
    exposed = [f"{what} {text}" for what, text in listen.items() if not is_loopback(parse_address(text, what)[0])]
    if not exposed or (password and secret):
        return None
    lacking = " and ".join(
        word for word, there in (("a password", password), ("a cluster secret", secret)) if not there
    )
    if insecure:
        return f"INSECURE: {', '.join(exposed)} can be reached by other machines without {lacking}"
    raise StartupError(
        f"refusing to listen on {', '.join(exposed)} without {lacking}: anyone who reaches it could read and change "
        f"all data. Configure {lacking}, listen on 127.0.0.1, or say --insecure"
    )


def check_advertised(listen: str, advertise: str, what: str) -> str:
    """The address that others are told: `advertise`, or `listen` unless that is a wildcard (`StartupError`)."""
    if advertise:
        parse_address(advertise, f"{what}_advertise")
        return advertise
    if is_wildcard(parse_address(listen, f"{what}_listen")[0]):
        raise StartupError(
            f"{what}_listen is {listen}, which says nothing to other machines; "
            f"set {what}_advertise to the address that they reach this node by"
        )
    return listen


def decode_secret(text: str) -> bytes:
    """The bytes of a secret: hexadecimal digits if it is such, else the text itself; raises `StartupError`."""
    try:
        secret = bytes.fromhex(text)
    except ValueError:
        secret = text.encode()
    if len(secret) < SECRET_BYTES_MIN and text:
        raise StartupError(
            f"the cluster secret has {len(secret)} bytes and needs at least {SECRET_BYTES_MIN}; "
            "make one with: openssl rand -hex 32"
        )
    return secret


def check_partitions(partitions: int) -> None:
    if not 1 <= partitions <= SLOTS or partitions & (partitions - 1):
        raise StartupError(f"partitions must be a power of two from 1 to {SLOTS}; got {partitions}")


def check_grace(grace_s: int) -> None:
    if not GRACE_MIN_S <= grace_s <= GRACE_MAX_S:
        raise StartupError(
            f"grace must be from {GRACE_MIN_S} s to {GRACE_MAX_S} s; got {grace_s}. A node away for longer has to "
            "be filled anew, so a day is a good choice"
        )


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StartupError(f"cannot read configuration {path}: {reason(error)}") from None
    except UnicodeDecodeError:
        raise StartupError(f"configuration {path} is not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise StartupError(f"configuration {path} is not valid TOML: {error}") from None


def _describe(unknown: list[str]) -> str:
    described = []
    for name in unknown:
        near = difflib.get_close_matches(name, NodeConfiguration.__struct_fields__, 1)
        described.append(f"'{name}'" + (f" (did you mean '{near[0]}'?)" if near else ""))
    return ("key " if len(unknown) == 1 else "keys ") + ", ".join(described)


def _check(configuration: NodeConfiguration) -> None:
    names = [f"{what}_{kind}" for what in ("client", "http", "peer") for kind in ("listen", "advertise")]
    for name in (*names, "join"):
        if text := getattr(configuration, name):
            parse_address(text, name)
    for name in configuration.http_hosts:
        if not name or len(name) > LABEL_LENGTH_MAX or not name.isprintable() or any(mark in name for mark in "/: "):
            raise StartupError(f"http_hosts are names of hosts without a port; got '{name[:64]}'")
    _check_labels(configuration)
    if configuration.join and (configuration.partitions or configuration.grace_s):
        raise StartupError("partitions and grace_s are settled when a cluster is made; a node that joins has none")
    if not KIB <= configuration.value_bytes_max <= VALUE_BYTES_CEILING:
        raise StartupError(
            f"value_bytes_max must be from {KIB} to {VALUE_BYTES_CEILING}; got {configuration.value_bytes_max}"
        )
    if configuration.clock_skew_max_ms < 1:
        raise StartupError(f"clock_skew_max_ms must be at least 1; got {configuration.clock_skew_max_ms}")
    if configuration.cache_bytes_max and configuration.cache_bytes_max < CACHE_BYTES_MIN:
        raise StartupError(
            f"cache_bytes_max must be at least {CACHE_BYTES_MIN}, or 0 for a share of the machine's memory; "
            f"got {configuration.cache_bytes_max}"
        )
    if configuration.partitions:
        check_partitions(configuration.partitions)
    if configuration.grace_s:
        check_grace(configuration.grace_s)
    decode_secret(configuration.secret)


def _check_labels(configuration: NodeConfiguration) -> None:
    for what, length_max in (("name", NAME_LENGTH_MAX), ("host", LABEL_LENGTH_MAX), ("zone", LABEL_LENGTH_MAX)):
        text = getattr(configuration, what)
        if len(text) > length_max or not text.isprintable():
            raise StartupError(f"a node's {what} has at most {length_max} printable characters")
    if not 1 <= configuration.weight <= MEMBER_WEIGHT_MAX:
        raise StartupError(f"weight must be from 1 to {MEMBER_WEIGHT_MAX}; got {configuration.weight}")
    if not 0 <= configuration.workers <= WORKERS_MAX:
        raise StartupError(f"a host has from 1 to {WORKERS_MAX} workers; got {configuration.workers}")
