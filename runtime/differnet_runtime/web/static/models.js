// The models that can judge: what each is, switching between them, a note, and a trial beside the one that judges.

import { $, confirmed, count, date, facts, make, number, post, put, read, renew } from "./common.js";
import { shadowOf, shadowPart, startShadow } from "./shadows.js";
import { title } from "./state.js";
import { say, tell } from "./words.js";

let models = [];
let changes = false;
let current = []; // the engines
let switching = null; // {text, busy}: what is under way, or why it failed

async function change(path, body, ...asked) {
  if (!(await confirmed(...asked))) return;
  switching = { text: say("models.testing"), busy: true };
  showModels();
  try { models = (await post(path, body)).models; switching = null; }
  catch (error) { switching = { text: say("models.not_switched", { why: error.message }), busy: false }; }
  showModels();
}

const named = ({ name, hash }) => ({ model: `${name} ${hash.slice(0, 8)}` });
const activate = (model) => change("/api/models/activate", { hash: model.hash, name: model.name }, say("models.switch_title", named(model)), say("models.switch_text"), say("models.switch"));
const rollback = (model) => change("/api/models/rollback", { name: model.name }, say("models.back_title", named(model)), say("models.back_text"), say("models.back"));

function button(text, focus, onclick, disabled = false) {
  const one = make("button", { textContent: text, disabled, onclick });
  one.dataset.focus = focus;
  return one;
}

function stateOf(model) {
  if (model.active) return current.length > 1 && model.cameras.length ? say("models.judges_of", { cameras: model.cameras.join(", ") }) : say("models.judges");
  return model.damaged ? say("models.damaged") : model.previous ? say("models.before") : null;
}

/** What is known of how it was made; only what the station tells. */
function origin(model) {
  const { name, own_name, trained, parts, detection_limit, caution } = model;
  const when = trained ? date(trained) : null;
  const text = when && parts ? say("models.trained_on", { date: when, n: count(parts) }) : when ? say("models.trained", { date: when }) : parts ? say("models.parts", { n: count(parts) }) : null;
  return [caution ? make("p", { className: "warn", textContent: say("models.caution", { why: tell(model, "caution") }) }) : null,
    own_name && own_name !== name ? make("p", { className: "small", textContent: say("models.own_name", { name: own_name }) }) : null,
    text ? make("p", { className: "small", textContent: text }) : null,
    detection_limit ? make("p", { className: "small", textContent: say("models.limit", { limit: tell(model, "detection_limit") }) }) : null];
}

function note(model) {
  if (!("note" in model)) return null;
  if (!changes) return model.note ? make("p", { className: "small note", textContent: model.note }) : null;
  const input = make("input", { value: model.note ?? "", maxLength: 1000, placeholder: say("models.note_hint") });
  input.setAttribute("aria-label", say("models.note"));
  input.dataset.focus = `note-${model.hash}`;
  const save = make("button", { textContent: say("models.note_save") });
  const form = make("form", { className: "note" }, input);
  input.addEventListener("input", () => {
    if (input.value.trim() === (model.note ?? "")) save.remove();
    else if (!save.isConnected) form.append(save);
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    keep(model, input.value.trim());
  });
  return form;
}

async function keep(model, text) {
  try {
    await put(`/api/models/${encodeURIComponent(model.id)}/note`, { note: text });
    model.note = text || null;
    switching = null;
  } catch (error) { switching = { text: say("models.note_failed", { why: error.message }), busy: false }; }
  showModels(current, true);
}

function trials(model) {
  if (!model.id || !changes || model.active || model.damaged) return [];
  return model.cameras.filter((camera) => !shadowOf(camera, model.id)).map((camera) =>
    button(model.cameras.length > 1 ? say("shadow.try_on", { camera }) : say("shadow.try"), `try-${model.hash}-${camera}`, () => tryBeside(camera, model)));
}

async function tryBeside(camera, model) {
  try { await startShadow(camera, model.id); switching = null; }
  catch (error) { switching = { text: say("shadow.not_started", { why: error.message }), busy: false }; }
  showModels();
}

function row(model) {
  const text = [stateOf(model), model.threshold === null ? say("models.no_threshold") : say("models.threshold", { threshold: number(model.threshold) }), say("models.added", { date: date(model.added) })].filter(Boolean).join(" · ");
  const usable = changes && !model.active && !model.damaged, busy = switching?.busy ?? false;
  const [word, act] = model.previous ? [say("models.back"), rollback] : [say("models.switch"), activate];
  return make("div", { className: "model" },
    make("span", {}, make("b", { textContent: `${model.name} ` }), make("code", { textContent: model.hash.slice(0, 12) })),
    make("span", { className: `small ${model.damaged ? "bad" : model.active ? "fine" : "quiet"}`, textContent: text, title: tell(model, "damaged") ?? "" }),
    usable ? button(word, `switch-${model.hash}`, () => act(model), busy) : null,
    make("div", { className: "about" }, ...origin(model), note(model),
      ...model.cameras.map((camera) => shadowPart(camera, model.id, changes, showModels)), ...trials(model)));
}

export function showModels(engines = current, anew = false) {
  current = engines;
  if (!engines.length) return;
  const typing = document.activeElement;
  if (!anew && typing?.matches("#models input") && typing.value !== typing.defaultValue) return; // a note is being written
  const files = engines.filter((engine) => !models.some((model) => model.name === engine.name));
  const shadows = models.flatMap((model) => model.cameras.map((camera) => shadowOf(camera, model.id)));
  renew($("models"), [models, engines.map((one) => [one.name, one.model, one.model_hash, one.cameras, one.card]), switching, changes, shadows], () => [
    ...models.map(row),
    ...files.flatMap((engine) => [
      engines.length > 1 ? title(engine) : null,
      engine.model ? facts([[say("models.model"), engine.model], [say("models.hash"), engine.model_hash.slice(0, 12)]])
        : make("p", { className: "quiet", textContent: say("models.none") }),
      make("div", { className: "about" }, ...origin({ ...engine.card, name: engine.model })),
    ]),
    switching ? make("p", { className: "warn", textContent: switching.text }) : null,
  ]);
}

export async function refreshModels(allowed) {
  changes = allowed;
  if (!switching?.busy) ({ models } = await read("/api/models"));
  showModels();
}
