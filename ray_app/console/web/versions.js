// The table of versions: what each is, how it did on the holdout, how it does now, and what can be done with it.

import { h } from "./dom.js";
import { count, day, ms, rate, share, weight } from "./format.js";

const FIGURES = [["pr_auc", "PR-AUC"], ["auc", "AUC"], ["f1", "F1"]];
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

/** The table; versions that are merely registered fold away beyond the newest. */
export function versions(view) {
  const { versions: all, champion } = view.data;
  const base = all.find((each) => each.version === champion)?.metrics ?? {};
  const shown = all.slice(0, Math.max(SHOWN, all.findLastIndex((each) => each.role !== "registered") + 1));
  const heads = ["Version", "Made", ...FIGURES.map(([, words]) => words), "Requests / s", "p50", "p99", "Errors", "Requests", "Held by", ""];
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
          h("tr", { class: "groups" }, h("td", { colspan: 2 }), h("th", { colspan: 3, scope: "colgroup", title: "Each version was judged on its own holdout" }, "own holdout, and difference to the champion"), h("th", { colspan: 4, scope: "colgroup" }, "last minute"), h("th", { colspan: 2, scope: "colgroup" }, "in all"), h("td")),
          h("tr", null, heads.map((head) => (head ? h("th", { scope: "col" }, head) : h("td")))),
        ),
        h("tbody", null, shown.map((each) => row(view, each, base))),
      ),
    ),
    all.length > shown.length ? h("p", { class: "muted" }, `and ${all.length - shown.length} older ones in the registry`) : null,
  ];
}

function row(view, each, base) {
  const { minute, total } = each;
  const idle = each.role === "held" || each.role === "registered";
  return h(
    "tr",
    { "data-key": each.version, "data-version": each.version, class: idle ? "idle" : null },
    h("th", { scope: "row" }, name(view, each)),
    cell("Made", h("span", { title: each.created_at }, day(each.created_at))),
    FIGURES.map(([key, words]) => cell(words, figured(each, base, key, view.data.champion))),
    cell("Requests / s", minute.requests || (each.weight && each.role !== "shadow") ? rate(minute.per_s) : "–"),
    cell("p50", timed(minute.p50_ms)),
    cell("p99", timed(minute.p99_ms)),
    cell("Errors", minute.requests ? share(minute.errors, minute.requests) : "–", minute.errors ? "bad" : ""),
    cell("Requests in all", total.requests ? count(total.requests) : "–"),
    cell("Held by", each.held_by ? `${each.held_by} of ${each.of}` : "–", each.held_by && each.held_by < each.of ? "warn" : ""),
    h("td", { class: "actions" }, actions(view, each)),
  );
}

function name(view, each) {
  const role = each.role === "live" || each.role === "shadow" ? `${ROLES[each.role]} ${weight(each.weight)}` : ROLES[each.role];
  return [
    h("span", { class: `swatch ${each.role === "registered" ? "" : `c${view.colour(each.version)}`}${each.role === "shadow" ? " hatched" : ""}` }),
    h("b", null, `v${each.version}`),
    h("span", { class: `role ${each.role}`, title: HINTS[each.role] }, role),
  ];
}

function cell(label, content, kind = "") {
  return h("td", { "data-label": label, class: content === "–" ? "none" : kind || null }, content);
}

function timed(value) {
  return value === null ? "–" : [ms(value), h("small", null, " ms")];
}

/** A figure, and by how much it is above or below the champion's. */
function figured(each, base, key, champion) {
  const value = each.metrics[key];
  if (value === undefined) return "–";
  const difference = each.version === champion || base[key] === undefined ? 0 : value - base[key];
  const shown = Math.abs(difference).toFixed(3);
  if (shown === "0.000") return value.toFixed(3);
  const [kind, sign] = difference > 0 ? ["up", "+"] : ["down", "−"];
  return [value.toFixed(3), h("small", { class: kind }, ` ${sign}${shown}`)];
}

/** A button of an action; without the token it is there, and does nothing. */
export function button(view, act, words, more = {}, kind = "") {
  const off = !view.unlocked || more.disabled;
  const title = view.unlocked ? more.title : "Unlock with the admin token first";
  return h("button", { type: "button", "data-act": act, "data-version": more.version, class: kind, disabled: off, title, "aria-label": more.label }, words);
}

function actions(view, { version, role }) {
  const of = (words) => ({ version, label: `${words} version ${version}` });
  if (role === "live") {
    return [
      button(view, "weight", "Weight", of("Set the weight of")),
      button(view, "promote", "Promote", of("Promote")),
      button(view, "out", "Take out", of("Take out")),
    ];
  }
  if (role === "shadow") {
    return [button(view, "weight", "Weight", of("Set the weight of")), button(view, "out", "Take out", of("Take out"))];
  }
  if (role === "held" || role === "registered") return button(view, "weight", "Give it a share", of("Give a share to"));
  return null;
}

/** The buttons beside the traffic: another version, and the way back. */
export function trafficActions(view) {
  const { refused } = view.data.rollback;
  return [
    button(view, "add", "Add a version"),
    button(view, "rollback", "Roll back", { disabled: Boolean(refused), title: refused }, "danger"),
  ];
}

