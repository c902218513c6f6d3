// The live picture of the chosen camera, and the region drawn on it: by mouse, finger, keys or numbers.

import { $, ask, make } from "./common.js";
import { say, tell } from "./words.js";

const PAUSE_MS = 250, RETRY_MS = 1000, OLD_S = 3, LEAST = 16;
const HANDLES = ["nw", "n", "ne", "e", "se", "s", "sw", "w"];
const FIELDS = ["x", "y", "width", "height"];
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

let camera = null; // what is shown: a camera's view
let size = null; // of a frame, in pixels
let region = null; // in pixels of a frame; null is the whole picture
let locked = false;
let drag = null;
let age_s = null; // of the last picture, when it came; null without one
let arrived = 0;

export const chosenRegion = () => region;

/** Shows a camera; a change of camera forgets the region. */
export function showCamera(view) {
  if (camera?.name !== view?.name) {
    size = null;
    age_s = null;
    $("live").removeAttribute("src");
    if (!locked) region = null;
  }
  camera = view;
  if (!size && view?.width) size = { width: view.width, height: view.height };
  draw();
}

/** Sets the region, which can't be changed where it is locked. */
export function setRegion(wanted, lock) {
  region = wanted;
  locked = lock;
  draw();
}

const between = (value, low, high) => Math.min(Math.max(value, low), high);

function fitted({ x, y, width, height }) {
  const wide = Math.round(between(width, Math.min(LEAST, size.width), size.width));
  const high = Math.round(between(height, Math.min(LEAST, size.height), size.height));
  return { x: Math.round(between(x, 0, size.width - wide)), y: Math.round(between(y, 0, size.height - high)), width: wide, height: high };
}

function change(wanted) {
  region = wanted && fitted(wanted);
  draw();
}

function draw() {
  const stage = $("stage"), box = $("region");
  stage.classList.toggle("locked", locked);
  if (locked) for (const name of ["tabindex", "role", "aria-label", "aria-describedby"]) stage.removeAttribute(name);
  else {
    for (const [name, value] of [["tabindex", "0"], ["role", "group"], ["aria-label", say("teach.region.keys")], ["aria-describedby", "region-hint"]]) stage.setAttribute(name, value);
  }
  if (size) stage.style.setProperty("--ratio", size.width / size.height);
  box.hidden = !region || !size;
  if (!box.hidden) {
    box.style.left = `${(region.x / size.width) * 100}%`;
    box.style.top = `${(region.y / size.height) * 100}%`;
    box.style.width = `${(region.width / size.width) * 100}%`;
    box.style.height = `${(region.height / size.height) * 100}%`;
  }
  for (const field of FIELDS) {
    const input = $(`region-${field}`);
    if (document.activeElement !== input) input.value = region ? region[field] : "";
    if (size) input.max = field === "x" || field === "width" ? size.width : size.height;
    input.placeholder = size && !region ? { x: 0, y: 0, ...size }[field] : "";
  }
  $("whole").disabled = !region;
  $("region-text").hidden = locked;
  $("region-text").textContent = !size || locked ? "" : region ? say("teach.region.text", region) : say("teach.region.whole", size);
  showVeil();
}

/** Says over the picture why it isn't live. */
function showVeil() {
  const age = age_s === null ? null : age_s + (performance.now() - arrived) / 1000;
  const why = !camera ? say("teach.veil.camera")
    : camera.state !== "running" ? tell(camera) ?? say("teach.veil.stopped")
      : age === null ? say("teach.veil.none")
        : age > OLD_S && camera.trigger !== "command" ? say("teach.veil.old") : "";
  $("veil").textContent = why;
  $("veil").hidden = !why;
}

async function show(response) {
  const image = make("img", { id: "live", alt: say("teach.live", { camera: camera.name }), src: URL.createObjectURL(await response.blob()), draggable: false });
  try { await image.decode(); }
  catch (error) { URL.revokeObjectURL(image.src); throw error; }
  if (image.src && $("live").src.startsWith("blob:")) URL.revokeObjectURL($("live").src);
  $("live").replaceWith(image);
  const frame = JSON.parse(response.headers.get("X-Event") ?? "null")?.frame;
  age_s = Number(response.headers.get("X-Frame-Age-Ms") ?? 0) / 1000;
  arrived = performance.now();
  const now = frame?.width ? { width: frame.width, height: frame.height }
    : camera.width ? { width: camera.width, height: camera.height } : { width: image.naturalWidth, height: image.naturalHeight };
  const changed = now.width !== size?.width || now.height !== size?.height;
  size = now;
  if (changed && region && !locked) region = fitted(region);
  if (changed) draw();
}

