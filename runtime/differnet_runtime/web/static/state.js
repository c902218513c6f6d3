// Engines and results in figures.

import { $, bytes, count, duration, facts, make, renew } from "./common.js";
import { say, sayOr, tell } from "./words.js";

/** The engines of a station: one for each model. */
export const enginesOf = ({ engine, engines }) => (engines.length ? engines : [engine]);

/** The threshold of a camera, or of all where they have the same one; else null. */
export function thresholdOf(overview, camera) {
  const own = overview.cameras.filter((one) => one.model && (!camera || one.name === camera)).map((one) => one.threshold);
  if (!own.length) return overview.threshold;
  return own.every((one) => one === own[0]) ? own[0] : null;
}

export const title = (engine) => make("h3", { className: "small", textContent: `${engine.name} · ${engine.cameras.join(", ")}` });

const opened = new Set(); // the engines whose details are open

function engineCard(engine, several) {
  const backend = engine.backend ?? say("engine.no_backend");
  const details = make("details", { open: opened.has(engine.name) },
    make("summary", { textContent: say("engine.details") }), make("div", { className: "counts" }),
    ...Object.entries(engine.reasons).map(([name, reason]) => make("p", { className: "small quiet", textContent: `${name}: ${tell(engine, ["reasons", name].join("."), reason)}` })));
  details.firstChild.dataset.focus = `engine-${engine.name}`;
  details.dataset.engine = engine.name;
  details.addEventListener("toggle", () => opened[details.open ? "add" : "delete"](engine.name));
  return [several ? title(engine) : null, facts([
    [say("engine.state"), sayOr(engine.state, `engine.${engine.state}`), engine.state === "ready" ? "fine" : "bad"],
    [say("engine.backend"), engine.fallback ? say("engine.fallback", { backend }) : backend, engine.fallback ? "warn" : ""],
  ]), engine.limited_by ? make("p", { className: `small ${engine.limited_by === "gpu_unusable" ? "warn" : "quiet"}`, textContent: say(`engine.limit_${engine.limited_by}`) }) : null,
  engine.last_fault ? make("p", { className: "warn", textContent: say("engine.last_fault", { fault: tell(engine, "last_fault") }) }) : null, details];
}

export function showEngines(engines) {
  const lasting = engines.map(({ name, cameras, state, backend, fallback, reasons, limited_by, last_fault }) => [name, cameras, state, backend, fallback, reasons, limited_by, last_fault]);
  renew($("engine"), lasting, () => engines.flatMap((engine) => engineCard(engine, engines.length > 1)));
  for (const { name, answers, faults, restarts } of engines) {
    const counts = $("engine").querySelector(`[data-engine="${CSS.escape(name)}"] .counts`);
    renew(counts, [answers, faults, restarts], () => [facts([
      [say("engine.answers"), count(answers)], [say("engine.faults"), count(faults)], [say("engine.restarts"), count(restarts)],
    ])]);
  }
}

function sinkText({ state, pending, delivered }) {
  return say(`results.${state}`, { waiting: count(pending), delivered: count(delivered) });
}

export function showResults({ sinks, outbox, evidence }) {
  renew($("results"), [sinks, outbox, evidence], () => [facts([
    ...sinks.map((sink) => [sink.name, sinkText(sink), { ok: "fine", limited: "warn" }[sink.state] ?? "bad"]),
    ...sinks.filter((sink) => sink.undeliverable).map((sink) => [say("results.too_large", { sink: sink.name }), count(sink.undeliverable), "bad"]),
    [say("results.waiting"), outbox.pending ? say("results.oldest", { n: count(outbox.pending), age: duration(outbox.oldest_s ?? 0) }) : say("results.nothing")],
    outbox.dropped ? [say("results.dropped"), count(outbox.dropped), "bad"] : null,
    [say("results.pictures"), say("results.of", { n: count(evidence.pictures), size: bytes(evidence.bytes), most: bytes(evidence.max_bytes) })],
    evidence.skipped ? [say("results.skipped"), count(evidence.skipped), "bad"] : null,
    evidence.free_bytes === null ? null : [say("results.free"), bytes(evidence.free_bytes)],
  ]), ...[...sinks, outbox, evidence].filter((one) => one.reason).map((one) => make("p", { className: "warn", textContent: tell(one) }))]);
}
