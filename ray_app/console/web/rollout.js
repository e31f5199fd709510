// A rollout's steps with what was found, and the verdicts on shadows.

import { h } from "./dom.js";
import { count, duration, figure, moment, weight } from "./format.js";

const STATES = { running: "busy", paused: "warn", aborted: "warn", rolled_back: "bad", done: "good" };

/** How the rollout stands, or that there is none. */
export function rollout({ data, now }) {
  const it = data.rollout;
  if (!it) {
    return h("p", { class: "muted" }, "None yet. ", h("code", null, "rayscore rollout start VERSION"), " raises a version's share step by step while it keeps to its objectives.");
  }
  return [
    h("p", { class: "lead" }, h("b", null, `v${it.version}`), ` against champion v${it.champion} `, h("span", { class: `pill ${STATES[it.state]}` }, h("b", null, it.state.replace("_", " ")))),
    h("ol", { class: "steps", "aria-label": "Steps" }, it.steps.map((step, i) => stepOf(it, step, i, now))),
    it.waits_for ? h("p", null, h("b", null, "Waits for: "), it.waits_for) : null,
    it.reason ? h("p", { class: "reason" }, it.reason) : null,
    findings(it.findings),
    h("details", null, h("summary", null, `History (${it.history.length})`), h("ol", { class: "record" }, [...it.history].reverse().map((each) => h("li", null, h("time", null, moment(each.at, now)), h("span", null, each.text))))),
  ];
}

function stepOf(it, step, i, now) {
  const over = !["running", "paused"].includes(it.state);
  const kind = i < it.step || (i === it.step && it.state === "done") ? "past" : i === it.step ? (over ? "ended" : "present") : "";
  const since = i === it.step && !over && it.began.length ? duration(now - it.began[it.began.length - 1]) : "";
  return h("li", { class: kind, "aria-current": kind === "present" ? "step" : null }, h("b", null, weight(step)), h("span", null, since || " "));
}

function findings(found) {
  if (!found.length) return null;
  return h(
    "table",
    { class: "plain findings" },
    h("caption", null, "Evidence against the version in this step; at 100 % it is taken back"),
    h("tbody", null, found.map((each) => {
      const percent = Math.min(Math.max(each.evidence, 0), 1) * 100;
      const kind = percent >= 100 ? "bad" : percent >= 50 ? "warn" : "";
      return h("tr", { class: kind || null }, h("th", { scope: "row" }, each.name), h("td", null, each.text), h("td", { class: "number" }, `${percent.toFixed(0)} %`));
    })),
  );
}

/** What is to be said of each shadow. */
export function shadows({ data, colour }) {
  if (!data.shadows.length) {
    return h("p", { class: "muted" }, "None. A version with mode shadow scores the champion's rows after the answer has left, and what differs is shown here.");
  }
  return data.shadows.map((each) =>
    h(
      "article",
      { "data-key": each.version, class: "verdict" },
      h("p", { class: "lead" }, h("span", { class: `swatch hatched c${colour(each.version)}` }), h("b", null, `v${each.version}`), ` beside champion v${each.against} `, judged(each)),
      h("dl", { class: "figures" }, [
        ["Rows", count(each.rows), "that both scored"],
        ["KS", figure(each.ks), "distance of the scores"],
        ["PSI", figure(each.psi), "0.1 shifted, 0.25 another"],
        ["Ranks", figure(each.ranks), "Spearman's correlation"],
        ["Changed", each.rows ? `${(100 * each.changed).toPrecision(2)} %` : "–", "of the decisions"],
      ].map(([name, value, note]) => h("div", null, h("dt", null, name), h("dd", null, h("b", null, value), h("span", null, note))))),
      h("p", { class: "reason" }, each.text),
    ),
  );
}

function judged({ rows, psi }) {
  const [kind, words] = rows < 1000 ? ["busy", "not much is known yet"] : psi < 0.1 ? ["good", "scores alike"] : psi < 0.25 ? ["warn", "somewhat shifted"] : ["bad", "another distribution"];
  return h("span", { class: `pill ${kind}` }, h("b", null, words));
}
