// Scores over time with the threshold; drawn again when something came, at most once a frame.

import { $, clock, decided, hour, number, short, verdictWord } from "./common.js";
import { say } from "./words.js";

const LEFT = 46, RIGHT = 10, TOP = 10, BOTTOM = 22, WIDE = 4;
const BROKEN = 0.62; // share of the height below the break
let drawn = [];

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/** Draws the events of a camera (or all) over the last seconds. */
export function drawChart(events, threshold, camera, span_s, now_s) {
  const canvas = $("chart"), ratio = window.devicePixelRatio || 1;
  const width = canvas.clientWidth, height = canvas.clientHeight;
  if (!width) return;
  canvas.width = width * ratio; canvas.height = height * ratio;
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  const shown = events.filter((event) => event.at_s >= now_s - span_s && (!camera || event.camera === camera));
  const scale = scaleOf(shown, threshold);
  const x = (at_s) => LEFT + (width - LEFT - RIGHT) * Math.min(1, 1 - (now_s - at_s) / span_s);
  const y = (score) => TOP + (height - TOP - BOTTOM) * (1 - Math.min(1, Math.max(0, scale.share(score))));
  pen.font = "12px system-ui, sans-serif";
  axes(pen, width, height, scale.marks, span_s, now_s, x, y);
  if (scale.broken) breakMark(pen, width, y(scale.broken));
  drawn = shown.map((event) => mark(pen, event, x(event.at_s), event.score === null ? height - BOTTOM : y(event.score), event.score > scale.top));
  if (threshold !== null && threshold !== undefined) line(pen, width, y(threshold), threshold);
  if (!shown.length) {
    pen.fillStyle = colour("quiet"); pen.textAlign = "center";
    pen.fillText(say("chart.none"), (width + LEFT) / 2, height / 2);
  }
}

/** The scale ends above the threshold, further up if many scores lie there; single ones are cut. Scores of
    defects may be fifty times those of good parts: then it is broken above the threshold and logarithmic from
    there, so that what lies beside the threshold keeps most of the height. */
function scaleOf(events, threshold) {
  const scores = events.map((event) => event.score).filter((score) => score !== null).sort((a, b) => a - b);
  const usual = scores.length ? scores[Math.floor(0.99 * (scores.length - 1))] : 1;
  const top = Math.max(threshold ? 1.6 * threshold : 0, 1.1 * usual) || 1;
  if (threshold > 0 && top > WIDE * threshold) {
    const knee = 1.6 * threshold, decades = Math.log(top / knee);
    const share = (score) => (score <= knee ? (BROKEN * score) / knee : BROKEN + (1 - BROKEN) * (Math.log(score / knee) / decades));
    return { top, share, broken: knee, marks: [...linearMarks(knee, 3), ...logMarks(1.3 * knee, top)] };
  }
  return { top, share: (score) => score / top, marks: linearMarks(top, 4) };
}

function linearMarks(top, most) {
  const rise = step(top, most);
  return Array.from({ length: Math.floor(top / rise) + 1 }, (_, number) => number * rise);
}

function logMarks(low, top) {
  const factors = top / low > 20 ? [1] : [1, 2, 5], marks = [];
  for (let power = 10 ** Math.floor(Math.log10(low)); power < top; power *= 10) marks.push(...factors.map((factor) => factor * power));
  return marks.filter((value) => value > low && value <= top);
}

function step(range, most) {
  const raw = range / most, power = 10 ** Math.floor(Math.log10(raw));
  return power * [1, 2, 5, 10].find((factor) => factor * power >= raw);
}

