// Kept pictures: the newest first, older ones on request, large on a click.

import { $, clock, day, decided, make, number, read, verdictClass, verdictWord } from "./common.js";

const PAGE = 24;
const NAMES = { image: "What the camera saw", heatmap: "Where it differs from good parts" };
let shown = [];
let older = false;

const address = (entry, kind) => `/api/evidence/${encodeURIComponent(entry.id)}/${kind}`;

function thumb(entry) {
  const word = make("b", { className: `v-${verdictClass(entry.verdict)}`, textContent: verdictWord(entry.verdict) });
  return make("button", { className: "thumb", type: "button", title: day(entry.at_s), onclick: () => enlarge(entry) },
    make("img", { src: address(entry, "thumbnail"), loading: "lazy", alt: `${entry.camera}, ${verdictWord(entry.verdict)}` }),
    make("span", {}, make("span", {}, word), make("span", { className: "quiet", textContent: `${clock(entry.at_s)} · ${entry.part ?? entry.camera}` })));
}

function enlarge(entry) {
  $("picture-title").textContent = `${verdictWord(entry.verdict)} · ${entry.camera}${entry.part ? ` · part ${entry.part}` : ""}`;
  const score = entry.score === null ? null : `score ${number(entry.score)}, threshold ${number(entry.threshold)}`;
  $("picture-text").textContent = [day(entry.at_s), score, decided(entry), entry.reason].filter(Boolean).join(" · ");
  $("picture-images").replaceChildren(...entry.kinds.filter((kind) => NAMES[kind]).map((kind) =>
    make("figure", {}, make("img", { src: address(entry, kind), alt: NAMES[kind] }), make("figcaption", { textContent: NAMES[kind] }))));
  $("picture").showModal();
}

function query(extra) {
  const wanted = { camera: $("evidence-camera").value, verdict: $("evidence-verdict").value, limit: PAGE, ...extra };
  return new URLSearchParams(Object.entries(wanted).filter(([, value]) => value)).toString();
}

/** Asks for the newest; thumbnails that are there already stay as they are. */
export async function refreshEvidence(anew = false) {
  if (older && !anew) return; // a person reads further down
  older = false;
  const { entries } = await read(`/api/evidence?${query({})}`);
  const ids = entries.map((entry) => entry.id).join();
  if (!anew && ids === shown.map((entry) => entry.id).join()) return;
  const kept = new Map(shown.map((entry, place) => [entry.id, $("evidence").children[place]]));
  $("evidence").replaceChildren(...entries.map((entry) => kept.get(entry.id) ?? thumb(entry)));
  shown = entries;
  $("more").hidden = entries.length < PAGE;
}

async function more() {
  older = true;
  const { entries } = await read(`/api/evidence?${query({ before: shown.at(-1).id })}`);
  $("evidence").append(...entries.map(thumb));
  shown.push(...entries);
  $("more").hidden = entries.length < PAGE;
}

export function watchEvidence() {
  $("more").addEventListener("click", more);
  for (const id of ["evidence-camera", "evidence-verdict"]) $(id).addEventListener("change", () => refreshEvidence(true));
}
