// Table of the model versions: role, holdout metrics, live metrics of the last minute, and the actions on model.

import { h } from "./dom.js";
import { FIGURES, count, day, figure, ms, rate, share, weight } from "./format.js";

const ROLES = {
  champion: "champion", live: "challenger", shadow: "shadow", coming: "coming", held: "loaded", registered: "registered",
};
const HINTS = {
  champion: "It answers everybody whom no challenger has",
  live: "It answers its share of the entities",
  shadow: "It scores the champion's rows and answers nobody",
  coming: "A change that needs it is being prepared",
  held: "Replicas hold it; the traffic rules do not name it",
  registered: "In the registry; no replica holds it",
};
const SHOWN = 12;
const MOST_FIGURES = 3;

/** The table. Of the versions that no replica has loaded, only the newest are shown. */
export function versions(view) {
  const { versions: all, champion } = view.data;
  const base = all.find((model) => model.version === champion)?.metrics ?? {};
  const shown = all.slice(0, Math.max(SHOWN, all.findLastIndex((model) => model.role !== "registered") + 1));
  const figures = FIGURES.filter(([key]) => all.some((model) => key in model.metrics)).slice(0, MOST_FIGURES);
  const heads = ["Version", "Made", ...figures.map(([, words]) => words), "Requests / s", "p50", "p99", "Errors", "Requests", "Held by", ""];
  return [
    h(
      "div",
      { class: "scroll" },
      h(
        "table",
        { class: "versions" },
        h("caption", { class: "unseen" }, "Versions with their figures on the holdout and in the last minute"),
        h(
          "thead",
          null,
          h("tr", { class: "groups" }, h("td", { colspan: 2 }), figures.length ? h("th", { colspan: figures.length, scope: "colgroup", title: "Each version was judged on its own holdout" }, "own holdout, and difference to the champion") : null, h("th", { colspan: 4, scope: "colgroup" }, "last minute"), h("th", { colspan: 2, scope: "colgroup" }, "in all"), h("td")),
          h("tr", null, heads.map((head) => (head ? h("th", { scope: "col" }, head) : h("td")))),
        ),
        h("tbody", null, shown.map((model) => row(view, model, base, figures))),
      ),
    ),
    all.length > shown.length ? h("p", { class: "muted" }, `and ${all.length - shown.length} older ones in the registry`) : null,
  ];
}

function row(view, model, base, figures) {
  const { minute, total } = model;
  const idle = model.role === "held" || model.role === "registered";
  return h(
    "tr",
    { "data-key": model.version, "data-version": model.version, class: idle ? "idle" : null },
    h("th", { scope: "row" }, name(view, model)),
    cell("Made", h("span", { title: model.created_at }, day(model.created_at))),
    figures.map(([key, words, less]) => cell(words, figured(model, base, key, less, view.data.champion))),
    cell("Requests / s", minute.requests || (model.weight && model.role !== "shadow") ? rate(minute.per_s) : "–"),
    cell("p50", timed(minute.p50_ms)),
    cell("p99", timed(minute.p99_ms)),
    cell("Errors", minute.requests ? share(minute.errors, minute.requests) : "–", minute.errors ? "bad" : ""),
    cell("Requests in all", total.requests ? count(total.requests) : "–"),
    cell("Held by", model.held_by ? `${model.held_by} of ${model.of}` : "–", model.held_by && model.held_by < model.of ? "warn" : ""),
    h("td", { class: "actions" }, actions(view, model)),
  );
}

function name(view, model) {
  const role = model.role === "live" || model.role === "shadow" ? `${ROLES[model.role]} ${weight(model.weight)}` : ROLES[model.role];
  return [
    h("span", { class: `swatch ${model.role === "registered" ? "" : `c${view.colour(model.version)}`}${model.role === "shadow" ? " hatched" : ""}` }),
    h("b", { title: model.answers }, `v${model.version}`),
    h("span", { class: `role ${model.role}`, title: HINTS[model.role] }, role),
  ];
}

function cell(label, content, kind = "") {
  return h("td", { "data-label": label, class: content === "–" ? "none" : kind || null }, content);
}

function timed(value) {
  return value === null ? "–" : [ms(value), h("small", null, " ms")];
}

/** A holdout metric, with its difference to the champion's. */
function figured(model, base, key, less, champion) {
  const value = model.metrics[key];
  if (value === undefined) return "–";
  const difference = model.version === champion || base[key] === undefined ? 0 : value - base[key];
  const shown = fixed(Math.abs(difference));
  if (shown === "0.000") return fixed(value);
  const better = difference > 0 !== Boolean(less);
  return [fixed(value), h("small", { class: better ? "up" : "down" }, ` ${difference > 0 ? "+" : "−"}${shown}`)];
}

/** Three decimals, or of a figure in the target's own units, which may be large, two to three digits. */
function fixed(value) {
  return Math.abs(value) < 10 ? value.toFixed(3) : figure(value);
}

/** Button of an action; shown but disabled while the admin token is missing. */
export function button(view, act, words, more = {}, kind = "") {
  const off = !view.unlocked || more.disabled;
  const title = view.unlocked ? more.title : "Unlock with the admin token first";
  return h("button", { type: "button", "data-act": act, "data-version": more.version, class: kind, disabled: off, title, "aria-label": more.label }, words);
}

function actions(view, { version, role }) {
  const labelled = (words) => ({ version, label: `${words} version ${version}` });
  if (role === "live") {
    return [
      button(view, "weight", "Weight", labelled("Set the weight of")),
      button(view, "promote", "Promote", labelled("Promote")),
      button(view, "out", "Take out", labelled("Take out")),
    ];
  }
  if (role === "shadow") {
    return [button(view, "weight", "Weight", labelled("Set the weight of")), button(view, "out", "Take out", labelled("Take out"))];
  }
  if (role === "held" || role === "registered") return button(view, "weight", "Give it a share", labelled("Give a share to"));
  return null;
}

/** Buttons in the traffic card: add a version, roll back. */
export function trafficActions(view) {
  const { refused } = view.data.rollback;
  return [
    button(view, "add", "Add a version"),
    button(view, "rollback", "Roll back", { disabled: Boolean(refused), title: refused }, "danger"),
  ];
}

