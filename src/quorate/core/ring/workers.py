"""Workers: the members that are processes of one host, so that a machine's cores all serve.

A worker is a member like any other, and nothing between nodes knows of the word: it has a number, tokens and a store
of its own, and shares with its siblings only the label `host`, which keeps replicas of a key apart. What makes members
the workers of a host is how they are called: those of n4 are n4.1, n4.2 and so on. Operators mean them all by that
name, and each by its own.

Invariants: a name or an id that somebody has means that one alone, whatever others are called; members on different
hosts are never taken for workers of one, however they are called.

Rejected: a field of `Member` (it would change the ring that is stored and sent, to say what the name says); the label
`host` as the name (machines are called otherwise than nodes, and the nodes of a cluster on one machine share one
without being each other's workers).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from quorate.core.errors import CallerError


class Named(Protocol):
    """A member, or who would like to be one."""

    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def host(self) -> str: ...


N = TypeVar("N", bound=Named)
T = TypeVar("T")


def worker_name(host_name: str, index: int) -> str:
    """The name of worker `index` (from 1) of the host that operators call `host_name`."""
    return f"{host_name}.{index}"


def split_worker_name(name: str) -> tuple[str, int] | None:
    """("n4", 2) of "n4.2"; None if this is no worker's name."""
    host_name, dot, digits = name.rpartition(".")
    if not dot or not host_name or not digits.isascii() or not digits.isdigit() or digits[0] == "0":
        return None
    return host_name, int(digits)


def called(everybody: Sequence[N], name: str) -> list[N]:
    """Who is meant by `name`: the one with this name or id, else the workers of the host of this name, by their index.

    Nobody: an empty list. Raises `CallerError` if those that are called so are on several hosts.
    """
    exact = [one for one in everybody if name in (one.name, one.id)]
    if exact:
        return exact
    workers = []
    for one in everybody:
        parts = split_worker_name(one.name)
        if parts is not None and parts[0] == name:
            workers.append((parts[1], one))
    workers.sort(key=lambda pair: (pair[0], pair[1].id))
    if len({one.host for _, one in workers}) > 1:
        names = ", ".join(one.name for _, one in workers)
        raise CallerError(f"{names} are on different hosts, so they are no workers of one: name each by itself")
    return [one for _, one in workers]


def by_host(everybody: Sequence[T], labels: Callable[[T], tuple[str, str]]) -> list[tuple[str, list[T]]]:
    """(how it is called, who it is) for every host that has several workers here, and for everybody else alone.

    In the order of `everybody`, workers by their index. `labels` gives the name of one, and its label `host`.
    """
    hosts: dict[tuple[str, str], list[tuple[int, T]]] = {}
    for one in everybody:
        name, host = labels(one)
        parts = split_worker_name(name)
        if parts is not None:
            hosts.setdefault((parts[0], host), []).append((parts[1], one))
    found: list[tuple[str, list[T]]] = []
    for one in everybody:
        name, host = labels(one)
        parts = split_worker_name(name)
        workers = hosts.get((parts[0], host), []) if parts is not None else []
        if parts is None or len(workers) < 2:
            found.append((name, [one]))
        elif workers[0][1] is one:
            found.append((parts[0], [worker for _, worker in sorted(workers, key=lambda pair: pair[0])]))
    return found
