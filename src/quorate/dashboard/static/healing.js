// Hints by home, and how far replicas have been compared.

import { byId, duration, h, number, show, size } from "./dom.js";

export function drawHealing(members) {
  const homes = new Map();
  for (const { report } of members) {
    for (const [home, kept] of Object.entries(report.hints?.homes || {})) {
      const total = homes.get(home) || { hints: 0, bytes: 0 };
      homes.set(home, { hints: total.hints + kept.hints, bytes: total.bytes + kept.bytes });
    }
  }
  const counts = [...homes.values()].map((home) => home.hints);
  byId("hints-total").textContent = number(counts.reduce((sum, count) => sum + count, 0));
  const most = Math.max(1, ...counts);
  show(byId("hints"), [...homes].sort().map(([home, kept]) => bar(`for ${home}`, kept.hints, most, `${number(kept.hints)}, ${size(kept.bytes)}`)));
  const reports = members.filter((member) => member.report.anti_entropy);
  show(byId("healing"), reports.map(({ name, report }) => compared(name, report.anti_entropy)));
  const count = (event) => reports.reduce((sum, { report }) => sum + (report.counters[event] || 0), 0);
  const facts = [
    ["replicas read-repaired", count("read_repairs")], ["records repaired by exchanges", count("records_received_in_repair")],
    ["hints delivered", count("hints_delivered")], ["replicas replaced midway", count("writes_stood_in")], ["reads hedged", count("reads_hedged")],
  ];
  show(byId("healing-figures"), facts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, number(value)))));
}

function compared(name, found) {
  const all = found.all_compared_within_s;
  const text = all === null ? `${found.compared} of ${found.partitions} compared` : `all within ${duration(all)}`;
  return bar(name, found.compared, found.partitions, found.running_with ? `${text}, now with ${found.running_with}` : text);
}

const bar = (name, value, most, text) =>
  h("li", {}, h("span", {}, name), h("progress", { max: Math.max(1, most), value, "aria-label": `${name}: ${text}` }), h("span", {}, text));
