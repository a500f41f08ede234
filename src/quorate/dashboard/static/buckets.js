// What buckets declare: shown, and changed.

import { get, segment, send } from "./api.js";
import { byId, h, say, show, table } from "./dom.js";

const FIELDS = {
  n: ["Replicas (n)", "number"], r: ["Read quorum (r)", "number"], w: ["Write quorum (w)", "number"],
  conflicts: ["Conflicts", ["siblings", "lww"]], ttl: ["Lifetime in s (0: for ever)", "number"],
  durability: ["Durability", ["os", "fsync"]], strict: ["Strict", ["false", "true"]],
};
let loaded = null;

export function setUpBuckets() {
  byId("bucket-load").addEventListener("click", () => load());
  byId("bucket-name").addEventListener("input", () => { byId("bucket-save").disabled = true; });
  byId("bucket-form").addEventListener("submit", (event) => {
    event.preventDefault();
    (loaded && !byId("bucket-save").disabled ? save : load)();
  });
}

export async function drawBuckets() {
  const { buckets, defaults } = await get("/v1/buckets");
  table(byId("bucket-list"), ["bucket", ...Object.keys(FIELDS), ""], buckets.map(({ bucket, properties }) => h(
    "tr", {}, h("th", { scope: "row" }, typeof bucket === "string" ? bucket : `base64 ${bucket.base64}`),
    Object.keys(FIELDS).map((name) => h("td", {}, String(properties[name]))),
    h("td", {}, typeof bucket === "string" ? h("button", { type: "button", class: "quiet", on: { click: () => load(bucket) } }, "Change") : ""),
  )));
  byId("bucket-defaults").textContent = `All others: ${Object.entries(defaults).map(([name, value]) => `${name}=${value}`).join(", ")}.`;
}

async function load(name = byId("bucket-name").value) {
  if (!name) return;
  byId("bucket-name").value = name;
  try {
    draw(await get(`/v1/buckets/${segment(name)}`));
    say(byId("bucket-result"), "");
  } catch (error) {
    say(byId("bucket-result"), error.message, true);
  }
}

function draw({ bucket, properties }) {
  loaded = { bucket, properties };
  show(byId("bucket-fields"), Object.entries(FIELDS).map(([name, [label, kind]]) => {
    const id = `bucket-field-${name}`;
    const value = String(properties[name]);
    const field = Array.isArray(kind)
      ? h("select", { id }, kind.map((choice) => h("option", { value: choice, selected: choice === value }, choice)))
      : h("input", { id, type: "number", min: name === "ttl" ? 0 : 1, required: true, value });
    return h("label", {}, label, field);
  }));
  byId("bucket-save").disabled = false;
}

async function save() {
  const changes = {};
  for (const [name, value] of Object.entries(loaded.properties)) {
    const text = byId(`bucket-field-${name}`).value;
    if (text !== String(value)) changes[name] = typeof value === "number" ? Number(text) : typeof value === "boolean" ? text === "true" : text;
  }
  try {
    draw(await send("PUT", `/v1/buckets/${segment(loaded.bucket)}`, changes));
    say(byId("bucket-result"), Object.keys(changes).length ? "Changed; a majority of the members knows it." : "Nothing was different.");
    await drawBuckets();
  } catch (error) {
    say(byId("bucket-result"), `Not changed: ${error.message}`, true);
  }
}