async function watch() {
  let pause = PAUSE_MS;
  const asked = camera?.name;
  if (!document.hidden && asked && camera.frame_age_s !== null) { // before the first frame there is nothing to ask for
    try {
      const response = await ask(`/api/cameras/${asked}/live.jpg`, { any: true });
      if (response.ok && camera?.name === asked) await show(response);
      else pause = RETRY_MS;
    } catch { pause = RETRY_MS; } // the banner says that the connection is lost
  }
  showVeil();
  setTimeout(watch, pause);
}

/** Where a pointer is, in pixels of a frame. */
function place(event) {
  const box = $("stage").getBoundingClientRect();
  return { x: between((event.clientX - box.left) / box.width, 0, 1) * size.width, y: between((event.clientY - box.top) / box.height, 0, 1) * size.height };
}

const spanned = (left, top, right, bottom) => ({ x: Math.min(left, right), y: Math.min(top, bottom), width: Math.abs(right - left), height: Math.abs(bottom - top) });

function pressed(event) {
  if (locked || !size || event.button !== 0) return;
  const at = place(event), handle = event.target.dataset.handle;
  const inside = region && event.target.closest("#region");
  drag = { at, handle, before: region, moves: inside && !handle };
  $("stage").setPointerCapture(event.pointerId);
}

function moved(event) {
  if (!drag) return;
  const at = place(event), { before, handle } = drag;
  if (drag.moves) { change({ ...before, x: before.x + at.x - drag.at.x, y: before.y + at.y - drag.at.y }); return; }
  if (!handle) { // a new one; a click alone draws none
    if (Math.abs(at.x - drag.at.x) > size.width / 50 && Math.abs(at.y - drag.at.y) > size.height / 50) change(spanned(drag.at.x, drag.at.y, at.x, at.y));
    return;
  }
  const left = handle.includes("w") ? at.x : before.x, right = handle.includes("e") ? at.x : before.x + before.width;
  const top = handle.includes("n") ? at.y : before.y, bottom = handle.includes("s") ? at.y : before.y + before.height;
  change(spanned(left, top, right, bottom));
}

function key(event) {
  if (locked || !size || event.target !== $("stage")) return;
  if (event.key === "Delete" || event.key === "Backspace") { event.preventDefault(); change(null); return; }
  const arrow = ARROWS[event.key];
  if (!arrow || event.altKey || event.metaKey) return;
  event.preventDefault();
  if (!region) { change({ x: size.width / 4, y: size.height / 4, width: size.width / 2, height: size.height / 2 }); return; }
  const step = event.ctrlKey ? 1 : Math.max(1, Math.round(size.width / 100));
  const [right, down] = arrow.map((way) => way * step);
  const { x, y, width, height } = region;
  change(event.shiftKey ? { x, y, width: Math.min(width + right, size.width - x), height: Math.min(height + down, size.height - y) } : { ...region, x: x + right, y: y + down });
}

/** Takes over the numbers; one that is missing is what the whole picture has. */
function typed() {
  if (!size) return;
  const whole = { x: 0, y: 0, ...size };
  const wanted = Object.fromEntries(FIELDS.map((field) => [field, $(`region-${field}`).value === "" ? whole[field] : Number($(`region-${field}`).value)]));
  wanted.width = Math.min(wanted.width, Math.max(LEAST, size.width - wanted.x));
  wanted.height = Math.min(wanted.height, Math.max(LEAST, size.height - wanted.y));
  change(FIELDS.every((field) => $(`region-${field}`).value === "") ? null : wanted);
}

export function watchRegion() {
  const stage = $("stage");
  $("region").append(...HANDLES.map((name) => { const handle = make("i"); handle.dataset.handle = name; return handle; }));
  stage.addEventListener("pointerdown", pressed);
  stage.addEventListener("pointermove", moved);
  for (const end of ["pointerup", "pointercancel"]) stage.addEventListener(end, () => { drag = null; });
  stage.addEventListener("keydown", key);
  for (const field of FIELDS) {
    $(`region-${field}`).addEventListener("change", typed);
    $(`region-${field}`).addEventListener("blur", draw);
  }
  $("whole").addEventListener("click", () => { change(null); stage.focus(); });
  watch();
}
