// A card for each camera. A picture is shown as live only while its own age says so.

import { $, ask, confirmed, count, day, decided, duration, make, number, percent, post, rate, renew, symbol, verdictClass, verdictWord, why } from "./common.js";
import { alarmOf } from "./health.js";
import { say, sayOr, tell } from "./words.js";

const LIVE_S = 3, PAUSE_MS = 200, RETRY_MS = 1000, LATE_MS = 2000;
const cards = new Map();

class Card {
  constructor(name) {
    this.name = name;
    this.view = null;
    this.connected = false;
    this.seen = null; // {event, age_s, at}: the picture's verdict, how old it was when it came, and when that was
    this.newest = null; // {event, at}: the newest verdict, and when it was heard of
    this.image = make("img", { alt: say("camera.alt", { name }) });
    this.tag = make("span", { className: "tag" });
    this.veilTitle = make("strong");
    this.veilText = make("span", { className: "detail" });
    this.veilAge = make("span");
    this.sign = make("span", { className: "sign" });
    this.word = make("span", { className: "word" });
    this.score = make("span", { className: "score" });
    this.scoreText = make("span", { className: "score-text" });
    this.fill = make("i");
    this.state = make("span", { className: "small quiet engineer" });
    this.counts = make("span", { className: "small quiet engineer" });
    this.by = make("p", { className: "small quiet decided engineer" });
    this.why = make("p", { className: "why" });
    this.note = make("p", { className: "warn engineer" });
    this.alarm = make("p", { className: "chip", hidden: true });
    this.button = make("button", { textContent: say("camera.judge"), hidden: true, onclick: () => this.judge() });
    this.element = make("article", { className: "camera" },
      make("div", { className: "frame" }, this.image, this.tag, this.alarm, make("div", { className: "veil" }, this.veilTitle, this.veilText, this.veilAge)),
      make("div", { className: "below" },
        make("div", { className: "band" }, this.sign, this.word, make("span", { className: "scores" }, this.scoreText, this.score)),
        make("div", { className: "bar" }, this.fill, make("b")), this.why,
        make("div", { className: "row" }, this.state, this.counts), this.button, this.by, this.note));
    this.element.dataset.camera = name;
    this.running = true;
    this.judging = false;
    this.fetchPictures();
  }

