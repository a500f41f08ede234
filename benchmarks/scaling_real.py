"""Clusters of real processes (`quorate up`) under `quorate bench`: who coordinates, and CPU time of each operation.

CPU time is read from /proc ten times a second, of every node's process with all its threads and of the load generator,
and taken between the moments at which the measured part of a phase began and ended: neither the warm-up nor the writing
of the keys counts. The clock behind it has ticks of 10 ms, so phases should take some seconds.

Gets come first, because their phase begins with writing every key: a put then never has to read first what an earlier
run left under its key, however many keys there are.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from compare import free_base_port
from local_nodes import cpu_s
from scaling_figures import Real, noise_of_choice, noise_of_keys, spread

from quorate.bench.results import Phase, read_results

QUORATE = [sys.executable, "-m", "quorate.cli.main"]
REPLICAS = 3
START_MAX_S = 120.0
STOP_MAX_S = 30.0
KEYS_PER_S_MIN = 500
"""A load that writes its keys slower than this is given up."""
SAMPLE_INTERVAL_S = 0.1
REQUESTS = re.compile(r'^quorate_requests_total\{kind="(?:get|put)",result="\w+"\} (\S+)$', re.MULTILINE)


class Load(NamedTuple):
    """What the load generator does; `in_flight` for each node."""

    seconds: float
    value_bytes: int
    in_flight: int
    engine: str


class Sample(NamedTuple):
    at_s: float
    nodes_s: float
    """CPU time of all nodes until then."""
    load_s: float


class UpNode(NamedTuple):
    name: str
    pid: int
    client: str
    http: str


def measure_real(nodes: int, keys: int, partitions: int, load: Load) -> Real:
    with tempfile.TemporaryDirectory(prefix="quorate-scaling-") as name:
        folder = Path(name)
        with running(folder, nodes, partitions, load.engine) as members:
            before = coordinated(members)
            samples = run_load(folder, members, keys, load)
            after = coordinated(members)
        phases = {phase.report.phase: phase for phase in read_results(folder / "results.json").phases}
    counts = {name: after[name] - before[name] for name in after}
    total = sum(counts.values())
    replicas = min(nodes, REPLICAS)
    parts = (
        noise_of_keys(nodes, replicas, keys),
        noise_of_keys(nodes, replicas, total),
        noise_of_choice(nodes, replicas, total),
    )
    put, get = phases["put"], phases["get"]
    errors: Counter[str] = Counter()
    for phase in (put, get):
        errors.update(phase.report.errors)
    put_us, load_put_us = cost(samples, put)
    get_us, load_get_us = cost(samples, get)
    return Real(
        nodes,
        partitions,
        keys,
        counts,
        spread(counts.values(), sum(part**2 for part in parts) ** 0.5),
        put_us,
        get_us,
        load_put_us,
        load_get_us,
        put.report.ops_per_s,
        get.report.ops_per_s,
        dict(errors),
    )


@contextmanager
def running(folder: Path, nodes: int, partitions: int, engine: str) -> Iterator[list[UpNode]]:
    """A cluster, taken down at the end whatever happens."""
    command = [*QUORATE, "up", "--json", "--port", str(free_base_port(nodes)), "--nodes", str(nodes)]
    command += ["--partitions", str(partitions), "--engine", engine, "--data", str(folder / "data")]
    # Into files: a pipe that nobody reads would fill up. A session of its own: Ctrl-C comes here, and only here.
    with (folder / "events").open("wb") as events, (folder / "log").open("wb") as log:
        up = subprocess.Popen(command, stdout=events, stderr=log, start_new_session=True)
    try:
        yield wait_ready(up, folder)
    finally:
        take_down(up, folder)


def wait_ready(up: subprocess.Popen[bytes], folder: Path) -> list[UpNode]:
    deadline_s = time.monotonic() + START_MAX_S
    while time.monotonic() < deadline_s and up.poll() is None:
        if any(event["event"] == "ready" for event in events_of(folder)):
            return nodes_of(folder)
        time.sleep(0.05)
    raise SystemExit(f"the cluster did not start: {(folder / 'log').read_text()[-2000:]}")


def events_of(folder: Path) -> list[dict[str, Any]]:
    whole_lines = (folder / "events").read_text().split("\n")[:-1]
    return [json.loads(line) for line in whole_lines]


def nodes_of(folder: Path) -> list[UpNode]:
    found = [event for event in events_of(folder) if event["event"] == "node"]
    found.sort(key=lambda event: (len(event["name"]), event["name"]))
    return [UpNode(event["name"], event["pid"], event["client"], event["http"]) for event in found]


def take_down(up: subprocess.Popen[bytes], folder: Path) -> None:
    """Cleanly, or else by force."""
    up.terminate()
    try:
        up.wait(STOP_MAX_S)
    except subprocess.TimeoutExpired:
        for node in nodes_of(folder):
            with suppress(ProcessLookupError):
                os.kill(node.pid, signal.SIGKILL)
        up.kill()
        up.wait()


def run_load(folder: Path, members: list[UpNode], keys: int, load: Load) -> list[Sample]:
    """Run the load to its end, and look at everybody's CPU time meanwhile."""
    command = [*QUORATE, "bench", "--json", "--node", members[0].client, "--workload", "get,put", "--warm-up", "1"]
    command += ["--seconds", str(load.seconds), "--keys", str(keys), "--value-bytes", str(load.value_bytes)]
    command += ["--concurrency", str(load.in_flight * len(members)), "--output", str(folder / "results.json")]
    with (folder / "bench").open("wb") as said:
        bench = subprocess.Popen(command, stdout=said, stderr=said, start_new_session=True)
    deadline_s = time.monotonic() + 2 * (load.seconds + 1) + keys / KEYS_PER_S_MIN + 60
    samples: list[Sample] = []
    try:
        while bench.poll() is None and time.monotonic() < deadline_s:
            # Its process remains readable until the next poll finds its end.
            nodes_s = sum(cpu_s(member.pid) for member in members)
            samples.append(Sample(time.time(), nodes_s, cpu_s(bench.pid)))
            time.sleep(SAMPLE_INTERVAL_S)
    finally:
        if bench.poll() is None:
            bench.kill()
            bench.wait()
    if bench.returncode:
        raise SystemExit(f"the load failed or took too long: {(folder / 'bench').read_text()[-2000:]}")
    return samples


