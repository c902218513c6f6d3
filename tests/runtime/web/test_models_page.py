"""The models' cards in a real Chromium: what a model is, its note, and a trial of it."""

from __future__ import annotations

import json

from tests.runtime.waiting import wait_for
from tests.runtime.web.looking import SOON_S, Shown, has, says

KNOWN = {
    "id": "ring-2",
    "trained": "2026-11-20T08:00:00+00:00",
    "parts": 212,
    "detection_limit": "a scratch of 3 px",
    "note": "for the new light",
}
SHADOW = {
    "camera": "left", "model": "ring-2", "since": "2026-11-21T08:00:00+00:00", "state": "running", "error": None,
    "judged": 200, "skipped": 3, "agree": 198, "only_live_rejects": 0, "only_shadow_rejects": 2,
    "differing": [{"id": "e1", "time": "2026-11-21T08:01:00+00:00",
                   "live": {"verdict": "GOOD", "score": 1.0, "threshold": 1.35},
                   "shadow": {"verdict": "DEFECT", "score": 2.5, "threshold": 1.35}}],
}  # fmt: skip
STATION = """
    const known = KNOWN, shadow = SHADOW, real = window.fetch;
    window.sent = [];
    window.fetch = async (path, options = {}) => {
      if (options.method && !path.endsWith('/trigger')) window.sent.push([options.method, path, JSON.parse(options.body ?? 'null')]);
      if (path.endsWith('/note')) { known.note = JSON.parse(options.body).note; return Response.json({}); }
      if (path.endsWith('/shadow')) return Response.json(shadow);
      const response = await real(path, options);
      if (path !== '/api/models') return response;
      const { models } = await response.json();
      const cameras = ['left'];
      return Response.json({ models: models.map((one) => ({ ...one, ...known, id: one.active ? 'ring-1' : 'ring-2', cameras })) });
    };"""


def test_a_card_says_what_the_model_is_keeps_a_note_and_tries_it(shown: Shown) -> None:
    """The answers of a station that knows more of its models and runs trials are put in here."""
    browser, _, _ = shown
    script = STATION.replace("KNOWN", json.dumps(KNOWN)).replace("SHADOW", json.dumps(SHADOW))
    browser.run(script)
    other = "#models .model:nth-child(2)"
    says(browser, other, "Trained Nov 20, 2026 on 212 parts")
    says(browser, other, "Detection limit: a scratch of 3 px")
    note = f"return document.querySelector('{other} .note input').value"
    assert browser.run(note) == "for the new light"
    browser.write(f"{other} .note input", ", line 3")
    browser.click(f"{other} .note button")
    wait_for(lambda: len(browser.run("return window.sent")) == 1, SOON_S)
    assert browser.run("return window.sent[0]") == [
        "PUT", "/api/models/ring-2/note", {"note": "for the new light, line 3"},
    ]  # fmt: skip
    assert not has(browser, "#models .model:first-child [data-focus^=try]")
    browser.click(f"{other} [data-focus^=try]")
    says(browser, f"{other} .shadow", "It decides nothing.")
    says(browser, f"{other} .shadow", "200 frames, 99.0% with the same verdict.")
    says(browser, f"{other} .shadow", "only by this one: 2")
    says(browser, f"{other} .differing", "now GOOD 1.000, this one DEFECT 2.500")
    assert browser.run("return window.sent[1]") == [
        "PUT", "/api/cameras/left/shadow", {"model": "ring-2"},
    ]  # fmt: skip
    browser.click(f"{other} .shadow button")
    wait_for(lambda: has(browser, f"{other} [data-focus^=try]"), SOON_S)
    assert browser.run("return window.sent[2].slice(0, 2)") == [
        "DELETE", "/api/cameras/left/shadow",
    ]  # fmt: skip
    missing = [one for one in browser.complaints() if "/shadow/e1" not in one]
    assert missing == []


def test_without_that_knowledge_a_card_has_no_empty_lines(shown: Shown) -> None:
    browser, _, _ = shown
    says(browser, "#models", "judges now")
    assert not has(browser, "#models .note, #models .shadow, #models [data-focus^=try]")
    assert browser.run("return document.querySelectorAll('#models .about > *').length === 0")
