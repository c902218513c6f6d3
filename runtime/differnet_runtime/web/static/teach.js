// The page Teach: from a camera to a model that judges its part, in six steps.

import { $, ask, confirmed, count, day, facts, make, options, read, renew, seconds, shadowPath } from "./common.js";
import { showCollecting, watchCollecting } from "./teach_pictures.js";
import { chosenRegion, setRegion, showCamera, watchRegion } from "./teach_region.js";
import { inUse, ownShadow, showTrying, showUse, watchTrying } from "./teach_shadow.js";
import { address, known, learn, onChange, send, tried } from "./teach_state.js";
import { showResult, showTraining, watchTraining } from "./teach_train.js";
import { offerLanguages, say, translate } from "./words.js";

const EVERY_MS = 1000, LOST_MS = 4000;
const STEPS = ["choose", "collect", "train", "result", "try", "use"];
let heard = performance.now(); // when the station last answered
let modelsAbout = null; // what the models were last asked for
let focused = null; // the element that had the focus, with the step it stands in

/** Says for each step whether it is done, open, or still closed, and one line on it. */
function progress(dataset) {
  if (!dataset) return STEPS.map((_, place) => [place ? "later" : "open", ""]);
  const { parts, goal, training, model, camera, strange } = dataset, shadow = ownShadow(), used = inUse();
  const running = training?.state === "running";
  return [
    ["done", `${camera} · ${dataset.name}`],
    [parts >= goal || model ? "done" : "open", say("teach.state.parts", { parts: count(parts), goal: count(goal) })],
    [model && !running ? "done" : parts ? "open" : "later", running ? `${Math.round(training.done * 100)} %` : model ? say("teach.state.trained") : ""],
    [model ? "done" : "later", strange && model ? say("teach.strange.count", { count: count(strange) }) : ""],
    [!model ? "later" : shadow?.judged ? "done" : "open", shadow ? say(`teach.shadow.${shadow.state}`) : ""],
    [!model ? "later" : used ? "done" : "open", used ? say("teach.state.used") : ""],
  ];
}

function showSteps(steps) {
  const current = STEPS[steps.findIndex(([state]) => state === "open")];
  STEPS.forEach((step, place) => {
    const [state, text] = steps[place], section = $(`step-${step}`);
    section.dataset.state = state;
    section.querySelector(".badge").textContent = state === "done" ? "✓" : place + 1;
    section.querySelector(".step-state").textContent = state === "later" ? say(`teach.later.${step}`) : text;
    section.querySelector(".step-body").hidden = state === "later";
  });
  renew($("rail"), [steps.map(([state]) => state), current], () => STEPS.map((step, place) => {
    const [state] = steps[place];
    const link = make("a", { href: `#step-${step}`, onclick: (event) => go(event, step) },
      make("span", { className: "badge", ariaHidden: "true", textContent: state === "done" ? "✓" : place + 1 }), make("span", { className: "label", textContent: say(`teach.${step}.short`) }),
      make("span", { className: "unseen", textContent: say(`teach.is.${state}`) }));
    if (step === current) link.setAttribute("aria-current", "step");
    const item = make("li", {}, link);
    item.dataset.state = state;
    return item;
  }));
}

