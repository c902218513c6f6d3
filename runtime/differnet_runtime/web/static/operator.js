// The operator's view: one camera large, its verdict across the page, its last rejects, and a sound if wanted.

import { $, count, hour, make, percent, read, renew, symbol } from "./common.js";
import { countsOf, kindOf } from "./cameras.js";
import { thumb } from "./evidence.js";
import { remember, remembered } from "./memory.js";
import { say } from "./words.js";

const LAST = 8, NEWS_S = 5, BEEP_MS = 1000, RETRY_MS = 100, TRIES = 100;
const VIEW = "view", CAMERA = "camera", SOUND = "sound", OPERATOR = "operator", ENGINEER = "engineer";
let names = [];
let rejects = [];
let awaited = null; // the newest reject whose picture is still being written
let audio = null;
let beeped = -Infinity;
let changed = () => {};

export const operating = () => document.body.dataset.view === OPERATOR;

/** Returns the camera that is shown large; null in the other view. */
export function chosenCamera() {
  if (!operating()) return null;
  const kept = remembered(CAMERA);
  return names.includes(kept) ? kept : names[0] ?? null;
}

function setView(view) {
  document.body.dataset.view = view;
  remember(VIEW, view);
  const address = new URL(location.href);
  if (view === OPERATOR) address.searchParams.set(VIEW, view);
  else address.searchParams.delete(VIEW);
  history.replaceState(null, "", address);
  $("view").textContent = say(view === OPERATOR ? "view.engineer" : "view.operator");
  showSound();
}

function choose(name) {
  if (!name) return;
  remember(CAMERA, name);
  rejects = [];
  awaited = null;
  refreshRejects().catch(() => {});
  changed();
}

/** The keys 1 to 9 choose a camera, the arrows the next or the one before. */
function pressed(event) {
  const busy = !operating() || document.querySelector("dialog[open]") || event.target.matches?.("input, select, textarea");
  if (busy || event.ctrlKey || event.altKey || event.metaKey) return;
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key], at = names.indexOf(chosenCamera());
  if (/^[1-9]$/.test(event.key)) choose(names[Number(event.key) - 1]);
  else if (by && names.length > 1) choose(names[(at + by + names.length) % names.length]);
}

/** Shows the choice of cameras, today's counts and the last rejects. */
export function showOperator(overview) {
  names = overview.cameras.map((camera) => camera.name);
  const chosen = chosenCamera();
  if (!chosen) return;
  $("choose").hidden = names.length < 2;
  renew($("choose"), names, () => names.map((name, at) => {
    const button = make("button", { type: "button", onclick: () => choose(name) }, make("span"), make("span", { textContent: name }),
      at < 9 ? make("kbd", { textContent: at + 1 }) : null);
    button.dataset.focus = `camera-${name}`;
    return button;
  }));
  names.forEach((name, at) => { // in place: a button must outlive a click
    const button = $("choose").children[at], kind = kindOf(name);
    button.setAttribute("aria-pressed", name === chosen);
    renew(button.firstChild, kind, () => [kind ? symbol(kind) : null]);
  });
  showToday(countsOf(overview.cameras.find((camera) => camera.name === chosen)));
}

function since({ since_s }) {
  if (since_s === null) return say("today.start");
  const at = new Date(since_s * 1000);
  return at.getHours() || at.getMinutes() ? say("today.since", { time: hour(since_s) }) : say("today.title");
}

function showToday(counts) {
  const { good, defect, undecided } = counts, all = good + defect + undecided;
  const figure = (text, value, kind = "") => make("div", { className: `figure ${kind}` }, make("span", { className: "value", textContent: value }), make("span", { textContent: text }));
  renew($("today"), [counts], () => [
    make("h2", { textContent: since(counts) }),
    figure(say("today.yield"), all ? percent((100 * good) / all) : "–"),
    figure(say("today.good"), count(good), "good"),
    figure(say("today.rejected"), count(defect + undecided), defect + undecided ? "defect" : ""),
    undecided ? make("p", { className: "small quiet", textContent: say("today.undecided", { n: count(undecided) }) }) : null,
  ]);
}

/** Asks for the last rejects of the camera that is shown. */
export async function refreshRejects() {
  const camera = chosenCamera();
  if (!camera) return;
  const of = (verdict) => read(`/api/evidence?${new URLSearchParams({ camera, verdict, limit: LAST })}`);
  const found = (await Promise.all([of("DEFECT"), of("NO_DECISION")])).flatMap(({ entries }) => entries);
  if (camera !== chosenCamera()) return;
  rejects = found.sort((a, b) => b.at_s - a.at_s).slice(0, LAST);
  renew($("rejects"), rejects, () => (rejects.length ? rejects.map((entry) => thumb(entry, () => rejects))
    : [make("p", { className: "quiet", textContent: say("rejects.none") })]));
}

/** Asks again until the picture of a reject is there, or a newer one is awaited. */
async function awaitReject(id) {
  awaited = id;
  for (let tries = 0; awaited === id && tries < TRIES; tries++) {
    await refreshRejects().catch(() => {});
    if (rejects.some((entry) => entry.id === id)) return;
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  }
}

const wanted = () => remembered(SOUND) === "on";

function showSound() {
  const silent = wanted() && audio?.state !== "running"; // browsers play nothing before the first touch of a page
  $("sound").hidden = !operating();
  $("sound").textContent = say(!wanted() ? "sound.off" : silent ? "sound.touch" : "sound.on");
  $("sound").setAttribute("aria-pressed", wanted());
}

async function wake(touch = null) {
  if (!wanted() || !operating() || touch?.target.closest?.("#sound")) return; // the button does it itself
  audio ??= new AudioContext();
  await audio.resume();
  showSound();
}

/** Two falling tones. */
function beep() {
  const volume = audio.createGain(), at = audio.currentTime;
  volume.connect(audio.destination);
  volume.gain.setValueAtTime(0.0001, at);
  volume.gain.exponentialRampToValueAtTime(0.4, at + 0.02);
  volume.gain.setValueAtTime(0.4, at + 0.3);
  volume.gain.exponentialRampToValueAtTime(0.0001, at + 0.36);
  const tone = audio.createOscillator();
  tone.frequency.setValueAtTime(880, at);
  tone.frequency.setValueAtTime(587, at + 0.18);
  tone.connect(volume);
  tone.start(at);
  tone.stop(at + 0.4);
}

/** Hears of a verdict as it comes; a reject of the camera that is shown may sound, and joins the last ones. */
export function hearVerdict(event, now_s) {
  if (!operating() || !event.reject || event.camera !== chosenCamera() || now_s - event.at_s > NEWS_S) return;
  if (event.evidence) awaitReject(event.evidence);
  if (!wanted() || audio?.state !== "running" || performance.now() - beeped < BEEP_MS) return;
  beeped = performance.now();
  beep();
}

/** Begins with the view that the address names, or that was last chosen. */
export function watchOperator(onChange) {
  changed = onChange;
  setView(new URLSearchParams(location.search).get(VIEW) ?? remembered(VIEW) ?? ENGINEER);
  $("view").addEventListener("click", () => {
    setView(operating() ? ENGINEER : OPERATOR);
    refreshRejects().catch(() => {});
    changed();
  });
  $("sound").addEventListener("click", async () => {
    const resting = wanted() && audio?.state !== "running";
    if (!resting) remember(SOUND, wanted() ? "off" : "on");
    await wake();
    showSound();
  });
  document.addEventListener("keydown", pressed);
  for (const touch of ["pointerdown", "keydown"]) document.addEventListener(touch, wake, { once: true });
}
