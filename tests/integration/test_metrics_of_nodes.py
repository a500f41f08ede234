"""/metrics of real nodes, log lines for machines, and the ids by which requests are told from each other."""

from __future__ import annotations

import json
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from quorate.adapters.metrics.series import SERIES
from tests.conftest import EVENT_TIMEOUT_S, Cluster

pytestmark = pytest.mark.integration


def scrape(cluster: Cluster, number: int) -> dict[str, list[tuple[dict[str, str], float]]]:
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    url = f"http://{cluster.members[number - 1].http_address}/metrics"
    with urllib.request.urlopen(url, timeout=EVENT_TIMEOUT_S) as response:
        text = response.read().decode()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((dict(sample.labels), sample.value))
    return found


def total(found: dict[str, list[tuple[dict[str, str], float]]], name: str, **labels: str) -> float:
    return sum(value for has, value in found.get(name, ()) if labels.items() <= has.items())


def test_every_request_is_counted_by_the_node_that_coordinated_it(shared_cluster: Cluster) -> None:
    numbers = range(1, len(shared_cluster.members) + 1)
    before = [scrape(shared_cluster, number) for number in numbers]
    for index in range(20):
        assert shared_cluster.cli("put", "metrics", f"key{index}", "value", node=1).returncode == 0
        assert shared_cluster.cli("get", "metrics", f"key{index}", node=2).returncode == 0
    shared_cluster.cli("get", "metrics", "no such key", node=1)
    after = [scrape(shared_cluster, number) for number in numbers]

    def grown(name: str, **labels: str) -> float:
        return sum(total(found, name, **labels) for found in after) - sum(
            total(found, name, **labels) for found in before
        )

    assert grown("quorate_requests_total", kind="put", result="ok") == 20
    assert grown("quorate_requests_total", kind="get", result="ok") == 20
    assert grown("quorate_requests_total", kind="get", result="not_found") == 1
    assert grown("quorate_request_seconds_count", kind="put") == 20
    assert grown("quorate_request_seconds_count", kind="get") == 21
    assert grown("quorate_loop_lag_seconds_count") > 0
    named = {series.name for series in SERIES if series.kind == "counter"}
    assert named <= set(after[0]) | {"quorate_events_total"}
    for found in after:
        assert total(found, "quorate_members") == len(shared_cluster.members)
        assert total(found, "quorate_up") == 1
    owned = sum(total(found, "quorate_partitions_owned") for found in after)
    assert owned == shared_cluster.plan.cluster.ring.partitions


def test_a_status_has_latencies_and_requests(shared_cluster: Cluster) -> None:
    assert shared_cluster.cli("put", "metrics", "a", "value").returncode == 0
    status = json.loads(shared_cluster.cli("status", "--json").stdout)
    reports = [member["report"] for member in status["members"]]
    assert sum(report["requests"]["put"]["ok"] for report in reports) >= 1
    latencies = [report["latency_ms"]["put"] for report in reports]
    assert [latency for latency in latencies if latency["count"] and latency["p50"] <= latency["p999"]]
