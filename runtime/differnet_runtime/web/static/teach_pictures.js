// Collecting good parts: the counter, the switch, and the pictures, any of which can be thrown out.

import { $, clock, count, make, seconds } from "./common.js";
import { address, change, known } from "./teach_state.js";
import { say, tell } from "./words.js";

const FILTERS = { all: () => true, strange: (picture) => picture.strange, out: (picture) => !picture.kept };

export const newest = (one, other) => seconds(other.time) - seconds(one.time);

/** Pictures side by side: arrow keys go from one to the next, a click or Delete throws one out or puts it back. */
export class Pictures {
  constructor(element, trouble, look = () => {}) {
    this.element = element;
    this.trouble = trouble;
    this.look = look; // shows a picture large
    this.cells = new Map(); // by the picture's id: {button, image, note, picture}
    this.dataset = null;
    element.addEventListener("keydown", (event) => this.pressed(event));
  }

  /** Shows pictures, the newest first; buttons that are there already stay, and so does the focus. */
  show(dataset, pictures) {
    if (this.dataset !== dataset.name) this.clear(dataset.name);
    const wanted = new Set(pictures.map((picture) => picture.id));
    const at = this.buttons.indexOf(document.activeElement);
    for (const [id, cell] of this.cells) {
      if (wanted.has(id)) continue;
      cell.button.remove();
      this.cells.delete(id);
    }
    pictures.forEach((picture, place) => {
      const cell = this.cells.get(picture.id) ?? this.add(dataset, picture.id);
      if (this.element.children[place] !== cell.button) this.element.insertBefore(cell.button, this.element.children[place] ?? null);
      this.fill(cell, picture);
    });
    if (at >= 0 && !this.element.contains(document.activeElement)) this.buttons[Math.min(at, this.buttons.length - 1)]?.focus();
    const { activeElement } = document;
    this.reach(this.element.contains(activeElement) ? activeElement : this.buttons[0]);
  }

  clear(name) {
    this.element.replaceChildren();
    this.cells.clear();
    this.dataset = name;
  }

  get buttons() { return [...this.element.children]; }

  add(dataset, id) {
    const image = make("img", { alt: "", loading: "lazy", src: address(dataset, `/pictures/${encodeURIComponent(id)}?thumbnail=true`) });
    image.addEventListener("load", () => this.element.style.setProperty("--shape", Math.max(0.5, Math.min(2, image.naturalWidth / image.naturalHeight))));
    const note = make("span", { className: "note" }), action = make("span", { className: "action" });
    const button = make("button", { type: "button", className: "cell", tabIndex: -1 }, image, note, action);
    const cell = { button, note, action, picture: null };
    button.addEventListener("click", () => this.toggle(cell));
    button.addEventListener("focus", () => { this.reach(button); this.look(dataset, cell.picture); });
    button.addEventListener("pointerenter", () => this.look(dataset, cell.picture));
    this.cells.set(id, cell);
    return cell;
  }

  fill(cell, picture) {
    cell.picture = picture;
    const { button, note, action } = cell, at = clock(seconds(picture.time));
    const strange = picture.strange ? tell(picture, "cause") ?? say("teach.strange") : null;
    button.className = `cell ${picture.kept ? "" : "out"} ${picture.strange ? "strange" : ""}`;
    button.title = strange ?? "";
    note.textContent = picture.kept ? strange ?? "" : say("teach.out");
    note.hidden = !note.textContent;
    action.textContent = say(known.changes ? (picture.kept ? "teach.throw" : "teach.put") : "teach.shown");
    button.setAttribute("aria-label", [at, strange, picture.kept ? null : say("teach.out"), action.textContent].filter(Boolean).join(", "));
    button.setAttribute("aria-disabled", !known.changes);
  }

  /** Makes one button the group's way in for Tab. */
  reach(chosen) {
    for (const button of this.buttons) button.tabIndex = button === chosen ? 0 : -1;
  }

  async toggle({ picture }) {
    if (known.changes) await change("POST", `/pictures/${encodeURIComponent(picture.id)}`, { kept: !picture.kept }, this.trouble);
  }

  pressed(event) {
    const all = this.buttons, at = all.indexOf(event.target);
    if (at < 0 || event.ctrlKey || event.altKey || event.metaKey) return;
    const columns = getComputedStyle(this.element).gridTemplateColumns.split(" ").length;
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, ArrowUp: at - columns, ArrowDown: at + columns, Home: 0, End: all.length - 1 }[event.key];
    if (to !== undefined) all[to]?.focus();
    else if (event.key === "Delete" || event.key === "Backspace") all[at].click();
    else return;
    event.preventDefault();
  }
}

let pictures = null;
let enlarged = null; // the dataset of which a picture is shown large

function enlarge(dataset, picture) {
  const [image, text] = $("preview").children, source = address(dataset, `/pictures/${encodeURIComponent(picture.id)}`);
  if (image.getAttribute("src") !== source) image.src = source;
  text.textContent = [clock(seconds(picture.time)), picture.strange ? tell(picture, "cause") ?? say("teach.strange") : null].filter(Boolean).join(" · ");
  $("preview").hidden = false;
}

export function showCollecting(dataset) {
  const { parts, goal, repeats, thrown_out: out, strange, collecting } = dataset;
  $("collected").textContent = count(parts);
  $("goal").textContent = say("teach.goal", { goal: count(goal) });
  const meter = $("collect-meter");
  meter.setAttribute("aria-valuemax", goal);
  meter.setAttribute("aria-valuenow", Math.min(parts, goal));
  meter.firstElementChild.style.width = `${Math.min(100, (100 * parts) / goal)}%`;
  meter.classList.toggle("full", parts >= goal);
  const said = [[repeats, "teach.repeats"], [strange, "teach.strange.count"], [out, "teach.out.count"]];
  $("counts").textContent = said.filter(([value]) => value).map(([value, key]) => say(value === 1 ? `${key}.one` : key, { count: count(value) })).join(" · ");
  $("collecting").setAttribute("aria-checked", collecting);
  $("collecting").lastElementChild.textContent = say(collecting ? "teach.collecting.on" : "teach.collecting");
  for (const id of ["collecting", "take"]) $(id).disabled = !known.changes;
  const shown = dataset.pictures.filter(FILTERS[$("filter").value]).sort(newest);
  $("pictures-head").hidden = $("pictures-hint").hidden = !dataset.pictures.length;
  pictures.show(dataset, shown);
  if (pictures.dataset !== enlarged || !shown.length) $("preview").hidden = true;
  enlarged = dataset.name;
  if ($("preview").hidden && shown.length) enlarge(dataset, shown[0]);
  if (dataset.problem) $("collect-problem").textContent = tell(dataset, "problem");
  $("collect-problem").hidden = !dataset.problem;
}

async function take() {
  const answer = await change("POST", "/pictures", undefined, "collect-trouble");
  if (answer) $("collect-said").textContent = answer.taken ? say("teach.taken", { parts: answer.parts }) : say("teach.not_taken", { why: tell(answer, "why") ?? "" });
}

export function watchCollecting() {
  pictures = new Pictures($("pictures"), "collect-trouble", enlarge);
  $("collecting").addEventListener("click", () => {
    $("collect-said").textContent = "";
    change("POST", "/collecting", { on: !known.dataset.collecting }, "collect-trouble");
  });
  $("take").addEventListener("click", take);
  $("filter").addEventListener("change", () => showCollecting(known.dataset));
}
