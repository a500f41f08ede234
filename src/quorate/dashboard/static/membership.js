// Who belongs to the cluster. Every change is planned first, shown, and done only when it is confirmed.

import { get, send } from "./api.js";
import { byId, duration, h, number, say, show, size, table } from "./dom.js";

const PATH = "/v1/cluster/";
let confirmed = null;
let drawn = "";

export function setUpMembership() {
  byId("plan-cancel").addEventListener("click", () => byId("plan").close());
  byId("plan-confirm").addEventListener("click", () => confirmed?.());
}

/** Show the plan for `kind` with `wish`, and do it if it is confirmed. */
export async function propose(kind, wish, result = byId("membership-result")) {
  try {
    const plan = await send("POST", PATH + kind, wish);
    describe(kind, wish, plan);
    confirmed = () => commit(kind, wish, plan.id, result);
    byId("plan").showModal();
  } catch (error) {
    say(result, `Not possible: ${error.message}`, true);
  }
}

async function commit(kind, wish, id, result) {
  confirmed = null;
  byId("plan").close();
  try {
    await send("POST", PATH + kind, { ...wish, commit: id });
    say(result, `${kind}: begun.`);
  } catch (error) {
    say(result, `${kind}: ${error.message}`, true);
  }
}

function describe(kind, wish, plan) {
  byId("plan-title").textContent = `Plan: ${kind} ${wish.node || ""}`;
  const facts = plan.partitions_moved === undefined ? [] : [
    ["partitions that get another owner", `${number(plan.partitions_moved)} (at least ${number(plan.fewest_moves)} must)`],
    ["copies to make", `${number(plan.copies)}, about ${size(plan.bytes)}`],
  ];
  const flows = (plan.flows || []).map((flow) => h("li", {}, `${flow.from} → ${flow.to}: ${number(flow.partitions)} partitions`));
  show(
    byId("plan-body"),
    h("dl", { class: "facts" }, facts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))),
    h("ul", {}, flows), h("ul", {}, plan.warnings.map((warning) => h("li", { class: "error" }, warning))),
  );
}

/** Draw members and candidates, unless nothing has changed: what somebody has typed or focused stays. */
export function drawMembers({ members, candidates }, partitions) {
  const now = JSON.stringify([members.map((member) => [member.name, member.state, member.side, member.weight, member.owns, member.reason]), candidates.map((candidate) => candidate.name)]);
  if (now === drawn) return;
  drawn = now;
  const columns = ["node", "state", "why", "host", "zone", "weight", "owns", "actions"];
  table(byId("members"), columns, members.map((member) => h(
    "tr", { id: `member-${member.name}`, data: { state: member.state } },
    h("th", { scope: "row" }, member.name),
    h("td", { class: "state" }, member.side === "stays" ? member.state : `${member.state}, ${member.side}`),
    h("td", { class: "text" }, member.reason || "–"), h("td", {}, member.host || "–"), h("td", {}, member.zone || "–"),
    h("td", {}, member.weight), h("td", {}, `${((100 * member.owns) / partitions).toFixed(1)} %`),
    h("td", {}, actions(member, candidates)),
  )));
  show(byId("candidates"), candidates.length ? candidates.map((candidate) => h(
    "li", {}, h("span", { class: "name" }, candidate.name), `${candidate.host || ""} ${candidate.client_address || ""}`,
    button("Join …", `join-${candidate.name}`, () => propose("join", { node: candidate.name })),
  )) : h("li", { class: "note" }, "Nobody waits to join. Start one with: quorate start --name NAME --data DIR --cluster FILE --join PEER-ADDRESS"));
}

const button = (text, id, click) => h("button", { type: "button", class: "quiet", id, on: { click } }, text);

function actions(member, candidates) {
  const stopped = member.state === "down" ? { stopped: true } : {};
  const weight = h("input", { type: "number", min: 1, max: 1000, value: member.weight, id: `weight-of-${member.name}`, "aria-label": `Weight of ${member.name}` });
  const row = [
    button("Leave …", `leave-${member.name}`, () => propose("leave", { node: member.name, ...stopped })),
    weight, button("Weigh …", `weigh-${member.name}`, () => propose("weight", { node: member.name, weight: Number(weight.value) })),
  ];
  if (candidates.length) {
    const by = h("select", { id: `by-${member.name}`, "aria-label": `Who takes the place of ${member.name}` }, candidates.map((candidate) => h("option", {}, candidate.name)));
    row.push(by, button("Replace …", `replace-${member.name}`, () => propose("replace", { node: member.name, by: by.value, ...stopped })));
  }
  return h("div", { class: "row" }, row);
}

export function drawTransfer(transfers) {
  if (!transfers.plan) {
    show(byId("transfer"), h("p", { class: "note" }, "None."));
    return;
  }
  const who = [["joins", transfers.joining], ["leaves", transfers.leaving]].filter(([, names]) => names.length).map(([verb, names]) => `${names.join(", ")} ${verb}`);
  show(
    byId("transfer"),
    h("p", {}, `Plan ${transfers.plan}, ${transfers.stage}: ${who.join("; ") || "weights change"}.`),
    h("ul", { class: "bars" }, transfers.members.filter((member) => member.partitions).map((member) => {
      const done = member.partitions - member.partitions_left;
      const text = `${done} of ${member.partitions} partitions, ${size(member.received_bytes)}, ${duration(member.seconds_left)} left`;
      return h("li", {}, h("span", {}, member.name), h("progress", { max: member.partitions, value: done, "aria-label": `${member.name}: ${text}` }), h("span", {}, text));
    })),
    h("ul", { class: "note" }, transfers.waiting.map((text) => h("li", {}, text))),
    button("Take it back …", "abort", () => propose("abort", {})),
  );
}

export const members = () => get(`${PATH}members`);
