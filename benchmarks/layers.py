"""Where the processor's time goes for one put and one get, layer by layer, in the nodes and in the load generator.

    python benchmarks/layers.py [--seconds 8] [--concurrency 64]

Three real nodes (rocksdb) under `quorate bench`. Linux's `perf` samples the stacks of one node and of the load
generator; each sample counts for the innermost layer on its stack, and the shares are scaled to the processor time per
operation that /proc tells (of all three nodes together, since each puts and gets a third and replicates the rest).
Needs `perf` and compiled modules (`make compile`): in the interpreter's frames no layer can be told from another.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path

from local_nodes import Load, Nodes, cpu_s, running, say

from quorate import _compiled

KERNEL = "kernel: sockets, log, scheduling"
LOOP = "event loop, interpreter, the rest"
LAYERS: dict[str, str] = {
    "RESP: parse, options, contexts, reply": r"resp___|parser___|options___|kv___|replies___|slots___|strings___|"
    r"causality___context",
    "coordinator: plan, causality, tally": r"coordinator___|put_operation|get_operation|put_plan|evidence|_tally___|"
    r"dotted_version|version_vectors|actor___|hybrid_logical|cluster_view|keyspace|requests___|node___context|measures",
    "records: cache, envelope, trees, commit": r"records___|record_cache|envelope|merkle|commit_queue|record___|"
    r"node___trees",
    "replica": r"replica___",
    "peers: frames, messages, dispatch": r"transport___|framing|codec|age___|dispatch|tcp___",
    "client: commands, routing, streams": r"commands___|routing|streams|asynchronous|protocol___|values___",
    "load generator: loop, histogram": r"arrivals|histogram",
}
ENGINE = "engine: RocksDB"
_FRAME = re.compile(r"^\s*[0-9a-f]+ (\S+) \((.*)\)$")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--concurrency", type=int, default=64)
    options = parser.parse_args()
    if not _compiled.COMPILED:
        raise SystemExit(f"the modules are not compiled ({_compiled.REASON_FOR_SOURCES}); run: make compile")
    if shutil.which("perf") is None:
        raise SystemExit("`perf` is not installed (on Debian and Ubuntu: apt install linux-perf)")
    with tempfile.TemporaryDirectory(prefix="quorate-layers-") as folder, running(Path(folder) / "data", 3) as nodes:
        for workload in ("put", "get"):
            measure(nodes, workload, options.seconds, options.concurrency, Path(folder))


def measure(nodes: Nodes, workload: str, seconds: int, concurrency: int, folder: Path) -> None:
    """One workload: its table on stdout."""
    pids = [nodes.pid(number) for number in (1, 2, 3)]
    # Without a preload of its own the second half of the run is nothing but the workload.
    load = Load(
        *(nodes.address(), "--workload", workload, "--warm-up", "0"),
        *("--seconds", str(2 * seconds + 8), "--concurrency", str(concurrency), "--windows", "1"),
    )
    time.sleep(seconds)
    before = [cpu_s(pid) for pid in [*pids, load.pid]]
    began = time.time()
    recorders = [record(pid, seconds, folder / f"{name}.data") for name, pid in (("node", pids[0]), ("load", load.pid))]
    for recorder in recorders:
        recorder.wait()
    took = time.time() - began
    after = [cpu_s(pid) for pid in [*pids, load.pid]]
    _, windows = load.finish()
    during = [one["ops_per_s"] for one in windows if began * 1000 <= one["unix_ms"] <= (began + took - 1) * 1000]
    operations = took * sum(during) / len(during)
    used = [(end - begin) * 1e6 / operations for begin, end in zip(before, after, strict=True)]
    say(f"\n{workload}: {operations / took:.0f} ops/s, processor time per operation")
    for title, microseconds, data in (
        ("three nodes", sum(used[:3]), folder / "node.data"),
        ("client and load generator", used[3], folder / "load.data"),
    ):
        say(f"  {title}: {microseconds:.1f} us")
        for layer, share in shares(data).items():
            say(f"    {microseconds * share:6.1f} us  {share:6.1%}  {layer}")


def record(pid: int, seconds: int, data: Path) -> subprocess.Popen[bytes]:
    """Sample the stacks of a process for so long."""
    command = ["perf", "record", "-q", "-F", "499", "--call-graph", "dwarf,16384", "-e", "cpu-clock"]
    return subprocess.Popen([*command, "-o", str(data), "-p", str(pid), "--", "sleep", str(seconds)])


def shares(data: Path) -> dict[str, float]:
    """Layer → its share of the samples, the largest first."""
    text = subprocess.run(
        ["perf", "script", "-i", str(data), "-F", "ip,sym,dso"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    ).stdout
    found = Counter(layer_of(block.splitlines()) for block in text.split("\n\n") if block.strip())
    return {layer: count / found.total() for layer, count in found.most_common()}


def layer_of(stack: list[str]) -> str:
    """The innermost layer on a stack, whose innermost frame comes first."""
    for line in stack:
        frame = _FRAME.match(line)
        if frame is None:
            continue
        name, library = frame[1], frame[2]
        if "kernel" in library:
            return KERNEL
        if "rocksdict" in library:
            return ENGINE
        if name.startswith(("CPyDef_", "CPyPy_")):
            for layer, pattern in LAYERS.items():
                if re.search(pattern, name):
                    return layer
    return LOOP


if __name__ == "__main__":
    main()
