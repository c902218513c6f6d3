// The page: asks for the state once a second, hears of verdicts as they come, and says so when it can't.

import { $, clock, confirmed, decided, duration, make, number, options, post, read, renew, verdictClass, verdictWord } from "./common.js";
import { allowChanges, showCameras } from "./cameras.js";
import { drawChart, watchPointer } from "./chart.js";
import { refreshEvidence, watchEvidence } from "./evidence.js";
import { refreshLabels, showLabelCameras, watchLabels } from "./labels.js";
import { enginesOf, refreshModels, showEngines, showModels, showResults, thresholdOf } from "./state.js";

const EVERY_MS = 1000, LOST_MS = 4000, SLOW_MS = 5000, KEPT = 20000, LISTED = 12;
const started = performance.now();
let overview = null;
let heard = -Infinity; // when the station last answered, by performance.now()
let lostSince = null;
let offset_s = 0; // the station's clock less this one's
let access = { changes: false, token: false };
const events = [], ids = new Set(), latest = new Map();
let changed = true;

function hear(event) {
  if (ids.has(event.id)) return;
  ids.add(event.id);
  events.push(event);
  latest.set(event.camera, event);
  if (events.length > KEPT) for (const old of events.splice(0, KEPT / 10)) ids.delete(old.id);
  changed = true;
}

function listen() {
  const stream = new EventSource("/api/events/stream?limit=2000");
  stream.onmessage = (message) => {
    hear(JSON.parse(message.data));
  };
  stream.onerror = () => { // after a refusal a browser does not come back by itself
    if (stream.readyState === EventSource.CLOSED) setTimeout(listen, 2000);
  };
}

async function poll() {
  const asked = performance.now();
  try {
    overview = await read("/api/overview");
    heard = performance.now();
    offset_s = overview.at_s - Date.now() / 1000;
    lostSince = null;
  } catch { lostSince ??= Date.now() / 1000; }
  changed = true;
  setTimeout(poll, Math.max(100, EVERY_MS - (performance.now() - asked)));
}

async function slow() {
  try {
    access = await read("/api/access");
    allowChanges(access.changes);
    $("logout").hidden = !access.token;
    await refreshModels(access.changes);
    await refreshEvidence();
    await refreshLabels(access.changes);
    $("reset").hidden = !access.changes;
  } catch { /* the banner says that the connection is lost */ }
  setTimeout(slow, SLOW_MS);
}

const connected = () => performance.now() - heard < LOST_MS;

function showBanner(up) {
  const banner = $("banner"), reasons = overview?.health.reasons ?? [];
  document.body.dataset.connection = up ? "up" : performance.now() - started < LOST_MS ? "starting" : "lost";
  const lost = document.body.dataset.connection === "lost";
  const trouble = up && (!overview.health.ready || overview.health.degraded);
  banner.hidden = !lost && !trouble;
  banner.className = lost ? "lost" : "";
  const title = lost ? `Connection to the station lost${lostSince ? ` at ${clock(lostSince)}` : ""}. Nothing below is live.`
    : trouble ? (overview.health.ready ? "The station works, with limits" : "The station does not give all verdicts") : "";
  const said = lost ? [] : reasons;
  renew(banner, [title, said], () => [title, said.length ? make("ul", {}, ...said.map((reason) => make("li", { textContent: reason }))) : null]);
}

function showHead(up) {
  const health = $("health");
  const [word, kind] = !up ? ["not connected", "defect"] : !overview.health.ready ? ["not ready", "defect"]
    : overview.health.degraded ? ["degraded", "undecided"] : ["ready", "good"];
  health.textContent = word;
  health.className = `pill ${kind}`;
  if (!overview) return;
  document.title = `${up ? word : "lost"} · ${overview.station}`;
  $("station").textContent = overview.station;
  $("subtitle").textContent = `differnet-edge ${overview.version} · up ${duration(overview.uptime_s)} · ${enginesOf(overview).map((engine) => engine.model).join(", ")}`;
}

async function reset() {
  if (!(await confirmed("Reset the counts?", "The numbers of good and rejected parts of all cameras start again from zero.", "Reset counts"))) return;
  try { await post("/api/parts/reset", {}); } catch { /* the banner says that the connection is lost */ }
}

const remark = (event) => event.reason ?? (event.verdict === "DEFECT" ? decided(event) : null);

function showVerdicts() {
  const shown = events.slice(-LISTED).reverse();
  renew($("verdicts"), shown.map((event) => event.id), () => shown.map((event) => make("li", {},
    make("span", { className: "quiet", textContent: clock(event.at_s) }),
    make("span", { textContent: event.part ? `${event.camera} · ${event.part}` : event.camera }),
    make("b", { className: `v-${verdictClass(event.verdict)}`, textContent: verdictWord(event.verdict) }),
    make("span", { className: "number", textContent: number(event.score) }),
    remark(event) ? make("span", { className: "reason quiet", textContent: remark(event) }) : null)));
}

function show() {
  const up = connected();
  showHead(up);
  showBanner(up);
  if (overview) {
    const names = overview.cameras.map((camera) => camera.name);
    options($("chart-camera"), names, "all cameras");
    options($("evidence-camera"), names, "all cameras");
    showLabelCameras(names);
    showCameras(overview.cameras, latest, up);
    showEngines(enginesOf(overview));
    showModels(enginesOf(overview));
    showResults(overview);
    showVerdicts();
    drawChart(events, thresholdOf(overview, $("chart-camera").value), $("chart-camera").value, Number($("chart-span").value), Date.now() / 1000 + offset_s);
  }
}

let shownAt = 0;
function tick(now) { // at most five times a second, and once a second for the ages
  if ((changed && now - shownAt > 200) || now - shownAt > 1000) {
    changed = false;
    shownAt = now;
    show();
  }
  requestAnimationFrame(tick);
}

watchPointer();
watchEvidence();
watchLabels();
$("reset").addEventListener("click", reset);
for (const id of ["chart-camera", "chart-span"]) $(id).addEventListener("change", () => { changed = true; });
poll();
slow();
listen();
requestAnimationFrame(tick);
