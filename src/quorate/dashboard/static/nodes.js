// The table of nodes: what each says about itself, what the asked node thinks of it, and why.

import { byId, duration, h, show, table } from "./dom.js";

const COLUMNS = ["node", "state", "seen as", "address", "host", "zone", "owns", "hints kept", "in flight", "disk free", "uptime"];

/** The state that counts: what the node says, or, if it does not say anything, why that is. */
export const stateOf = (member) => member.report.state;

export function drawNodes(cluster) {
  const self = cluster.members.find((member) => member.name === cluster.seen_by);
  const opinions = self?.report.peers || {};
  table(byId("nodes"), COLUMNS, cluster.members.map((member) => row(member, opinions[member.name], cluster.partitions)));
  show(byId("notes"), notes(cluster, opinions).map((text) => h("li", {}, text)));
}

function row(member, opinion, partitions) {
  const report = member.report;
  const hints = report.hints ? Object.values(report.hints.homes).reduce((sum, home) => sum + home.hints, 0) : null;
  const cell = (value) => h("td", {}, value ?? "–");
  return h(
    "tr", { id: `node-${member.name}`, data: { state: report.state } },
    h("th", { scope: "row" }, member.name),
    h("td", { class: "state" }, report.state),
    h("td", {}, opinion ? h("span", { class: "state", data: { state: opinion.state } }, opinion.state) : "itself"),
    cell(member.client_address), cell(member.host || "–"), cell(member.zone || "–"), cell(`${((100 * member.tokens) / partitions).toFixed(1)} %`), cell(hints),
    cell(report.in_flight_requests === undefined ? null : `${report.in_flight_requests} of ${report.requests_in_flight_max}`),
    cell(report.disk_free_fraction === undefined ? null : `${Math.round(100 * report.disk_free_fraction)} %`),
    cell(duration(report.uptime_s)),
  );
}

function notes(cluster, opinions) {
  const found = [];
  for (const member of cluster.members) {
    const opinion = opinions[member.name];
    if (member.report.reason) found.push(`${member.name} is ${member.report.state}: ${member.report.reason}`);
    if (opinion && opinion.state !== "up") found.push(`${cluster.seen_by} takes ${member.name} for ${opinion.state}: ${opinion.reason}`);
    if (member.report.partitions_being_filled) found.push(`${member.name} is being filled: ${member.report.partitions_being_filled} partitions left`);
  }
  return found;
}
