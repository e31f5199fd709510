// The dialogs: the token, and for every action what it will do, in words, before it is done.

import { byId, h, show, sized } from "./dom.js";
import { weight } from "./format.js";
import { liveShares, shares } from "./overview.js";

const PRESETS = [1, 5, 25, 50, 100];

/** Ask for the token, or say how the door is opened. */
export function unlockDialog(view, door, changed) {
  const dialog = byId("unlock");
  const title = h("h2", { id: "unlock-title" }, view.data && !view.data.admin_open ? "The admin door is closed" : "Unlock");
  if (view.data && !view.data.admin_open) {
    dialog.replaceChildren(frame(title, [
      h("p", null, "This page is read-only, because the service was started without a token. Start it with one of at least 16 characters:"),
      h("pre", null, "RAYSCORE_ADMIN_TOKEN=$(openssl rand -hex 16) serve run ray_app:graph"),
    ], [closer("Close")]));
    return open(dialog);
  }
  const field = h("input", { id: "token", type: "password", autocomplete: "off", required: true, spellcheck: "false" });
  const said = status();
  dialog.replaceChildren(frame(title, [
    h("p", null, "The admin token lets you change who answers whom. It is kept for this tab until you lock it or close it."),
    h("label", { for: "token" }, "Admin token"),
    field,
    said,
  ], [closer("Cancel"), h("button", { type: "submit", class: "primary" }, "Unlock")]));
  submits(dialog, async () => {
    const answer = await door.unlock(byId("token").value.trim());
    tell(dialog, answer);
    if (answer.kind !== "good") return;
    dialog.close();
    changed();
  });
  open(dialog);
}

/** Begin an action: `act` is weight, add, out, promote or rollback. */
export function actionDialog(view, door, act, version, changed) {
  const dialog = byId("action");
  const { title, body, words, told, danger, label } = ACTIONS[act](view, version);
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
    // The epoch is the one that was shown when the dialog was opened: whoever was faster is not overruled.
    const { name, ...rest } = told();
    const answer = await door.act(name, { ...rest, epoch: view.data.epoch, why: byId("why").value.trim() });
    tell(dialog, answer);
    if (answer.kind !== "bad") done(dialog);
    changed();
  });
  open(dialog);
}

const ACTIONS = {
  weight: (view, version) => weighing(view, version),
  add: (view) => weighing(view, null),
  out: ({ data }, version) => ({
    title: `Take version ${version} out`,
    words: () => ({
      text: `Version ${version} gets no traffic any more. ${rest(data, version)}`,
      after: liveShares(data.champion, without(data, version)),
    }),
    told: () => ({ name: "weight", version, weight: null }),
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
    told: () => ({ name: "promote", version }),
    label: "Promote",
    danger: true,
  }),
  rollback: ({ data }) => ({
    title: "Roll back",
    words: () => ({
      text: `${backInWords(data)}${noted(data, null, "ends")}`,
      after: liveShares(data.rollback.champion, data.challengers.filter((each) => ![data.rollback.champion, ...data.rollback.out].includes(each.version))),
    }),
    told: () => ({ name: "rollback" }),
    label: "Roll back",
    danger: true,
  }),
};

function weighing(view, version) {
  const { data } = view;
  const now = data.challengers.find((each) => each.version === version);
  const idle = data.versions.filter((each) => ["held", "registered"].includes(each.role)).map((each) => each.version);
  const number = () => version ?? byId("version").value.trim();
  const mode = () => document.querySelector("#action input[name=mode]:checked").value;
  const given = () => Number(byId("weight").value);
  return {
    title: version ? `Weight of version ${version}` : "Add a version",
    body: h("div", { class: "fields" }, [
      version ? null : [
        h("label", { for: "version" }, "Version"),
        h("input", { id: "version", type: "text", inputmode: "numeric", list: "idle", required: true, autocomplete: "off" }),
        h("datalist", { id: "idle" }, idle.map((each) => h("option", { value: each }))),
      ],
      h("fieldset", null, h("legend", null, "Mode"), radio("live", "Live: it answers", now?.mode !== "shadow"), radio("shadow", "Shadow: it only listens", now?.mode === "shadow")),
      h("label", { for: "weight" }, "Share of the entities, in percent"),
      h("div", { class: "weigh" }, h("input", { id: "weight", type: "number", min: 0, max: 100, step: 0.01, value: now?.weight ?? 1, required: true }), PRESETS.map((each) => h("button", { type: "button", class: "quiet", "data-preset": each }, `${each} %`))),
    ]),
    words: () => weighed(data, number(), mode(), given()),
    told: () => ({ name: "weight", version: number(), weight: given(), mode: mode() }),
    label: "Set",
  };
}

