"""The keyboard of a person who has no mouse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.runtime.waiting import wait_for
from tests.runtime.web.browser import Browser
from tests.runtime.web.looking import SOON_S

TAB, SPACE, ENTER, DELETE, ESCAPE = "\ue004", "\ue00d", "\ue007", "\ue017", "\ue00c"
LEFT, RIGHT, DOWN, END, SHIFT = "\ue012", "\ue014", "\ue015", "\ue010", "\ue008"
MARKED = """
    const one = document.activeElement, style = getComputedStyle(one);
    const box = one.getBoundingClientRect();
    return style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 1
      && box.width > 0 && box.bottom > 0 && box.top < innerHeight;"""
"""Whether a person sees where the focus is."""


def press(browser: Browser, *keys: str) -> None:
    """Presses keys where the focus is, one after the other; a modifier holds until the end."""
    down = [{"type": "keyDown", "value": key} for key in keys]
    up = [{"type": "keyUp", "value": key} for key in reversed(keys)]
    steps = [*down, *up]
    if not any(key == SHIFT for key in keys):
        steps = [step for pair in zip(down, reversed(up), strict=True) for step in pair]
    browser.call("POST", "/actions", {"actions": [{"type": "key", "id": "keys", "actions": steps}]})


def tab_to(browser: Browser, selector: str, *, back: bool = False, most: int = 60) -> None:
    """Goes on with Tab until an element has the focus, as a person without a mouse does.

    Args:
        browser: Where.
        selector: Of the element, which must show that it has the focus.
        back: Whether Shift is held, which goes the other way.
        most: So many times.
    """
    keys = (SHIFT, TAB) if back else (TAB,)
    for _ in range(most):
        if browser.run(f"return document.activeElement.matches({selector!r})"):
            assert browser.run(MARKED), f"nobody sees that {selector} has the focus"
            return
        press(browser, *keys)
    pytest.fail(f"Tab does not reach {selector}")


def enter(browser: Browser, selector: str, *, back: bool = False) -> None:
    """Goes to a button or a link by Tab, and presses Enter there."""
    tab_to(browser, selector, back=back)
    press(browser, ENTER)


def choose_file(browser: Browser, selector: str, path: Path) -> None:
    """Opens the browser's file chooser by the keyboard, and chooses a file in it.

    Args:
        browser: With its events recorded.
        selector: Of the field for a file.
        path: Of the file.
    """
    browser.devtools("Page.setInterceptFileChooserDialog", enabled=True)
    tab_to(browser, selector)
    opened: list[dict[str, Any]] = []

    def is_open() -> bool:
        opened.extend(browser.events("Page.fileChooserOpened"))
        return bool(opened)

    press(browser, SPACE)
    wait_for(is_open, SOON_S)
    field = opened[-1]["backendNodeId"]
    browser.devtools("DOM.setFileInputFiles", files=[str(path)], backendNodeId=field)
    browser.devtools("Page.setInterceptFileChooserDialog", enabled=False)


def focus(browser: Browser) -> str:
    found: str = browser.run("return document.activeElement.id")
    return found
