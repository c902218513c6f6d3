// What the page Teach knows of the station, and how its steps change it.

import { $, send as sent } from "./common.js";
import { say } from "./words.js";

export const known = {
  teach: null, // the answer of /api/teach
  dataset: null, // the one that is open
  overview: null,
  models: [],
  shadow: null,
  changes: false, // whether anything may be changed over HTTP
  sent: 0, // counts changes, as they begin and as they are answered
};

let redraw = () => {};
export function onChange(draw) { redraw = draw; }

/** Takes over what a request answered, and shows it. */
export function learn(news) {
  Object.assign(known, news);
  redraw();
}

/** Sends and counts a change; returns the answer's JSON, or null where it has none. */
export async function send(method, path, body, wait = 60_000) {
  known.sent++;
  try { return await sent(method, path, body, wait); }
  finally { known.sent++; }
}

export const address = (dataset, rest = "") => `/api/teach/${encodeURIComponent(dataset.name)}${rest}`;

/** Changes the open dataset; what went wrong is said in an element. Returns the answer, or null. */
export async function change(method, rest, body, trouble) {
  const { dataset } = known;
  const answer = await tried(trouble, () => send(method, address(dataset, rest), body));
  if (answer && known.dataset?.name === answer.name) learn({ dataset: answer });
  return answer;
}

/** Does something; an error is said in an element, and gives null. */
export async function tried(trouble, action) {
  $(trouble).hidden = true;
  try { return await action(); }
  catch (error) {
    $(trouble).textContent = error.name === "TimeoutError" || error instanceof TypeError ? say("teach.lost") : error.message;
    $(trouble).hidden = false;
    return null;
  }
}
