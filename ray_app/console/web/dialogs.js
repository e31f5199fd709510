// Dialogs: the admin token, and one for each action, which says in words what will change before it is sent.

import { byId, h, show, sized } from "./dom.js";
import { weight } from "./format.js";
import { liveShares, shares } from "./overview.js";

const PRESETS = [1, 5, 25, 50, 100];

/** Ask for the admin token, or say how to start the service with one. */
export function unlockDialog(view, admin, changed) {
  const dialog = byId("unlock");
  const title = h("h2", { id: "unlock-title" }, view.data && !view.data.admin_open ? "The admin API is closed" : "Unlock");
  if (view.data && !view.data.admin_open) {
    dialog.replaceChildren(frame(title, [
      h("p", null, "This page is read-only, because the service was started without a token. Start it with one of at least 16 characters:"),
      h("pre", null, "RAYSCORE_ADMIN_TOKEN=$(openssl rand -hex 16) serve run ray_app:graph"),
    ], [closer("Close")]));
    return open(dialog);
  }
  const field = h("input", { id: "token", type: "password", autocomplete: "off", required: true, spellcheck: "false" });
  const message = status();
  dialog.replaceChildren(frame(title, [
    h("p", null, "The admin token lets you change who answers whom. It is kept for this tab until you lock it or close it."),
    h("label", { for: "token" }, "Admin token"),
    field,
    message,
  ], [closer("Cancel"), h("button", { type: "submit", class: "primary" }, "Unlock")]));
  submits(dialog, async () => {
    const answer = await admin.unlock(byId("token").value.trim());
    tell(dialog, answer);
    if (answer.kind !== "good") return;
    dialog.close();
    changed();
  });
  open(dialog);
}

/** Open the dialog of an action; `act` is weight, add, out, promote or rollback, `changed` runs after the request. */
export function actionDialog(view, admin, act, version, changed) {
  const dialog = byId("action");
  const { title, body, words, request, danger, label } = ACTIONS[act](view, version);
  dialog.replaceChildren(frame(h("h2", { id: "action-title" }, title), [
    body ?? null,
    h("p", { class: "effect" }),
    h("div", { class: "preview" }),
    h("label", { for: "why" }, "Why ", h("span", { class: "muted" }, "kept in the audit log, and shown on this page to everybody")),
    h("input", { id: "why", type: "text", maxlength: 500, autocomplete: "off" }),
    status(),
  ], [closer("Cancel"), h("button", { type: "submit", class: danger ? "danger" : "primary" }, label)]));
  const preview = () => {
    const { text, after, wrong } = words();
    show(dialog.querySelector(".effect"), text);
    dialog.querySelector(".effect").classList.toggle("bad", Boolean(wrong));
    show(dialog.querySelector(".preview"), after && !wrong ? shares(view, after) : null);
    sized(dialog);
    dialog.querySelector("button[type=submit]").disabled = Boolean(wrong);
  };
  dialog.oninput = preview;
  preview();
  submits(dialog, async () => {
    // The epoch shown when the dialog was opened: if the rules have changed since, the service refuses (409).
    const { name, ...rest } = request();
    const answer = await admin.act(name, { ...rest, epoch: view.data.epoch, why: byId("why").value.trim() });
    tell(dialog, answer);
    if (answer.kind !== "bad") done(dialog);
    changed();
  });
  open(dialog);
}

/**
 * By action: the dialog's title, fields and button; `words` describes the effect of the present input, with the shares
 * `after` it or that it is `wrong`; `request` is the admin route's name and body.
 */
const ACTIONS = {
  weight: (view, version) => weighing(view, version),
  add: (view) => weighing(view, null),
  out: ({ data }, version) => ({
    title: `Take version ${version} out`,
    words: () => ({
      text: `Version ${version} gets no traffic any more. ${rest(data, version)}`,
      after: liveShares(data.champion, without(data, version)),
    }),
    request: () => ({ name: "weight", version, weight: null }),
    label: "Take it out",
    danger: true,
  }),
  promote: ({ data }, version) => ({
    title: `Promote version ${version}`,
    words: () => ({
      text:
        `Version ${version} becomes the champion: it answers everybody whom no other challenger has, and the registry's alias moves to it. ` +
        `Version ${data.champion} answers nobody any more; a rollback brings it back. ` +
        `No gate is asked here: rayscore promote does that.${noted(data, version, "ends")}`,
      after: liveShares(version, without(data, version)),
    }),
    request: () => ({ name: "promote", version }),
    label: "Promote",
    danger: true,
  }),
  rollback: ({ data }) => ({
    title: "Roll back",
    words: () => ({
      text: `${backInWords(data)}${noted(data, null, "ends")}`,
      after: liveShares(data.rollback.champion, data.challengers.filter((challenger) => ![data.rollback.champion, ...data.rollback.out].includes(challenger.version))),
    }),
    request: () => ({ name: "rollback" }),
    label: "Roll back",
    danger: true,
  }),
};

