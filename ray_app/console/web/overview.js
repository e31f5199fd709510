// The head of the page: how the service is, its figures of the last minute, and who answers whom.

import { h } from "./dom.js";
import { count, duration, figure, ms, rate, share, weight } from "./format.js";

/** Pills that say what is well and what is not: [kind, text, more]. */
export function health({ data }) {
  const pills = [service(data.problems), control(data.control), registry(data.registry)];
  if (data.pending) pills.push(["busy", "A change is being prepared", `for ${duration(data.pending.for_s)}`]);
  const running = data.rollout && ["running", "paused"].includes(data.rollout.state);
  if (running) pills.push(["busy", `Rollout of version ${data.rollout.version} ${data.rollout.state}`, weight(data.rollout.weight)]);
  return pills.map(([kind, text, more]) =>
    h("li", { class: `pill ${kind}` }, h("b", null, text), more ? h("span", null, more) : null),
  );
}

function service(problems) {
  const named = Object.entries(problems);
  const words = named.map(([name, text]) => `${name}: ${text}`).join("; ");
  if (!named.length) return ["good", "Ready", ""];
  return problems.model ? ["bad", "Not ready", words] : ["warn", "Degraded", `answers go on with defaults; ${words}`];
}

function control(said) {
  if (!said.settled) return ["busy", "Control is starting", "it listens to the replicas first"];
  return ["good", "Control answers", ""];
}

function registry({ problem, owed }) {
  if (problem) return ["warn", "Registry", problem];
  if (owed.length) return ["busy", "Registry", `still to be written: ${owed.join(", ")}`];
  return ["good", "Registry in step", ""];
}

/** The figures of the last minute, over all versions. */
export function tiles({ data, now }) {
  const { minute } = data;
  const champion = data.versions.find((each) => each.version === data.champion);
  const last = data.changes.filter((each) => each.outcome === "committed").at(-1);
  return [
    tile("Champion", `v${data.champion}`, best(champion?.metrics)),
    tile("Requests / s", rate(minute.per_s), "last minute"),
    tile("p50", withUnit(minute.p50_ms), "last minute"),
    tile("p99", withUnit(minute.p99_ms), "last minute"),
    tile("Errors", share(minute.errors, minute.requests), `${count(minute.refused)} refused, last minute`, minute.errors ? "bad" : ""),
    tile("Epoch", String(data.epoch), last ? `changed ${duration(now - last.at)} ago` : "of the traffic rules"),
  ];
}

function tile(name, value, note, kind = "") {
  return h("div", { class: `tile ${kind}` }, h("dt", null, name), h("dd", null, h("b", null, value), h("span", null, note)));
}

function withUnit(value) {
  return value === null ? "–" : [ms(value), h("small", null, " ms")];
}

function best(metrics = {}) {
  const [name, words] = [["pr_auc", "PR-AUC"], ["auc", "AUC"]].find(([each]) => each in metrics) ?? [];
  return name ? `${words} ${figure(metrics[name])}` : "";
}

/** The live shares as one bar, and the shadows beneath it. */
export function traffic(view) {
  const { data } = view;
  const shadows = data.challengers.filter((each) => each.mode === "shadow");
  return [
    shares(view, liveShares(data.champion, data.challengers)),
    shadows.map((each) =>
      h(
        "div",
        { class: "listens" },
        h("span", { class: `swatch hatched c${view.colour(each.version)}` }),
        h("span", null, h("b", null, `v${each.version}`), ` listens to ${weight(each.weight)} of the entities, and answers nobody`),
      ),
    ),
  ];
}

/** Versions with what each answers, in percent: the champion has what the live challengers leave. */
export function liveShares(champion, challengers) {
  const live = challengers.filter((each) => each.mode === "live");
  const given = live.reduce((sum, each) => sum + each.weight, 0);
  return [{ version: champion, weight: 100 - given, role: "champion" }, ...live.map((each) => ({ ...each, role: "challenger" }))];
}

/** A bar of shares with its legend. */
export function shares(view, parts) {
  const words = parts.map((each) => `version ${each.version} ${weight(each.weight)}`).join(", ");
  const segments = parts
    .filter((each) => each.weight > 0)
    .map((each) =>
      h(
        "span",
        { "data-key": each.version, class: `segment c${view.colour(each.version)}`, "data-grow": each.weight },
        each.weight >= 8 ? `v${each.version}` : null,
      ),
    );
  return [
    h("div", { class: "bar", role: "img", "aria-label": `Shares: ${words}` }, segments),
    h(
      "ul",
      { class: "legend" },
      parts.map((each) =>
        h(
          "li",
          { "data-key": each.version },
          h("span", { class: `swatch c${view.colour(each.version)}` }),
          h("b", null, `v${each.version}`),
          ` ${each.role} `,
          h("b", { class: "share", "data-version": each.version }, weight(each.weight)),
        ),
      ),
    ),
  ];
}
