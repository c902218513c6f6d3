// What people say of kept pictures, what that says of the model, and the threshold that follows.

import { $, clock, confirmed, count, day, exact, make, number, options, post, read, renew } from "./common.js";
import { say, sayOr } from "./words.js";

const FORCEABLE = ["threshold_misses", "threshold_rejects"]; // refusals that a person may overrule
let said = null; // what labels say of the chosen camera's model
let changes = false;
let trouble = "";

export const labelWord = (entry) => (entry.label === null ? null : entry.defect ?? say(`label.is_${entry.label}`));

/** Shows what was said of a picture, ready to be changed. */
export function showLabel(entry) {
  const judged = entry.verdict === "GOOD" ? "passed" : "rejected";
  $("label-good").textContent = say(`label.${judged}_good`);
  $("label-defect").textContent = say(`label.${judged}_defect`);
  $("label-good").setAttribute("aria-pressed", entry.label === "good");
  $("label-defect").setAttribute("aria-pressed", entry.label === "defect");
  $("label-kind").value = entry.defect ?? "";
  $("label-comment").value = entry.comment ?? "";
  $("label-none").hidden = entry.label === null;
  $("label-said").textContent = entry.label === null ? "" : say("label.said", { label: labelWord(entry) });
  $("label-said").className = "quiet";
  $("label").hidden = !changes;
}

/** Stores a label; returns the picture as it is then, or null where that failed. */
export async function setLabel(entry, label) {
  const kind = label === "defect" ? $("label-kind").value.trim() || null : null;
  const comment = label === null ? null : $("label-comment").value.trim() || null;
  try {
    await post(`/api/labels/${encodeURIComponent(entry.id)}`, { label, kind, comment });
  } catch (error) {
    $("label-said").textContent = say("label.not_stored", { why: error.message });
    $("label-said").className = "bad";
    return null;
  }
  refreshLabels(changes).catch(() => {});
  return { ...entry, label, defect: kind, comment };
}

/** Asks what labels say, and shows it. */
export async function refreshLabels(allowed) {
  changes = allowed;
  const camera = $("labels-camera").value || $("labels-camera").dataset.first;
  if (!camera) return;
  said = await read(`/api/cameras/${camera}/labels`);
  const { labels } = await read("/api/labels");
  const kinds = [...new Set(labels.map((one) => one.kind).filter(Boolean))].sort();
  renew($("label-kinds"), kinds, () => kinds.map((kind) => make("option", { value: kind })));
  showLabels();
}

export function showLabelCameras(names) {
  $("labels-camera").dataset.first = names[0] ?? "";
  options($("labels-camera"), names, null);
  $("labels-camera").hidden = names.length < 2;
}

const share = (wrong, all) => say("labels.share", { wrong: count(wrong), all: count(all) });

function showLabels() {
  renew($("labels"), [said, changes, trouble], () => {
    const labelled = said.good + said.defect, { set_by } = said;
    return [
      make("p", { textContent: said.threshold === null ? say("labels.no_threshold") : say("labels.threshold", { threshold: number(said.threshold), origin: sayOr(set_by, `labels.by_${set_by}`) }) }),
      make("p", { className: labelled ? "" : "quiet", textContent: labelled
        ? say("labels.found", { n: count(labelled), rejects: share(said.false_rejects, said.good), misses: share(said.misses, said.defect) })
        : say("labels.none") }),
      said.unscored ? make("p", { className: "small quiet", textContent: say("labels.unscored", { n: count(said.unscored) }) }) : null,
      ...(labelled ? slider() : []),
      trouble ? make("p", { className: "warn", textContent: trouble }) : null,
      ...history(),
    ];
  });
}

/** Another threshold, by its place in the table: each step changes a verdict. */
function slider() {
  const { points, good, defect } = said, start = Math.max(0, points.findIndex((point) => point.threshold === said.threshold));
  const input = make("input", { type: "range", id: "threshold", min: 0, max: points.length - 1, value: start });
  input.setAttribute("aria-label", say("labels.slider"));
  const text = make("p", { id: "threshold-text", className: "small" });
  const button = make("button", { id: "use-threshold", textContent: say("labels.use"), hidden: !changes, onclick: () => use(points[input.value]) });
  const show = () => {
    const point = points[input.value];
    const [rejects, misses] = [share(point.false_rejects, good), share(point.misses, defect)];
    text.textContent = say("labels.at", { threshold: exact(point.threshold), rejects, misses });
    input.setAttribute("aria-valuetext", text.textContent);
    button.disabled = point.threshold === said.threshold;
  };
  input.addEventListener("input", show);
  show();
  return [input, text, button];
}

function history() {
  const undoable = said.set_by === "station" && changes;
  return said.changes.slice(0, 3).map((change, place) => {
    const values = { time: clock(change.at_s), old: change.old === null ? "–" : exact(change.old), new: exact(change.new), by: sayOr(change.by, `by.${change.by}`) };
    const button = make("button", { className: "undo", textContent: say("labels.undo"), onclick: undo });
    button.dataset.focus = "undo";
    return make("div", { className: "model" },
      make("span", { className: `small ${change.undone ? "quiet" : ""}`, title: day(change.at_s), textContent: say(change.undone ? "labels.change_undone" : "labels.change", values) }),
      undoable && place === said.changes.findIndex((one) => !one.undone) ? button : null);
  });
}

async function use(point) {
  const { camera, good, defect } = said, path = `/api/cameras/${camera}/threshold`;
  const text = say("labels.use_text", { rejects: share(point.false_rejects, good), misses: share(point.misses, defect) });
  if (!(await confirmed(say("labels.use_title", { camera, threshold: exact(point.threshold) }), text, say("labels.use_yes")))) return;
  await change(path, { threshold: point.threshold }, async (error) => {
    if (await confirmed(say("labels.force_title"), error.message, say("labels.force_yes"))) await change(path, { threshold: point.threshold, force: true });
  });
}

const undo = () => change(`/api/cameras/${said.camera}/threshold/undo`, {});

async function change(path, body, otherwise = null) {
  trouble = "";
  try { said = await post(path, body); }
  catch (error) {
    if (otherwise && FORCEABLE.includes(error.code)) await otherwise(error);
    else trouble = say("labels.not_changed", { why: error.message });
  }
  showLabels();
  if (document.activeElement === document.body) $("threshold")?.focus({ preventScroll: true }); // the button is gone, or can't be pressed now
}

export function watchLabels() {
  $("labels-camera").addEventListener("change", () => refreshLabels(changes).catch(() => {}));
}
