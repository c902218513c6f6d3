// Engine, models and results in figures; the switch of a model asks first.

import { $, bytes, confirmed, count, duration, facts, make, number, post, read, renew } from "./common.js";

const TITLES = { ready: "ready", starting: "starting", restarting: "restarting", failed: "failed", stopped: "stopped" };
let models = [];
let changes = false;
let switching = null; // what is under way, in words

/** The engines of a station: one for each model. */
export const enginesOf = ({ engine, engines }) => (engines.length ? engines : [engine]);

/** The threshold of a camera, or of all where they have the same one; else null. */
export function thresholdOf(overview, camera) {
  const own = overview.cameras.filter((one) => one.model && (!camera || one.name === camera)).map((one) => one.threshold);
  if (!own.length) return overview.threshold;
  return own.every((one) => one === own[0]) ? own[0] : null;
}

const title = (engine) => make("h3", { className: "small", textContent: `${engine.name} · ${engine.cameras.join(", ")}` });

function engineCard(engine, several) {
  const good = engine.state === "ready";
  const reasons = Object.entries(engine.reasons).map(([name, reason]) => make("p", { className: "small quiet", textContent: `${name}: ${reason}` }));
  return [several ? title(engine) : null, facts([
    ["State", TITLES[engine.state] ?? engine.state, good ? "fine" : "bad"],
    ["Backend", (engine.backend ?? "none") + (engine.fallback ? " (fallback)" : ""), engine.fallback ? "warn" : ""],
    ["Frames judged", count(engine.answers)],
    ["Faults", count(engine.faults)],
    ["Restarts", count(engine.restarts)],
  ]), engine.last_fault ? make("p", { className: "warn", textContent: `Last fault: ${engine.last_fault}` }) : null, ...reasons];
}

export function showEngines(engines) {
  renew($("engine"), engines, () => engines.flatMap((engine) => engineCard(engine, engines.length > 1)));
}

export function showResults({ sinks, outbox, evidence }) {
  renew($("results"), [sinks, outbox, evidence], () => [facts([
    ...sinks.map((sink) => [sink.name, sink.state === "down" ? `down · ${count(sink.pending)} waiting` : `${sink.state} · ${count(sink.delivered)} delivered`, { ok: "fine", limited: "warn" }[sink.state] ?? "bad"]),
    ...sinks.filter((sink) => sink.undeliverable).map((sink) => [`Too large for ${sink.name}`, count(sink.undeliverable), "bad"]),
    ["Waiting", outbox.pending ? `${count(outbox.pending)}, oldest ${duration(outbox.oldest_s ?? 0)}` : "nothing"],
    outbox.dropped ? ["Deleted at the cap", count(outbox.dropped), "bad"] : null,
    ["Pictures kept", `${count(evidence.pictures)} · ${bytes(evidence.bytes)} of ${bytes(evidence.max_bytes)}`],
    evidence.skipped ? ["Pictures not kept", count(evidence.skipped), "bad"] : null,
    evidence.free_bytes === null ? null : ["Free on disk", bytes(evidence.free_bytes)],
  ]), ...[...sinks, outbox, evidence].filter((one) => one.reason).map((one) => make("p", { className: "warn", textContent: one.reason }))]);
}

async function change(path, body, title, text, action) {
  if (!(await confirmed(title, text, action))) return;
  switching = "Testing the model; the current one continues…";
  showModels();
  try { models = (await post(path, body)).models; switching = null; }
  catch (error) { switching = `Not switched: ${error.message}`; }
  showModels();
}

const activate = (model) => change("/api/models/activate", { hash: model.hash }, `Switch to ${model.name} ${model.hash.slice(0, 8)}?`,
  "It is tested first. If it fails under load, the current model comes back automatically.", "Switch");
const rollback = (model) => change("/api/models/rollback", { name: model.name }, `Go back to ${model.name} ${model.hash.slice(0, 8)}?`,
  "The model that judged before takes over again.", "Go back");

function row(model) {
  const cameras = current.length > 1 && model.cameras.length ? ` ${model.cameras.join(", ")}` : "";
  const state = model.active ? `judges${cameras} now` : model.damaged ? "damaged" : model.previous ? "judged before" : "";
  const text = [state, model.threshold === null ? "no threshold" : `threshold ${number(model.threshold)}`, `added ${model.added.slice(0, 10)}`].filter(Boolean).join(" · ");
  const usable = changes && !model.active && !model.damaged;
  const busy = switching?.startsWith("Testing") ?? false;
  return make("div", { className: "model" },
    make("span", {}, make("b", { textContent: `${model.name} ` }), make("code", { textContent: model.hash.slice(0, 12) })),
    make("span", { className: `small ${model.damaged ? "bad" : model.active ? "fine" : "quiet"}`, textContent: text, title: model.damaged ?? "" }),
    usable ? make("button", { textContent: model.previous ? "Go back" : "Switch", disabled: busy, onclick: () => (model.previous ? rollback : activate)(model) }) : null);
}

let current = [];
export function showModels(engines = current) {
  current = engines;
  if (!engines.length) return;
  const files = engines.filter((engine) => !models.some((model) => model.name === engine.name));
  renew($("models"), [models, engines.map((one) => [one.name, one.model, one.model_hash, one.cameras]), switching, changes], () => [
    ...models.map(row),
    ...files.flatMap((engine) => [
      engines.length > 1 ? title(engine) : null,
      facts([["Model", engine.model], ["Hash", engine.model_hash.slice(0, 12)]]),
    ]),
    switching ? make("p", { className: "warn", textContent: switching }) : null,
  ]);
}

export async function refreshModels(allowed) {
  changes = allowed;
  if (!switching?.startsWith("Testing")) ({ models } = await read("/api/models"));
  showModels();
}
