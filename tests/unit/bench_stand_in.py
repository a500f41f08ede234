"""Stands for `quorate.bench.worker` in tests of its crew: `python bench_stand_in.py MANNER FILE`.

It has no cluster, answers as its manner says, and notes in FILE what it reads.
"""

from __future__ import annotations

import json
import sys
import threading
from typing import Any

import msgspec

from quorate.bench.checked import Verdict
from quorate.bench.job import Job
from quorate.bench.report import Recorder
from quorate.bench.worker import Answer


def main(manner: str, path: str) -> None:
    job = msgspec.json.decode(sys.stdin.buffer.readline(), type=Job)
    load = job.load

    def note(what: Any) -> None:
        with open(path, "a") as file:  # noqa: PTH123 - one write, so the lines of several processes do not mix
            file.write(json.dumps([load.process, what]) + "\n")

    def tell(answer: Answer) -> None:
        sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
        sys.stdout.buffer.flush()

    note([load.concurrency, load.rate_per_s, load.process, load.processes])
    if manner == "stillborn":
        sys.exit(3)
    tell(Answer())
    if manner == "deaf":
        threading.Event().wait()
    for line in sys.stdin.buffer:
        step = json.loads(line)
        note(step["do"])
        if manner == "dying" and load.process == 1:
            sys.exit(3)
        if manner == "failing":
            tell(Answer(error="no node answers", kind="Unavailable"))
        elif step["do"] == "measure" and manner == "until told":
            tell(Answer(done=1))
        elif step["do"] in ("measure", "stop"):
            recorder = Recorder("put")
            for _ in range(load.process + 1):
                recorder.succeeded(0.0, "put", 0.001)
            tell(Answer(result=recorder.result(1.0)))
        elif step["do"] == "verify":
            tell(Answer(verdict=Verdict(10, load.process, 0)))
        else:
            tell(Answer())


if __name__ == "__main__":
    main(*sys.argv[1:])
