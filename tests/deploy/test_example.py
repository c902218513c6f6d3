"""The example configuration is one that a station accepts."""

from __future__ import annotations

from pathlib import Path

from differnet_runtime.config import load_config

DEPLOY = Path(__file__).parents[2] / "deploy"


def test_the_example_is_accepted_with_its_drop_in() -> None:
    loaded = load_config(DEPLOY / "line3.toml")
    assert [file.name for file in loaded.files] == ["line3.toml", "50-broker.toml"]
    assert loaded.config.station.name == "line3"
    assert loaded.config.mqtt is not None
    assert loaded.config.mqtt.tls is not None


def test_the_documents_name_files_that_exist() -> None:
    text = (DEPLOY / "README.md").read_text()
    for name in ("differnet@.service", "line3.toml", "sysusers.d/differnet.conf"):
        assert f"deploy/{name}" in text
        assert (DEPLOY / name).exists()
    for name in ("csi.conf", "secrets.conf"):
        assert f"drop-ins/{name}" in text
        assert (DEPLOY / "drop-ins" / name).exists()
