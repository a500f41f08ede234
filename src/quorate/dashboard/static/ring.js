// The ring drawn as a ring: one path for each owner, however many partitions it has, a thin ring of zones outside, and
// marks where partitions still have to come. Owners differ by colour, and by hatching from the ninth on and in the legend.

import { byId, h, s, show } from "./dom.js";

const CENTRE = 160;
const OWNERS = [100, 138];
const ZONES = [142, 148];
const MARKS = [150, 157];
const COLOURS = 8;

let drawn = "";

/** Draw `ring` (/v1/cluster/ring) with the states of its members, by name, and `transfers`. Only if something changed. */
export function drawRing(ring, states, transfers) {
  const waiting = (transfers.members || []).flatMap((member) => member.waits_for.map((wait) => wait.partitions));
  const now = JSON.stringify([ring.version, ring.owners.length, [...states], waiting, transfers.plan]);
  if (now === drawn) return;
  drawn = now;
  const shares = spans(ring.owners);
  const owners = ring.members.map((member, index) => arcs(shares.get(member.number) || [], ring.partitions, OWNERS, look(index, states.get(member.name)), member.name));
  const title = `Ring of ${ring.partitions} partitions, owned by ${ring.members.map((member) => member.name).join(", ")}`;
  show(
    byId("ring"),
    s(
      "svg", { viewBox: "0 0 320 320", role: "img", "aria-label": title },
      owners, zones(ring), marks(waiting, ring.partitions),
      s("text", { x: CENTRE, y: CENTRE - 2 }, `${ring.partitions} partitions`),
      s("text", { x: CENTRE, y: CENTRE + 18, class: "small" }, `ring version ${ring.version}`),
    ),
  );
  const total = ring.owners.length;
  show(byId("ring-legend"), ring.members.map((member, index) => {
    const owned = (shares.get(member.number) || []).reduce((sum, [first, last]) => sum + last - first, 0);
    const swatch = s("svg", { viewBox: "0 0 10 10", "aria-hidden": "true" }, s("rect", { width: 10, height: 10, class: look(index) }));
    return h("li", {}, swatch, `${member.name} ${((100 * owned) / total).toFixed(1)} %${member.zone ? ` (${member.zone})` : ""}`);
  }));
  byId("ring-note").textContent = transfers.plan ? `Changing: ${transfers.stage}. Red marks are partitions that still have to come.` : "";
}

const look = (index, state) => `fill${index % COLOURS}${index >= COLOURS ? " hatch" : ""}${state && state !== "up" ? " absent" : ""}`;

/** Owner → [[first, last + 1], …], runs of partitions. */
function spans(owners) {
  const found = new Map();
  for (let first = 0, next; first < owners.length; first = next) {
    for (next = first + 1; next < owners.length && owners[next] === owners[first];) next += 1;
    if (!found.has(owners[first])) found.set(owners[first], []);
    found.get(owners[first]).push([first, next]);
  }
  return found;
}

function arcs(runs, partitions, [inner, outer], look, name) {
  const path = runs.map(([first, last]) => arc(first / partitions, last / partitions, inner, outer)).join("");
  return s("path", { d: path, class: look }, s("title", {}, name));
}

/** A piece of a ring between two shares of the turn. A whole turn is drawn as two halves, which SVG can do. */
function arc(from, to, inner, outer) {
  if (to - from > 0.5) return arc(from, from + (to - from) / 2, inner, outer) + arc(from + (to - from) / 2, to, inner, outer);
  const point = (share, radius) => {
    const angle = 2 * Math.PI * share - Math.PI / 2;
    return `${(CENTRE + radius * Math.cos(angle)).toFixed(2)} ${(CENTRE + radius * Math.sin(angle)).toFixed(2)}`;
  };
  return `M${point(from, outer)}A${outer} ${outer} 0 0 1 ${point(to, outer)}L${point(to, inner)}A${inner} ${inner} 0 0 0 ${point(from, inner)}Z`;
}

function zones(ring) {
  const names = [...new Set(ring.members.map((member) => member.zone))].sort();
  if (names.length < 2) return [];
  const zoneOf = new Map(ring.members.map((member) => [member.number, member.zone]));
  const runs = spans(ring.owners.map((owner) => zoneOf.get(owner)));
  return names.map((zone, index) => arcs(runs.get(zone) || [], ring.partitions, ZONES, `fill${COLOURS - 1 - (index % COLOURS)}`, `zone ${zone || "–"}`));
}

/** `waiting`: texts such as "0-3 7". */
function marks(waiting, partitions) {
  const runs = waiting.flatMap((text) => text.split(" ")).filter(Boolean).map((range) => {
    const [first, last] = range.split("-").map(Number);
    return [first, (last === undefined ? first : last) + 1];
  });
  return runs.length ? [arcs(runs, partitions, MARKS, "moving", "partitions that still have to come")] : [];
}
