// What happened and who is there: the last changes, the last refusals, the replicas.

import { h } from "./dom.js";
import { DASH, duration, moment, share, weight } from "./format.js";

const OUTCOMES = { committed: "good", refused: "bad", superseded: "warn", preparing: "busy" };
const DEPLOYMENTS = { gateway: "Gateway", model: "Model", fused: "Fused", bystander: "FeatureFetch" };

/** The last changes, newest first. */
export function changes({ data, now }) {
  if (!data.changes.length) return h("p", { class: "muted" }, "None since the audit log began.");
  return h("ol", { class: "record" }, [...data.changes].reverse().map((each) => changed(each, now)));
}

function changed(each, now) {
  return h(
    "li",
    null,
    h("time", { title: new Date(each.at * 1000).toISOString() }, moment(each.at, now)),
    h(
      "div",
      null,
      h("p", null, h("b", null, each.rules ? rulesInWords(each.rules) : "a change"), " ", h("span", { class: `tag ${OUTCOMES[each.outcome] ?? ""}` }, each.outcome === "committed" ? `epoch ${each.epoch}` : each.outcome)),
      h("p", { class: "muted" }, [`by ${each.who ?? "?"}`, each.why].filter(Boolean).join(": ")),
      each.reason ? h("p", { class: "reason" }, each.reason) : null,
    ),
  );
}

/** Traffic rules in one line: champion v1, v2 5 %, v3 shadow 100 %. */
function rulesInWords({ champion, challengers = [] }) {
  const others = challengers.map((each) => `v${each.version} ${each.mode === "shadow" ? "shadow " : ""}${weight(each.weight)}`);
  return [`champion v${champion}`, ...others].join(", ");
}

/** The last refusals, newest first. */
export function refusals({ data, now }) {
  if (!data.refusals.length) return h("p", { class: "muted" }, "None since Control started.");
  return h("ol", { class: "record" }, [...data.refusals].reverse().map((each) => h(
    "li",
    null,
    h("time", { title: new Date(each.at * 1000).toISOString() }, moment(each.at, now)),
    h("div", null, h("p", null, h("b", null, each.what), h("span", { class: "muted" }, ` by ${each.who}`)), h("p", { class: "reason" }, each.reason)),
  )));
}

/** Who holds what, by deployment. */
export function replicas({ data }) {
  if (!data.replicas.length) return h("p", { class: "muted" }, "None has reported yet.");
  const heads = ["Replica", "Holds", "Epoch", "CPU", "Heard"];
  return h("div", { class: "scroll" }, h(
    "table",
    { class: "plain replicas" },
    h("thead", null, h("tr", null, heads.map((head) => h("th", { scope: "col" }, head)))),
    h("tbody", null, data.replicas.map((each) => h(
      "tr",
      { "data-key": each.replica },
      h("th", { scope: "row" }, DEPLOYMENTS[each.kind] ?? each.kind, " ", h("code", null, each.replica.split("#").at(-1))),
      h("td", null, each.held.map((version) => `v${version}`).join(", ") || DASH, each.refused ? h("span", { class: "tag bad" }, `refuses ${each.refused}`) : null),
      h("td", { class: each.epoch === null || each.epoch === data.epoch ? null : "warn" }, String(each.epoch ?? DASH)),
      h("td", { title: "of one core, in the last second" }, each.busy === null ? DASH : share(each.busy, 1)),
      h("td", { class: each.silent_s > 2 ? "warn" : null }, `${duration(each.silent_s)} ago`),
    ))),
  ));
}
