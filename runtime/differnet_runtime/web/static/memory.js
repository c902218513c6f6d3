// What this browser remembers of a person's choices; where it may keep nothing, choices last until the page is closed.

const held = new Map();

export function remembered(key) {
  try { return localStorage.getItem(key) ?? held.get(key) ?? null; } catch { return held.get(key) ?? null; }
}

export function remember(key, value) {
  held.set(key, value);
  try { localStorage.setItem(key, value); } catch { /* it is held until the page is closed */ }
}
