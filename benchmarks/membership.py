"""What users notice while the cluster changes: real nodes, N=3, R=W=2, half puts and half gets at a fixed rate, each
get checked against the acknowledged puts (`quorate bench --check`).

    python benchmarks/membership.py [--rate OPS] [--keys 20000] [--healthy 10]

Under that load 3 nodes become 5 (two joins given at once through two nodes), then 4 (one leaves), one is replaced, one
moves to another address, and every node is restarted in turn. Printed for each step: how long it took, failed requests,
and the p99 of the seconds meanwhile beside that of the healthy ones. In the end: lost acknowledged puts, stale reads,
hints left, keys whose replicas differ, and how evenly the nodes own the ring.

Without --rate, saturation is measured first (closed loop, 64 requests in flight), and half of it is offered. The load
generator and all nodes share the machine: ratios carry over to another machine, absolute figures do not.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from local_nodes import QUORATE, Load, plan_on_free_ports

from quorate.cli.hints import hints_document
from quorate.cli.link import Link
from quorate.core.errors import QuorateError
from quorate.core.wire.address import split_address

Window = dict[str, Any]
VALUE_BYTES = 200
SAMPLE = 300
CALM_S = 4.0
"""Between two steps, so that each has seconds of its own."""


class Fleet:
    """Processes by the names of their nodes: founding members, and those that join."""

    def __init__(self, path: Path) -> None:
        self.plan = plan_on_free_ports(path, 3, "rocksdb")
        self.base = split_address(self.plan.cluster.ring.members[0].client_address)[1] - 1
        self.clients = {member.name: member.client_address for member in self.plan.cluster.ring.members}
        self._commands = {member.name: self.plan.start_command(member) for member in self.plan.cluster.ring.members}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, until: str = "ready") -> None:
        """Start a node and wait for its event."""
        with (self.plan.path / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(self._commands[name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)
        self._processes[name] = process
        assert process.stdout is not None
        for line in process.stdout:
            if json.loads(line)["event"] == until:
                threading.Thread(target=process.stdout.read, daemon=True).start()
                return
        raise SystemExit(f"{name} did not start; see {self.plan.path}/{name}.log")

    def candidate(self, number: int, join: str) -> str:
        """Start a node that waits to be joined through the member `join`; its name."""
        name = f"n{number}"
        self._commands[name] = [
            *QUORATE, "start", "--name", name, "--data", str(self.plan.path / name), "--attached",
            "--join", self.peer_address(join), "--cluster", str(self.plan.cluster_path), *self._listen(name, number),
        ]  # fmt: skip
        self.start(name, until="waiting")
        return name

    def move(self, name: str, number: int) -> None:
        """Start a stopped node at other addresses."""
        self._commands[name] = [
            *QUORATE, "start", "--name", name, "--data", str(self.plan.path / name), "--attached",
            *self._listen(name, number),
        ]  # fmt: skip
        self.start(name)

    def _listen(self, name: str, number: int) -> list[str]:
        self.clients[name] = f"127.0.0.1:{self.base + number}"
        return ["--client-listen", self.clients[name], "--peer-listen", f"127.0.0.1:{self.base + 200 + number}"]

    def peer_address(self, name: str) -> str:
        host, port = split_address(self.clients[name])
        return f"{host}:{port + 200}"

    def stop(self, name: str) -> None:
        self._processes[name].terminate()
        self.wait(name)

    def wait(self, name: str) -> int:
        """Until the process ends by itself; its exit code."""
        return self._processes[name].wait(60)

    def document(self, name: str, command: str, *arguments: str | bytes) -> Any:
        with Link(self.clients[name]) as link:
            return link.document(command, *arguments)

    def wait_connected(self, names: Sequence[str]) -> None:
        """Until every one of `names` is connected with all others."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with suppress(QuorateError):
                members = self.document(names[0], "KV.STATUS")["members"]
                reports = [member["report"] for member in members if member["name"] in names]
                if all(len(report.get("connected_to", [])) >= len(names) - 1 for report in reports):
                    return
            time.sleep(0.1)
        raise SystemExit("the nodes do not connect with each other")

    def close(self) -> None:
        for process in self._processes.values():
            process.kill()
            process.communicate()


