"""What one process is told about the load that it carries, and what carries it."""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from quorate.bench.checked import CheckedBench
from quorate.bench.load import Bench
from quorate.bench.runner import Load, Runner
from quorate.bench.ycsb import YcsbBench

PLAIN: Final = ("put", "get", "mixed")
"""The workloads that are none of YCSB's."""


class Job(msgspec.Struct, frozen=True):
    """A load on a bucket, and where the bucket is."""

    seeds: str
    password: str | None
    timeout_ms: float
    bucket: bytes
    load: Load
    kind: Literal["plain", "checked", "ycsb"]
    blind: bool = False
    """Of YCSB: the bucket settles conflicts itself."""
    tell_progress: bool = False

    def runner(self, bucket: Any) -> Runner:
        if self.kind == "checked":
            return CheckedBench(bucket, self.load)
        if self.kind == "plain":
            return Bench(bucket, self.load)
        return YcsbBench(bucket, self.load, self.blind)
