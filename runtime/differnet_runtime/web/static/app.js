// The page: asks for the state once a second, hears of verdicts as they come, and says so when it can't.

import { $, clock, confirmed, decided, duration, make, number, options, post, read, renew, symbol, verdictClass, verdictWord, why } from "./common.js";
import { allowChanges, showCameras } from "./cameras.js";
import { drawChart, watchPointer } from "./chart.js";
import { refreshEvidence, watchEvidence } from "./evidence.js";
import { showBanner, standing } from "./health.js";
import { refreshLabels, showLabelCameras, watchLabels } from "./labels.js";
import { refreshModels, showModels } from "./models.js";
import { chosenCamera, hearVerdict, operating, refreshRejects, showOperator, watchOperator } from "./operator.js";
import { refreshShadows } from "./shadows.js";
import { enginesOf, showEngines, showResults, thresholdOf } from "./state.js";
import { offerLanguages, say, tell, translate } from "./words.js";

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
  hearVerdict(event, Date.now() / 1000 + offset_s);
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
    $("reset").hidden = !access.changes;
    await refreshLabels(access.changes);
    await refreshEvidence();
    await refreshRejects();
    await refreshShadows(overview?.cameras ?? []);
    await refreshModels(access.changes);
  } catch { /* the banner says that the connection is lost */ }
  setTimeout(slow, SLOW_MS);
}

const connected = () => performance.now() - heard < LOST_MS;

function connection(up) {
  return up ? "up" : performance.now() - started < LOST_MS ? "starting" : "lost";
}

function showHead(up) {
  const [word, kind] = document.body.dataset.connection === "starting" ? ["starting", ""] : standing(up, overview?.health);
  renew($("health"), [word, kind], () => [kind ? symbol(kind) : null, say(`health.${word}`)]);
  $("health").className = `pill ${kind}`;
  if (!overview) return;
  document.title = `${say(`health.${word}`)} · ${overview.station}`;
  $("station").textContent = overview.station;
  $("subtitle").textContent = [say("page.up", { time: duration(overview.uptime_s) }), ...new Set(enginesOf(overview).map((engine) => engine.model).filter(Boolean))].join(" · ");
  $("version").textContent = `differnet-edge ${overview.version}`;
}

async function reset() {
  if (!(await confirmed(say("counts.reset_title"), say("counts.reset_text"), say("counts.reset")))) return;
  try { await post("/api/parts/reset", {}); } catch { /* the banner says that the connection is lost */ }
}

const remark = (event) => (event.verdict === "NO_DECISION" ? why(event) : event.verdict === "DEFECT" ? decided(event) : null);

function showVerdicts() {
  const shown = events.slice(-LISTED).reverse();
  renew($("verdicts"), shown.map((event) => event.id), () => shown.map((event) => make("li", {},
    make("span", { className: "quiet", textContent: clock(event.at_s) }),
    make("span", { textContent: event.part ? `${event.camera} · ${event.part}` : event.camera }),
    make("b", { className: `v-${verdictClass(event.verdict)}`, textContent: verdictWord(event.verdict) }),
    make("span", { className: "number", textContent: number(event.score) }),
    remark(event) ? make("span", { className: "reason quiet", textContent: remark(event), title: tell(event) ?? "" }) : null)));
}

function show() {
  const up = connected();
  document.body.dataset.connection = connection(up);
  showHead(up);
  showBanner(connection(up), overview?.health, lostSince);
  if (overview) {
    const names = overview.cameras.map((camera) => camera.name);
    options($("chart-camera"), names, say("choice.all"));
    options($("evidence-camera"), names, say("choice.all"));
    showLabelCameras(names);
    showOperator(overview);
    showCameras(overview.cameras, overview.health, latest, up, chosenCamera());
    if (operating()) return;
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

translate();
offerLanguages();
watchOperator(() => { changed = true; });
watchPointer();
watchEvidence();
watchLabels();
$("reset").addEventListener("click", reset);
for (const id of ["chart-camera", "chart-span"]) $(id).addEventListener("change", () => { changed = true; });
poll().then(() => {
  show();
  slow();
});
listen();
requestAnimationFrame(tick);
