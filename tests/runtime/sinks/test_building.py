"""Sinks from a configuration; nothing is imported that is not configured."""

import subprocess
import sys
from pathlib import Path

import pytest

from differnet_runtime.config import Config
from differnet_runtime.config.paths import read_secret
from differnet_runtime.errors import ConfigError, DifferNetError
from differnet_runtime.sinks import build_sinks

BASE = {"model": {"backend": "fake"}, "camera": {"top": {"source": "0"}}}


def test_every_configured_sink_has_its_name(tmp_path: Path) -> None:
    config = Config.model_validate(
        {
            **BASE,
            "mqtt": {"host": "localhost"},
            "webhook": {"mes": {"url": "http://a/"}, "andon": {"url": "https://b/"}},
            "jsonl": {"path": str(tmp_path / "events.jsonl")},
        }
    )
    sinks = build_sinks(config)
    assert [sink.name for sink in sinks] == ["mqtt", "webhook:mes", "webhook:andon", "jsonl"]
    for sink in sinks:
        sink.close()


def test_only_what_is_configured_is_imported() -> None:
    script = (
        "import sys; from differnet_runtime.config import Config;"
        "from differnet_runtime.sinks import build_sinks;"
        f"assert build_sinks(Config.model_validate({BASE})) == [];"
        "assert not {'paho', 'urllib3'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "differnet_runtime.sinks.webhook", raising=False)
    monkeypatch.setitem(sys.modules, "urllib3", None)
    config = Config.model_validate({**BASE, "webhook": {"mes": {"url": "http://a/"}}})
    with pytest.raises(DifferNetError, match=r"urllib3.*\[service\]"):
        build_sinks(config)


def test_a_secret_is_a_first_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secret"
    path.write_text("pässword \r\nsecond\n")
    assert read_secret(path) == "pässword "
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert read_secret(Path("secret")) == "pässword "


@pytest.mark.parametrize("content", [None, b"", b"\nsecond", b"\xff\xfe"])
def test_a_secret_that_is_none_is_an_error(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match="secret"):
        read_secret(path)
