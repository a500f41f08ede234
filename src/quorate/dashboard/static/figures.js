// Live throughput and latency. Throughput is the difference of two polls; a node that was restarted begins again at 0.

import { byId, h, number, s, show } from "./dom.js";

const POINTS = 120;
const POINTS_MIN = 30;
const KINDS = ["get", "put"];
const DONE = ["ok", "siblings", "not_found"];
const history = { get: [], put: [] };
let before = null;

const sum = (results, names) => names.reduce((total, name) => total + (results[name] || 0), 0);

/** Take a poll of the cluster, made at `nowMs`, and draw. */
export function drawFigures(members, nowMs) {
  const totals = new Map(members.filter((member) => member.report.requests).map((member) => [member.name, member.report.requests]));
  if (before) {
    const seconds = Math.max(0.2, (nowMs - before.nowMs) / 1000);
    for (const kind of KINDS) {
      let done = 0;
      let failed = 0;
      for (const [name, requests] of totals) {
        const old = before.totals.get(name)?.[kind];
        if (!old) continue;
        const all = Object.keys(requests[kind]);
        const wrong = all.filter((result) => !DONE.includes(result));
        done += Math.max(0, sum(requests[kind], DONE) - sum(old, DONE));
        failed += Math.max(0, sum(requests[kind], wrong) - sum(old, wrong));
      }
      history[kind].push({ done: done / seconds, failed: failed / seconds });
      if (history[kind].length > POINTS) history[kind].shift();
    }
  }
  before = { nowMs, totals };
  show(byId("figures"), KINDS.map((kind) => figure(kind, worst(members, kind))));
}

/** The slowest coordinator's quantiles. */
function worst(members, kind) {
  const found = members.map((member) => member.report.latency_ms?.[kind]).filter((latency) => latency && latency.count);
  const most = (name) => (found.length ? Math.max(...found.map((latency) => latency[name] ?? 0)) : null);
  return { p50: most("p50"), p99: most("p99"), p999: most("p999") };
}

function figure(kind, latency) {
  const points = history[kind];
  const now = points.at(-1);
  const milliseconds = (value) => (value === null ? "–" : `${value.toPrecision(3)} ms`);
  const fact = (id, name, value) => h("div", {}, h("dt", {}, name), h("dd", { id: `${id}-${kind}` }, value));
  return h(
    "div", { class: "figure" },
    h("h3", {}, `${kind}s`), spark(points, kind),
    h(
      "dl", {},
      fact("throughput", "per second", now ? number(now.done) : "–"),
      fact("failed", "failed per second", now ? number(now.failed) : "–"),
      fact("p50", "p50", milliseconds(latency.p50)), fact("p99", "p99", milliseconds(latency.p99)),
      fact("p999", "p99.9", milliseconds(latency.p999)),
    ),
  );
}

function spark(points, kind) {
  const top = Math.max(1, ...points.map((point) => point.done));
  const width = Math.max(POINTS_MIN, points.length) - 1;
  const line = points.map((point, index) => `${width + 1 - points.length + index},${(29 - (27 * point.done) / top).toFixed(1)}`).join(" ");
  const label = `${kind}s per second in the last two minutes, at most ${number(top)}`;
  return s("svg", { viewBox: `0 0 ${width} 30`, preserveAspectRatio: "none", role: "img", "aria-label": label }, s("polyline", { points: line }));
}
