"""axe-core in a page: what a person with a screen reader or weak eyes would stumble over."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.web.browser import Browser

_PACKAGE = "axe_playwright_python"
"""Brings axe-core's own file; nothing of the package itself is used."""


def require_axe() -> str:
    """Returns axe-core's script; skips the test where it is not installed."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("axe-core is not installed; the extra `dev` brings it")
    return (Path(spec.submodule_search_locations[0]) / "axe.min.js").read_text(encoding="utf-8")


def serious_faults(browser: Browser, axe: str) -> list[str]:
    """Returns axe-core's serious and critical faults of the page as it stands, a line for each."""
    known = browser.run("return typeof window.axe !== 'undefined'")
    if not known:
        browser.run(axe)
    found: dict[str, Any] = json.loads(
        browser.run("return axe.run(document, {resultTypes: ['violations']}).then(JSON.stringify)")
    )
    return [
        f"{fault['id']} ({fault['impact']}): {node['html'][:160]} {node['failureSummary'][:300]}"
        for fault in found["violations"]
        if fault["impact"] in ("serious", "critical")
        for node in fault["nodes"]
    ]
