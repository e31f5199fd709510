// Top of the page: health of the service, its figures of the last minute, and the split of the traffic.

import { h } from "./dom.js";
import { FIGURES, count, duration, figure, ms, rate, share, weight } from "./format.js";

/** Health as a list of labels: service, Control, registry, pending change, rollout. */
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

function control({ settled }) {
  if (!settled) return ["busy", "Control is starting", "it listens to the replicas first"];
  return ["good", "Control answers", ""];
}

function registry({ problem, owed }) {
  if (problem) return ["warn", "Registry", problem];
  if (owed.length) return ["busy", "Registry", `still to be written: ${owed.join(", ")}`];
  return ["good", "Registry in step", ""];
}

/** Figures of the last minute over all versions, the champion, and the epoch of the traffic rules. */
export function tiles({ data, now }) {
  const { minute } = data;
  const champion = data.versions.find((version) => version.version === data.champion);
  const last = data.changes.filter((change) => change.outcome === "committed").at(-1);
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
  const [name, words] = FIGURES.find(([metric]) => metric in metrics) ?? [];
  return name ? `${words} ${figure(metrics[name])}` : "";
}

/** Traffic split of the live versions as a bar, and the shadow versions beneath it. */
export function traffic(view) {
  const { data } = view;
  const shadows = data.challengers.filter((challenger) => challenger.mode === "shadow");
  return [
    shares(view, liveShares(data.champion, data.challengers)),
    shadows.map((challenger) =>
      h(
        "div",
        { class: "listens" },
        h("span", { class: `swatch hatched c${view.colour(challenger.version)}` }),
        h("span", null, h("b", null, `v${challenger.version}`), ` listens to ${weight(challenger.weight)} of the entities, and answers nobody`),
      ),
    ),
  ];
}

/** Live versions with their weight in percent; the champion gets what the live challengers leave. */
export function liveShares(champion, challengers) {
  const live = challengers.filter((challenger) => challenger.mode === "live");
  const challenged = live.reduce((sum, challenger) => sum + challenger.weight, 0);
  return [{ version: champion, weight: 100 - challenged, role: "champion" }, ...live.map((challenger) => ({ ...challenger, role: "challenger" }))];
}

/** A stacked bar of weights in percent, with a legend. */
export function shares(view, parts) {
  const words = parts.map((part) => `version ${part.version} ${weight(part.weight)}`).join(", ");
  const segments = parts
    .filter((part) => part.weight > 0)
    .map((part) =>
      h(
        "span",
        { "data-key": part.version, class: `segment c${view.colour(part.version)}`, "data-grow": part.weight },
        part.weight >= 8 ? `v${part.version}` : null,
      ),
    );
  return [
    h("div", { class: "bar", role: "img", "aria-label": `Shares: ${words}` }, segments),
    h(
      "ul",
      { class: "legend" },
      parts.map((part) =>
        h(
          "li",
          { "data-key": part.version },
          h("span", { class: `swatch c${view.colour(part.version)}` }),
          h("b", null, `v${part.version}`),
          ` ${part.role} `,
          h("b", { class: "share", "data-version": part.version }, weight(part.weight)),
        ),
      ),
    ),
  ];
}
