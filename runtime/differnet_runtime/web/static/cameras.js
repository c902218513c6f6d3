// A card for each camera. A picture is shown as live only while its own age says so.

import { $, ask, confirmed, count, decided, duration, make, number, post, verdictClass, verdictWord } from "./common.js";

const LIVE_S = 3, PAUSE_MS = 200, RETRY_MS = 1000, LATE_MS = 2000;
const cards = new Map();

class Card {
  constructor(name) {
    this.name = name;
    this.view = null;
    this.connected = false;
    this.seen = null; // {event, age_s, at}: the picture's verdict, how old it was when it came, and when that was
    this.newest = null; // {event, at}: the newest verdict, and when it was heard of
    this.image = make("img", { alt: `Camera ${name}` });
    this.tag = make("span", { className: "tag" });
    this.veilTitle = make("strong");
    this.veilText = make("span");
    this.veilAge = make("span");
    this.word = make("span", { className: "word" });
    this.score = make("span", { className: "score" });
    this.fill = make("i");
    this.state = make("span", { className: "small quiet" });
    this.counts = make("span", { className: "small quiet" });
    this.by = make("p", { className: "small quiet decided" });
    this.note = make("p", { className: "warn" });
    this.button = make("button", { textContent: "Judge a part", hidden: true, onclick: () => this.judge() });
    this.element = make("article", { className: "camera" },
      make("div", { className: "frame" }, this.image, this.tag, make("div", { className: "veil" }, this.veilTitle, this.veilText, this.veilAge)),
      make("div", { className: "below" },
        make("div", { className: "row" }, this.word, this.score),
        make("div", { className: "bar" }, this.fill, make("b")),
        make("div", { className: "row" }, this.state, this.counts), this.button, this.by, this.note));
    this.element.dataset.camera = name;
    this.running = true;
    this.judging = false;
    this.fetchPictures();
  }

  async fetchPictures() {
    while (this.running) {
      let pause = PAUSE_MS;
      if (!document.hidden) {
        try {
          const response = await ask(`/api/cameras/${this.name}/live.jpg?overlay=${$("overlay").checked}`, { any: true });
          if (response.ok) await this.take(response);
          else pause = RETRY_MS;
        } catch { pause = RETRY_MS; } // the connection's banner says it
      }
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
    URL.revokeObjectURL(this.image.src);
  }

  /** Shows a picture and its own verdict, which came with it; both change at once. */
  async take(response) {
    const at = performance.now(), age_s = Number(response.headers.get("X-Frame-Age-Ms")) / 1000;
    const event = JSON.parse(response.headers.get("X-Event"));
    const image = make("img", { alt: this.image.alt, src: URL.createObjectURL(await response.blob()) });
    try { await image.decode(); }
    catch (error) { URL.revokeObjectURL(image.src); throw error; }
    URL.revokeObjectURL(this.image.src);
    this.image.replaceWith(image);
    this.image = image;
    this.seen = { event, age_s, at };
    if (this.view) this.show(this.view, this.connected);
  }

  /** Hears of a verdict; its picture comes a moment later, if there is one. */
  hear(event) {
    if (event && event.id !== this.newest?.event.id) this.newest = { event, at: performance.now() };
  }

  /** Whether the newest verdict has no picture: then it is shown alone. */
  get alone() {
    if (!this.newest) return false;
    const { event, at } = this.newest;
    if (this.seen && (event.id === this.seen.event.id || event.at_s <= this.seen.event.at_s)) return false;
    return !event.frame?.width || performance.now() - at > LATE_MS;
  }

  get age_s() {
    return this.seen ? this.seen.age_s + (performance.now() - this.seen.at) / 1000 : Infinity;
  }

  async judge() {
    this.judging = true;
    try { this.hear(await post(`/api/cameras/${this.name}/trigger`, {})); }
    catch (error) { await confirmed(`No verdict from ${this.name}`, error.message, "OK"); }
    this.judging = false;
  }

  show(view, connected) {
    this.view = view;
    this.connected = connected;
    const commanded = view.trigger === "command", running = view.state === "running" && connected;
    const fresh = this.age_s < LIVE_S, stale = !running || (!commanded && !fresh);
    const alone = this.alone, last = alone ? this.newest.event : this.seen?.event;
    this.element.className = `camera ${verdictClass(last?.verdict)} ${stale ? "stale" : alone ? "alone" : ""} ${running && fresh && !commanded && !alone ? "live" : ""}`;
    this.tag.textContent = commanded && Number.isFinite(this.age_s) ? `${this.name} · last part ${duration(this.age_s)} ago` : this.name;
    this.veilTitle.textContent = connected ? (!running ? `Camera ${view.state}` : stale ? "No fresh picture" : "No picture of this verdict") : "Not connected";
    const age = Number.isFinite(this.age_s) ? `last picture ${duration(this.age_s)} ago` : "no picture yet";
    this.veilText.textContent = connected && view.reason ? view.reason : "";
    this.veilAge.textContent = age;
    this.word.textContent = stale ? "no verdict now" : last ? verdictWord(last.verdict) : "no verdict yet";
    this.score.textContent = !stale && last && last.score !== null ? `${number(last.score)} / ${number(last.threshold)}` : "";
    const share = last && last.score !== null && last.threshold ? last.score / last.threshold : 0;
    this.fill.style.width = `${Math.max(0, Math.min(100, share * 50))}%`;
    const size = view.width ? `${view.width} × ${view.height}` : "";
    const rate = view.fps !== null && !commanded ? `${view.fps.toFixed(1)}/s` : commanded ? "on command" : "";
    this.state.textContent = [size, rate, view.waiting ? `${count(view.waiting)} waiting` : "", view.reconnects ? `${count(view.reconnects)} reconnects` : ""].filter(Boolean).join(" · ");
    const { GOOD = 0, DEFECT = 0, NO_DECISION = 0 } = view.verdicts;
    this.counts.textContent = `${count(GOOD)} good · ${count(DEFECT)} defect · ${count(NO_DECISION)} undecided`;
    this.by.textContent = stale ? "" : decided(last) ?? "";
    this.by.hidden = !this.by.textContent;
    this.note.textContent = [last?.reason, ...view.settings.map(({ name, warning }) => warning && `${name}: ${warning}`)].filter(Boolean).join(" · ");
    this.note.hidden = !this.note.textContent;
    this.button.hidden = !(commanded && Card.changes);
    this.button.disabled = !running || this.judging;
  }
}
Card.changes = false;

export function allowChanges(allowed) { Card.changes = allowed; }

/** Shows all cameras. */
export function showCameras(views, latest, connected) {
  for (const view of views) {
    if (!cards.has(view.name)) {
      cards.set(view.name, new Card(view.name));
      $("cameras").append(cards.get(view.name).element);
    }
    const newest = latest.get(view.name);
    const last = newest && (!view.last || newest.at_s >= view.last.at_s) ? newest : view.last;
    cards.get(view.name).hear(last);
    cards.get(view.name).show(view, connected);
  }
  for (const [name, card] of cards) {
    if (views.some((view) => view.name === name)) continue;
    card.running = false;
    card.element.remove();
    cards.delete(name);
  }
}
