"""Secrets come from files, and their text never gets into a message."""

from __future__ import annotations

from pathlib import Path

import pytest

from differnet_runtime.config.secrets import read_secret
from differnet_runtime.errors import ConfigError


def test_the_first_line_is_the_secret(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("s3cret\nnot this\n", encoding="utf-8")
    assert read_secret(path) == "s3cret"


def test_a_relative_path_starts_from_the_credentials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("s3cret", encoding="utf-8")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert read_secret(Path("token")) == "s3cret"
    assert read_secret(tmp_path / "token") == "s3cret"


@pytest.mark.parametrize("content", [None, b"", b"\nsecond\n", b"s3cret\xff"])
def test_what_is_no_secret_is_named_by_its_path(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as raised:
        read_secret(path)
    assert str(path) in str(raised.value)
    assert "s3cret" not in str(raised.value)
