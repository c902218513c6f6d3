// What every part of the page uses: elements, numbers in words, and the way to the station.

export const $ = (id) => document.getElementById(id);

/** Makes an element; text is never read as markup. */
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const CLASSES = { GOOD: "good", DEFECT: "defect", NO_DECISION: "undecided" };
export const verdictClass = (verdict) => CLASSES[verdict] ?? "";
export const verdictWord = (verdict) => (verdict ?? "").replace("_", " ");

export const number = (value) => (value === null || value === undefined ? "–" : value.toFixed(value < 10 ? 3 : 1));
/** Which head decided, in the station's words; a sentence where the heatmap may be calm. */
export const decided = (one) => one?.note ?? (one?.decided_by ? `decided by ${one.decided_by}` : null);

export const count = (value) => value.toLocaleString("en");
export const clock = (at_s) => new Date(at_s * 1000).toLocaleTimeString("en-GB");
export const day = (at_s) => new Date(at_s * 1000).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "medium" });

export function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; value >= 1024 && unit < units.length - 1; unit++) value /= 1024;
  return `${value < 10 && unit ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

export function duration(s) {
  if (s < 60) return `${Math.round(s)} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

/** Asks the station; throws an error in its words. A session that has ended gives the form. */
export async function ask(path, options = {}) {
  const response = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(options.wait ?? 8000), ...options });
  if (response.status === 401) location.reload();
  if (!response.ok && !options.any) {
    const problem = await response.json().catch(() => ({}));
    throw new Error(problem.error ?? `the station answered ${response.status}`);
  }
  return response;
}

export const read = async (path) => (await ask(path)).json();

export const post = async (path, body) =>
  (await ask(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), wait: 1_900_000 })).json();

/** Asks a person; true only if the action's button was pressed. */
export function confirmed(title, text, action) {
  const dialog = $("confirm");
  $("confirm-title").textContent = title;
  $("confirm-text").textContent = text;
  $("confirm-yes").textContent = action;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true }));
}

/** Replaces a choice's options where they changed, and keeps what is chosen; without `all` one is always chosen. */
export function options(select, names, all) {
  const wanted = JSON.stringify(names);
  if (select.dataset.names === wanted) return;
  const chosen = select.value;
  select.replaceChildren(...(all === null ? [] : [make("option", { value: "", textContent: all })]), ...names.map((name) => make("option", { value: name, textContent: name })));
  select.dataset.names = wanted;
  select.value = names.includes(chosen) ? chosen : all === null ? names[0] ?? "" : "";
}

export const facts = (pairs) =>
  make("dl", {}, ...pairs.filter((pair) => pair).flatMap(([name, value, kind]) => [make("dt", { textContent: name }), make("dd", { textContent: value, className: kind ?? "" })]));

const states = new WeakMap();

/** Builds an element's content anew only where its state changed: a button must outlive a click. */
export function renew(element, state, build) {
  const text = JSON.stringify(state);
  if (states.get(element) === text) return;
  states.set(element, text);
  element.replaceChildren(...build().filter((child) => child));
}
