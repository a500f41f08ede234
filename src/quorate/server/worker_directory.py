"""The data directory of a host with several workers: how many they are, and how they are called together.

    DIR/workers.json   written once, when the host is set up, before anything else
    DIR/cluster.json   the cluster's founding file, if the host made its cluster
    DIR/n4.1/          each worker's data directory, as that of any node
    DIR/lock           held by the process that runs them

The number of workers is for good: each holds a part of the data, under an identity of its own.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from quorate.core.errors import StartupError
from quorate.server.documents import read_document, reason, write_document

WORKERS_FILE = "workers.json"
WORKERS_FORMAT = 1


class HostFile(msgspec.Struct, frozen=True):
    """Whose workers are in a directory."""

    format: int
    name: str
    """What theirs begin with."""
    workers: int


def read_host_file(path: Path) -> HostFile | None:
    """Of the data directory `path`; None if it is not a host's. Raises `StartupError` if that cannot be told."""
    remedy = "each worker can be started by itself: quorate start --data DIR/NAME"
    document = read_document(path / WORKERS_FILE, "the number of workers", remedy)
    if document is None:
        return None
    try:
        found = msgspec.convert(document, HostFile)
    except msgspec.ValidationError as error:
        raise StartupError(f"{path / WORKERS_FILE} cannot be read ({error}); {remedy}") from None
    if found.format != WORKERS_FORMAT:
        raise StartupError(
            f"{path / WORKERS_FILE} has format {found.format}, and this version of quorate reads format "
            f"{WORKERS_FORMAT}; start it with the version that wrote it"
        )
    return found


def write_host_file(path: Path, name: str, workers: int) -> None:
    """Raises `StartupError` if it cannot be written."""
    try:
        write_document(path / WORKERS_FILE, msgspec.structs.asdict(HostFile(WORKERS_FORMAT, name, workers)))
    except OSError as error:
        raise StartupError(f"cannot write {path / WORKERS_FILE}: {reason(error)}") from None