def coordinated(members: list[UpNode]) -> dict[str, int]:
    """Node → gets and puts that it has coordinated since it started."""
    counts = {}
    for member in members:
        with urllib.request.urlopen(f"http://{member.http}/metrics", timeout=10) as response:
            page = response.read().decode()
        counts[member.name] = round(sum(float(count) for count in REQUESTS.findall(page)))
    return counts


def cost(samples: list[Sample], phase: Phase) -> tuple[float, float]:
    """CPU microseconds for each operation of `phase`: of all nodes together, of the load generator."""
    began_s = phase.recorded.began_unix_ms / 1000
    ended_s = began_s + phase.recorded.seconds
    operations = sum(kind.count for kind in phase.report.operations.values())
    if not operations:
        raise SystemExit(f"no {phase.report.phase} succeeded; errors: {phase.report.errors}")
    began, ended = sample_at(samples, began_s), sample_at(samples, ended_s)
    return (
        (ended.nodes_s - began.nodes_s) / operations * 1e6,
        (ended.load_s - began.load_s) / operations * 1e6,
    )


def sample_at(samples: list[Sample], at_s: float) -> Sample:
    """What a sample at that moment would have been, in a straight line between its neighbours."""
    for before, after in pairwise(samples):
        if before.at_s <= at_s <= after.at_s:
            part = (at_s - before.at_s) / (after.at_s - before.at_s)
            return Sample(*(one + part * (other - one) for one, other in zip(before, after, strict=True)))
    return samples[-1]  # The load ended with its last phase.
