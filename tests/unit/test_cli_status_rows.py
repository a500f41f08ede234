"""A host with several workers as one line of `quorate status`, and a node by itself as ever."""

from __future__ import annotations

from typing import Any

from quorate.cli.hosts import addresses_text
from quorate.cli.status_rows import hosts_of, requests_row, status_row


def member(name: str, port: int, tokens: int = 8, host: str = "h", **report: Any) -> dict[str, Any]:
    told = {
        "state": "up", "uptime_s": 100, "in_flight_requests": 1, "requests_in_flight_max": 10,
        "background_rate_per_s": 50, "hints": {"homes": {"x": {"hints": 2}, "y": {"hints": 1}}},
        "anti_entropy": {"all_compared_within_s": 5, "compared": 4, "partitions": 8}, "disk_free_fraction": 0.5,
    }  # fmt: skip
    return {
        "name": name, "host": host, "tokens": tokens, "client_address": f"127.0.0.1:{port}", "report": told | report
    }  # fmt: skip


def opinion(state: str = "up", latency_ms: float = 0.5) -> dict[str, Any]:
    return {"state": state, "reason": "", "latency_ms": latency_ms}


SILENT: dict[str, Any] = {"name": "n1.2", "host": "h", "tokens": 8, "client_address": "127.0.0.1:7402",
                          "report": {"state": "unreachable", "reason": "no connection"}}  # fmt: skip


def test_a_node_by_itself_is_shown_as_it_is() -> None:
    row = status_row("n1", [member("n1", 7401)], {"n1": opinion()}, 32)
    assert row == [
        "n1", "[green]up[/]", "[green]up[/], 0.5 ms", "127.0.0.1:7401", "25.0%", "1.7 min", "1 of 10", "50/s", "3",
        "all within 5 s", "50%",
    ]  # fmt: skip
    assert status_row("n1", [member("n1", 7401)], {}, 32)[2] == "itself"
    assert status_row("n1.2", [SILENT], {"n1.2": opinion("down", 0)}, 32) == [
        "n1.2", "[red]unreachable[/]", "[red]down[/]", "127.0.0.1:7402", "25.0%", *("–",) * 6
    ]  # fmt: skip


def test_of_several_workers_shares_are_summed_and_the_worst_counts() -> None:
    behind = {"all_compared_within_s": 90, "compared": 8, "partitions": 8}
    workers = [
        member("n1.1", 7401, 10),
        member("n1.2", 7402, 6, uptime_s=30, anti_entropy=behind, disk_free_fraction=0.2, in_flight_requests=4),
    ]
    opinions = {"n1.1": opinion(), "n1.2": opinion(latency_ms=2.0)}
    assert status_row("n1", workers, opinions, 32) == [
        "n1", "[green]up[/] (2 of 2)", "[green]up[/], 2.0 ms", "127.0.0.1:7401-7402", "50.0%", "30 s", "5 of 20",
        "100/s", "6", "all within 1.5 min", "20%",
    ]  # fmt: skip
    workers[1]["report"]["anti_entropy"] = {"all_compared_within_s": None, "compared": 1, "partitions": 8}
    assert status_row("n1", workers, opinions, 32)[9] == "5 of 16"


def test_a_worker_that_is_gone_is_not_hidden_by_its_siblings() -> None:
    opinions = {"n1.2": opinion("down", 0)}
    row = status_row("n1", [member("n1.1", 7401), SILENT], opinions, 32)
    assert row[1:5] == ["[red]unreachable[/] (1 of 2 up)", "itself, [red]down[/]", "127.0.0.1:7401-7402", "50.0%"]
    assert row[8] == "3", "of those that say anything"


def test_requests_are_summed_and_latencies_are_the_worst() -> None:
    def report(ok: int, failed: int, p50: float | None) -> dict[str, Any]:
        latency = {"p50": p50, "p99": p50, "p999": p50}
        results = {"ok": ok, "siblings": 1, "unavailable": failed}
        return {"requests": {"get": results, "put": results}, "latency_ms": {"get": latency, "put": latency}}

    assert requests_row("n1", [report(5, 1, 0.5)])[:4] == ["n1", "6", "1", "0.5 / 0.5 / 0.5"]
    assert requests_row("n1", [report(5, 1, 0.5), report(2, 0, 2.0)])[:4] == ["n1", "9", "1", "2 / 2 / 2"]
    assert requests_row("n1", [report(5, 1, None), report(2, 0, 2.0)])[3] == "2 / 2 / 2"
    assert requests_row("n1", [report(5, 1, None)])[3] == "–"


def test_hosts_are_lines_unless_each_worker_is_asked_for() -> None:
    members = [member("n1.1", 7401), member("n2", 7402), SILENT, member("n1.3", 7403, host="elsewhere")]
    assert [name for name, _ in hosts_of(members, each=False)] == ["n1", "n2", "n1.3"]
    assert [name for name, _ in hosts_of(members, each=True)] == ["n1.1", "n2", "n1.2", "n1.3"]


def test_addresses_in_a_row_are_told_as_one() -> None:
    assert addresses_text(["[::1]:7401", "[::1]:7402", "[::1]:7403"]) == "[::1]:7401-7403"
    assert addresses_text(["127.0.0.1:7401"]) == "127.0.0.1:7401"
    assert addresses_text(["a:1", "a:3"]) == "a:1, a:3"
    assert addresses_text(["a:1", "b:2"]) == "a:1, b:2"
