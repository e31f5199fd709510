// Lists: the last changes of the traffic rules, the last refused requests for one, and the replicas.

import { h } from "./dom.js";
import { DASH, duration, moment, share, weight } from "./format.js";

const OUTCOMES = { committed: "good", refused: "bad", superseded: "warn", preparing: "busy" };
const DEPLOYMENTS = { gateway: "Gateway", model: "Model", fused: "Fused", bystander: "FeatureFetch", explanation: "Explanation" };

/** The last changes of the traffic rules, newest first. */
export function changes({ data, now }) {
  if (!data.changes.length) return h("p", { class: "muted" }, "None since the audit log began.");
  return h("ol", { class: "record" }, [...data.changes].reverse().map((change) => changed(change, now)));
}

function changed(change, now) {
  return h(
    "li",
    null,
    h("time", { title: new Date(change.at * 1000).toISOString() }, moment(change.at, now)),
    h(
      "div",
      null,
      h("p", null, h("b", null, change.rules ? rulesInWords(change.rules) : "a change"), " ", h("span", { class: `tag ${OUTCOMES[change.outcome] ?? ""}` }, change.outcome === "committed" ? `epoch ${change.epoch}` : change.outcome)),
      h("p", { class: "muted" }, [`by ${change.who ?? "?"}`, change.why].filter(Boolean).join(": ")),
      change.reason ? h("p", { class: "reason" }, change.reason) : null,
    ),
  );
}

/** Traffic rules in one line: champion v1, v2 5 %, v3 shadow 100 %. */
function rulesInWords({ champion, challengers = [] }) {
  const others = challengers.map((challenger) => `v${challenger.version} ${challenger.mode === "shadow" ? "shadow " : ""}${weight(challenger.weight)}`);
  return [`champion v${champion}`, ...others].join(", ");
}

/** The last refused changes, newest first. */
export function refusals({ data, now }) {
  if (!data.refusals.length) return h("p", { class: "muted" }, "None since Control started.");
  return h("ol", { class: "record" }, [...data.refusals].reverse().map((refusal) => h(
    "li",
    null,
    h("time", { title: new Date(refusal.at * 1000).toISOString() }, moment(refusal.at, now)),
    h("div", null, h("p", null, h("b", null, refusal.what), h("span", { class: "muted" }, ` by ${refusal.who}`)), h("p", { class: "reason" }, refusal.reason)),
  )));
}

/** Table of the replicas: deployment, loaded versions, epoch of the rules, CPU, time of the last report. */
export function replicas({ data }) {
  if (!data.replicas.length) return h("p", { class: "muted" }, "None has reported yet.");
  const heads = ["Replica", "Holds", "Epoch", "CPU", "Heard"];
  return h("div", { class: "scroll" }, h(
    "table",
    { class: "plain replicas" },
    h("thead", null, h("tr", null, heads.map((head) => h("th", { scope: "col" }, head)))),
    h("tbody", null, data.replicas.map((replica) => h(
      "tr",
      { "data-key": replica.replica },
      h("th", { scope: "row" }, DEPLOYMENTS[replica.kind] ?? replica.kind, " ", h("code", null, replica.replica.split("#").at(-1))),
      h("td", null, replica.held.map((version) => `v${version}`).join(", ") || DASH, replica.refused ? h("span", { class: "tag bad" }, `refuses ${replica.refused}`) : null),
      h("td", { class: replica.epoch === null || replica.epoch === data.epoch ? null : "warn" }, String(replica.epoch ?? DASH)),
      h("td", { title: "of one core, in the last second" }, replica.busy === null ? DASH : share(replica.busy, 1)),
      h("td", { class: replica.silent_s > 2 ? "warn" : null }, `${duration(replica.silent_s)} ago`),
    ))),
  ));
}
