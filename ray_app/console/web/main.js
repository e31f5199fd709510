// Polls /console/data every two seconds while the page is visible, renders it, and says when it is out of date.

import { AdminClient } from "./admin_client.js";
import { LineChart, spanOf } from "./chart.js";
import { actionDialog, unlockDialog } from "./dialogs.js";
import { byId, show, sized } from "./dom.js";
import { duration, ms, rate } from "./format.js";
import { health, tiles, traffic } from "./overview.js";
import { changes, refusals, replicas } from "./records.js";
import { rollout, shadows } from "./rollout.js";
import { sources, span } from "./sources.js";
import { trafficActions, versions } from "./versions.js";

const EVERY_MS = 2000;
const TIMEOUT_MS = 5000;
const COLOURS = 8;

const admin = new AdminClient();
const colours = new Map();
const state = { data: null, at: 0, problem: null, timer: 0, asking: false };

const per = (name) => (columns, i, seconds) => columns[name][i] / seconds;
const charts = [
  new LineChart({ title: "Requests", unit: "per second", text: rate, lines: [{ label: "requests", of: per("requests") }] }),
  new LineChart({
    title: "Latency", unit: "ms, logarithmic", text: ms, log: true,
    lines: [{ label: "p99", of: (c, i) => c.p99_ms[i] }, { label: "p50", dashed: true, of: (c, i) => c.p50_ms[i] }],
  }),
  new LineChart({
    title: "Failures", unit: "per second", text: rate,
    lines: [{ label: "errors", of: per("errors") }, { label: "refused", dashed: true, of: per("refused") }],
  }),
];

/** Index of a version's colour, which it keeps as long as the page is open. */
function colour(version) {
  if (!colours.has(version)) colours.set(version, colours.size % COLOURS);
  return colours.get(version);
}

function view() {
  const age = (performance.now() - state.at) / 1000;
  return { data: state.data, now: (state.data?.at ?? 0) + age, colour, unlocked: Boolean(admin.token) && state.data?.admin_open && !state.problem };
}

async function poll() {
  clearTimeout(state.timer);
  if (state.asking) return;
  state.asking = true;
  try {
    if (!document.hidden) {
      await ask();
      render();
    }
  } finally {
    state.asking = false;
    state.timer = setTimeout(poll, EVERY_MS);
  }
}

async function ask() {
  try {
    const response = await fetch("console/data", { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) });
    if (!response.ok) throw response;
    state.data = await response.json();
    state.at = performance.now();
    state.problem = null;
  } catch (problem) {
    state.problem = problem instanceof Response && problem.status === 503 ? await explainControlOutage() : "The service does not answer.";
  }
}

/** What to say when Control does not answer: predictions do not need it, so ask the gateway whether they go on. */
async function explainControlOutage() {
  try {
    const ready = await (await fetch("ready", { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) })).json();
    const problems = Object.entries(ready.problems ?? {}).map(([name, text]) => `${name}: ${text}`);
    if (!("model" in (ready.problems ?? {}))) return "Control does not answer. Predictions go on by the rules that were in force.";
    return `Control does not answer, and the service is not ready: ${problems.join("; ")}.`;
  } catch {
    return "The service does not answer.";
  }
}

function render() {
  const now = view();
  document.documentElement.dataset.state = state.problem ? "stale" : state.data ? "live" : "loading";
  age();
  lockButton();
  if (!now.data) return;
  const { data } = now;
  // Versions come in the order of the rules, so the champion gets the first colour.
  for (const { role, version } of data.versions) if (role !== "registered") colour(version);
  document.title = `${data.use_case} v${data.champion} · rayscore`;
  show(byId("use-case"), data.use_case);
  show(byId("health"), health(now));
  show(byId("tiles"), tiles(now));
  show(byId("traffic"), traffic(now));
  show(byId("traffic-actions"), trafficActions(now));
  show(byId("versions"), versions(now));
  show(byId("rollout"), rollout(now));
  show(byId("shadows"), shadows(now));
  show(byId("changes"), changes(now));
  show(byId("refusals"), refusals(now));
  show(byId("replicas"), replicas(now));
  byId("events").hidden = !data.events.length;
  if (data.events.length) {
    show(byId("sources"), sources(now));
    show(byId("events-span"), span(now));
  }
  show(byId("charts-title"), `Last ${spanOf(data.history, data.at)} minutes`);
  show(byId("watched"), watched(data));
  for (const chart of charts) chart.update(data.history, data.at, colour);
  sized(byId("traffic"));
}

function watched({ control, history }) {
  const whole = history.steps * history.step_s;
  const text = `every ${history.step_s} s, over all gateways`;
  return control.watching_s >= whole ? text : `${text}; Control started ${duration(control.watching_s)} ago and knows nothing of before`;
}

function age() {
  const seconds = (performance.now() - state.at) / 1000;
  const old = state.data ? ` What is shown is ${duration(seconds)} old.` : " Nothing is known yet.";
  byId("banner").hidden = !state.problem;
  show(byId("banner"), state.problem ? state.problem + old : null);
  show(byId("freshness"), state.data ? (state.problem ? `${duration(seconds)} old` : "live") : "asking");
}

function lockButton() {
  const open = Boolean(admin.token);
  const closed = state.data && !state.data.admin_open;
  byId("lock").dataset.act = open ? "lock" : "unlock";
  show(byId("lock"), open ? "Lock" : closed ? "Read-only" : "Unlock");
}

document.addEventListener("click", ({ target }) => {
  const pressed = target.closest?.("[data-act]");
  if (!pressed || pressed.disabled) return;
  const { act, version } = pressed.dataset;
  if (act === "lock") admin.lock();
  if (act === "unlock") unlockDialog(view(), admin, render);
  else if (act !== "lock") actionDialog(view(), admin, act, version, poll);
  render();
});
document.addEventListener("visibilitychange", () => document.hidden || poll());
setInterval(age, 1000);
show(byId("charts"), charts.map((chart) => chart.element));
poll();