class Steps:
    """What was done when."""

    def __init__(self) -> None:
        self.done: list[tuple[str, float, float]] = []

    def step(self, what: str, act: Callable[[], object]) -> None:
        began = time.time()
        act()
        self.done.append((what, began * 1000, time.time() * 1000))
        say(f"  {what}: {time.time() - began:.1f} s")
        time.sleep(CALM_S)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=int, default=0)
    parser.add_argument("--keys", type=int, default=20_000)
    parser.add_argument("--healthy", type=float, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="quorate-membership-") as folder:
        fleet = Fleet(Path(folder) / "data")
        try:
            change(fleet, options.rate, options.keys, options.healthy)
        finally:
            fleet.close()


def change(fleet: Fleet, rate: int, keys: int, healthy_s: float) -> None:
    for name in ("n1", "n2", "n3"):
        fleet.start(name)
    fleet.wait_connected(("n1", "n2", "n3"))
    common = ["--workload", "mixed", "--keys", str(keys), "--value-bytes", str(VALUE_BYTES), "--windows", "1"]
    if not rate:
        report, _ = Load(fleet.clients["n1"], *common, "--seconds", "8", "--bucket", "warm").finish()
        rate = round(report["ops_per_s"] / 2)
        say(f"saturation {report['ops_per_s']} ops/s")
    say(f"offered: {rate} ops/s, {keys} keys of {VALUE_BYTES} bytes")
    stop = threading.Event()
    load = Recorded(fleet.clients["n1"], [*common, "--rate", str(rate), "--check", "--bucket", "bench"])
    load.wait_until_it_runs()
    time.sleep(healthy_s)
    steps = Steps()
    take_steps(fleet, steps)
    time.sleep(CALM_S)
    stop.set()
    windows, report, verdict = load.finish()
    judge(fleet, windows, report, verdict, steps)


def take_steps(fleet: Fleet, steps: Steps) -> None:
    for number in (4, 5):
        fleet.candidate(number, "n1")
    time.sleep(2)
    steps.step("n4 and n5 join, both at once", lambda: together(fleet, ("join", "n4", "n2"), ("join", "n5", "n3")))
    steps.step("n2 leaves", lambda: operate(fleet, "n4", "leave", "n2"))
    say(f"  n2 ended by itself with {fleet.wait('n2')}")
    fleet.candidate(6, "n1")
    time.sleep(2)
    steps.step("n3 is replaced by n6", lambda: operate(fleet, "n5", "replace", "n3", "--by", "n6"))
    say(f"  n3 ended by itself with {fleet.wait('n3')}")
    steps.step("n4 moves to another address", lambda: move(fleet, "n4", 14))
    for name in ("n1", "n4", "n5", "n6"):
        steps.step(f"{name} is restarted", lambda name=name: restart(fleet, name))  # type: ignore[misc]