function go(event, step) {
  event.preventDefault();
  $(`step-${step}`).scrollIntoView({ behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth", block: "start" });
  $(`${step}-title`).focus({ preventScroll: true });
}

function showChoice(dataset) {
  const cameras = known.overview?.cameras ?? [];
  options($("camera"), cameras.map((camera) => camera.name), null);
  const wanted = dataset?.camera ?? $("camera").value;
  $("fields").hidden = dataset !== null;
  $("chosen").hidden = dataset === null;
  if (dataset) setRegion(dataset.region, true);
  showCamera(cameras.find((camera) => camera.name === wanted) ?? null);
  $("start").disabled = !known.changes || !cameras.length;
  if (dataset) {
    const { name, camera, region, created } = dataset;
    renew($("chosen"), [name, camera, region, created], () => [facts([
      [say("teach.name"), name], [say("teach.camera"), camera],
      [say("teach.region"), region ? say("teach.region.size", region) : say("teach.region.all")], [say("teach.created"), day(seconds(created))],
    ])]);
  }
}

function showDatasets() {
  const { teach, dataset, changes } = known;
  if (!teach) return;
  $("no-parts").hidden = teach.datasets.length > 0;
  $("new").disabled = dataset === null;
  renew($("datasets"), [teach.datasets.map(({ name, camera, parts, goal, model, collecting, training }) => [name, camera, parts, goal, !!model, collecting, training?.state]), dataset?.name, changes], () => teach.datasets.map((one) => {
    const running = one.training?.state === "running";
    const state = running ? say("teach.is.training") : one.collecting ? say("teach.is.collecting") : one.model ? say("teach.state.trained") : null;
    const open = make("button", { type: "button", className: "open", onclick: () => choose({ ...one, revision: null }) }, // its pictures are read then
      make("b", { textContent: one.name }), make("span", { className: "small quiet", textContent: [one.camera, say("teach.state.parts", { parts: count(one.parts), goal: count(one.goal) }), state].filter(Boolean).join(" · ") }));
    open.dataset.name = one.name;
    if (one.name === dataset?.name) open.setAttribute("aria-current", "true");
    const remove = make("button", { type: "button", className: "remove plain", textContent: say("teach.delete"), disabled: !changes, onclick: () => erase(one) });
    remove.setAttribute("aria-label", say("teach.delete.name", { name: one.name }));
    return make("li", {}, open, remove);
  }));
}

function draw() {
  const { dataset, overview, teach } = known;
  if (!teach) return;
  const at = document.activeElement?.closest("#datasets button"), place = [...document.querySelectorAll("#datasets button")].indexOf(at);
  showDatasets();
  if (place >= 0 && !document.activeElement?.closest("#datasets")) (document.querySelectorAll("#datasets button")[place] ?? $("parts-title")).focus();
  if (overview) {
    $("subtitle").textContent = overview.station;
    $("version").textContent = `differnet-edge ${overview.version}`;
  }
  document.title = [dataset?.name, say("teach.title"), overview?.station].filter(Boolean).join(" · ");
  const steps = progress(dataset);
  showSteps(steps);
  showChoice(dataset);
  if (dataset) {
    showCollecting(dataset);
    showTraining(dataset);
    if (dataset.model) { showResult(dataset); showTrying(dataset); showUse(dataset); }
  }
  keepFocus();
}

/** Gives the focus to its step's title where the element that had it is gone. */
function keepFocus() {
  const { element, section } = focused ?? {};
  if (!element || document.querySelector("dialog[open]")) return;
  const gone = !element.isConnected || element.disabled || !element.checkVisibility();
  const lost = document.activeElement === document.body || document.activeElement === element;
  if (gone && lost && section) section.querySelector("[tabindex='-1']")?.focus({ preventScroll: true });
}

function showBanner() {
  const lost = performance.now() - heard > LOST_MS, text = lost ? say("teach.lost") : known.teach && !known.changes ? say("teach.changes") : "";
  $("banner").className = lost ? "lost" : "";
  if ($("banner").textContent !== text) $("banner").textContent = text;
  $("banner").hidden = !text;
}

/** Opens a dataset, or with null the form for a new one. */
function choose(dataset, focus = true) {
  const before = known.dataset;
  history.replaceState(null, "", dataset ? `#part=${encodeURIComponent(dataset.name)}` : location.pathname);
  for (const trouble of document.querySelectorAll(".step [role=alert]")) trouble.hidden = true;
  for (const said of document.querySelectorAll(".said, #upload-said, #use-said")) said.textContent = "";
  if (!dataset && before) setRegion(null, false);
  learn({ dataset, shadow: null });
  if (focus) (dataset ? $("collect-title") : $("name")).focus({ preventScroll: false });
  refresh().catch(() => {});
}

async function start(event) {
  event.preventDefault();
  const name = $("name").value.trim(), camera = $("camera").value;
  const dataset = await tried("choose-trouble", () => send("POST", "/api/teach", { camera, name, region: chosenRegion() }));
  if (!dataset) return;
  $("name").value = "";
  known.teach.datasets.push(dataset);
  choose(dataset, false);
  $("collecting").focus();
}

async function erase({ name, parts }) {
  if (!(await confirmed(say("teach.delete.title", { name }), say("teach.delete.text", { parts: count(parts) }), say("teach.delete")))) return;
  const done = await tried("parts-trouble", async () => { await send("DELETE", address({ name })); return true; });
  if (!done) return;
  known.teach.datasets = known.teach.datasets.filter((one) => one.name !== name);
  $("parts-title").focus();
  if (known.dataset?.name === name) choose(null, false);
  else learn({});
}

/** Asks for what may be missing: 404 says that there is none. */
async function readIfAny(path) {
  const response = await ask(path, { any: true });
  return response.ok ? response.json() : null;
}

/** Asks for the models of the store where another one judges or was added: the station reads all their files for it. */
async function readModels(dataset, overview) {
  const about = JSON.stringify([dataset.model.id, overview.cameras.map((camera) => camera.model?.hash)]);
  if (about === modelsAbout) return;
  ({ models: known.models } = await read("/api/models"));
  modelsAbout = about;
}

/** Gives a dataset the pictures that are known already; they are asked for only where they have changed. */
async function withPictures(dataset, { revision, pictures }) {
  if (!dataset) return null;
  return dataset.revision === revision ? { ...dataset, pictures } : readIfAny(address(dataset));
}

async function refresh() {
  const asked = known.dataset, { sent } = known;
  const [teach, overview, access] = await Promise.all([read("/api/teach?pictures=false"), read("/api/overview"), read("/api/access")]);
  const dataset = asked && await withPictures(teach.datasets.find((one) => one.name === asked.name), asked);
  const trying = dataset && overview.cameras.find((camera) => camera.name === dataset.camera)?.shadow; // asked only then: a 404 stands in the console
  const shadow = trying ? await readIfAny(shadowPath(dataset.camera)) : null;
  if (dataset?.model) await readModels(dataset, overview);
  heard = performance.now();
  const news = { teach, overview, changes: access.changes };
  if (known.dataset?.name !== asked?.name || known.sent !== sent) return; // what was read is older than what a person did
  if (asked && !dataset) choose(null, false);
  learn({ ...news, dataset, shadow });
}

async function poll() {
  try { if (!document.hidden) await refresh(); else heard = performance.now(); } catch { /* the banner says it */ }
  showBanner();
  setTimeout(poll, EVERY_MS);
}

async function begin() {
  translate();
  offerLanguages();
  onChange(draw);
  watchRegion();
  watchCollecting();
  watchTraining();
  watchTrying();
  $("choose").addEventListener("submit", start);
  $("camera").addEventListener("change", draw);
  $("new").addEventListener("click", () => choose(null));
  document.addEventListener("focusin", ({ target }) => { focused = { element: target, section: target.closest(".step, nav") }; });
  const name = new URLSearchParams(location.hash.slice(1)).get("part");
  if (name) known.dataset = await readIfAny(address({ name })).catch(() => null);
  poll();
}

begin();
