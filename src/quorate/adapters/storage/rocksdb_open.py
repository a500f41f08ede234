"""Opening the database, whatever its last user has left: as much as can be read, and word of what cannot.

The log is first read strictly. If something other than an unfinished last record is wrong in it, it is read again up to
the damage. A database that cannot be opened even so is never emptied by itself: whether peers hold the rest is for the
operator to know.

Some damage looks like nothing to RocksDB. A log that its reader would not get to the end of is mended before
(`rocksdb_logs`); a manifest that was cut off is told by its length (`reach`, as is a log that was cut off).
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

from rocksdict import Cache, DBRecoveryMode, Rdict

from quorate.adapters.storage.failures import is_corruption, is_lock, open_error
from quorate.adapters.storage.reach import Reached, manifest_number
from quorate.adapters.storage.rocksdb_logs import disarm, whole_bytes
from quorate.adapters.storage.rocksdb_options import (
    FAMILY_NAMES,
    SALVAGING_RECOVERY,
    STRICT_RECOVERY,
    database_options,
    family_options,
)
from quorate.core.errors import StartupError

DATABASE_NAME: Final = "rocksdb"
_CURRENT_BYTES_MAX: Final = 64
log = logging.getLogger("quorate.storage")


def open_database(
    path: Path, block_cache_bytes: int, write_buffer_bytes: int, reached: Reached | None
) -> tuple[Rdict, bool]:
    """The database in `path`/rocksdb, and whether damage says that writes may be missing. Raises `StartupError`."""
    directory = path / DATABASE_NAME
    try:
        directory.mkdir(parents=True, exist_ok=True)
        _refuse_without_current(directory)
        _disarm_logs(directory)
        cut = reached is not None and _manifest_is_cut(directory, reached)
    except OSError as error:
        raise open_error(path, error) from error

    def attempt(mode: DBRecoveryMode) -> Rdict:
        cache = Cache(block_cache_bytes)
        families = {name: family_options(cache, write_buffer_bytes) for name in FAMILY_NAMES.values()}
        return Rdict(str(directory), database_options(cache, write_buffer_bytes, mode), families)

    torn = ""
    try:
        try:
            database = attempt(STRICT_RECOVERY)
        except Exception as error:
            if is_lock(error) or not is_corruption(error):
                raise
            torn = str(error)
            database = attempt(SALVAGING_RECOVERY)
    except Exception as error:
        raise open_error(path, error) from error
    if torn:
        log.warning("the log in %s is damaged, and what was written after the damage is missing: %s", directory, torn)
    if cut:
        log.warning("the end of the manifest in %s is missing, and so is what it does not mention any more", directory)
    return database, cut or torn != ""


def manifest_of(directory: Path) -> Path | None:
    """The manifest by which the database in `directory` goes; None if it has none. Raises `OSError`."""
    try:
        name = (directory / "CURRENT").read_bytes()[:_CURRENT_BYTES_MAX].decode("ascii", "replace").strip()
    except FileNotFoundError:
        return None
    return directory / name if manifest_number(name) else None


def _manifest_is_cut(directory: Path, reached: Reached) -> bool:
    manifest = manifest_of(directory)
    if manifest is None or manifest_number(manifest.name) != reached.manifest or not manifest.exists():
        return False
    return whole_bytes(manifest) < reached.manifest_bytes


def _refuse_without_current(directory: Path) -> None:
    """Without that file RocksDB makes a new database, and deletes what there is of the old one."""
    if (directory / "CURRENT").exists():
        return
    if any(any(directory.glob(pattern)) for pattern in ("*.sst", "*.log")):
        raise StartupError(
            f"{directory} holds data but not its file CURRENT; opening it would erase the data. Restore the directory,"
            " or move it away and start the node with an empty one: its peers will fill it again"
        )


def _disarm_logs(directory: Path) -> None:
    """Let the reader of the logs get over what is in them; it then judges what that is worth."""
    for file in sorted([*directory.glob("*.log"), *directory.glob("MANIFEST-*")]):
        for offset in disarm(file):
            log.warning("the type of the record at %d in %s was damaged; its checksum decides over it", offset, file)
