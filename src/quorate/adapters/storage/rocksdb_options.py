"""How RocksDB is set up: within a fixed budget of memory, files and threads, whatever the amount of data.

| what                        | bound                                                                      |
|-----------------------------|----------------------------------------------------------------------------|
| block cache                 | one for all spaces; index and filter blocks live in it                     |
| memtables                   | one budget over all spaces, in small ones, flushed several at once         |
| open files                  | `OPEN_FILES_MAX`, so that connections cannot starve storage (hard case 34) |
| background threads          | two: one flush and one compaction at a time                                |
| what they write             | `BACKGROUND_BYTES_PER_S_MAX`, and in small portions                        |
| RocksDB's own log           | two files of 1 MiB                                                         |

The log (WAL) is handed to the operating system within each write (`manual_wal_flush` stays off), so a killed process
loses nothing. Blocks are compressed with LZ4, which costs less than the reads that it saves; the bloom filters answer
for absent keys, which every first put of a key asks for.

Index and filters are cut into blocks of the usual size. Whole, the filter of a file with a million keys has 1.25 MB,
more than one shard of the cache keeps, and would be read again for every get.

Memtables are small, and four go into one flush. To find a record's place in the list of one with 64 MiB took an eighth
of a node's time under puts, most of it spent waiting for memory; with 16 MiB, three stores on two cores write a record
in 3.1 instead of 4.4 µs. Flushed one by one they would make many small tables, and more merges. Each has a bloom
filter, so that a get seldom looks into more than one of them: with three, a get of a small record that is in a table
takes 4 µs instead of 12.

What flushes and merges write is handed out in portions, every `_PORTION_INTERVAL_US`, and RocksDB itself tunes how much
that is: a twentieth of the bound as long as that suffices, more when demand stays. So a memtable is flushed in one
steady trickle that leaves room for the requests, and not in a burst that takes a core for half a second. (In three
interleaved rounds at half of the peak of a cluster on two cores, 99.9 % of the requests took up to 12 to 17 ms with the
portions, and 22 to 77 ms without.)

Rejected: `max_open_files = -1` (all files open, and their indexes outside the cache); direct IO (the page cache is the
only cache that shrinks under pressure); pipelined writes (one thread writes).
"""

from __future__ import annotations

from typing import Final

from rocksdict import (
    BlockBasedIndexType,
    BlockBasedOptions,
    Cache,
    ChecksumType,
    DataBlockIndexType,
    DBCompressionType,
    DBRecoveryMode,
    Options,
)

from quorate.core.limits import KIB, MIB
from quorate.core.ports import Space

BLOCK_CACHE_BYTES_DEFAULT: Final = 48 * MIB
WRITE_BUFFER_BYTES_DEFAULT: Final = 128 * MIB
OPEN_FILES_MAX: Final = 256
BACKGROUND_BYTES_PER_S_MAX: Final = 256 * MIB
"""More than one core can merge, so a load that needs all of it gets it."""
_PORTION_INTERVAL_US: Final = 2_000
_FAIRNESS: Final = 10
"""Merges get their portion before flushes in one of so many turns. RocksDB's default."""
_MEMTABLES_IN_BUDGET: Final = 8
_MEMTABLES_MERGED: Final = 4
"""In one flush, once there are so many: half of the budget."""
_MEMTABLE_BLOOM_RATIO: Final = 0.02
"""Of a memtable's size: some 15 bits for each of the smallest records."""
_TABLE_FILE_BYTES: Final = 64 * MIB
_INFO_LOG_BYTES_MAX: Final = 1 * MIB

FAMILY_NAMES: Final = {Space.DATA: "default", Space.META: "meta", Space.HINTS: "hints"}
"""RocksDB's name of each space's column family. DATA has the one that always exists."""

STRICT_RECOVERY: Final = DBRecoveryMode.tolerate_corrupted_tail_records()
"""An incomplete last record is an unfinished write, anything else wrong in the log is an error."""

SALVAGING_RECOVERY: Final = DBRecoveryMode.point_in_time()
"""Replay the log up to the first thing wrong in it: what a loss of power leaves is a prefix of the writes."""


def database_options(cache: Cache, write_buffer_bytes: int, recovery_mode: DBRecoveryMode) -> Options:
    """Options of the database as a whole, and of its default family."""
    options = family_options(cache, write_buffer_bytes)
    options.create_if_missing(True)
    options.create_missing_column_families(True)
    options.set_wal_recovery_mode(recovery_mode)
    options.set_paranoid_checks(True)
    options.set_db_write_buffer_size(write_buffer_bytes)
    options.set_max_total_wal_size(4 * write_buffer_bytes)
    options.set_max_open_files(OPEN_FILES_MAX)
    options.set_max_file_opening_threads(1)
    options.set_max_background_jobs(2)
    options.set_max_subcompactions(1)
    options.set_bytes_per_sync(1 * MIB)
    options.set_auto_tuned_ratelimiter(BACKGROUND_BYTES_PER_S_MAX, _PORTION_INTERVAL_US, _FAIRNESS)
    options.set_keep_log_file_num(2)
    options.set_max_log_file_size(_INFO_LOG_BYTES_MAX)
    options.set_stats_dump_period_sec(0)
    options.set_stats_persist_period_sec(0)
    options.set_skip_stats_update_on_db_open(True)
    return options


def family_options(cache: Cache, write_buffer_bytes: int) -> Options:
    """Options of one column family."""
    options = Options(raw_mode=True)
    options.set_write_buffer_size(write_buffer_bytes // _MEMTABLES_IN_BUDGET)
    options.set_min_write_buffer_number_to_merge(_MEMTABLES_MERGED)
    options.set_max_write_buffer_number(3 * _MEMTABLES_MERGED)
    options.set_memtable_prefix_bloom_ratio(_MEMTABLE_BLOOM_RATIO)
    options.set_memtable_whole_key_filtering(True)
    options.set_arena_block_size(256 * KIB)
    options.set_target_file_size_base(_TABLE_FILE_BYTES)
    options.set_max_bytes_for_level_base(4 * _TABLE_FILE_BYTES)
    options.set_compression_type(DBCompressionType.lz4())
    options.set_block_based_table_factory(_table_options(cache))
    return options


def _table_options(cache: Cache) -> BlockBasedOptions:
    table = BlockBasedOptions()
    table.set_block_cache(cache)
    table.set_block_size(4 * KIB)
    table.set_bloom_filter(10, block_based=False)
    table.set_cache_index_and_filter_blocks(True)
    table.set_index_type(BlockBasedIndexType.two_level_index_search())
    table.set_partition_filters(True)
    table.set_pin_top_level_index_and_filter(True)
    table.set_pin_l0_filter_and_index_blocks_in_cache(True)
    table.set_data_block_index_type(DataBlockIndexType.binary_and_hash())
    table.set_format_version(5)
    table.set_checksum_type(ChecksumType.xxh3())
    return table
