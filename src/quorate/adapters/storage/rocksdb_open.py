"""Opening the database, whatever its last user has left: as much as can be read, and word of what cannot.

The log is first read strictly. If something other than an unfinished last record is wrong in it, it is read again up to
the damage. A database that cannot be opened even so is never emptied by itself: whether peers hold the rest is for the
operator to know.

Two kinds of damage look like nothing to RocksDB, and are looked for here (a third, a log that was cut off, is for
`reach`): a log that its reader would not get to the end of (`rocksdb_logs`), and a manifest that was cut off. What it
does not mention any more counts as refuse, and is deleted: so a whole table that the manifest does not know is taken
for lost data. That may be wrong if the process died in the moment between finishing a table and noting it down, or
between a compaction and the deletion of what went into it; being suspicious then costs a few bytes a key.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Final

from rocksdict import Cache, DBRecoveryMode, Rdict

from quorate.adapters.storage.failures import is_corruption, is_lock, open_error
from quorate.adapters.storage.rocksdb_logs import disarm
from quorate.adapters.storage.rocksdb_options import (
    FAMILY_NAMES,
    SALVAGING_RECOVERY,
    STRICT_RECOVERY,
    database_options,
    family_options,
)
from quorate.core.errors import StartupError

DATABASE_NAME: Final = "rocksdb"
_TABLE_MAGIC: Final = (0x88E241B785F4CFF7).to_bytes(8, "little")
"""The last bytes of a table that is finished."""

log = logging.getLogger("quorate.storage")


def open_database(path: Path, block_cache_bytes: int, write_buffer_bytes: int) -> tuple[Rdict, bool]:
    """The database in `path`/rocksdb, and whether damage says that writes may be missing. Raises `StartupError`."""
    directory = path / DATABASE_NAME
    try:
        directory.mkdir(parents=True, exist_ok=True)
        _refuse_without_current(directory)
        _disarm_logs(directory)
        tables = _finished_tables(directory)
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
    unknown = tables - {file["name"].lstrip("/") for file in database.live_files()}
    if unknown:
        names = ", ".join(sorted(unknown))
        log.warning("what was in %s is missing: the manifest in %s does not know these tables", names, directory)
    return database, bool(torn or unknown)


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


def _finished_tables(directory: Path) -> set[str]:
    return {table.name for table in directory.glob("*.sst") if _last_bytes(table) == _TABLE_MAGIC}


def _last_bytes(table: Path) -> bytes:
    with table.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - len(_TABLE_MAGIC)))
        return file.read()
