"""What a reload has to touch: exactly what differs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from differnet_runtime.config import Config, differences, load_config
from tests.runtime.config.whole import WHOLE


@pytest.fixture
def config(tmp_path: Path) -> Config:
    path = tmp_path / "line3.toml"
    path.write_text(WHOLE)
    return load_config(path).config


def changed(config: Config, **tables: Any) -> Config:
    return Config.model_validate({**config.model_dump(), **tables})


def told(old: Config, new: Config) -> tuple[str, ...]:
    return differences(old, new, {}, {})


def test_nothing_differs_from_itself(config: Config) -> None:
    assert told(config, config) == ()
    assert told(config, changed(config)) == ()


@pytest.mark.parametrize(
    ("table", "key", "value"),
    [
        ("model", "threads", 4),
        ("decision", "n", 7),
        ("evidence", "keep", "none"),
        ("events", "publish", "all"),
        ("mqtt", "qos", 2),
        ("jsonl", "keep", 1),
        ("web", "port", 1234),
        ("station", "log_level", "error"),
    ],
)
def test_a_changed_key_names_its_table(table: str, key: str, value: Any, config: Config) -> None:
    new = changed(config, **{table: {**config.model_dump()[table], key: value}})
    assert told(config, new) == (table,)


def test_tables_that_come_and_go_are_named(config: Config) -> None:
    new = changed(config, mqtt=None, webhook={}, jsonl=None)
    assert told(config, new) == ("mqtt", "webhook", "jsonl")
    assert told(new, config) == ("mqtt", "webhook", "jsonl")


def test_cameras_are_told_one_by_one(config: Config) -> None:
    cameras = config.model_dump()["camera"]
    side = {**cameras["side"], "integrity": {"black": 3.0}}
    new = changed(config, camera={"side": side, "end": {"source": "1"}})
    assert told(config, new) == ("camera.end added", "camera.top removed", "camera.side changed")


def test_another_content_of_the_same_file_is_a_change(config: Config) -> None:
    old = {("mqtt", "password_file"): "1", ("camera", "top", "tls", "ca"): "1", ("web", "key"): "1"}
    new = {**old, ("mqtt", "password_file"): "2", ("camera", "top", "tls", "ca"): "2"}
    assert not differences(config, config, old, old)
    assert differences(config, config, old, new) == (
        "mqtt",
        "camera.top changed",
        "content of mqtt.password_file",
        "content of camera.top.tls.ca",
    )
