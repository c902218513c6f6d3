// Kept pictures: the newest first, older ones on request, large on a click, labelled there.

import { $, clock, day, decided, make, number, read, verdictClass, verdictWord } from "./common.js";
import { labelWord, setLabel, showLabel } from "./labels.js";

const PAGE = 24;
const NAMES = { image: "What the camera saw", heatmap: "Where it differs from good parts" };
let shown = [];
let older = false;
let open = null; // the picture that is large

const address = (entry, kind) => `/api/evidence/${encodeURIComponent(entry.id)}/${kind}`;
const state = (entry) => JSON.stringify([entry.id, entry.label, entry.defect, entry.frames]);
const frames = (entry) => (entry.frames > 1 ? `worst of ${entry.frames} frames` : null);
const place = () => shown.findIndex((entry) => entry.id === open?.id);

function thumb(entry) {
  const word = make("b", { className: `v-${verdictClass(entry.verdict)}`, textContent: verdictWord(entry.verdict) });
  const label = labelWord(entry);
  return make("button", { className: "thumb", type: "button", title: day(entry.at_s), onclick: () => enlarge(entry) },
    make("img", { src: address(entry, "thumbnail"), loading: "lazy", alt: `${entry.camera}, ${verdictWord(entry.verdict)}` }),
    make("span", {}, make("span", {}, word, label ? make("span", { className: "labelled", textContent: ` is ${label}` }) : null),
      make("span", { className: "quiet", textContent: [clock(entry.at_s), entry.part ?? entry.camera, entry.frames > 1 ? `${entry.frames} frames` : null].filter(Boolean).join(" · ") })));
}

function enlarge(entry) {
  open = entry;
  $("picture-title").textContent = `${verdictWord(entry.verdict)} · ${entry.camera}${entry.part ? ` · part ${entry.part}` : ""}`;
  const score = entry.score === null ? null : `score ${number(entry.score)}, threshold ${number(entry.threshold)}`;
  $("picture-text").textContent = [day(entry.at_s), score, frames(entry), decided(entry), entry.reason].filter(Boolean).join(" · ");
  $("picture-images").replaceChildren(...entry.kinds.filter((kind) => NAMES[kind]).map((kind) =>
    make("figure", {}, make("img", { src: address(entry, kind), alt: NAMES[kind] }), make("figcaption", { textContent: NAMES[kind] }))));
  $("picture-download").href = address(entry, "image");
  $("picture-download").download = `${entry.camera}-${entry.id}`;
  showSteps();
  showLabel(entry);
  if (!$("picture").open) $("picture").showModal();
}

function showSteps() {
  $("picture-previous").disabled = place() <= 0;
  $("picture-next").disabled = place() === shown.length - 1 && $("more").hidden;
}

/** Goes to the picture before or after; asks for older ones where the list ends. */
async function step(by) {
  const at = place() + by;
  if (at >= shown.length && !$("more").hidden) await more();
  if (shown[at]) enlarge(shown[at]);
}

async function label(wanted) {
  const changed = await setLabel(open, wanted);
  if (!changed) return;
  const at = shown.findIndex((entry) => entry.id === changed.id);
  if (at >= 0) {
    shown[at] = changed;
    $("evidence").children[at].replaceWith(thumb(changed));
  }
  if (open?.id === changed.id) enlarge(changed);
}

function query(extra) {
  const wanted = { camera: $("evidence-camera").value, verdict: $("evidence-verdict").value, limit: PAGE, ...extra };
  return new URLSearchParams(Object.entries(wanted).filter(([, value]) => value)).toString();
}

/** Asks for the newest; thumbnails that are there already stay as they are, and so does the focus. */
export async function refreshEvidence(anew = false) {
  if (older && !anew) return; // a person reads further down
  older = false;
  const { entries } = await read(`/api/evidence?${query({})}`);
  if (!anew && entries.map(state).join() === shown.map(state).join()) return;
  const focused = document.activeElement;
  const kept = new Map(shown.map((entry, at) => [state(entry), $("evidence").children[at]]));
  $("evidence").replaceChildren(...entries.map((entry) => kept.get(state(entry)) ?? thumb(entry)));
  shown = entries;
  $("more").hidden = entries.length < PAGE;
  if (focused?.isConnected && focused !== document.activeElement) focused.focus({ preventScroll: true });
  if (open) showSteps();
}

async function more() {
  older = true;
  const { entries } = await read(`/api/evidence?${query({ before: shown.at(-1).id })}`);
  $("evidence").append(...entries.map(thumb));
  shown.push(...entries);
  $("more").hidden = entries.length < PAGE;
}

function pressed(event) {
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!by || event.target.matches("input, textarea") || event.ctrlKey || event.altKey || event.metaKey) return;
  event.preventDefault();
  step(by);
}

export function watchEvidence() {
  $("more").addEventListener("click", more);
  for (const id of ["evidence-camera", "evidence-verdict"]) $(id).addEventListener("change", () => refreshEvidence(true));
  $("picture").addEventListener("keydown", pressed);
  $("picture").addEventListener("close", () => { // the focus goes to the picture that was looked at last
    const at = place();
    open = null;
    if (at >= 0) $("evidence").children[at]?.focus();
  });
  $("picture-previous").addEventListener("click", () => step(-1));
  $("picture-next").addEventListener("click", () => step(1));
  $("picture-close").addEventListener("click", () => $("picture").close());
  for (const [id, wanted] of [["label-good", "good"], ["label-defect", "defect"], ["label-none", null]]) $(id).addEventListener("click", () => label(wanted));
  $("label").addEventListener("submit", (event) => event.preventDefault());
}
