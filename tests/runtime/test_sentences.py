"""The station's sentences: each is recognised where it is shown, whatever its values."""

from __future__ import annotations

import ast
import json
import re
from importlib.resources import files
from pathlib import Path
from string import Formatter
from typing import ClassVar

import pytest
from pydantic import Field

from differnet_runtime.errors import LabelError
from differnet_runtime.events import InspectionEvent
from differnet_runtime.sentences import ALSO, BECAUSE, SENTENCES, Said, said, sentence
from differnet_runtime.telling import Telling
from differnet_runtime.web.answers import of_error
from differnet_runtime.web.views import ShownEvent

PACKAGES = ("differnet_runtime", "differnet_training")
NOT_WRITTEN = re.compile(r"system_\w+")
"""The operating system writes these."""


def names_of(code: str) -> set[str]:
    """Returns the names of a sentence's values."""
    return {name for _, name, _, _ in Formatter().parse(SENTENCES[code]) if name is not None}


def values_of(code: str) -> dict[str, object]:
    """Returns a value for each name of a sentence: a number where its form wants one."""
    forms = Formatter().parse(SENTENCES[code])
    numbers = {name: bool(spec) for _, name, spec, _ in forms if name is not None}
    return {
        name: 0.5 if number else f"/{name}/b-{place},c"
        for place, (name, number) in enumerate(sorted(numbers.items()))
    }


@pytest.mark.parametrize("code", SENTENCES)
def test_each_is_recognised(code: str) -> None:
    values = values_of(code)
    found = said(sentence(code, **values))
    assert found is not None
    assert found.code == code
    assert set(found.values) == names_of(code)
    assert {name: found.values[name] for name, value in values.items() if value != 0.5} == {
        name: value for name, value in values.items() if value != 0.5
    }


def test_a_sentence_within_another_is_taken_apart_too() -> None:
    inner = sentence("model_active_gone", root="/models", name="ring")
    found = said(sentence("model_absent", why=inner))
    assert found == Said(
        f"no model judges yet: {inner}",
        "model_absent",
        {"why": Said(inner, "model_active_gone", {"root": "/models", "name": "ring"})},
    )


def test_a_cause_that_follows_may_come_from_elsewhere() -> None:
    reached = sentence("unreachable", address="10.0.0.7:1883")
    found = said(f"{reached}: EOF occurred")
    assert found is not None
    assert (found.code, found.values["second"]) == (BECAUSE, "EOF occurred")
    full = said("/state/outbox.db: No space left on device")
    assert full is not None
    assert full.values["first"] == "/state/outbox.db"
    assert full.values["second"] == Said("No space left on device", "system_full", {})


def test_two_sentences_are_told_apart() -> None:
    one, other = sentence("broker_no_retain"), sentence("broker_no_heartbeat", packet=100)
    found = said(f"{one}; {other}")
    assert found is not None
    assert found.code == ALSO
    assert found.values == {"first": said(one), "second": said(other)}


def test_a_list_is_one_of_sentences_only() -> None:
    one, other = sentence("limit_stain", size=9), sentence("limit_scratch_missed")
    found = said(f"{one}, {other}")
    assert found is not None
    assert found.values == {"first": said(one), "second": said(other)}
    assert said(f"{one}, 4 mm") != found


def test_what_is_from_elsewhere_stays_as_it_is() -> None:
    assert said("Not authorized") is None
    assert said("") is None
    assert said(sentence("bug", error="x" * 10_000)) is None
    assert said("; ".join(["a: b"] * 500)) is None


def calls(path: Path) -> list[ast.expr]:
    """Returns the codes with which a module writes sentences, as they stand there."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and node.args]
    return [
        node.args[0]
        for node in names
        if isinstance(node.func, ast.Name) and node.func.id == "sentence"
    ]


def test_what_the_station_writes_is_what_is_known() -> None:
    """A code that is not written any more would be translated for nothing."""
    sources = [path for name in PACKAGES for path in Path(str(files(name))).rglob("*.py")]
    texts = {
        node.value
        for path in sources
        if path.parent.name != "sentences"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    codes = [code for path in sources for code in calls(path)]
    written = {code.value for code in codes if isinstance(code, ast.Constant)}
    assert written - set(SENTENCES) == set()
    beginnings = tuple(
        str(code.values[0].value)
        for code in codes
        if isinstance(code, ast.JoinedStr) and isinstance(code.values[0], ast.Constant)
    )
    assert {"engine_is_", "camera_is_", "look_"} <= set(beginnings)
    unwritten = [
        code
        for code in SENTENCES
        if not NOT_WRITTEN.fullmatch(code) and not code.startswith(beginnings) and code not in texts
    ]
    assert unwritten == []


class View(Telling):
    """Has one sentence, and several by name."""

    SENTENCES: ClassVar = ("reason", "reasons")

    reason: str | None = None
    reasons: dict[str, str] = Field(default_factory=dict)
    name: str = ""


def test_a_view_brings_code_and_values() -> None:
    text = sentence("picture_black", mean=3.21, least=12.0)
    view = View(reason=text, reasons={"cuda": "broken", "tensorrt": sentence("no_gpu")}, name=text)
    assert view.reason == text
    assert set(view.said) == {"reason", "reasons.tensorrt"}
    sent = json.loads(view.model_dump_json())["said"]["reason"]
    assert sent == {
        "text": text,
        "code": "picture_black",
        "values": {"mean": "3.2", "least": "12.0"},
    }
    assert View(reason="Not authorized").said == {}


def test_a_verdict_on_the_page_brings_them() -> None:
    reason = sentence("verdict_late", late_ms=12, deadline_ms=100)
    event = InspectionEvent(
        station="s", camera="c", verdict="NO_DECISION", reject=True, code="deadline", reason=reason
    )
    shown = ShownEvent.of(event)
    assert shown.said["reason"].values == {"late_ms": "12", "deadline_ms": "100"}
    assert shown.model_dump(exclude={"said"}) == event.model_dump()


def test_a_refusal_brings_them() -> None:
    answer = of_error(LabelError(sentence("picture_gone", picture="abc")))
    body = json.loads(bytes(answer.body))
    assert body["said"]["error"]["code"] == "picture_gone"
    assert json.loads(bytes(of_error(LabelError("no")).body)) == {"error": "no"}
