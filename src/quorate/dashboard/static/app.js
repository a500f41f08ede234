// The page as a whole: which view is shown, and one poll at a time of the node that served it.

import { get } from "./api.js";
import { drawBuckets, setUpBuckets } from "./buckets.js";
import { byId, say } from "./dom.js";
import { drawFigures } from "./figures.js";
import { drawHealing } from "./healing.js";
import { setUpInspector } from "./inspector.js";
import { drawLocal } from "./local.js";
import { drawMembers, drawTransfer, members, setUpMembership } from "./membership.js";
import { drawNodes, stateOf } from "./nodes.js";
import { drawRing } from "./ring.js";
import { drawStaleness } from "./staleness.js";

const POLL_MS = 1000;
const VIEWS = ["overview", "inspect", "buckets", "membership"];
let ring = null;
let lostAt = null;

const view = () => (VIEWS.includes(location.hash.slice(1)) ? location.hash.slice(1) : VIEWS[0]);

function showView() {
  const now = view();
  for (const name of VIEWS) byId(`view-${name}`).hidden = name !== now;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${now}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (now === "buckets") drawBuckets().catch((error) => say(byId("bucket-result"), error.message, true));
}

async function poll() {
  const [cluster, transfers] = await Promise.all([get("/v1/cluster"), get("/v1/cluster/transfers")]);
  if (!ring || ring.version !== cluster.ring_version || transfers.plan) ring = await get("/v1/cluster/ring");
  byId("cluster-line").textContent = `cluster ${cluster.cluster_id}, as ${cluster.seen_by} sees it, ring version ${cluster.ring_version}`;
  drawRing(ring, new Map(cluster.members.map((member) => [member.name, stateOf(member)])), transfers);
  drawFigures(cluster.members, performance.now());
  drawNodes(cluster);
  drawHealing(cluster.members);
  drawTransfer(transfers);
  if (view() === "overview") drawStaleness(performance.now());
  if (view() === "membership") drawMembers(await members(), cluster.partitions);
  await drawLocal();
}

/** Poll for ever, one after the other; not while nobody looks. */
async function run() {
  for (;;) {
    if (!document.hidden) {
      try {
        await poll();
        lostAt = null;
        connection("live", "live");
      } catch (error) {
        lostAt = lostAt || new Date();
        connection("lost", `${error.message} since ${lostAt.toLocaleTimeString()}; what is shown is older`);
      }
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

function connection(state, text) {
  const line = byId("connection");
  if (line.textContent === text) return; // A screen reader hears changes only.
  line.dataset.state = state;
  line.textContent = text;
}

setUpInspector();
setUpBuckets();
setUpMembership();
addEventListener("hashchange", showView);
showView();
run();
