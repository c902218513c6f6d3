// Training, here or on another machine, and what came of it.

import { $, ask, count, duration, make, number, renew, seconds } from "./common.js";
import { Pictures, newest } from "./teach_pictures.js";
import { address, change, known, learn, send, tried } from "./teach_state.js";
import { say, sayOr, tell } from "./words.js";

const UPLOAD_MS = 600_000;
let strange = null;
let sending = false;
let shownFor = null; // the dataset whose other way to train was opened or closed by itself

/** Why no training can begin now; null where it can. */
function hindrance({ parts }) {
  const { trainable } = known.teach;
  if (!known.changes) return say("teach.changes");
  if (!trainable) return tell(known.teach) ?? say("teach.train.cannot");
  return parts ? null : say("teach.train.empty");
}

function advice({ parts, goal }) {
  return parts < goal ? say("teach.train.more", { count: count(goal - parts) }) : say("teach.train.ready", { parts: count(parts) });
}

export function showTraining(dataset) {
  const { training } = dataset, running = training?.state === "running", why = hindrance(dataset);
  $("train").hidden = running;
  $("train").disabled = why !== null;
  $("train").textContent = say(dataset.model ? "teach.train.again" : "teach.train");
  $("train-text").textContent = running ? say("teach.train.running") : why ?? advice(dataset);
  $("train-obstacle").hidden = !dataset.obstacle;
  $("train-obstacle").textContent = tell(dataset, "obstacle") ?? "";
  $("cancel").hidden = !running;
  $("progress").hidden = !running;
  if (running) showProgress(training);
  else {
    const ended = training?.state;
    if (ended === "failed") $("train-trouble").textContent = say("teach.train.failed", { error: tell(training, "error") ?? "" });
    if (ended === "cancelled") $("train-trouble").textContent = say("teach.train.cancelled");
    if (ended === "failed" || ended === "cancelled") $("train-trouble").hidden = false;
  }
  if (shownFor !== dataset.name) $("elsewhere").open = !known.teach.trainable;
  shownFor = dataset.name;
  showElsewhere(dataset);
}

function showProgress({ step, done, seconds_left: left, started }) {
  $("train-trouble").hidden = true;
  const percent = Math.round(done * 100), meter = $("progress-meter");
  const begun = duration(Math.max(0, known.overview ? known.overview.at_s - seconds(started) : 0));
  $("progress-step").textContent = sayOr(step, `teach.step.${step.replaceAll(" ", "_")}`);
  $("progress-left").textContent = [`${percent} %`, left === null ? say("teach.train.since", { time: begun }) : say("teach.train.left", { time: duration(left) })].join(" · ");
  meter.setAttribute("aria-valuenow", percent);
  meter.firstElementChild.style.width = `${percent}%`;
}

function showElsewhere(dataset) {
  const { name } = dataset;
  $("zip").href = address(dataset, "/pictures.zip");
  $("zip").download = `${name}.zip`;
  $("zip").textContent = say("teach.elsewhere.zip", { name });
  $("commands").textContent = [`unzip ${name}.zip`, `differnet train --data ${name} -o ${name}-model`, `differnet export ${name}-model -o ${name}.onnx --precision fp32`].join("\n");
  $("send").disabled = $("file").disabled = !known.changes || sending;
}

async function upload(event) {
  event.preventDefault();
  const [file] = $("file").files;
  if (!file || sending) return;
  const { dataset } = known;
  sending = true;
  $("upload-said").textContent = say("teach.elsewhere.sending", { file: file.name });
  const answer = await tried("upload-trouble", async () => {
    const response = await ask(address(dataset, "/model"), { method: "POST", body: file, headers: { "Content-Type": "application/octet-stream" }, wait: UPLOAD_MS });
    return response.json();
  });
  sending = false;
  $("upload-said").textContent = answer ? say("teach.elsewhere.sent", { file: file.name }) : "";
  if (answer) event.target.reset();
  learn(answer && known.dataset?.name === answer.name ? { dataset: answer } : {}); // another part may be open by now, or none
}

const figure = (name, value, kind) => make("div", { className: `figure ${kind ?? ""}` }, make("span", { className: "quiet small", textContent: name }), make("strong", { textContent: value }));

/** Puts named figures side by side. */
export function showFigures(element, pairs) {
  renew(element, pairs, () => pairs.map((pair) => figure(...pair)));
}

/** What the store says of the dataset's model; nothing where it doesn't list it. */
function cardOf({ model }) {
  const card = known.models.find((one) => one.hash === model.id) ?? {}, { parts } = card, limit = tell(card, "detection_limit");
  return { ...(parts ? { parts } : {}), ...(limit ? { detection_limit: limit } : {}) };
}

export function showResult(dataset) {
  const { report, pictures } = dataset, model = { ...dataset.model, ...cardOf(dataset) };
  showFigures($("figures"), [
    [say("teach.parts.used"), count(model.parts)], [say("teach.threshold"), number(model.threshold)],
    [say("teach.model"), `${model.name} ${model.id.slice(0, 8)}`],
    [say("teach.limit"), model.detection_limit ?? say("teach.limit.none"), model.detection_limit ? "wide" : "wide quiet"],
  ]);
  $("report").hidden = !report;
  $("report").href = address(dataset, "/report");
  const doubtful = pictures.filter((picture) => picture.strange).sort(newest);
  $("again").hidden = !doubtful.length;
  strange.show(dataset, doubtful);
}

async function train() {
  $("train-trouble").hidden = true;
  const answer = await tried("train-trouble", () => send("POST", address(known.dataset, "/training")));
  if (answer) learn({ dataset: answer });
}

export function watchTraining() {
  strange = new Pictures($("strange"), "collect-trouble");
  $("train").addEventListener("click", train);
  $("cancel").addEventListener("click", () => change("DELETE", "/training", undefined, "train-trouble"));
  $("upload").addEventListener("submit", upload);
}
