"""The series that a node exports: that they can be read, that pages and dashboard name none that is not there."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from quorate.adapters.metrics import grafana, page
from quorate.adapters.metrics.facts import Facts
from quorate.adapters.metrics.registry import Metrics
from quorate.adapters.metrics.series import SERIES
from quorate.core.measures import BUCKETS, LatencyHistogram, Measures

DOCS = Path(__file__).parents[2] / "docs"
PROCESS_SERIES = ("process_", "python_gc_")


def facts(**report: Any) -> Facts:
    measures = Measures(0.0)
    measures.gets["ok"] = 3
    measures.get_latency.record(1.1, 3)
    return Facts(
        report={
            "state": "up",
            "uptime_s": 5.5,
            "ring_version": 7,
            "in_flight_requests": 1,
            "requests_in_flight_max": 100,
            "disk_free_fraction": 0.5,
            "connected_to": ["n2"],
            "peers": {
                'n"2\\': {"state": "up", "reason": "", "latency_ms": 2.0},
                "n3": {"state": "down", "latency_ms": 0},
            },
            "hints": {"bytes_max": 1000, "bytes": 10, "homes": {"n3": {"hints": 2, "bytes": 10}}},
            "partitions_being_filled": 0,
            "trees": {"partitions": 16, "ready": 15, "damaged_records": 0},
            "anti_entropy": {"all_compared_within_s": None},
            "transfer": {},
            "data_bytes": 4096,
            "counters": {"forwards": 9, "read_repairs": 2},
            **report,
        },
        measures=measures,
        loop_lag=LatencyHistogram(),
        connections={"redis": 4, "http": 1},
        partitions_owned=5,
        members=3,
        build={"version": "1", "engine": "memory", "node": "n1", "cluster_id": "c"},
    )


def samples(given: Facts) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    content_type, text = Metrics(lambda: given).scrape()
    assert content_type.startswith("text/plain")
    families = text_string_to_metric_families(text.decode())
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def test_what_is_scraped_says_what_the_node_knows() -> None:
    found = samples(facts())
    assert found["quorate_requests_total", (("kind", "get"), ("result", "ok"))] == 3
    assert found["quorate_requests_total", (("kind", "put"), ("result", "unknown"))] == 0
    assert found["quorate_forwards_total", ()] == 9
    assert found["quorate_events_total", (("event", "read_repairs"),)] == 2
    assert found["quorate_hints", (("home", "n3"),)] == 2
    assert found["quorate_peer_up", (("peer", 'n"2\\'),)] == 1, "names are escaped"
    assert found["quorate_peer_up", (("peer", "n3"),)] == 0
    assert found["quorate_trees_unready", ()] == 1
    assert found["quorate_connections", (("interface", "redis"),)] == 4
    assert not [name for name, _ in found if name == "quorate_anti_entropy_age_seconds"], "not known yet"
    assert found["process_open_fds", ()] > 0


def test_a_fenced_node_is_not_up() -> None:
    assert samples(facts())["quorate_up", ()] == 1
    assert samples(facts(state="fenced"))["quorate_up", ()] == 0


def test_histograms_are_cumulative_and_end_with_everything() -> None:
    found = samples(facts())
    buckets = [
        (float(dict(labels)["le"]), value)
        for (name, labels), value in found.items()
        if name == "quorate_request_seconds_bucket" and dict(labels)["kind"] == "get"
    ]
    assert len(buckets) == BUCKETS
    values = [value for _, value in sorted(buckets)]
    assert values == sorted(values)
    assert values[-1] == found["quorate_request_seconds_count", (("kind", "get"),)] == 3
    assert min(bound for bound, value in buckets if value) == pytest.approx(0.00125)
    assert found["quorate_request_seconds_sum", (("kind", "get"),)] == pytest.approx(0.0033)


def test_names_follow_the_conventions() -> None:
    names = [series.name for series in SERIES]
    assert len(names) == len(set(names))
    for series in SERIES:
        assert re.fullmatch(r"quorate_[a-z_]+", series.name)
        assert series.name.endswith("_total") == (series.kind == "counter"), series.name
        assert series.help.endswith("."), series.name
        assert not series.advice or series.advice.endswith("."), series.name


@pytest.mark.parametrize(("path", "text"), [("metrics.md", page.page()), ("operations/grafana.json", grafana.text())])
def test_what_is_made_of_the_tables_is_up_to_date(path: str, text: str) -> None:
    assert (DOCS / path).read_text(encoding="utf-8") == text, f"make it anew: see the module that makes {path}"


def test_the_grafana_dashboard_names_series_that_there_are() -> None:
    known = {series.name for series in SERIES} | {
        series.name + suffix
        for series in SERIES
        if series.kind == "histogram"
        for suffix in ("_bucket", "_sum", "_count")
    }
    document = json.loads((DOCS / "operations/grafana.json").read_text(encoding="utf-8"))
    named = [
        name
        for panel in document["panels"]
        for target in panel["targets"]
        for name in re.findall(r"\b(?:quorate|process|python)_\w+", target["expr"])
    ]
    assert len(named) > 15
    assert set(named) <= known
