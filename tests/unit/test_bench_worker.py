"""A process that carries a part of a load, and the end of the one that started it."""

from __future__ import annotations

import os
import subprocess
import sys

import msgspec

from quorate.bench.job import Job
from quorate.bench.runner import Load

NOBODY = Job("127.0.0.1:1", None, 1000, b"b", Load(keys=1), "plain")
"""Its cluster does not answer, so there is something to say."""


def test_it_ends_quietly_when_nobody_reads_what_it_says() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "quorate.bench.worker"],
            input=msgspec.json.encode(NOBODY) + b"\n",
            stdout=writer,
            stderr=subprocess.PIPE,
            check=False,
        )
    finally:
        os.close(writer)
    assert done.stderr == b""
