"""Caches take a share of the memory that there is, and no more than a control group allows."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from quorate.core.limits import MIB
from quorate.server.memory import CacheBytes, cache_bytes, memory_bytes

GIB = 1024 * MIB


@pytest.mark.parametrize(
    ("wanted", "memory", "records", "blocks"),
    [
        (0, 512 * MIB, 32 * MIB, 64 * MIB),
        (0, 8 * GIB, 8 * GIB // 72, 8 * GIB // 24 - 8 * GIB // 72),
        (0, 1024 * GIB, 256 * MIB, 512 * MIB),
        (30 * MIB, 1024 * GIB, 10 * MIB, 20 * MIB),
    ],
    ids=["a small container", "a laptop", "a large machine", "told"],
)
def test_the_caches_share_what_suits_the_machine_or_what_they_are_told(
    wanted: int, memory: int, records: int, blocks: int
) -> None:
    assert cache_bytes(wanted, memory) == CacheBytes(records, blocks)


def test_the_memory_is_what_the_control_group_allows_and_never_more_than_the_machine_has(tmp_path: Path) -> None:
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    tight, loose, none = tmp_path / "tight", tmp_path / "loose", tmp_path / "none"
    tight.write_text("1048576\n")
    loose.write_text(f"{2**63}\n")
    none.write_text("max\n")
    absent = tmp_path / "absent"
    assert memory_bytes([]) == machine
    assert memory_bytes([loose, none, absent]) == machine
    assert memory_bytes([absent, none, tight, loose]) == 1048576
