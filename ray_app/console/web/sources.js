// Sources of events of a model with windows: rate, newest event, late and repeated ones of the last minutes.

import { h } from "./dom.js";
import { DASH, count, duration, rate, share } from "./format.js";

const HEADS = [
  ["Source", null],
  ["Events / s", "by rows that are scored and POST /events; an ingest has metrics of its own"],
  ["Newest event", "age of the newest event that a replica stored or read, whoever stored it"],
  ["Late", "stored more than a minute after they were known: rows scored in between did not see them"],
  ["Repeated", "ones that the store had already; none counts twice"],
  ["Conflicts", "keys that the store has with other content; not stored"],
];

/** Table of the sources; none for a model without windows. */
export function sources({ data, now }) {
  return h("div", { class: "scroll" }, h(
    "table",
    { class: "plain sources" },
    h("thead", null, h("tr", null, HEADS.map(([head, title]) => h("th", { scope: "col", title }, head)))),
    h("tbody", null, data.events.map((source) => row(source, now))),
  ));
}

/** How long the figures cover, in words. */
export function span({ data }) {
  const { seconds } = data.events[0];
  return seconds ? `last ${duration(seconds)}, over all replicas` : "no figures yet";
}

function row(source, now) {
  return h(
    "tr",
    { "data-key": source.name },
    h("th", { scope: "row" }, source.name),
    h("td", null, rate(source.per_s)),
    h("td", null, source.newest_at === null ? "none seen" : newest(now - source.newest_at)),
    h("td", null, shareOf(source.late_share)),
    h("td", null, shareOf(source.repeated_share)),
    h("td", { class: source.conflicts ? "warn" : null }, count(source.conflicts)),
  );
}

function newest(age) {
  return age < -1 ? `${duration(-age)} ahead` : `${duration(age)} old`;
}

function shareOf(part) {
  return part === null ? DASH : share(part, 1);
}
