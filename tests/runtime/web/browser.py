"""A real Chromium, driven by chromedriver's JSON over HTTP."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import urllib3

from tests.servers import free_port, require, wait_for_port

_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
_ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--accept-lang=en-US",
    "--autoplay-policy=user-gesture-required",
    "--ignore-certificate-errors",
)


class Browser:
    """A window of Chromium.

    Args:
        address: Of its WebDriver session.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._http = urllib3.PoolManager(timeout=60, retries=False)

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Sends a command; fails with the driver's own words."""
        sent = {"json": body or {}} if method == "POST" else {}
        answer = self._http.request(method, self._address + path, **sent).json()["value"]
        assert not (isinstance(answer, dict) and "error" in answer), answer
        return answer

    def go(self, url: str) -> None:
        self.call("POST", "/url", {"url": url})

    def run(self, script: str) -> Any:
        """Returns what a function's body returns in the page."""
        return self.call("POST", "/execute/sync", {"script": script, "args": []})

    def text(self, selector: str) -> str:
        return self.run(f"return document.querySelector({selector!r})?.innerText ?? ''")

    def click(self, selector: str) -> None:
        """Clicks as a person does: what is covered or hidden can't be clicked."""
        self.call("POST", f"/element/{self._find(selector)}/click")

    def write(self, selector: str, text: str) -> None:
        self.call("POST", f"/element/{self._find(selector)}/value", {"text": text})

    def _find(self, selector: str) -> str:
        found = self.call("POST", "/element", {"using": "css selector", "value": selector})
        return found[_ELEMENT]

    def devtools(self, command: str, **parameters: Any) -> Any:
        return self.call("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def look(self, width: int, height: int, scheme: str) -> None:
        """Takes a screen's size and a colour scheme."""
        self.devtools("Emulation.setDeviceMetricsOverride", width=width, height=height,
                      deviceScaleFactor=1, mobile=width < 600)  # fmt: skip
        self.devtools("Emulation.setEmulatedMedia",
                      features=[{"name": "prefers-color-scheme", "value": scheme}])  # fmt: skip

    def speak(self, languages: str) -> None:
        """Takes a browser's languages, as `Accept-Language` names them."""
        agent = self.run("return navigator.userAgent")
        self.devtools("Emulation.setUserAgentOverride", userAgent=agent, acceptLanguage=languages)

    def press(self, key: str) -> None:
        """Presses a key wherever the focus is."""
        keys = [{"type": kind, "value": key} for kind in ("keyDown", "keyUp")]
        self.call("POST", "/actions", {"actions": [{"type": "key", "id": "keys", "actions": keys}]})

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("GET", "/screenshot")))

    def complaints(self) -> list[str]:
        """Returns what the console has as errors since the last call."""
        log = self.call("POST", "/se/log", {"type": "browser"})
        return [one["message"] for one in log if one["level"] == "SEVERE"]

    def events(self, name: str) -> list[dict[str, Any]]:
        """Returns the parameters of DevTools events since the last call; see `chromium`."""
        log = self.call("POST", "/se/log", {"type": "performance"})
        found = [json.loads(one["message"])["message"] for one in log]
        return [one["params"] for one in found if one["method"] == name]

    @contextlib.contextmanager
    def other_tab(self) -> Iterator[None]:
        """Goes to the second of two tabs; closes it in the end, and comes back."""
        before = self.call("GET", "/window")
        [other] = set(self.tabs()) - {before}
        self.call("POST", "/window", {"handle": other})
        yield
        self.call("DELETE", "/window")
        self.call("POST", "/window", {"handle": before})

    def tabs(self) -> list[str]:
        """Returns the open tabs, in no order."""
        found: list[str] = self.call("GET", "/window/handles")
        return found


@contextlib.contextmanager
def chromium(profile: Path, *, events: bool = False) -> Iterator[Browser]:
    """Runs Chromium with a profile of its own; ends it and its children.

    Args:
        profile: Folder of the profile.
        events: Whether DevTools events are recorded, for `Browser.events`.
    """
    driver, program, port = require("chromedriver"), require("chromium"), free_port()
    process = subprocess.Popen(
        [driver, f"--port={port}", "--allowed-ips=127.0.0.1"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_for_port(port)
        http = urllib3.PoolManager(timeout=60, retries=False)
        options = {"binary": program, "args": [*_ARGUMENTS, f"--user-data-dir={profile}"]}
        logs = {"browser": "ALL", **({"performance": "ALL"} if events else {})}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": logs}
        asked = {"capabilities": {"alwaysMatch": wanted}}
        root = f"http://127.0.0.1:{port}/session"
        session = http.request("POST", root, json=asked).json()["value"]
        assert "sessionId" in session, session
        browser = Browser(f"{root}/{session['sessionId']}")
        try:
            yield browser
        finally:
            browser.call("DELETE", "")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)
