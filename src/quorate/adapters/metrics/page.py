"""docs/metrics.md, made of the table of series: `python -m quorate.adapters.metrics.page > docs/metrics.md`."""

from __future__ import annotations

import sys

from quorate.adapters.metrics.series import SERIES

_HEAD = """\
# Metrics

Every node answers `GET /metrics` on its HTTP port, in the text format of Prometheus. If the cluster has a password, the
scraper needs it too (`basic_auth` with user `default`, or a bearer token). A scrape configuration for `quorate up`:

```yaml
scrape_configs:
  - job_name: quorate
    static_configs:
      - targets: ["127.0.0.1:7501", "127.0.0.1:7502", "127.0.0.1:7503"]
```

[operations/grafana.json](operations/grafana.json) is a dashboard to import. Counters begin at 0 with each process.
Latencies are histograms with four buckets to each power of two, so that any quantile is at most a quarter too high,
from 31 µs to a minute:

```promql
histogram_quantile(0.999, sum by (le, kind) (rate(quorate_request_seconds_bucket[1m])))
```

They are the coordinator's, without the way to the client. Under load, one request in eight is timed and counted eight
times; `quorate_requests_total` counts each. `process_…` and `python_gc_…` are the usual ones of the Python client.

| Series | Kind | Labels | Meaning | When it is bad |
|---|---|---|---|---|
"""


def page() -> str:
    """The text of docs/metrics.md."""
    rows = [
        f"| `{series.name}` | {series.kind} | {', '.join(f'`{label}`' for label in series.labels)} "
        f"| {series.help} | {series.advice} |\n"
        for series in SERIES
    ]
    return _HEAD + "".join(rows)


if __name__ == "__main__":
    sys.stdout.write(page())
