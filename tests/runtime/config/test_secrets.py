"""Secrets come from files, and their text never gets into a message."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from differnet_runtime.config import Config
from differnet_runtime.config.paths import fingerprints, read_secret, secret_files
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


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o641, 0o666])
def test_a_secret_that_every_user_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "token"
    path.write_text("s3cret")
    path.chmod(mode)
    with pytest.raises(ConfigError, match=f"`chmod o-rwx {path}`"):
        read_secret(path)
    path.chmod(0o640)
    assert read_secret(path) == "s3cret"


def test_a_pipe_holds_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "token")
    with pytest.raises(ConfigError, match="expected a file"):
        read_secret(tmp_path / "token")


def whole(folder: Path) -> Config:
    """A configuration that names a file under every key that may."""
    tls = {}
    for name in ("ca", "certificate", "key", "token_file", "password_file"):
        (folder / name).write_text(name)
        tls[name] = str(folder / name)
    token, password = tls.pop("token_file"), tls.pop("password_file")
    pair = {"certificate": tls["certificate"], "key": tls["key"]}
    return Config.model_validate(
        {
            "model": {"backend": "fake"},
            "camera": {"top": {"source": "0"}},
            "web": {"token_file": token, "tls": pair},
            "mqtt": {"host": "h", "password_file": password, "tls": tls},
            "webhook": {"mes": {"url": "https://h", "token_file": token, "tls": tls}},
        }
    )


def test_every_file_of_a_secret_or_certificate_is_found(tmp_path: Path) -> None:
    assert {".".join(key) for key, _ in secret_files(whole(tmp_path))} == {
        "mqtt.password_file", "mqtt.tls.ca", "mqtt.tls.certificate", "mqtt.tls.key",
        "webhook.mes.token_file", "webhook.mes.tls.ca", "webhook.mes.tls.certificate",
        "webhook.mes.tls.key", "web.token_file", "web.tls.certificate", "web.tls.key",
    }  # fmt: skip


def test_a_fingerprint_is_of_the_content(tmp_path: Path) -> None:
    config = whole(tmp_path)
    before = fingerprints(config)
    (tmp_path / "new").write_text("another")
    (tmp_path / "new").replace(tmp_path / "ca")
    after = fingerprints(config)
    changed = {".".join(key) for key in before if before[key] != after[key]}
    assert changed == {"mqtt.tls.ca", "webhook.mes.tls.ca"}


@pytest.mark.parametrize(
    ("name", "mode", "said"),
    [
        ("key", 0o644, "mqtt.tls.key: .* may read or change this secret"),
        ("ca", 0o646, "mqtt.tls.ca: .* may change it"),
        ("certificate", 0o642, "mqtt.tls.certificate: .* may change it"),
    ],
)
def test_files_in_which_others_have_a_hand_are_refused_by_their_key(
    tmp_path: Path, name: str, mode: int, said: str
) -> None:
    config = whole(tmp_path)
    (tmp_path / "ca").chmod(0o644)
    fingerprints(config)
    (tmp_path / name).chmod(mode)
    with pytest.raises(ConfigError, match=said):
        fingerprints(config)