function weighed(data, version, mode, given) {
  if (!/^[1-9][0-9]{0,9}$/.test(version)) return { text: "Name a registered version by its number.", wrong: true };
  if (version === data.champion) return { text: `Version ${version} is the champion: it has what the challengers leave.`, wrong: true };
  if (!(given >= 0 && given <= 100)) return { text: "The share is a number from 0 to 100.", wrong: true };
  const after = [...without(data, version), { version, weight: given, mode }];
  const left = liveShares(data.champion, after)[0].weight;
  if (left < -1e-9) return { text: `Other live challengers have ${weight(100 - left - given)}: at most ${weight(given + left)} is left to give.`, wrong: true };
  const before = data.challengers.find((each) => each.version === version);
  const was = before ? ` (now ${before.mode} ${weight(before.weight)})` : "";
  const text = mode === "live"
    ? `Version ${version} answers ${weight(given)} of the entities${was}; champion ${data.champion} keeps ${weight(left)}. An entity that sees it now goes on seeing it.`
    : `Version ${version} listens to ${weight(given)} of the entities${was} and answers nobody.`;
  return { text: text + noted(data, version, given > 0 ? "pauses" : "ends"), after: liveShares(data.champion, after) };
}

function without(data, version) {
  return data.challengers.filter((each) => each.version !== version);
}

function rest(data, version) {
  const was = data.challengers.find((each) => each.version === version);
  const whose = was?.mode === "shadow" ? "What it was compared with is forgotten with it." : `Its ${weight(was?.weight ?? 0)} go back to champion ${data.champion}.`;
  return whose + noted(data, version, "ends");
}

function backInWords({ rollback, champion }) {
  if (rollback.champion !== champion) {
    return `Version ${rollback.champion}, the champion before version ${champion}, becomes the champion again, and the registry's alias moves back to it.`;
  }
  return `Live challenger${rollback.out.length > 1 ? "s" : ""} ${rollback.out.join(", ")} get${rollback.out.length > 1 ? "" : "s"} no traffic any more: champion ${champion} answers everybody. Shadows stay.`;
}

/** What becomes of a rollout whose version is concerned; null stands for any. */
function noted(data, version, becomes) {
  const it = data.rollout;
  const concerned = it && ["running", "paused"].includes(it.state) && (version === null || version === it.version);
  return concerned ? ` The rollout of version ${it.version} ${becomes}.` : "";
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
  const said = dialog.querySelector(".said");
  said.className = `said ${kind}`;
  said.textContent = words;
}

/** After the answer there is nothing left to press but Close. */
function done(dialog) {
  dialog.querySelector("button[type=submit]").remove();
  dialog.querySelector("[data-close]").textContent = "Close";
  dialog.querySelector("[data-close]").focus();
}

function open(dialog) {
  // Every dialog is made anew: no handler and no text of the one before stays.
  dialog.showModal();
  dialog.querySelector("input:not([type=radio]), [data-close]").focus();
}

function submits(dialog, work) {
  dialog.querySelector("form").onsubmit = async (event) => {
    event.preventDefault();
    const buttons = [...dialog.querySelectorAll("button")];
    const press = dialog.querySelector("button[type=submit]");
    if (!press || press.disabled) return;
    buttons.forEach((each) => (each.disabled = true));
    tell(dialog, { kind: "busy", words: "Asking…" });
    await work();
    buttons.forEach((each) => (each.disabled = false));
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
