"""Hosts with several workers, for people: one line for each, and their addresses as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from quorate.core.errors import CallerError
from quorate.core.wire.address import join_address, split_address


def host_lines(hosts: Sequence[tuple[str, Sequence[Mapping[str, str]]]]) -> list[str]:
    """A line about where each of `hosts` listens: (its name, what → address of each worker)."""
    labels = {"client": "clients", "http": "HTTP", "peer": "peers"}
    return [
        f"{name}  "
        + "  ".join(f"{label} {addresses_text([listen[what] for listen in those])}" for what, label in labels.items())
        for name, those in hosts
    ]


def addresses_text(addresses: Sequence[str]) -> str:
    """["127.0.0.1:7401", "127.0.0.1:7402"] → "127.0.0.1:7401-7402"; what has no such order is listed."""
    try:
        parts = [split_address(address) for address in addresses]
    except CallerError:
        return ", ".join(addresses)
    host, first = parts[0]
    if len(parts) > 1 and parts == [(host, first + place) for place in range(len(parts))]:
        return f"{join_address(host, first)}-{parts[-1][1]}"
    return ", ".join(addresses)
