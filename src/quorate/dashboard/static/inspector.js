// One key: where it lives, what each replica holds, its concurrent values; choose or merge them, and write back.
//
// The context of the read goes back with the write, so that exactly what was shown is replaced: a value that somebody
// writes meanwhile stays, as a sibling.

import { Problem, read, remove, textOf, where, write } from "./api.js";
import { byId, h, say, show, size, table } from "./dom.js";

let shown = null;
let chosen = null;

export function setUpInspector() {
  byId("inspect-form").addEventListener("submit", (event) => {
    event.preventDefault();
    inspect(byId("inspect-bucket").value, byId("inspect-key").value);
  });
  byId("merge-write").addEventListener("click", () => act("written", (key) => write(key.bucket, key.key, mergedBytes(), byId("merge-type").value, key.context)));
  byId("merge-delete").addEventListener("click", () => act("deleted", (key) => remove(key.bucket, key.key, key.context)));
  byId("merge-value").addEventListener("input", () => { chosen = null; });
}

async function inspect(bucket, key, done = "") {
  const result = byId("inspect-result");
  say(result, done || "asking …");
  try {
    const [place, values] = await Promise.all([where(bucket, key), read(bucket, key)]);
    shown = { bucket, key, context: values.context };
    drawPlace(place);
    drawValues(values);
    byId("inspect-found").hidden = false;
    say(result, done);
  } catch (error) {
    byId("inspect-found").hidden = !done;
    say(result, `${done} ${error.message}`.trim(), true);
  }
}

async function act(done, deed) {
  if (!shown) return;
  const key = shown;
  try {
    await deed(key);
  } catch (error) {
    const unknown = error instanceof Problem && (error.status === 504 || error.status === 0);
    say(byId("inspect-result"), unknown ? `It may have been done, or not: ${error.message}. Inspect it again.` : `Not done: ${error.message}`, true);
    return;
  }
  await inspect(key.bucket, key.key, `The key was ${done}.`);
}

function drawPlace(place) {
  byId("inspect-place").textContent = `Slot ${place.slot}, partition ${place.partition}. Preference list, and who stands in (dashed):`;
  show(
    byId("inspect-preference"),
    place.preference_list.map((name) => h("li", {}, name)), place.fallbacks.map((name) => h("li", { class: "fallback" }, name)),
  );
  table(byId("inspect-replicas"), ["node", "state", "digest", "dot", "value", "type", "written", "clock"], place.replicas.flatMap(replicaRows));
  const digests = new Set(place.replicas.filter((replica) => replica.digest).map((replica) => replica.digest));
  byId("inspect-agreement").textContent = digests.size > 1 ? "The replicas differ; a read of the key, or time, brings them together." : digests.size ? "All replicas that answered hold the same." : "No replica holds it.";
}

function replicaRows(replica) {
  const clock = Object.entries(replica.clock || {}).map(([actor, counter]) => `${actor}:${counter}`).join(", ");
  const siblings = replica.siblings?.length ? replica.siblings : [null];
  return siblings.map((sibling, index) => h(
    "tr", {},
    h("th", { scope: "row" }, index ? "" : replica.node), h("td", {}, index ? "" : replica.state),
    h("td", { class: "mono" }, index ? "" : replica.digest ?? "–"), h("td", { class: "mono" }, sibling ? sibling.dot : "–"),
    h("td", {}, sibling ? (sibling.tombstone ? "tombstone" : size(sibling.value_bytes)) : "–"),
    h("td", { class: "text" }, sibling ? sibling.content_type || "bytes" : "–"),
    h("td", {}, sibling ? time(sibling.unix_ms) + (sibling.expiry_ms ? `, expires ${time(sibling.expiry_ms)}` : "") : "–"),
    h("td", { class: "text mono" }, index ? "" : clock || "–"),
  ));
}

const time = (unixMs) => new Date(unixMs).toISOString().replace("T", " ").slice(0, 19);

function drawValues({ context, siblings }) {
  const none = context ? "It was deleted, or has expired." : "It holds no value.";
  byId("inspect-count").textContent = siblings.length > 1 ? `${siblings.length} concurrent values: choose one, or write what they are together.` : siblings.length ? "One value." : none;
  show(byId("inspect-siblings"), siblings.map((sibling, index) => {
    const text = textOf(sibling.bytes);
    return h(
      "li", { class: "sibling" },
      h("span", { class: "note" }, `${sibling.type || "bytes"}, ${size(sibling.bytes.length)}, ${sibling.modified || ""}`),
      h("pre", {}, text === null ? "(not text)" : text),
      h("button", { type: "button", class: "quiet", id: `choose-${index}`, on: { click: () => choose(sibling) } }, siblings.length > 1 ? "Take this one" : "Edit"),
    );
  }));
  const texts = siblings.map((sibling) => textOf(sibling.bytes));
  const area = byId("merge-value");
  chosen = null;
  area.value = texts.every((text) => text !== null) ? texts.join("\n") : "";
  byId("merge-type").value = siblings[0]?.type || "text/plain; charset=utf-8";
  if (siblings.length === 1) choose(siblings[0]);
}

function choose(sibling) {
  const text = textOf(sibling.bytes);
  byId("merge-value").value = text === null ? `(${size(sibling.bytes.length)} that are no text; written as they are unless you type here)` : text;
  byId("merge-type").value = sibling.type;
  chosen = sibling.bytes;
}

/** What to write: the very bytes that were chosen, unless somebody typed since. */
const mergedBytes = () => chosen ?? new TextEncoder().encode(byId("merge-value").value);
