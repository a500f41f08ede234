"""A node's data directory: who it belongs to, and that only one process uses it.

    DIR/identity.json   which node of which cluster this is, written once, when the node is born
    DIR/cluster.json    the cluster's founding file: secret and first ring (see `cluster_file`)
    DIR/candidate.json  who this node will be once it is joined to a cluster; until then it has no identity
    DIR/retired.json    the node has left its cluster, and why: nothing is ever started here again
    DIR/lock            held by the running node's process
    DIR/store/          the storage engine's files

Invariants:
- A node's identity is its UUID and lives with its data; names, ports and addresses may change (hard case 21).
- A directory never changes its owner, and data without an identity is never adopted: a node that forgot who it is
  must not begin a new life on top of an old one (hard cases 16, 20, 26).
- The lock is the kernel's (`flock`), so it goes with the process however that ends. The process id in the file is
  only for the message.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
import uuid
from pathlib import Path

import msgspec

from quorate.core.errors import StartupError
from quorate.server.documents import read_document, reason, sync_directory, write_document

IDENTITY_FORMAT = 1
CANDIDATE_FORMAT = 1
RETIRED_FORMAT = 1
RETIRED_NAME = "retired.json"
LOCK_WAIT_MS = 2_000
_LOCK_RETRY_MS = 20


class Identity(msgspec.Struct, frozen=True):
    """Which node of which cluster a data directory holds."""

    format: int
    cluster_id: str
    node_id: str
    """UUID, 32 hexadecimal digits; equal to `Member.id` in the ring."""
    name: str
    number: int
    """Member number in the ring."""
    engine: str


class Candidate(msgspec.Struct, frozen=True):
    """Who waits in a data directory to be joined. It keeps its id over restarts, so that operators see one node."""

    format: int
    node_id: str
    name: str


class Retirement(msgspec.Struct, frozen=True):
    """Why a node is no more."""

    format: int
    name: str
    reason: str
    at: str
    """UTC, ISO 8601."""


def new_id() -> str:
    """A fresh UUID for a cluster or a node."""
    return uuid.uuid4().hex


class DataDirectory:
    """A data directory that this process holds the lock of, from `open` until `close`."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock = lock

    @classmethod
    def open(cls, path: Path, lock_wait_ms: int = LOCK_WAIT_MS) -> DataDirectory:
        """Create the directory if there is none, check that it can be written, and lock it.

        Raises `StartupError` if it is not a directory, cannot be written, or is in use. Waits up to `lock_wait_ms`
        for a previous owner that is just going away: a killed process holds its lock until its memory is returned.
        """
        try:
            path.mkdir(parents=True, exist_ok=True, mode=0o755)
            lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise _unusable(path, error) from None
        try:
            _acquire(lock, path, lock_wait_ms)
            os.ftruncate(lock, 0)
            os.pwrite(lock, b"%d\n" % os.getpid(), 0)
            os.fsync(lock)
            sync_directory(path)
        except OSError as error:
            os.close(lock)
            raise _unusable(path, error) from None
        except StartupError:
            os.close(lock)
            raise
        return cls(path, lock)

    @property
    def store_path(self) -> Path:
        return self.path / "store"

    @property
    def cluster_path(self) -> Path:
        return self.path / "cluster.json"

    @property
    def identity_path(self) -> Path:
        return self.path / "identity.json"

    @property
    def candidate_path(self) -> Path:
        return self.path / "candidate.json"

    def identity(self) -> Identity | None:
        """Whose directory this is; None if it is new. Raises `StartupError` if that cannot be told for sure."""
        document = read_document(
            self.identity_path,
            "the node's identity",
            "restore this file from a copy, or move the directory away and let a new node take its place",
        )
        if document is None:
            if self.store_path.exists() and any(self.store_path.iterdir()):
                raise StartupError(
                    f"{self.path} holds a store but no identity.json, so it cannot be told whose data it is; "
                    f"restore {self.identity_path} from a copy, or give an empty --data directory"
                )
            return None
        try:
            identity = msgspec.convert(document, Identity)
        except msgspec.ValidationError as error:
            raise StartupError(
                f"{self.identity_path} is not a node's identity ({error}); give another --data directory"
            ) from None
        if identity.format != IDENTITY_FORMAT:
            raise StartupError(
                f"{self.identity_path} has format {identity.format}, and this version of quorate reads "
                f"format {IDENTITY_FORMAT}; start it with the version that wrote it"
            )
        return identity

    def claim(self, identity: Identity) -> None:
        """Make this directory `identity`'s, for ever; raises `StartupError` if it cannot be written."""
        assert self.identity() is None, "a directory never changes its owner"
        try:
            write_document(self.identity_path, msgspec.structs.asdict(identity))
            self.candidate_path.unlink(missing_ok=True)
        except OSError as error:
            raise _unusable(self.path, error) from None

    def candidate(self) -> Candidate | None:
        """Who waits here to be joined; raises `StartupError` if that cannot be told for sure."""
        remedy = "give an empty --data directory"
        document = read_document(self.candidate_path, "the waiting node's id", remedy)
        try:
            return None if document is None else msgspec.convert(document, Candidate)
        except msgspec.ValidationError as error:
            raise StartupError(f"{self.candidate_path} is not a waiting node's id ({error}); {remedy}") from None

    def stand(self, candidate: Candidate) -> None:
        """Remember who waits here; raises `StartupError` if it cannot be written."""
        assert self.identity() is None, "a member is no candidate"
        try:
            write_document(self.candidate_path, msgspec.structs.asdict(candidate))
        except OSError as error:
            raise _unusable(self.path, error) from None

    def retire(self, retirement: Retirement) -> None:
        """Start nothing here any more; raises `StartupError` if it cannot be written."""
        try:
            write_document(self.path / RETIRED_NAME, msgspec.structs.asdict(retirement))
        except OSError as error:
            raise _unusable(self.path, error) from None

    def close(self) -> None:
        """Let the next process in. Idempotent."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def read_retirement(path: Path) -> Retirement | None:
    """Why the node in the data directory `path` is no more; None if it is one still.

    Raises `StartupError` if that cannot be told for sure.
    """
    remedy = "the node has most likely left its cluster: give an empty --data directory"
    document = read_document(path / RETIRED_NAME, "the note that the node has left", remedy)
    try:
        return None if document is None else msgspec.convert(document, Retirement)
    except msgspec.ValidationError as error:
        raise StartupError(f"{path / RETIRED_NAME} cannot be read ({error}); {remedy}") from None


def _acquire(lock: int, path: Path, wait_ms: int) -> None:
    deadline = time.monotonic() + wait_ms / 1000
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
        if time.monotonic() >= deadline:
            holder = os.pread(lock, 32, 0).decode("ascii", "replace").strip() or "unknown"
            raise StartupError(
                f"data directory {path} is in use by process {holder}; stop that node, or give another --data directory"
            )
        time.sleep(_LOCK_RETRY_MS / 1000)


def _unusable(path: Path, error: OSError) -> StartupError:
    remedy = "make room" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "make it writable"
    return StartupError(
        f"cannot use data directory {path}: {reason(error)}; {remedy}, or give another --data directory"
    )
