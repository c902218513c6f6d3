// What is wrong, at the top of the page: each problem once, in the page's language.

import { $, clock, make, renew, symbol } from "./common.js";
import { say, sayOr, tell } from "./words.js";

/** Says a problem by its code; what is only in the station's words follows as a detail. */
function told(problem) {
  const { component, state, values } = problem;
  const [kind, ...rest] = component.split(":"), name = rest.length ? ` ${rest.join(":")}` : "";
  const own = kind === "parts" || kind === "camera"; // its text says all, or the camera's picture does
  return { text: sayOr(`${component}: ${state}`, `problem.${kind}.${state}`, { name, ...values }), detail: own ? null : tell(problem) };
}

/** Returns the alarm of a camera's parts: its code, or null. */
export const alarmOf = (health, camera) => health.problems.find((one) => one.component === `parts:${camera}`)?.state ?? null;

/** Returns the state of the whole: a key of its word, and its kind of colour. */
export function standing(up, health) {
  if (!up || !health) return ["lost", "defect"];
  if (!health.ready) return ["not_ready", "defect"];
  return health.degraded ? ["degraded", "undecided"] : ["ready", "good"];
}

/** Shows the problems, or that nothing on the page is live. */
export function showBanner(connection, health, lostSince) {
  const banner = $("banner"), lost = connection === "lost";
  const trouble = connection === "up" && (!health.ready || health.degraded);
  banner.hidden = !lost && !trouble;
  banner.className = lost ? "lost" : trouble && !health.ready ? "bad" : "";
  const title = lost ? [say("connection.lost"), lostSince ? say("connection.since", { time: clock(lostSince) }) : null, say("connection.not_live")].filter(Boolean).join(" ")
    : trouble ? say(health.ready ? "health.limits" : "health.no_verdicts") : "";
  const said = trouble ? health.problems.map(told) : [];
  renew(banner, [title, said, lost], () => [symbol(lost ? "defect" : "undecided"), make("div", {},
    make("strong", { textContent: title }),
    said.length ? make("ul", {}, ...said.map(({ text, detail }) => make("li", {}, text,
      detail ? make("span", { className: "detail", textContent: ` ${detail}` }) : null))) : null)]);
}