function axes(pen, width, height, marks, span_s, now_s, x, y) {
  pen.strokeStyle = colour("edge"); pen.fillStyle = colour("quiet"); pen.lineWidth = 1;
  pen.textAlign = "right"; pen.textBaseline = "middle";
  for (const value of marks) {
    const at = Math.round(y(value)) + 0.5;
    pen.beginPath(); pen.moveTo(LEFT, at); pen.lineTo(width - RIGHT, at); pen.stroke();
    pen.fillText(short(value), LEFT - 8, at);
  }
  pen.textAlign = "center"; pen.textBaseline = "alphabetic";
  const every = [10, 30, 60, 120, 300, 600, 1800, 3600, 10800, 21600].find((s) => span_s / s <= Math.max(2, width / 130)) ?? 43200;
  for (let at_s = Math.ceil((now_s - span_s) / every) * every; at_s <= now_s; at_s += every) {
    const at = x(at_s);
    if (at > LEFT + 20 && at < width - 30) pen.fillText(every < 60 ? clock(at_s) : hour(at_s), at, height - 6);
  }
}

/** Two slanted strokes on the axis, and a dotted line: above it the scale is another. */
function breakMark(pen, width, y) {
  pen.strokeStyle = colour("quiet");
  pen.setLineDash([1, 4]);
  pen.beginPath(); pen.moveTo(LEFT, y); pen.lineTo(width - RIGHT, y); pen.stroke();
  pen.setLineDash([]);
  for (const at of [y - 2.5, y + 2.5]) { pen.beginPath(); pen.moveTo(LEFT - 7, at + 3); pen.lineTo(LEFT + 7, at - 3); pen.stroke(); }
}

function mark(pen, event, x, y, cut) {
  const kind = { GOOD: "good", DEFECT: "defect" }[event.verdict] ?? "undecided";
  pen.fillStyle = colours[kind] ??= colour(kind);
  pen.globalAlpha = kind === "good" ? 0.75 : 1;
  pen.beginPath();
  if (kind === "undecided") pen.rect(x - 1, y - 8, 2, 10);
  else if (cut) { pen.moveTo(x, y - 6); pen.lineTo(x + 5, y + 3); pen.lineTo(x - 5, y + 3); }
  else if (kind === "defect") { pen.moveTo(x, y - 5); pen.lineTo(x + 5, y); pen.lineTo(x, y + 5); pen.lineTo(x - 5, y); }
  else pen.arc(x, y, 2.6, 0, 7);
  pen.fill();
  pen.globalAlpha = 1;
  return { x, y, event };
}

let colours = {};
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { colours = {}; });

function line(pen, width, y, threshold) {
  pen.strokeStyle = pen.fillStyle = colour("text");
  pen.lineWidth = 1.5; pen.setLineDash([6, 5]);
  pen.beginPath(); pen.moveTo(LEFT, y); pen.lineTo(width - RIGHT, y); pen.stroke();
  pen.setLineDash([]); pen.textAlign = "right";
  const text = say("chart.threshold", { threshold: number(threshold) }), wide = pen.measureText(text).width;
  pen.fillStyle = colour("card"); pen.globalAlpha = 0.8;
  pen.fillRect(width - RIGHT - wide - 4, y - 19, wide + 6, 16);
  pen.fillStyle = colour("text"); pen.globalAlpha = 1;
  pen.fillText(text, width - RIGHT, y - 6);
}

/** Names the point under the pointer. */
export function watchPointer() {
  const canvas = $("chart"), tip = $("chart-tip");
  canvas.addEventListener("pointermove", (at) => {
    let best = null, least = 18 ** 2;
    for (const one of drawn) {
      const far = (one.x - at.offsetX) ** 2 + (one.y - at.offsetY) ** 2;
      if (far < least) [best, least] = [one, far];
    }
    tip.hidden = !best;
    if (!best) return;
    const { event } = best;
    tip.textContent = [clock(event.at_s), event.camera, verdictWord(event.verdict), event.score === null ? null : number(event.score), decided(event)].filter(Boolean).join(" · ");
    tip.style.left = `${Math.min(Math.max(best.x, 110), canvas.clientWidth - 110)}px`;
    tip.style.top = `${Math.max(best.y, 30)}px`;
  });
  canvas.addEventListener("pointerleave", () => { tip.hidden = true; });
}
