// What every part of the page uses: elements, numbers and dates in words, and the way to the station.

import { locale, say, sayOr, tell } from "./words.js";

export const $ = (id) => document.getElementById(id);

/** Makes an element; text is never read as markup. */
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const CLASSES = { GOOD: "good", DEFECT: "defect", NO_DECISION: "undecided" };
export const verdictClass = (verdict) => CLASSES[verdict] ?? "";
export const verdictWord = (verdict) => (verdict ? sayOr(verdict, `verdict.${verdict}`) : "");

const PATHS = { // each with an outline of its own, so that colour is not needed to tell them apart
  good: ["M12 1.5a10.5 10.5 0 1 0 0 21a10.5 10.5 0 1 0 0-21z", "M6.8 12.4l3.6 3.6l6.8-7.6"],
  defect: ["M7.6 1.5h8.8l6.1 6.1v8.8l-6.1 6.1H7.6l-6.1-6.1V7.6z", "M7.8 7.8l8.4 8.4M16.2 7.8l-8.4 8.4"],
  undecided: ["M12 1.8L23.2 21.6H.8z", "M12 9v5.6M12 17.6v.6"],
};

/** Draws a verdict's symbol: a disc with a tick, an octagon with a cross, a triangle with an exclamation mark. */
export function symbol(kind) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", `symbol ${kind}`);
  svg.setAttribute("aria-hidden", "true");
  for (const path of PATHS[kind] ?? []) {
    const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
    line.setAttribute("d", path);
    svg.append(line);
  }
  return svg;
}

const figures = (digits) => new Intl.NumberFormat(locale, { minimumFractionDigits: digits, maximumFractionDigits: digits });
const FINE = figures(3), COARSE = figures(1), WHOLE = figures(0), PERCENT = new Intl.NumberFormat(locale, { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 });
const MARK = new Intl.NumberFormat(locale, { maximumSignificantDigits: 3 }), EXACT = new Intl.NumberFormat(locale, { maximumSignificantDigits: 6 });
const times = (options) => new Intl.DateTimeFormat(locale, { hourCycle: "h23", ...options });
const CLOCK = times({ hour: "2-digit", minute: "2-digit", second: "2-digit" }), HOUR = times({ hour: "2-digit", minute: "2-digit" });
const DAY = times({ dateStyle: "medium", timeStyle: "medium" }), DATE = times({ dateStyle: "medium" });

export const number = (value) => (value === null || value === undefined ? "–" : (Math.abs(value) < 10 ? FINE : Math.abs(value) < 1000 ? COARSE : WHOLE).format(value));
export const count = (value) => WHOLE.format(value);
export const rate = (value) => COARSE.format(value);
export const percent = (value) => PERCENT.format(value / 100);
export const short = (value) => MARK.format(value);
export const exact = (value) => EXACT.format(value);
export const clock = (at_s) => CLOCK.format(at_s * 1000);
export const hour = (at_s) => HOUR.format(at_s * 1000);
export const day = (at_s) => DAY.format(at_s * 1000);
/** Returns the seconds since the epoch of a time in ISO 8601. */
export const seconds = (iso) => Date.parse(iso) / 1000;
/** Returns the day of a time in ISO 8601. */
export const date = (iso) => (Number.isNaN(Date.parse(iso)) ? iso : DATE.format(new Date(iso)));

export function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; value >= 1024 && unit < units.length - 1; unit++) value /= 1024;
  return `${value < 10 && unit ? COARSE.format(value) : WHOLE.format(value)} ${units[unit]}`;
}

const spell = (value, unit) => new Intl.NumberFormat(locale, { style: "unit", unit, unitDisplay: "short" }).format(value);

export function duration(s) {
  if (s < 60) return spell(Math.round(s), "second");
  if (s < 3600) return spell(Math.floor(s / 60), "minute");
  if (s < 86400) return [spell(Math.floor(s / 3600), "hour"), spell(Math.floor((s % 3600) / 60), "minute")].join(" ");
  return [spell(Math.floor(s / 86400), "day"), spell(Math.floor((s % 86400) / 3600), "hour")].join(" ");
}

/** Says which head decided; a sentence where the picture as a whole did, because the heatmap may be calm then. */
export function decided(one, heatmap = false) {
  if (!one?.decided_by) return null;
  if (one.note && one.head === "whole") return say(heatmap ? "head.unusual_heatmap" : "head.unusual");
  return say("head.decided", { what: sayOr(one.decided_by, `head.${one.head}`) });
}

/** Says why there is no decision, by its code; in the station's own words where the code is new. */
export const why = ({ code, reason, said }) => (code || reason ? sayOr(tell({ reason, said }) ?? code, `code.${code}`) : null);

/** Asks the station; throws an error that says why it refused, with the code of that. A session that has ended gives the form. */
export async function ask(path, options = {}) {
  const response = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(options.wait ?? 8000), ...options });
  if (response.status === 401) location.reload();
  if (!response.ok && !options.any) {
    const problem = await response.json().catch(() => ({}));
    const text = tell(problem, "error") ?? say("connection.answered", { status: response.status });
    throw Object.assign(new Error(text), { code: problem.said?.error?.code });
  }
  return response;
}

export const read = async (path) => (await ask(path)).json();

export const SLOW_MS = 1_900_000; // a new model is tested before it judges

/** Sends a change; returns the answer's JSON, or null where it has none. */
export async function send(method, path, body, wait = SLOW_MS) {
  const json = body === undefined ? {} : { headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const response = await ask(path, { method, wait, ...json });
  return response.status === 204 ? null : response.json();
}

export const post = (path, body) => send("POST", path, body);
export const put = (path, body) => send("PUT", path, body);

/** The address of a camera's trial. */
export const shadowPath = (camera) => `/api/cameras/${encodeURIComponent(camera)}/shadow`;

/** Asks a person; true only if the action's button was pressed. The focus goes back to where it was. */
export function confirmed(title, text, action) {
  const dialog = $("confirm"), back = focusKeeper();
  $("confirm-title").textContent = title;
  $("confirm-text").textContent = text;
  $("confirm-yes").textContent = action;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => {
    back();
    resolve(dialog.returnValue === "yes");
  }, { once: true }));
}

/** Remembers what has the focus, by its id or data-focus; returns what gives it back, though it was built anew. */
export function focusKeeper() {
  const before = document.activeElement, { id, dataset } = before ?? {};
  const like = id ? `#${CSS.escape(id)}` : dataset?.focus ? `[data-focus="${CSS.escape(dataset.focus)}"]` : null;
  return () => {
    const now = before?.isConnected ? before : like && document.querySelector(like);
    if (now && now !== document.activeElement) now.focus({ preventScroll: true });
  };
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
  const back = element.contains(document.activeElement) ? focusKeeper() : () => {};
  element.replaceChildren(...build().filter((child) => child));
  back();
}
