// The new model beside the one that judges, and the change from one to the other.

import { $, SLOW_MS, clock, confirmed, count, make, number, percent, renew, seconds, shadowPath, verdictClass } from "./common.js";
import { known, learn, send, tried } from "./teach_state.js";
import { showFigures } from "./teach_train.js";
import { say, tell } from "./words.js";

let using = false;

/** The shadow of the open dataset's model; null where none or another runs. */
export const ownShadow = () => (known.shadow && known.shadow.model === known.dataset?.model?.id ? known.shadow : null);

const liveModel = (dataset) => known.overview?.cameras.find((camera) => camera.name === dataset.camera)?.model ?? null;

/** The dataset's model among those in the store that can judge its camera. */
const stored = ({ model, camera }) => known.models.find((one) => one.hash === model.id && one.cameras.includes(camera));

/** Whether the open dataset's model judges its camera. */
export function inUse() {
  const { dataset, models } = known;
  if (!dataset?.model || using) return false; // it may still be taken back
  return liveModel(dataset)?.hash === dataset.model.id || models.some((model) => model.hash === dataset.model.id && model.active && (!model.cameras?.length || model.cameras.includes(dataset.camera)));
}

/** Why the model can't be tried beside another; null where it can. */
function hindrance(dataset) {
  if (inUse()) return say("teach.try.in_use");
  if (dataset.obstacle) return tell(dataset, "obstacle");
  return liveModel(dataset) ? null : say("teach.try.alone", { camera: dataset.camera });
}

export function showTrying(dataset) {
  const shadow = ownShadow(), failed = shadow?.state === "failed", why = shadow ? null : hindrance(dataset);
  $("try-text").textContent = why ?? say("teach.try.text");
  $("try").textContent = say(shadow ? "teach.try.stop" : "teach.try.start");
  $("try").classList.toggle("strong", !shadow);
  $("try").disabled = !known.changes || why !== null;
  $("trying").hidden = !shadow || failed;
  if (failed) {
    $("try-trouble").textContent = say("teach.try.failed", { error: tell(shadow, "error") ?? "" });
    $("try-trouble").hidden = false;
  }
  if (!shadow || failed) return;
  const { judged, agree, skipped, only_live_rejects: live, only_shadow_rejects: own } = shadow;
  showFigures($("try-figures"), [
    [say("teach.judged"), count(judged), "main"],
    [say("teach.agree"), judged ? `${count(agree)} (${percent((100 * agree) / judged)})` : count(agree), "fine"],
    [say("teach.only_live"), count(live), live ? "warn" : ""], [say("teach.only_new"), count(own), own ? "warn" : ""],
    skipped ? [say("teach.skipped"), count(skipped)] : null,
  ].filter(Boolean));
  $("differ-title").hidden = !judged;
  renew($("differ"), [dataset.camera, judged > 0, shadow.differing], () => (shadow.differing.length || !judged
    ? shadow.differing.map((one) => difference(dataset.camera, one)) : [make("p", { className: "quiet", textContent: say("teach.differ.none") })]));
}

const verdictText = (verdict) => say(`legend.${verdict}`);
const judgement = (who, { verdict, score, threshold }) => make("p", {}, make("span", { className: "quiet", textContent: `${who} ` }),
  make("b", { className: `v-${verdictClass(verdict)}`, textContent: verdictText(verdict) }),
  score === null ? null : make("span", { className: "quiet small", textContent: ` ${number(score)} / ${number(threshold)}` }));

function difference(camera, { id, time, live, shadow }) {
  const alt = say("teach.differ.alt", { time: clock(seconds(time)), live: verdictText(live.verdict), own: verdictText(shadow.verdict) });
  return make("figure", {}, make("img", { src: `${shadowPath(camera)}/${encodeURIComponent(id)}`, alt, loading: "lazy" }),
    make("figcaption", {}, make("p", { className: "quiet small", textContent: clock(seconds(time)) }), judgement(say("teach.live.model"), live), judgement(say("teach.new.model"), shadow)));
}

async function toggle() {
  const { dataset } = known, path = shadowPath(dataset.camera), running = ownShadow();
  await tried("try-trouble", async () => {
    if (running) {
      await send("DELETE", path);
      learn({ shadow: null });
    } else learn({ shadow: await send("PUT", path, { model: dataset.model.id }) });
  });
}

/** The other cameras that are judged by the same models. */
function others({ camera }) {
  const { engines = [], engine } = known.overview ?? {};
  const own = [...engines, engine].find((one) => one?.cameras?.includes(camera));
  return (own?.cameras ?? []).filter((name) => name !== camera);
}

export function showUse(dataset) {
  const used = inUse(), { model, camera } = dataset;
  $("use").hidden = used;
  $("use").disabled = !known.changes || using || Boolean(dataset.obstacle);
  $("watch").hidden = !used;
  const also = others(dataset), text = say(used ? "teach.use.done" : "teach.use.text", { model: model.name, camera });
  const found = stored(dataset) ?? {};
  $("use-text").textContent = used ? text : tell(dataset, "obstacle")
    ?? [text, also.length ? say("teach.use.also", { cameras: also.join(", ") }) : null, found.caution ? say("models.caution", { why: tell(found, "caution") }) : null].filter(Boolean).join(" ");
}

async function use() {
  const { dataset } = known, { model, camera } = dataset;
  if (!(await confirmed(say("teach.use.title", { model: model.name, camera }), say("teach.use.ask"), say("teach.use")))) return;
  using = true;
  $("use-said").textContent = say("teach.use.testing");
  learn({});
  const wanted = { hash: model.id, name: stored(dataset)?.name ?? null };
  const answer = await tried("use-trouble", () => send("POST", "/api/models/activate", wanted, SLOW_MS));
  using = false;
  $("use-said").textContent = "";
  learn(answer ? { models: answer.models } : {});
}

export function watchTrying() {
  $("try").addEventListener("click", toggle);
  $("use").addEventListener("click", use);
}
