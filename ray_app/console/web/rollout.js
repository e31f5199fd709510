// The rollout with its steps and evidence, and the comparison of each shadow version with the champion.

import { h } from "./dom.js";
import { count, duration, figure, moment, weight } from "./format.js";

const STATES = { running: "busy", paused: "warn", aborted: "warn", rolled_back: "bad", done: "good" };

/** State of the current or last rollout, or how to start one. */
export function rollout({ data, now }) {
  const current = data.rollout;
  if (!current) {
    return h("p", { class: "muted" }, "None yet. ", h("code", null, "rayscore rollout start VERSION"), " raises a version's share step by step while it keeps to its objectives.");
  }
  return [
    h("p", { class: "lead" }, h("b", null, `v${current.version}`), ` against champion v${current.champion} `, h("span", { class: `pill ${STATES[current.state]}` }, h("b", null, current.state.replace("_", " ")))),
    h("ol", { class: "steps", "aria-label": "Steps" }, current.steps.map((step, i) => stepOf(current, step, i, now))),
    current.waits_for ? h("p", null, h("b", null, "Waits for: "), current.waits_for) : null,
    current.reason ? h("p", { class: "reason" }, current.reason) : null,
    findings(current.findings),
    h("details", null, h("summary", null, `History (${current.history.length})`), h("ol", { class: "record" }, [...current.history].reverse().map((event) => h("li", null, h("time", null, moment(event.at, now)), h("span", null, event.text))))),
  ];
}

function stepOf(current, step, i, now) {
  const over = !["running", "paused"].includes(current.state);
  const kind = i < current.step || (i === current.step && current.state === "done") ? "past" : i === current.step ? (over ? "ended" : "present") : "";
  const since = i === current.step && !over && current.began.length ? duration(now - current.began[current.began.length - 1]) : "";
  return h("li", { class: kind, "aria-current": kind === "present" ? "step" : null }, h("b", null, weight(step)), h("span", null, since || " "));
}

function findings(list) {
  if (!list.length) return null;
  return h(
    "table",
    { class: "plain findings" },
    h("caption", null, "Evidence against the version in this step; at 100 % it is taken back"),
    h("tbody", null, list.map((finding) => {
      const percent = Math.min(Math.max(finding.evidence, 0), 1) * 100;
      const kind = percent >= 100 ? "bad" : percent >= 50 ? "warn" : "";
      return h("tr", { class: kind || null }, h("th", { scope: "row" }, finding.name), h("td", null, finding.text), h("td", { class: "number" }, `${percent.toFixed(0)} %`));
    })),
  );
}

/** Comparison of shadow shadow version with the champion. */
export function shadows({ data, colour }) {
  if (!data.shadows.length) {
    return h("p", { class: "muted" }, "None. A version with mode shadow scores the champion's rows after the answer has left, and what differs is shown here.");
  }
  return data.shadows.map((shadow) =>
    h(
      "article",
      { "data-key": shadow.version, class: "verdict" },
      h("p", { class: "lead" }, h("span", { class: `swatch hatched c${colour(shadow.version)}` }), h("b", null, `v${shadow.version}`), ` beside champion v${shadow.against} `, judged(shadow)),
      h("dl", { class: "figures" }, [
        ["Rows", count(shadow.rows), "that both scored"],
        ["KS", figure(shadow.ks), "distance of the scores"],
        ["PSI", figure(shadow.psi), "0.1 shifted, 0.25 another"],
        ["Ranks", figure(shadow.ranks), "Spearman's correlation"],
        ...(shadow.changed === null ? [] : [["Changed", `${(100 * shadow.changed).toPrecision(2)} %`, "of the decisions"]]),
      ].map(([name, value, note]) => h("div", null, h("dt", null, name), h("dd", null, h("b", null, value), h("span", null, note))))),
      h("p", { class: "reason" }, shadow.text),
    ),
  );
}

function judged({ rows, psi }) {
  const [kind, words] = rows < 1000 ? ["busy", "not much is known yet"] : psi < 0.1 ? ["good", "scores alike"] : psi < 0.25 ? ["warn", "somewhat shifted"] : ["bad", "another distribution"];
  return h("span", { class: `pill ${kind}` }, h("b", null, words));
}
