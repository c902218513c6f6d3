// What people say of kept pictures, what that says of the model, and the threshold that follows.

import { $, clock, confirmed, day, make, number, options, post, read, renew } from "./common.js";

let said = null; // what labels say of the chosen camera's model
let changes = false;
let trouble = "";

const WORDS = {
  rejected: ["Good after all", "Really a defect"],
  passed: ["Really good", "A defect after all"],
};

export const labelWord = (entry) =>
  entry.label === null ? null : entry.label === "defect" ? entry.defect ?? "defect" : "good";

/** Shows what was said of a picture, ready to be changed. */
export function showLabel(entry) {
  const [good, defect] = entry.verdict === "GOOD" ? WORDS.passed : WORDS.rejected;
  $("label-good").textContent = good;
  $("label-defect").textContent = defect;
  $("label-good").setAttribute("aria-pressed", entry.label === "good");
  $("label-defect").setAttribute("aria-pressed", entry.label === "defect");
  $("label-kind").value = entry.defect ?? "";
  $("label-comment").value = entry.comment ?? "";
  $("label-none").hidden = entry.label === null;
  $("label-said").textContent = entry.label === null ? "" : `Labelled: ${labelWord(entry)}`;
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
    $("label-said").textContent = `Not stored: ${error.message}`;
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

const share = (wrong, all) => `${wrong} of ${all}`;
const shown = (threshold) => Number(threshold.toPrecision(6));

function showLabels() {
  renew($("labels"), [said, changes, trouble], () => {
    const labelled = said.good + said.defect;
    const where = { model: "the model's", configuration: "from the configuration", station: "set on this station" }[said.set_by];
    return [
      make("p", { textContent: said.threshold === null ? "The model has no threshold." : `Threshold ${number(said.threshold)}, ${where}.` }),
      make("p", { className: labelled ? "" : "quiet", textContent: labelled
        ? `Of ${labelled} labelled parts: ${share(said.false_rejects, said.good)} good ones rejected, ${share(said.misses, said.defect)} defects missed.`
        : "No labels for this model yet. Open a picture and say what the part is." }),
      said.unscored ? make("p", { className: "small quiet", textContent: `${said.unscored} labelled parts had no decision.` }) : null,
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
  input.setAttribute("aria-label", "Another threshold");
  const text = make("p", { id: "threshold-text", className: "small" });
  const button = make("button", { id: "use-threshold", textContent: "Use this threshold", hidden: !changes, onclick: () => use(points[input.value]) });
  const show = () => {
    const point = points[input.value];
    const [rejects, misses] = [share(point.false_rejects, good), share(point.misses, defect)];
    text.textContent = `At ${shown(point.threshold)}: ${rejects} good ones rejected, ${misses} defects missed.`;
    input.setAttribute("aria-valuetext", text.textContent);
    button.disabled = point.threshold === said.threshold;
  };
  input.addEventListener("input", show);
  show();
  return [input, text, button];
}

function history() {
  const undoable = said.set_by === "station" && changes;
  return said.changes.slice(0, 3).map((change, place) => make("div", { className: "model" },
    make("span", { className: `small ${change.undone ? "quiet" : ""}`, title: day(change.at_s),
      textContent: `${clock(change.at_s)} ${change.old === null ? "none" : shown(change.old)} → ${shown(change.new)}, by ${change.by}${change.undone ? ", undone" : ""}` }),
    undoable && place === said.changes.findIndex((one) => !one.undone) ? make("button", { className: "undo", textContent: "Undo", onclick: undo }) : null));
}

async function use(point) {
  const { camera, good, defect } = said, path = `/api/cameras/${camera}/threshold`;
  const text = `Of the labelled parts it would reject ${share(point.false_rejects, good)} good ones and miss ${share(point.misses, defect)} defects. It can be undone.`;
  if (!(await confirmed(`Judge ${camera} with ${shown(point.threshold)}?`, text, "Use it"))) return;
  await change(path, { threshold: point.threshold }, async (error) => {
    if (await confirmed("Set it anyway?", error.message, "Set it")) await change(path, { threshold: point.threshold, force: true });
  });
}

const undo = () => change(`/api/cameras/${said.camera}/threshold/undo`, {});

async function change(path, body, otherwise = null) {
  trouble = "";
  try { said = await post(path, body); }
  catch (error) {
    if (otherwise && /send `force`/.test(error.message)) await otherwise(error);
    else trouble = `Not changed: ${error.message}`;
  }
  showLabels();
}

export function watchLabels() {
  $("labels-camera").addEventListener("change", () => refreshLabels(changes).catch(() => {}));
}