  async fetchPictures() {
    while (this.running) {
      let pause = PAUSE_MS;
      if (!document.hidden && !this.element.hidden) {
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
    if (this.view) this.show();
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
    catch (error) { await confirmed(say("camera.no_answer", { name: this.name }), error.message, say("confirm.ok")); }
    this.judging = false;
  }

  /** What the camera is in: its verdict, and whether that is of now. */
  get now() {
    const commanded = this.view.trigger === "command", running = this.view.state === "running" && this.connected;
    const fresh = this.age_s < LIVE_S, stale = !running || (!commanded && !fresh);
    const alone = this.alone, last = (alone ? this.newest.event : this.seen?.event) ?? null;
    return { commanded, running, stale, alone, last, live: running && fresh && !commanded && !alone };
  }

  /** Takes the state of the camera, and of its alarm, and shows it. */
  see(view, health, connected) {
    this.view = view;
    this.connected = connected;
    this.alarmed = alarmOf(health, this.name);
    this.show();
  }

  show() {
    const { view, now } = this, { last, stale } = now;
    const kind = verdictClass(last?.verdict);
    this.element.className = ["camera", kind, stale ? "stale" : now.alone ? "alone" : "", now.live ? "live" : "", this.alarmed ? "alarmed" : ""].filter(Boolean).join(" ");
    this.tag.textContent = now.commanded && Number.isFinite(this.age_s) ? say("camera.last_part", { name: this.name, age: duration(this.age_s) }) : this.name;
    this.alarm.textContent = stale || !this.alarmed ? "" : sayOr(this.alarmed, `alarm.${this.alarmed}`);
    this.alarm.hidden = !this.alarm.textContent;
    this.showVeil(now);
    const shown = stale ? "" : kind;
    renew(this.sign, shown, () => [shown ? symbol(shown) : null]);
    this.word.textContent = stale ? say("verdict.none_now") : last ? verdictWord(last.verdict) : say("verdict.none_yet");
    this.showScore(stale ? null : last);
    this.showFacts(now);
    const reason = stale ? null : last?.verdict === "NO_DECISION" ? why(last) : null;
    const detail = reason ? tell(last) : null;
    this.why.replaceChildren(...(reason ? [reason, ...(detail && detail !== reason ? [make("span", { className: "detail", textContent: ` (${detail})` })] : [])] : []));
    this.why.hidden = !reason;
    this.button.hidden = !(now.commanded && Card.changes);
    this.button.disabled = !now.running || this.judging;
    this.by.textContent = stale ? "" : decided(last, $("overlay").checked) ?? "";
    this.by.hidden = !this.by.textContent;
    this.note.textContent = view.settings.filter((one) => one.warning).map((one) => `${one.name}: ${tell(one, "warning")}`).join(" · ");
    this.note.hidden = !this.note.textContent;
  }

  showVeil({ running, stale }) {
    const { view, connected } = this;
    this.veilTitle.textContent = !connected ? say("veil.not_connected")
      : !running ? sayOr(view.state, `veil.${view.state}`) : say(stale ? "veil.not_fresh" : "veil.alone");
    this.veilText.textContent = connected ? tell(view) ?? "" : "";
    this.veilAge.textContent = Number.isFinite(this.age_s) ? say("veil.age", { age: duration(this.age_s) }) : say("veil.no_picture");
  }

  showScore(last) {
    const scored = last && last.score !== null;
    this.score.textContent = scored ? `${number(last.score)} / ${number(last.threshold)}` : "";
    this.scoreText.textContent = scored ? say("camera.score") : "";
    const share = scored && last.threshold ? last.score / last.threshold : 0;
    this.element.classList.toggle("unscored", !scored);
    this.fill.style.width = `${Math.max(0, Math.min(100, share * 50))}%`;
  }

  showFacts({ commanded, last }) {
    const { view } = this, model = last?.model ?? view.model;
    this.state.textContent = [
      view.width ? `${view.width} × ${view.height}` : "",
      commanded ? say("camera.on_command") : view.fps !== null ? say("camera.rate", { rate: rate(view.fps) }) : "",
      view.waiting ? say("camera.waiting", { n: count(view.waiting) }) : "",
      view.reconnects ? say("camera.reconnects", { n: count(view.reconnects) }) : "",
      model ? `${model.name} ${model.hash.slice(0, 8)}` : "",
    ].filter(Boolean).join(" · ");
    const { good, defect, undecided, yield_percent } = countsOf(view);
    this.counts.textContent = say("counts.line", { good: count(good), defect: count(defect), undecided: count(undecided) })
      + (yield_percent === null ? "" : ` · ${say("counts.yield", { share: percent(yield_percent) })}`);
    this.counts.title = view.parts ? say("counts.since", { time: day(view.parts.since_s) }) : say("counts.since_start");
  }
}
Card.changes = false;

export function allowChanges(allowed) { Card.changes = allowed; }

/** Returns the parts of a camera since midnight or a reset; else the verdicts since the start, without a yield. */
export function countsOf({ parts, verdicts: { GOOD = 0, DEFECT = 0, NO_DECISION = 0 } }) {
  return parts ?? { since_s: null, good: GOOD, defect: DEFECT, undecided: NO_DECISION, yield_percent: null };
}

/** Returns a camera's verdict of now as "good", "defect" or "undecided"; "" where there is none. */
export function kindOf(name) {
  const card = cards.get(name), now = card?.view ? card.now : null;
  if (!now?.running) return "";
  if (!card.element.hidden) return now.stale ? "" : verdictClass(now.last?.verdict);
  const { event, at } = card.newest ?? {}; // a hidden card fetches no pictures
  return event && (now.commanded || performance.now() - at < LIVE_S * 1000) ? verdictClass(event.verdict) : "";
}

/** Shows all cameras, or only the one that is chosen. */
export function showCameras(views, health, latest, connected, chosen = null) {
  for (const view of views) {
    if (!cards.has(view.name)) {
      cards.set(view.name, new Card(view.name));
      $("cameras").append(cards.get(view.name).element);
    }
    const newest = latest.get(view.name), card = cards.get(view.name);
    const last = newest && (!view.last || newest.at_s >= view.last.at_s) ? newest : view.last;
    card.element.hidden = chosen !== null && view.name !== chosen;
    card.hear(last);
    card.see(view, health, connected);
  }
  for (const [name, card] of cards) {
    if (views.some((view) => view.name === name)) continue;
    card.running = false;
    card.element.remove();
    cards.delete(name);
  }
}
