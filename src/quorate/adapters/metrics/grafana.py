"""docs/operations/grafana.json, made here: `python -m quorate.adapters.metrics.grafana > docs/operations/grafana.json`.

A dashboard is a long document in which a person cannot see what matters, so what matters is this list of panels.
"""

from __future__ import annotations

import json
import sys
from typing import Any

_COLUMNS = 3
_WIDTH, _HEIGHT = 8, 8
_BY_NODE = "{{instance}}"


def _quantile(share: str, series: str, by: str) -> str:
    return f"histogram_quantile({share}, sum by (le, {by}) (rate({series}_bucket[$__rate_interval])))"


def _rate(series: str, by: str = "instance") -> str:
    return f"sum by ({by}) (rate({series}[$__rate_interval]))"


PANELS: tuple[tuple[str, str, tuple[tuple[str, str], ...]], ...] = (
    ("Requests by result", "reqps", ((_rate("quorate_requests_total", "kind, result"), "{{kind}} {{result}}"),)),
    ("Latency, p50", "s", ((_quantile("0.5", "quorate_request_seconds", "kind"), "{{kind}}"),)),
    ("Latency, p99.9", "s", ((_quantile("0.999", "quorate_request_seconds", "kind"), "{{kind}}"),)),
    ("Waiting for a quorum", "short", (("quorate_requests_in_flight", _BY_NODE), ("quorate_requests_in_flight_max",
      "max " + _BY_NODE))),
    ("Loop lag, p99", "s", ((_quantile("0.99", "quorate_loop_lag_seconds", "instance"), _BY_NODE),)),
    ("Hedges, retries, stand-ins", "ops", (
        (_rate("quorate_reads_hedged_total"), "hedged " + _BY_NODE),
        (_rate("quorate_reads_retried_total"), "retried " + _BY_NODE),
        (_rate("quorate_writes_stood_in_total"), "stood in " + _BY_NODE),
    )),
    ("Hints by home", "short", (("sum by (home) (quorate_hints)", "{{home}}"),)),
    ("Hints delivered", "ops", ((_rate("quorate_hints_delivered_total"), _BY_NODE),)),
    ("Peers believed up", "short", (("sum by (peer) (quorate_peer_up)", "{{peer}}"),)),
    ("Read repair and anti-entropy", "ops", (
        (_rate("quorate_read_repairs_total"), "read repairs " + _BY_NODE),
        (_rate("quorate_anti_entropy_received_records_total"), "received " + _BY_NODE),
    )),
    ("Oldest comparison", "s", (("quorate_anti_entropy_age_seconds", _BY_NODE),)),
    ("Partitions still to come", "short", (("quorate_transfer_partitions_left", _BY_NODE),)),
    ("Data", "bytes", (("quorate_storage_bytes", _BY_NODE),)),
    ("Disk free", "percentunit", (("quorate_disk_free_fraction", _BY_NODE),)),
    ("Ring version", "short", (("quorate_ring_version", _BY_NODE),)),
)  # fmt: skip
"""(title, unit, ((expression, legend), …))."""


def dashboard() -> dict[str, Any]:
    """The dashboard, as Grafana imports it."""
    source = {"type": "prometheus", "uid": "${datasource}"}
    panels = [
        {
            "id": number + 1,
            "type": "timeseries",
            "title": title,
            "datasource": source,
            "gridPos": {
                "x": number % _COLUMNS * _WIDTH, "y": number // _COLUMNS * _HEIGHT, "w": _WIDTH, "h": _HEIGHT,
            },
            "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
            "targets": [
                {"refId": chr(ord("A") + index), "datasource": source, "expr": expression, "legendFormat": legend}
                for index, (expression, legend) in enumerate(expressions)
            ],
        }
        for number, (title, unit, expressions) in enumerate(PANELS)
    ]  # fmt: skip
    return {
        "title": "Quorate",
        "uid": "quorate",
        "schemaVersion": 39,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "templating": {
            "list": [{"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Data source"}]
        },
        "panels": panels,
    }


def text() -> str:
    """The text of docs/operations/grafana.json."""
    return json.dumps(dashboard(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