def operate(fleet: Fleet, through: str, command: str, *arguments: str) -> None:
    """Give an operator's command, and wait until it says that it is done."""
    done = subprocess.run(
        [*QUORATE, command, *arguments, "--yes", "--json", "--node", fleet.clients[through]],
        capture_output=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{command} {arguments} failed: {done.stderr.decode()}")


def together(fleet: Fleet, *commands: tuple[str, str, str]) -> None:
    threads = [
        threading.Thread(target=operate, args=(fleet, through, command, name)) for command, name, through in commands
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def move(fleet: Fleet, name: str, number: int) -> None:
    fleet.stop(name)
    fleet.move(name, number)
    fleet.wait_connected(("n1", "n4", "n5", "n6"))


def restart(fleet: Fleet, name: str) -> None:
    fleet.stop(name)
    fleet.start(name)
    fleet.wait_connected(("n1", "n4", "n5", "n6"))


class Recorded:
    """A `quorate bench --check` that runs until it is told to stop, read line by line."""

    SECONDS = 600

    def __init__(self, address: str, options: list[str]) -> None:
        command = [*QUORATE, "bench", "--json", "--node", address, "--seconds", str(self.SECONDS), *options]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self._address = address

    def wait_until_it_runs(self) -> None:
        """The load writes its keys first."""
        time.sleep(15)

    def finish(self) -> tuple[list[Window], dict[str, Any], dict[str, Any]]:
        """(a window a second, the whole phase, what the last look at every key found)"""
        self._process.terminate()
        out, err = self._process.communicate()
        lines = [json.loads(line) for line in out.splitlines()]
        if len(lines) < 3:
            raise SystemExit(f"the load failed: {err.decode()}")
        return lines[:-2], lines[-2], lines[-1]


def judge(fleet: Fleet, windows: list[Window], report: dict[str, Any], verdict: dict[str, Any], steps: Steps) -> None:
    first = steps.done[0][1]
    healthy_ms = statistics.median(window["p99_ms"] for window in windows if window["unix_ms"] + 1000 <= first)
    say(f"\nwhole run: {report['ops_per_s']} ops/s for {len(windows)} s, errors {report['errors']}")
    say(f"healthy p99 {healthy_ms:.1f} ms")
    for what, began, ended in steps.done:
        during = [w["p99_ms"] for w in windows if began - 1000 < w["unix_ms"] < ended + 1000]
        over = sum(figure > 2 * healthy_ms for figure in during)
        say(
            f"  {what}: p99 median {statistics.median(during):.1f} ms, worst {max(during):.1f} ms; above 2x healthy in "
            f"{over} of {len(during)} s: {', '.join(f'{figure:.0f}' for figure in during)}"
        )
    failed = report["failed_puts"] + report["failed_gets"]
    required("failed requests", failed, "0", failed == 0)
    stale = report["errors"].get("StaleRead", 0)
    required("reads that missed an acknowledged put", stale, "0", stale == 0)
    required("acknowledged puts lost", verdict["lost"], "0", verdict["lost"] == 0 and verdict["unread"] == 0)
    hints = wait_for_no_hints(fleet)
    required("hints left", hints, "0", hints == 0)
    keys = [b"bench:user%012d" % number for number in range(0, verdict["keys"], max(1, verdict["keys"] // SAMPLE))]
    differing = sum(differs(fleet.document("n1", "KV.WHERE", key)) for key in keys)
    required(f"keys whose replicas differ, of {len(keys)}", differing, "0", differing == 0)
    ring = fleet.document("n1", "KV.RING")
    owned = Counter(ring["owners"])
    names = {member["number"]: member["name"] for member in ring["members"]}
    shares = {names[number]: count / len(ring["owners"]) for number, count in sorted(owned.items())}
    even = max(abs(share * len(names) - 1) for share in shares.values())
    say(f"ring version {ring['version']}: " + ", ".join(f"{name} {share:.1%}" for name, share in shares.items()))
    required("distance from the fair share, at most", f"{even:.1%}", "≤ 5%", even <= 0.05)


def differs(document: dict[str, Any]) -> bool:
    return len({(replica["state"], replica.get("digest")) for replica in document["replicas"]}) != 1


def wait_for_no_hints(fleet: Fleet) -> int:
    hints = -1
    for _ in range(300):
        hints = hints_document(fleet.document("n1", "KV.STATUS"))["hints"]
        if hints == 0:
            break
        time.sleep(0.1)
    return hints


def required(what: str, measured: object, wanted: str, met: bool) -> None:
    say(f"{'ok  ' if met else 'MISS'} {what}: {measured} (required: {wanted})")


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
