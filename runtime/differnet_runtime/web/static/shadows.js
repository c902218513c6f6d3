// A model that is tried beside the one that judges: it sees the same frames, and decides nothing.

import { ask, clock, count, make, number, percent, put, seconds, shadowPath, verdictWord } from "./common.js";
import { say, tell } from "./words.js";

const PICTURES = 6;
const shadows = new Map(); // by camera

/** Returns the trial of a model on a camera, or null. */
export function shadowOf(camera, model) {
  const shadow = shadows.get(camera);
  return shadow && model && shadow.model === model ? shadow : null;
}

export async function startShadow(camera, model) {
  shadows.set(camera, await put(shadowPath(camera), { model }));
}

/** Asks anew of the cameras where a model is on trial: those that the station names, and those begun on this page. */
export async function refreshShadows(cameras) {
  for (const { name, shadow } of cameras) {
    if (!shadow && !shadows.has(name)) continue;
    const response = await ask(shadowPath(name), { any: true });
    if (response.ok) shadows.set(name, await response.json());
    else shadows.delete(name);
  }
}

async function stop(camera, then) {
  await ask(shadowPath(camera), { method: "DELETE", any: true });
  shadows.delete(camera);
  then();
}

const side = ({ verdict, score }) => [verdictWord(verdict), score === null ? null : number(score)].filter(Boolean).join(" ");

function difference(camera, { id, time, live, shadow }) {
  const text = say("shadow.differs", { live: side(live), shadow: side(shadow) }), address = `${shadowPath(camera)}/${encodeURIComponent(id)}`;
  return make("a", { href: address, target: "_blank", title: `${clock(seconds(time))} · ${text}` }, make("img", { src: address, loading: "lazy", alt: text }), make("span", { textContent: text }));
}

/** Makes what a model's card shows of its trial on a camera; null where there is none. */
export function shadowPart(camera, model, changes, then) {
  const shadow = shadowOf(camera, model);
  if (!shadow) return null;
  const { judged, skipped, agree, only_live_rejects, only_shadow_rejects, differing } = shadow;
  const halt = make("button", { textContent: say("shadow.stop"), hidden: !changes, onclick: () => stop(camera, then) });
  halt.dataset.focus = `stop-${camera}`;
  return make("div", { className: "shadow" },
    make("p", { className: shadow.state === "failed" ? "warn" : "small", textContent: say(`shadow.${shadow.state}`, { camera, why: tell(shadow, "error") ?? "" }) }),
    judged ? make("p", { className: "small", textContent: say("shadow.counts", { n: count(judged), share: percent((100 * agree) / judged), live: count(only_live_rejects), shadow: count(only_shadow_rejects) }) }) : null,
    skipped ? make("p", { className: "small quiet", textContent: say("shadow.skipped", { n: count(skipped) }) }) : null,
    differing.length ? make("div", { className: "differing" }, ...differing.slice(0, PICTURES).map((one) => difference(camera, one))) : null, halt);
}
