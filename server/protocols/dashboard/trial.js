// The trial: a form made of a model's specs and its example, which sends one request and shows what came of it.

import { answerOf } from "./answer.js";
import { byId, choices, make } from "./elements.js";
import { ask, pathOf, read } from "./server.js";
import { bodyOf, field } from "./tensors.js";

const TIMED = { "X-Slipway-Timing": "1" };

const model = make("select", { name: "model", id: "trial-model" });
const fields = make("div", { className: "stack wide", id: "trial-fields" });
const send = make("button", { className: "main", id: "trial-send" }, "Send");
const answer = make("div", { className: "stack wide", id: "trial-answer" });
answer.setAttribute("aria-live", "polite");
const none = make("p", { className: "soft" }, "No model is ready.");
const form = make("form", { className: "stack" }, make("label", {}, "Model", model), fields, send, answer);
let request = null; // makes {path, body, headers} of what the fields hold
let turn = 0; // of the model whose fields are shown; an older one's come too late

export function prepare() {
  byId("trial").replaceChildren(none, form);
  model.addEventListener("change", describe);
  form.addEventListener("submit", event => {
    event.preventDefault();
    void attempt();
  });
}

export function showTrial(state) {
  const rows = state.models.flatMap(one =>
    one.versions
      .filter(version => version.state === "READY" && (!version.scripted || state.default === one.name))
      .map(version => [JSON.stringify([one.name, version.version, version.scripted]), `${one.name} ${version.version}`]),
  );
  none.hidden = rows.length > 0;
  form.hidden = !rows.length;
  if (choices(model, rows) && rows.length) void describe();
}

async function describe() {
  const mine = ++turn;
  const [name, version, scripted] = JSON.parse(model.value);
  request = null;
  send.disabled = true;
  answer.replaceChildren();
  if (scripted) {
    show(wholeBody());
    return;
  }
  fields.replaceChildren(make("p", { className: "soft" }, "Reading the inputs of the model…"));
  try {
    const path = pathOf(name, version);
    const example = `dashboard/models/${encodeURIComponent(name)}/versions/${encodeURIComponent(version)}/example`;
    const [spec, given] = await Promise.all([read(path), read(example)]);
    if (mine === turn) show(tensors(`${path}/infer`, spec.inputs, given));
  } catch (error) {
    if (mine === turn) fields.replaceChildren(make("p", { className: "bad" }, `The inputs of the model could not be read: ${error.message}`));
  }
}

function show({ nodes, make: makes }) {
  fields.replaceChildren(...nodes);
  request = makes;
  send.disabled = false;
}

function tensors(path, inputs, given) {
  const rows = inputs.map(spec => field(spec, given.inputs.find(one => one.name === spec.name)));
  const origin = given.stored ? "Filled with a sample of the model." : "Filled with made-up values: the model has no samples.";
  return {
    nodes: [make("p", { className: "soft" }, origin), ...rows.map(one => one.node)],
    make: async () => ({ path, ...bodyOf(await Promise.all(rows.map(one => one.tensor()))) }),
  };
}

function wholeBody() {
  const type = make("input", { value: "application/json" });
  const text = make("textarea", { spellcheck: false });
  const file = make("input", { type: "file" });
  return {
    nodes: [
      make("p", { className: "soft" }, "A script answers: it takes the body as it is."),
      make("label", {}, "Content-Type", type),
      make("div", { className: "wide" }, make("label", {}, "Body", text)),
      make("label", {}, "or a file", file),
    ],
    make: async () => {
      const upload = file.files[0];
      return { path: "invocations", body: upload ?? text.value, headers: { "content-type": (upload?.type) || type.value } };
    },
  };
}

async function attempt() {
  if (!request) return;
  send.disabled = true;
  send.textContent = "Sending…";
  try {
    const { path, body, headers } = await request();
    const begun = performance.now();
    const response = await ask(path, { method: "POST", body, headers: { ...headers, ...TIMED } });
    const text = await response.text();
    answer.replaceChildren(...answerOf(response, text, (performance.now() - begun) / 1000));
  } catch (error) {
    const text = error instanceof SyntaxError ? `A field is not JSON: ${error.message}` : `No answer: ${error.message}`;
    answer.replaceChildren(make("p", { className: "bad" }, text));
  } finally {
    send.disabled = false;
    send.textContent = "Send";
  }
}
