"""The keyboard of a person who has no mouse."""

from __future__ import annotations

import pytest

from tests.runtime.web.browser import Browser

TAB, SPACE, ENTER, DELETE, ESCAPE = "\ue004", "\ue00d", "\ue007", "\ue017", "\ue00c"
RIGHT, DOWN, END, SHIFT = "\ue014", "\ue015", "\ue010", "\ue008"


def press(browser: Browser, *keys: str) -> None:
    """Presses keys where the focus is, one after the other; a modifier holds until the end."""
    down = [{"type": "keyDown", "value": key} for key in keys]
    up = [{"type": "keyUp", "value": key} for key in reversed(keys)]
    steps = [*down, *up]
    if not any(key == SHIFT for key in keys):
        steps = [step for pair in zip(down, reversed(up), strict=True) for step in pair]
    browser.call("POST", "/actions", {"actions": [{"type": "key", "id": "keys", "actions": steps}]})


def tab_to(browser: Browser, selector: str, *, most: int = 60) -> None:
    """Goes on with Tab until an element has the focus, as a person without a mouse does."""
    for _ in range(most):
        if browser.run(f"return document.activeElement.matches({selector!r})"):
            return
        press(browser, TAB)
    pytest.fail(f"Tab does not reach {selector}")


def focus(browser: Browser) -> str:
    found: str = browser.run("return document.activeElement.id")
    return found
