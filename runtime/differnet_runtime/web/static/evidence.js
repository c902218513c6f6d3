// Kept pictures: the newest first, older ones on request, large on a click, labelled there.

import { $, clock, day, decided, make, number, read, symbol, verdictClass, verdictWord, why } from "./common.js";
import { labelWord, setLabel, showLabel } from "./labels.js";
import { say } from "./words.js";

const PAGE = 24;
const SHOWN = ["image", "heatmap"];
let shown = [];
let older = false;
let open = null; // the picture that is large
let row = () => shown; // the pictures among which it stands, as they are now

const address = (entry, kind) => `/api/evidence/${encodeURIComponent(entry.id)}/${kind}`;
const state = (entry) => JSON.stringify([entry.id, entry.label, entry.defect, entry.frames]);
const place = () => row().findIndex((entry) => entry.id === open?.id);
const isLast = () => row() === shown && !$("more").hidden;
const reason = (entry) => (entry.verdict === "NO_DECISION" ? why({ code: entry.reason, reason: entry.reason }) : null);

/** Makes a small picture that opens large; its neighbours there are those of `among`. */
export function thumb(entry, among = () => shown) {
  const kind = verdictClass(entry.verdict), label = labelWord(entry);
  const word = make("b", { className: `v-${kind}` }, kind ? symbol(kind) : null, verdictWord(entry.verdict));
  const button = make("button", { className: `thumb ${kind}`, type: "button", title: day(entry.at_s), onclick: () => { row = among; enlarge(entry); } },
    make("img", { src: address(entry, "thumbnail"), loading: "lazy", alt: say("evidence.alt", { camera: entry.camera, verdict: verdictWord(entry.verdict) }) }),
    make("span", {}, make("span", {}, word, label ? make("span", { className: "labelled", textContent: ` ${say("evidence.is", { label })}` }) : null),
      make("span", { className: "quiet", textContent: [clock(entry.at_s), entry.part ?? entry.camera, entry.frames > 1 ? say("evidence.frames", { n: entry.frames }) : null].filter(Boolean).join(" · ") })));
  button.dataset.focus = `picture-${entry.id}`;
  return button;
}

function enlarge(entry) {
  open = entry;
  $("picture-title").textContent = [verdictWord(entry.verdict), entry.camera, entry.part ? say("picture.part", { part: entry.part }) : null].filter(Boolean).join(" · ");
  const score = entry.score === null ? null : say("picture.score", { score: number(entry.score), threshold: number(entry.threshold) });
  const frames = entry.frames > 1 ? say("picture.worst", { n: entry.frames }) : null;
  $("picture-text").textContent = [day(entry.at_s), score, frames, decided(entry, entry.kinds.includes("heatmap")), reason(entry)].filter(Boolean).join(" · ");
  $("picture-images").replaceChildren(...SHOWN.filter((kind) => entry.kinds.includes(kind)).map((kind) =>
    make("figure", {}, make("img", { src: address(entry, kind), alt: say(`picture.${kind}`) }), make("figcaption", { textContent: say(`picture.${kind}`) }))));
  $("picture-download").href = address(entry, "image");
  $("picture-download").download = `${entry.camera}-${entry.id}`;
  showSteps();
  showLabel(entry);
  if (!$("picture").open) $("picture").showModal();
}

function showSteps() {
  $("picture-previous").disabled = place() <= 0;
  $("picture-next").disabled = place() === row().length - 1 && !isLast();
}

/** Goes to the picture before or after; asks for older ones where the list ends. */
async function step(by) {
  const at = place() + by;
  if (at >= row().length && isLast()) await more();
  if (row()[at]) enlarge(row()[at]);
}

async function label(wanted) {
  const changed = await setLabel(open, wanted);
  if (!changed) return;
  for (const list of new Set([shown, row()])) {
    const at = list.findIndex((entry) => entry.id === changed.id);
    if (at >= 0) list[at] = changed;
  }
  const at = shown.findIndex((entry) => entry.id === changed.id);
  if (at >= 0) $("evidence").children[at].replaceWith(thumb(changed));
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
  $("evidence-none").hidden = entries.length > 0;
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
  $("evidence").append(...entries.map((entry) => thumb(entry)));
  shown.push(...entries);
  $("more").hidden = entries.length < PAGE;
}

function pressed(event) {
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!by || event.target.matches("input, textarea") || event.ctrlKey || event.altKey || event.metaKey) return;
  event.preventDefault();
  step(by);
}

/** Gives the focus to the picture that was looked at last; where it is gone, to the first one. */
function giveBack() {
  const list = row() === shown ? $("evidence") : $("rejects");
  const own = list.querySelector(`[data-focus="${CSS.escape(`picture-${open?.id}`)}"]`);
  open = null;
  (own ?? list.querySelector("button"))?.focus();
}

export function watchEvidence() {
  $("more").addEventListener("click", more);
  for (const id of ["evidence-camera", "evidence-verdict"]) $(id).addEventListener("change", () => refreshEvidence(true));
  $("picture").addEventListener("keydown", pressed);
  $("picture").addEventListener("close", giveBack);
  $("picture-previous").addEventListener("click", () => step(-1));
  $("picture-next").addEventListener("click", () => step(1));
  $("picture-close").addEventListener("click", () => $("picture").close());
  for (const [id, wanted] of [["label-good", "good"], ["label-defect", "defect"], ["label-none", null]]) $(id).addEventListener("click", () => label(wanted));
  $("label").addEventListener("submit", (event) => event.preventDefault());
}
