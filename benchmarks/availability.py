"""What users notice when nodes fail: five real nodes, N=3, R=W=2, load on a schedule at half of saturation.

    python benchmarks/availability.py [--scenario kill,pause,two,slow,hints,wipe,overload] [--rate OPS] [--healthy 20]

Each scenario starts a fresh cluster, loads it with half puts and half gets at a fixed rate (open loop, latency from
the scheduled time, deadline 1 s), does something to it, and prints what was required beside what was measured:

    kill      kill -9 of one node; it comes back 20 s later
    pause     SIGSTOP of one node for 30 s: connections stay up, nobody answers
    two       kill -9 of two nodes
    slow      one node runs 1 ms of every 100 ms for 30 s: it answers, a hundred times slower
    hints     10,000 hints are waiting when the node comes back under load
    wipe      one of three nodes loses its data directory, with 200,000 keys stored, and is started again
    overload  three times saturation for 60 s, then as fast as it goes

Without --rate, saturation is measured first (closed loop, 64 requests in flight). The load generator and all nodes
share the machine: ratios carry over to another machine, absolute figures do not.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from local_nodes import QUORATE, Load, Nodes, running, wait_for_no_hints

from quorate.core.errors import QuorateError

Windows = list[dict[str, Any]]
SAMPLE = 300
"""Keys of which all replicas are compared."""
KEYS = 5_000
FLOOD_S = 60
VALUE_BYTES = 200
WIPED_KEYS = 200_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", default=",".join(SCENARIOS))
    parser.add_argument("--rate", type=int, default=0, help="operations a second; default: half of saturation")
    parser.add_argument("--healthy", type=float, default=15, help="seconds of load before the fault")
    parser.add_argument("--engine", default="rocksdb")
    options = parser.parse_args()
    for name in options.scenario.split(","):
        with (
            tempfile.TemporaryDirectory(prefix="quorate-availability-") as folder,
            running(Path(folder) / "data", 3 if name == "wipe" else 5, options.engine) as nodes,
        ):
            saturation = 2 * options.rate or measure_saturation(nodes)
            say(f"\n== {name}: saturation {saturation:.0f} ops/s")
            SCENARIOS[name](nodes, saturation, options.healthy)


def measure_saturation(nodes: Nodes) -> int:
    report, _ = load(nodes, 10, "--concurrency", "64").finish()
    saturation: int = report["ops_per_s"]
    return saturation


def load(nodes: Nodes, seconds: float, *options: str, bucket: str = "bench", at: int = 1) -> Load:
    common = ["--workload", "mixed", "--keys", str(KEYS), "--value-bytes", str(VALUE_BYTES), "--windows", "1"]
    return Load(nodes.address(at), *common, "--seconds", str(seconds), "--bucket", bucket, *options)


def at_half(nodes: Nodes, saturation: float, seconds: float, **more: Any) -> Load:
    return load(nodes, seconds, "--rate", str(round(saturation / 2)), **more)


def kill(nodes: Nodes, saturation: float, healthy_s: float) -> None:
    def act() -> None:
        nodes.kill(5)
        time.sleep(20)
        nodes.start(5)

    disturbed(nodes, saturation, healthy_s, 30, act)


def pause(nodes: Nodes, saturation: float, healthy_s: float) -> None:
    def act() -> None:
        nodes.pause(5)
        time.sleep(30)
        nodes.resume(5)

    disturbed(nodes, saturation, healthy_s, 40, act)


def two(nodes: Nodes, saturation: float, healthy_s: float) -> None:
    def act() -> None:
        nodes.kill(3, 5)
        time.sleep(20)
        nodes.start(3, 5)

    disturbed(nodes, saturation, healthy_s, 30, act)


def slow(nodes: Nodes, saturation: float, healthy_s: float) -> None:
    disturbed(nodes, saturation, healthy_s, 30, lambda: nodes.crawl(5, 30, 1, 99))


def disturbed(nodes: Nodes, saturation: float, healthy_s: float, after_s: float, act: Callable[[], None]) -> None:
    """Load, and after `healthy_s` of it `act`; then what users noticed, and whether everything came home."""
    work = at_half(nodes, saturation, healthy_s + after_s)
    time.sleep(healthy_s + 2)  # The load writes its keys first.
    fault_unix_ms = time.time() * 1000
    act()
    back = time.monotonic()
    report, windows = work.finish()
    judge(report, windows, fault_unix_ms)
    ended_s = time.monotonic() - back
    say(f"hints home {wait_for_no_hints(nodes, 60):.1f} s after the load's end ({ended_s:.0f} s after the return)")
    compare_replicas(nodes, "bench")


def judge(report: dict[str, Any], windows: Windows, fault_unix_ms: float) -> None:
    before = [window for window in windows if window["unix_ms"] + 1000 <= fault_unix_ms]
    after = windows[len(before) :]
    healthy_ms = statistics.median(window["p99_ms"] for window in before)
    say(f"whole run: {report['ops_per_s']} ops/s, success {report['success']:.4%}, errors {report['errors']}")
    required("failed puts", report["failed_puts"], "0", report["failed_puts"] == 0)
    worst = min(success_of(windows[start : start + 10]) for start in range(max(1, len(windows) - 9)))
    required("success in the worst 10 s", f"{worst:.4%}", "≥ 99.9%", worst >= 0.999)
    bad = [index for index, window in enumerate(after) if window["p99_ms"] > 3 * healthy_ms]
    say(f"p99 healthy {healthy_ms:.1f} ms; each second from the fault on: " + p99s(after))
    calm_s = next((second for second in range(len(after)) if not {second, second + 1, second + 2} & set(bad)), 99)
    required("p99 within 3x of healthy after", f"{calm_s} s", "≤ 5 s", calm_s <= 5)
    say(f"seconds with p99 above 3x healthy: {len(bad)} of {len(after)}")
    p99_ms = [window["p99_ms"] for window in after]
    say(f"p99 of the whole run {report['p99_ms']:.0f} ms; of the seconds from the fault on: {spread(p99_ms)}")


def spread(figures_ms: list[float]) -> str:
    return f"median {statistics.median(figures_ms):.0f} ms, worst {max(figures_ms):.0f} ms"


def success_of(windows: Windows) -> float:
    failed = sum(window["failed_puts"] + window["failed_gets"] for window in windows)
    done = sum(window["ops_per_s"] for window in windows)
    return 1 - failed / max(1, done + failed)


def hints(nodes: Nodes, saturation: float, healthy_s: float) -> None:
    """17,000 keys of which three in five belong to the dead node."""
    nodes.kill(5)
    fill = ["--workload", "put", "--keys", "17000", "--value-bytes", str(VALUE_BYTES), "--warm-up", "0"]
    Load(nodes.address(), *fill, "--seconds", "0.1", "--bucket", "filled").finish()
    work = at_half(nodes, saturation, healthy_s + 25)
    time.sleep(healthy_s + 2)
    kept = nodes.hints()
    nodes.start(5)
    back_unix_ms = time.time() * 1000
    took_s = wait_for_no_hints(nodes, 60)
    report, windows = work.finish()
    before = [window["p99_ms"] for window in windows if window["unix_ms"] + 3000 <= back_unix_ms]
    during = [w for w in windows if back_unix_ms - 1000 <= w["unix_ms"] <= back_unix_ms + took_s * 1000]
    healthy_ms = statistics.median(before)
    worst_ms = max(window["p99_ms"] for window in during)
    say(f"{kept} hints were kept; errors {report['errors']}")
    for window in windows:
        if window["errors"]:
            say(f"  {(window['unix_ms'] - back_unix_ms) / 1000:.1f} s from the return: {window['errors']}")
    required("all hints home after", f"{took_s:.1f} s", "≤ 10 s", took_s <= 10)
    required("p99 meanwhile", f"{worst_ms:.1f} ms", f"≤ 2 x {healthy_ms:.1f} ms", worst_ms <= 2 * healthy_ms)
    say("p99 of each second from the return on: " + p99s(during))
    wait_for_no_hints(nodes, 30)
    for bucket in ("filled", "bench"):
        compare_replicas(nodes, bucket)


def wipe(nodes: Nodes, saturation: float, healthy_s: float) -> None:
    fill = ["--workload", "put", "--keys", str(WIPED_KEYS), "--value-bytes", str(VALUE_BYTES), "--warm-up", "0"]
    Load(nodes.address(), *fill, "--seconds", "0.1", "--bucket", "filled").finish()
    work = at_half(nodes, saturation, healthy_s + 100)
    time.sleep(healthy_s + 2)
    nodes.kill(3)
    shutil.rmtree(nodes.plan.data_path(nodes.members[2]))
    nodes.start(3)
    back_unix_ms = time.time() * 1000
    took_s = wait_until_whole(nodes, 3, 200)
    report, windows = work.finish()
    healthy_ms = statistics.median(w["p99_ms"] for w in windows if w["unix_ms"] + 3000 <= back_unix_ms)
    during = [w for w in windows if back_unix_ms - 1000 <= w["unix_ms"] <= back_unix_ms + took_s * 1000]
    over = sum(window["p99_ms"] > 2 * healthy_ms for window in during)
    say(f"{WIPED_KEYS} keys; errors {report['errors']}")
    required("whole again after", f"{took_s:.1f} s", "by itself", took_s < 200)
    required(f"seconds with p99 above 2 x {healthy_ms:.1f} ms", f"{over} of {len(during)}", "0", over == 0)
    say("p99 of each second from the return on: " + p99s(during))
    say(f"p99 of all seconds of the run, those before the loss included: {report['p99_ms']:.1f} ms")
    required("failed puts", report["failed_puts"], "0", report["failed_puts"] == 0)
    wait_for_no_hints(nodes, 30)
    done = subprocess.run([*QUORATE, "repair", "--node", nodes.address(), "--json"], capture_output=True, check=False)
    found = [report["received"] + report["sent"] for report in json.loads(done.stdout)["nodes"].values()]
    required(
        "records moved by a repair afterwards, which reads every record on every node", found, "none", not any(found)
    )
    for bucket in ("filled", "bench"):
        compare_replicas(nodes, bucket)


def wait_until_whole(nodes: Nodes, number: int, timeout_s: float) -> float:
    """Seconds until a node has nothing more to be filled with; infinite if that takes longer than `timeout_s`."""
    began = time.monotonic()
    while (waited_s := time.monotonic() - began) < timeout_s:
        with suppress(QuorateError, KeyError):
            report = nodes.status()["members"][number - 1]["report"]
            if report["partitions_being_filled"] == 0:
                return waited_s
        time.sleep(0.2)
    return float("inf")


def overload(nodes: Nodes, saturation: float, healthy_s: float) -> None:
    peak, _ = load(nodes, healthy_s, "--concurrency", "64").finish()
    flood, flooded = load(nodes, FLOOD_S, "--rate", str(round(3 * saturation))).finish()
    ended_unix_ms = flooded[0]["unix_ms"] + 1000 * FLOOD_S
    say(f"peak {peak['ops_per_s']} ops/s; offered {3 * saturation:.0f} ops/s for {FLOOD_S} s:")
    goodput = statistics.mean(window["ops_per_s"] for window in flooded[:FLOOD_S])
    say(f"goodput meanwhile {goodput:.0f} ops/s; p99 {flood['p99_ms']:.0f} ms; errors {flood['errors']}")
    _, windows = load(nodes, 30, "--concurrency", "64").finish()
    good = [window for window in windows if window["ops_per_s"] >= 0.9 * peak["ops_per_s"]]
    took_s = (good[0]["unix_ms"] - ended_unix_ms) / 1000 if good else float("inf")
    required("goodput ≥ 90% of peak after", f"{took_s:.1f} s", "≤ 30 s", took_s <= 30)
    say("goodput of each second after: " + ", ".join(str(window["ops_per_s"]) for window in windows[:30]))


def compare_replicas(nodes: Nodes, bucket: str) -> None:
    keys = [b"user%012d" % number for number in range(0, KEYS, KEYS // SAMPLE)]
    differing = nodes.differing(bucket, keys)
    required(f"keys whose replicas differ, of {len(keys)} in '{bucket}'", differing, "0", differing == 0)


def p99s(windows: Windows) -> str:
    return ", ".join(f"{window['p99_ms']:.0f}" for window in windows) + " ms"


def required(what: str, measured: object, wanted: str, met: bool) -> None:
    say(f"{'ok  ' if met else 'MISS'} {what}: {measured} (required: {wanted})")


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


SCENARIOS: dict[str, Callable[[Nodes, float, float], None]] = {
    "kill": kill,
    "pause": pause,
    "two": two,
    "slow": slow,
    "hints": hints,
    "wipe": wipe,
    "overload": overload,
}

if __name__ == "__main__":
    main()