function weighing(view, version) {
  const { data } = view;
  const now = data.challengers.find((known) => known.version === version);
  const idle = data.versions.filter((known) => ["held", "registered"].includes(known.role)).map((known) => known.version);
  const number = () => version ?? byId("version").value.trim();
  const mode = () => document.querySelector("#action input[name=mode]:checked").value;
  const percent = () => Number(byId("weight").value);
  return {
    title: version ? `Weight of version ${version}` : "Add a version",
    body: h("div", { class: "fields" }, [
      version ? null : [
        h("label", { for: "version" }, "Version"),
        h("input", { id: "version", type: "text", inputmode: "numeric", list: "idle", required: true, autocomplete: "off" }),
        h("datalist", { id: "idle" }, idle.map((version) => h("option", { value: version }))),
      ],
      h("fieldset", null, h("legend", null, "Mode"), radio("live", "Live: it answers", now?.mode !== "shadow"), radio("shadow", "Shadow: it only listens", now?.mode === "shadow")),
      h("label", { for: "weight" }, "Share of the entities, in percent"),
      h("div", { class: "weigh" }, h("input", { id: "weight", type: "number", min: 0, max: 100, step: 0.01, value: now?.weight ?? 1, required: true }), PRESETS.map((preset) => h("button", { type: "button", class: "quiet", "data-preset": preset }, `${preset} %`))),
    ]),
    words: () => weighed(data, number(), mode(), percent()),
    request: () => ({ name: "weight", version: number(), weight: percent(), mode: mode() }),
    label: "Set",
  };
}

function weighed(data, version, mode, percent) {
  if (!/^[1-9][0-9]{0,9}$/.test(version)) return { text: "Name a registered version by its number.", wrong: true };
  if (version === data.champion) return { text: `Version ${version} is the champion: it has what the challengers leave.`, wrong: true };
  if (!(percent >= 0 && percent <= 100)) return { text: "The share is a number from 0 to 100.", wrong: true };
  const after = [...without(data, version), { version, weight: percent, mode }];
  const left = liveShares(data.champion, after)[0].weight;
  if (left < -1e-9) return { text: `Other live challengers have ${weight(100 - left - percent)}: at most ${weight(percent + left)} is left to give.`, wrong: true };
  const before = data.challengers.find((challenger) => challenger.version === version);
  const was = before ? ` (now ${before.mode} ${weight(before.weight)})` : "";
  const text = mode === "live"
    ? `Version ${version} answers ${weight(percent)} of the entities${was}; champion ${data.champion} keeps ${weight(left)}. An entity that sees it now goes on seeing it.`
    : `Version ${version} listens to ${weight(percent)} of the entities${was} and answers nobody.`;
  return { text: text + noted(data, version, percent > 0 ? "pauses" : "ends"), after: liveShares(data.champion, after) };
}

function without(data, version) {
  return data.challengers.filter((challenger) => challenger.version !== version);
}

function rest(data, version) {
  const was = data.challengers.find((challenger) => challenger.version === version);
  const whose = was?.mode === "shadow" ? "What it was compared with is forgotten with it." : `Its ${weight(was?.weight ?? 0)} go back to champion ${data.champion}.`;
  return whose + noted(data, version, "ends");
}

function backInWords({ rollback, champion }) {
  if (rollback.champion !== champion) {
    return `Version ${rollback.champion}, the champion before version ${champion}, becomes the champion again, and the registry's alias moves back to it.`;
  }
  return `Live challenger${rollback.out.length > 1 ? "s" : ""} ${rollback.out.join(", ")} get${rollback.out.length > 1 ? "" : "s"} no traffic any more: champion ${champion} answers everybody. Shadows stay.`;
}

/** A sentence on what happens to a running rollout of `version` (null: of any version); empty when there is none. */
function noted(data, version, becomes) {
  const current = data.rollout;
  const concerned = current && ["running", "paused"].includes(current.state) && (version === null || version === current.version);
  return concerned ? ` The rollout of version ${current.version} ${becomes}.` : "";
}

function radio(value, words, checked) {
  return h("label", { class: "choice" }, h("input", { type: "radio", name: "mode", value, checked }), words);
}

function frame(title, body, buttons) {
  return h("form", { method: "dialog", novalidate: true }, title, body, h("div", { class: "buttons" }, buttons));
}

function closer(words) {
  return h("button", { type: "button", "data-close": true, class: "quiet" }, words);
}

function status() {
  return h("p", { class: "said", role: "status" });
}

function tell(dialog, { kind, words }) {
  const message = dialog.querySelector(".said");
  message.className = `said ${kind}`;
  message.textContent = words;
}

/** After the answer, leave only the button Close. */
function done(dialog) {
  dialog.querySelector("button[type=submit]").remove();
  dialog.querySelector("[data-close]").textContent = "Close";
  dialog.querySelector("[data-close]").focus();
}

function open(dialog) {
  // The content was built anew by the caller, so nothing of the previous dialog is left.
  dialog.showModal();
  dialog.querySelector("input:not([type=radio]), [data-close]").focus();
}

function submits(dialog, work) {
  dialog.querySelector("form").onsubmit = async (event) => {
    event.preventDefault();
    const buttons = [...dialog.querySelectorAll("button")];
    const press = dialog.querySelector("button[type=submit]");
    if (!press || press.disabled) return;
    buttons.forEach((button) => (button.disabled = true));
    tell(dialog, { kind: "busy", words: "Asking…" });
    await work();
    buttons.forEach((button) => (button.disabled = false));
  };
}

document.addEventListener("click", ({ target }) => {
  const dialog = target.closest?.("dialog");
  if (target.closest?.("[data-close]")) dialog.close();
  const preset = target.closest?.("[data-preset]");
  if (preset) {
    byId("weight").value = preset.dataset.preset;
    dialog.oninput();
  }
});
