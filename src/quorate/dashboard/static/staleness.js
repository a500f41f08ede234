// How soon reads see writes, for every R and W, by what the asked node has measured. Asked for seldom: working it out
// costs the node a second of small slices, and it keeps the result for ten.

import { get } from "./api.js";
import { byId, h, number, show, table } from "./dom.js";

const EVERY_MS = 10000;
const SHOWN_MS = [0, 1, 10, 100];
const COLUMNS = ["r", "w", ...SHOWN_MS.map((ms) => (ms ? `${ms} ms after` : "at once")), "99.9 % within", "gets wait", "puts wait"];
const SURE = "Every read sees every acknowledged write (r + w > n), unless another node stands in for a replica.";
let due = 0;
let asking = false;

/** Ask if it is time; what comes is drawn when it is there, and nobody waits for it. */
export async function drawStaleness(nowMs) {
  if (asking || nowMs < due) return;
  asking = true;
  try {
    draw(await get("/v1/cluster/staleness"));
    due = nowMs + EVERY_MS;
  } catch {
    due = nowMs + EVERY_MS; // The page says by itself that the node does not answer.
  } finally {
    asking = false;
  }
}

function draw(found) {
  const now = `n=${found.n} r=${found.r} w=${found.w}`;
  const certain = found.r + found.w > found.n;
  const current = found.ready ? found.configurations.find((cell) => cell.current) : null;
  const text = certain ? SURE : found.ready ? summary(found, current) : `${capital(found.reason)}.`;
  byId("staleness-now").textContent = `${now}: ${text}`;
  const { writes, reads, window_s: seconds } = found.measured;
  byId("staleness-note").textContent = found.ready
    ? `Of ${number(writes)} writes and ${number(reads)} reads of other replicas that ${found.seen_by} timed in the last ${Math.round(seconds)} s. Waits are p50 / p99 / p99.9 in ms.`
    : `Of other r and w: ${found.reason}.`;
  byId("staleness-note").hidden = !found.ready && !certain;
  byId("staleness-scroll").hidden = !found.ready;
  if (found.ready) table(byId("staleness"), COLUMNS, found.configurations.map((cell) => row(found, cell)));
  else show(byId("staleness"));
}

function summary(found, cell) {
  if (!cell) return `there are only ${found.replicas} replicas.`;
  return `${shareAt(found, cell, 0)} of reads see a write at once after its acknowledgement, ${shareAt(found, cell, 1)} after 1 ms, ${shareAt(found, cell, 10)} after 10 ms.`;
}

function row(found, cell) {
  const fresh = cell.certain ? [h("td", { colspan: SHOWN_MS.length + 1 }, "certain")] : [...SHOWN_MS.map((ms) => h("td", {}, shareAt(found, cell, ms))), h("td", {}, `${cell.fresh_within_ms.p999.toPrecision(3)} ms`)];
  return h(
    "tr", { id: `staleness-${cell.r}-${cell.w}`, data: { current: cell.current, certain: cell.certain } },
    h("th", { scope: "row" }, cell.current ? `${cell.r} (now)` : cell.r), h("td", {}, cell.w),
    fresh, h("td", {}, waits(cell.read_wait_ms)), h("td", {}, waits(cell.write_wait_ms)),
  );
}

const waits = (found) => (found ? [found.p50, found.p99, found.p999].map((ms) => ms.toPrecision(2)).join(" / ") : "not measured");

function shareAt(found, cell, ms) {
  const share = cell.fresh[found.times_ms.indexOf(ms)];
  const known = 1 - found.resolution;
  return share > known ? `> ${percent(known)}` : percent(share);
}

/** Cut off and not rounded: never more than was measured. */
function percent(share) {
  const digits = share < 0.9 ? 0 : share < 0.999 ? 1 : 2;
  return `${(Math.floor(share * 100 * 10 ** digits + 1e-6) / 10 ** digits).toFixed(digits)} %`;
}

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
