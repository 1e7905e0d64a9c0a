// Administration: loads, unloads, promotions, rollbacks and canaries, each of which asks once before it is done.

import { byId, make } from "./elements.js";
import { hasToken, read, useToken } from "./server.js";

const REASONS_S = 10;

let changed = () => {};
const outcome = make("p", { id: "admin-outcome" });
outcome.setAttribute("role", "status");

const allowed = state => state.admin === "open" || (state.admin === "token" && hasToken());
const urlOf = (...parts) => `admin/models${parts.map(one => `/${encodeURIComponent(one)}`).join("")}`;

// Calls back after each change.
export function prepare(after) {
  changed = after;
}

let shown = "";
let reasons = new Map();
let asked_s = 0;

// Why a version is not loaded; empty where that is not known, or not for this page.
export const reasonOf = (model, version) => reasons.get(JSON.stringify([model, version])) ?? "";

async function readReasons(state) {
  const missing = state.models.some(model => model.versions.some(one => one.state === "UNAVAILABLE"));
  if (!allowed(state) || !missing || state.clock_s - asked_s < REASONS_S) return;
  asked_s = state.clock_s;
  const models = await read(urlOf()).catch(() => []);
  reasons = new Map(models.flatMap(model => model.versions.map(one => [JSON.stringify([model.name, one.version]), one.reason])));
}

export function showAdmin(state) {
  void readReasons(state);
  byId("admin").hidden = state.admin === "off";
  const now = state.admin === "off" ? "" : allowed(state) ? "forms" : "token";
  if (now === shown) return;
  shown = now;
  byId("admin-forms").replaceChildren(...(now === "forms" ? [loadForm()] : now === "token" ? [tokenForm()] : []), outcome);
}

function tokenForm() {
  const token = make("input", { type: "password", autocomplete: "off", required: true, id: "admin-token" });
  const form = make(
    "form",
    { className: "stack" },
    make("p", {}, "The server logged a token at start. The page keeps it in memory until it is closed."),
    make("label", {}, "Token", token),
    make("button", {}, "Use the token"),
  );
  form.addEventListener("submit", async event => {
    event.preventDefault();
    useToken(token.value.trim());
    try {
      await read(urlOf());
    } catch (error) {
      useToken("");
      told(error.message, "bad");
      return;
    }
    told("The token is known.", "good");
    changed();
  });
  return form;
}

function loadForm() {
  const path = make("input", { required: true, size: 40, id: "load-path" });
  const name = make("input", { placeholder: "its own" });
  const version = make("input", { placeholder: "its own" });
  const beside = make("input", { type: "checkbox" });
  const form = make(
    "form",
    { className: "stack" },
    make("h3", {}, "Load a model"),
    make("label", {}, "Path on the server", path),
    make("div", { className: "line" }, make("label", {}, "Name", name), make("label", {}, "Version", version)),
    make("label", {}, beside, "stay beside the version that answers"),
    make("button", {}, "Load"),
  );
  form.addEventListener("submit", event => {
    event.preventDefault();
    const body = { path: path.value.trim(), name: name.value.trim(), version: version.value.trim(), ...(beside.checked && { activate: false }) };
    void change("Load a model", `${body.path} is loaded${beside.checked ? " and stays beside the version that answers" : ""}.`, "Load", "POST", urlOf(), body);
  });
  return form;
}

// The buttons of one version; none where this page may not change it.
export function versionActions(state, model, version) {
  if (!allowed(state) || version.state !== "READY") return [];
  const what = `${model.name} version ${version.version}`;
  const answers = model.answers === version.version;
  const buttons = [];
  const add = (text, title, sentence, ...call) =>
    buttons.push(button(`${text} ${what}`, text, () => change(title, sentence, text, ...call)));
  if (!answers) {
    add("Promote", "Promote a version", `${what} answers from now on, in the place of ${model.answers}.`, "POST", urlOf(model.name, "promote"), { version: version.version });
    buttons.push(button(`Canary ${what}`, "Canary", () => canary(model, version)));
  }
  if (answers && (model.previous !== null || model.comparison)) {
    const sentence = model.comparison ? `The ${model.comparison.kind} of ${model.name} ends; ${model.answers} answers alone.` : `Version ${model.previous} of ${model.name} answers again.`;
    add("Roll back", "Roll back", sentence, "POST", urlOf(model.name, "rollback"));
  }
  add("Unload", "Unload a version", `${what} answers what it has admitted and is unloaded.`, "DELETE", urlOf(model.name, "versions", version.version));
  return buttons;
}

function button(label, text, action) {
  const node = make("button", { type: "button", ariaLabel: label }, text);
  node.addEventListener("click", () => void action());
  return node;
}

function canary(model, version) {
  const share = make("input", { type: "number", min: "0.01", max: "100", step: "any", value: "5", id: "canary-percent" });
  const sentence = `Version ${version.version} of ${model.name} answers a part of the requests that name no version.`;
  return change("Start a canary", sentence, "Start", "PUT", urlOf(model.name, "canary"), () => ({ version: version.version, percent: Number(share.value) }), make("label", {}, "Percent ", share));
}

async function change(title, sentence, verb, method, path, body, extra = null) {
  if (!(await agreed(title, sentence, verb, extra))) return;
  told(`${title}: under way…`, "");
  const document_ = typeof body === "function" ? body() : body;
  try {
    const sent = document_ && { body: JSON.stringify(document_), headers: { "content-type": "application/json" } };
    await read(path, { method, ...sent });
    told(`${title}: done.`, "good");
  } catch (error) {
    told(`${title}: ${error.message}`, "bad");
  }
  changed();
}

function told(text, kind) {
  outcome.className = kind;
  outcome.textContent = text;
}

// Asks once; true when the reader agrees.
function agreed(title, sentence, verb, extra) {
  const dialog = byId("ask");
  byId("ask-title").textContent = title;
  byId("ask-text").replaceChildren(sentence, ...(extra ? [make("br"), extra] : []));
  byId("ask-yes").textContent = verb;
  return new Promise(settle => {
    let yes = false;
    byId("ask-yes").onclick = () => { yes = true; dialog.close(); };
    byId("ask-no").onclick = () => dialog.close();
    dialog.addEventListener("close", () => settle(yes), { once: true });
    dialog.showModal();
  });
}
