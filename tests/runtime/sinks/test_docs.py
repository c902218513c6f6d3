"""docs/events.md and the committed schema say what the code does."""

import json
import re
import sys
from pathlib import Path

import jsonschema
import pytest
from pydantic import BaseModel

from differnet_runtime.config import Config
from differnet_runtime.events import (
    EVENT,
    AlarmEvent,
    FrameRef,
    InspectionEvent,
    ModelRef,
    StateEvent,
)

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DOCS = Path(__file__).parents[3] / "docs"
EVENTS = (
    InspectionEvent(
        station="line",
        camera="top",
        verdict="DEFECT",
        reject=True,
        score=3.0,
        head="whole",
        heads={"whole": 3.0, "fine": 1.0},
        decided_by="the picture as a whole",
        note="The picture as a whole is unusual",
        model=ModelRef(name="washer", hash="a" * 64),
        frame=FrameRef(name="f", index=1, captured_at_s=1.0, age_ms=2.0, width=64, height=48),
    ),
    AlarmEvent(station="line", camera="top", rejects=2, undecided=1, frames=3),
    StateEvent(station="line", component="engine", state="ok"),
)


def test_the_committed_schema_is_the_codes() -> None:
    """To renew it: write what EVENT.json_schema() gives, with an indent of 1."""
    assert json.loads((DOCS / "event.schema.json").read_text()) == EVENT.json_schema()


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.type)
def test_events_fulfil_the_schema(event: InspectionEvent | AlarmEvent | StateEvent) -> None:
    schema = json.loads((DOCS / "event.schema.json").read_text())
    content = json.loads(event.model_dump_json())
    jsonschema.validate(content, schema)
    content["schema_version"] = 3
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content, schema)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.type)
def test_events_that_were_stored_before_heads_are_read(
    event: InspectionEvent | AlarmEvent | StateEvent,
) -> None:
    content = json.loads(event.model_dump_json())
    content["schema_version"] = 1
    for key in ("head", "heads", "decided_by", "note"):
        content.pop(key, None)
    assert EVENT.validate_python(content).schema_version == 1
    jsonschema.validate(content, json.loads((DOCS / "event.schema.json").read_text()))


@pytest.mark.parametrize("model", [InspectionEvent, AlarmEvent, StateEvent, FrameRef, ModelRef])
def test_every_field_is_explained(model: type[BaseModel]) -> None:
    text = (DOCS / "events.md").read_text()
    assert {name for name in model.model_fields if f"`{name}`" not in text} == set()


def test_the_examples_are_valid() -> None:
    blocks = re.findall(r"```toml\n(.*?)```", (DOCS / "events.md").read_text(), re.DOTALL)
    content = tomllib.loads("\n".join(blocks))
    base = {"model": {"backend": "fake"}, "camera": {"top": {"source": "0"}}}
    config = Config.model_validate({**base, **content})
    assert config.mqtt is not None
    assert config.jsonl is not None
    assert len(blocks) == 3
