// Faults on purpose, where `quorate up` runs the nodes and offers it: pause, kill, start again, cut off, heal.

import { get, send } from "./api.js";
import { byId, h, say, show } from "./dom.js";

const ACTIONS = {
  running: ["pause", "kill", "cut"], paused: ["resume", "kill"], cut: ["heal", "kill"], ended: ["start"], starting: ["kill"],
};
let offered = true;
let drawn = "";

/** Ask which nodes run here, and draw them. A node without a supervisor knows of none, and is not asked again. */
export async function drawLocal() {
  if (!offered) return;
  const { nodes } = await get("/v1/local");
  offered = nodes.length > 0;
  draw(nodes);
}

function draw(nodes) {
  byId("local-card").hidden = !nodes.length;
  const now = JSON.stringify(nodes);
  if (now === drawn) return;
  drawn = now;
  show(byId("local"), nodes.map(({ name, state }) => h(
    "li", { id: `local-${name}`, data: { state } },
    h("span", { class: "name" }, name), h("span", { class: "state" }, state),
    (ACTIONS[state] || []).map((action) => h(
      "button", { type: "button", id: `local-${name}-${action}`, class: action === "kill" ? "danger" : "quiet", data: { action }, "aria-label": `${action} ${name}`, on: { click: () => act(name, action) } }, action,
    )),
  )));
}

async function act(name, action) {
  const result = byId("local-result");
  try {
    const { nodes } = await send("POST", `/v1/local/${encodeURIComponent(name)}/${action}`, {});
    say(result, `${action} ${name}: done.`);
    draw(nodes);
  } catch (error) {
    say(result, `${action} ${name}: ${error.message}`, true);
  }
}
