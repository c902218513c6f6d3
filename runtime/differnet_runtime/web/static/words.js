// The page's texts: one file for each language, chosen in the footer or else by the browser; English where a text is missing.

import { remember, remembered } from "./memory.js";
import english from "./words_en.js";

const TAGS = { en: "en", de: "de", zh: "zh-Hans" };
const KEPT = "language";

const known = [remembered(KEPT) ?? "", ...navigator.languages].map((tag) => tag.slice(0, 2).toLowerCase());
export const language = known.find((code) => code in TAGS) ?? "en";
/** For Intl: the language as the browser writes it (en-GB), so that dates are in their usual form. */
export const locale = navigator.languages.find((tag) => tag.slice(0, 2).toLowerCase() === language) ?? TAGS[language];
const chosen = language === "en" ? english : (await import(`./words_${language}.js`)).default;
document.documentElement.lang = TAGS[language];

/** Returns the text of a key in the page's language, with {names} replaced by values. */
export function say(key, values = {}) {
  const text = chosen[key] ?? english[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (all, name) => (name in values ? String(values[name]) : all));
}

/** Returns the text of a key, or the fallback where there is no such key: for codes that the station sends. */
export const sayOr = (fallback, key, values = {}) => (key in english ? say(key, values) : fallback);

const DECIMAL = /^-?\d+\.(\d+)$/, PERCENT = /^\d+%$/;

function figure(text) {
  if (PERCENT.test(text)) return new Intl.NumberFormat(locale, { style: "percent" }).format(parseFloat(text) / 100);
  const digits = DECIMAL.exec(text)?.[1].length;
  return digits ? new Intl.NumberFormat(locale, { minimumFractionDigits: digits, maximumFractionDigits: digits }).format(text) : text;
}

/** Says a sentence that the station sent with its code and values; a value may be a sentence, and loses its full stop within another. */
function sentence({ text, code, values }) {
  const key = `said.${code}`;
  if (!(key in english)) return text;
  return (chosen[key] ?? english[key]).replace(/\{(\w+)\}(?=(.?))/gs, (all, name, next) => {
    const value = values[name];
    if (typeof value !== "object") return figure(value);
    return /[.,;:)。，；：）]/.test(next) ? sentence(value).replace(/[.。]$/, "") : sentence(value);
  });
}

/** Returns what a field of the station's answer says, in the page's language; in the station's English where it has no code. */
export const tell = (one, field = "reason", text = one[field]) => (one.said?.[field] ? sentence(one.said[field]) : text);

/** Fills elements below root: data-say is their text, data-say-label their aria-label, data-say-hint their placeholder. */
export function translate(root = document) {
  for (const one of root.querySelectorAll("[data-say]")) one.textContent = say(one.dataset.say);
  for (const one of root.querySelectorAll("[data-say-label]")) one.setAttribute("aria-label", say(one.dataset.sayLabel));
  for (const one of root.querySelectorAll("[data-say-hint]")) one.placeholder = say(one.dataset.sayHint);
}

/** Makes the buttons with data-language choose the page's language, which is remembered. */
export function offerLanguages(root = document) {
  for (const button of root.querySelectorAll("[data-language]")) {
    button.setAttribute("aria-pressed", button.dataset.language === language);
    button.addEventListener("click", () => {
      remember(KEPT, button.dataset.language);
      location.reload();
    });
  }
}
