// The page's texts: one file for each language, chosen by the browser; English where one is missing.

import english from "./words_en.js";

const TAGS = { en: "en", de: "de", zh: "zh-Hans" };

const known = navigator.languages.map((tag) => tag.slice(0, 2).toLowerCase());
export const language = known.find((code) => code in TAGS) ?? "en";
const chosen = language === "en" ? english : (await import(`./words_${language}.js`)).default;
document.documentElement.lang = TAGS[language];

/** Returns the text of a key in the page's language, with {names} replaced by values. */
export function say(key, values = {}) {
  const text = chosen[key] ?? english[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (all, name) => (name in values ? String(values[name]) : all));
}

/** Fills elements below root: data-say is their text, data-say-label their aria-label, data-say-hint their placeholder. */
export function translate(root = document) {
  for (const one of root.querySelectorAll("[data-say]")) one.textContent = say(one.dataset.say);
  for (const one of root.querySelectorAll("[data-say-label]")) one.setAttribute("aria-label", say(one.dataset.sayLabel));
  for (const one of root.querySelectorAll("[data-say-hint]")) one.placeholder = say(one.dataset.sayHint);
}
