"""Files become one checked configuration, or an error that names the file and the key."""

from __future__ import annotations

import json
import os
from pathlib import Path

import jsonschema
import pytest
import tomli_w

from differnet_runtime.commands.checking import effective
from differnet_runtime.config import Config, load_config, schema
from differnet_runtime.config.loading import LARGEST
from differnet_runtime.errors import ConfigError
from tests.runtime.config.whole import WHOLE

SMALL = '[model]\nbackend = "fake"\n[camera.top]\nsource = "0"\n'


def written(folder: Path, text: str | bytes, name: str = "line3.toml") -> Path:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(0o640)
    return path


def refused(folder: Path, text: str | bytes) -> str:
    path = written(folder, text)
    with pytest.raises(ConfigError) as raised:
        load_config(path)
    assert str(path) in str(raised.value)
    return str(raised.value)


def test_a_whole_configuration_is_read(tmp_path: Path) -> None:
    path = written(tmp_path, WHOLE)
    loaded = load_config(path)
    assert loaded.files == (path,)
    assert loaded.config.station.name == "line3"
    assert loaded.config.camera["top"].integrity.frozen_after_s == 0.0
    assert loaded.config.mqtt is not None
    assert loaded.config.decision.n == 5
    assert loaded.warnings == ("camera.top.source: holds a password",)


def test_relative_paths_belong_to_the_file_that_names_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    monkeypatch.chdir("/")
    path = written(tmp_path, WHOLE)
    written(tmp_path / "line3.d", '[jsonl]\npath = "mine.jsonl"\n', "20-jsonl.toml")
    config = load_config(path).config
    assert config.station.state == tmp_path / "state"
    assert config.model.path == tmp_path / "washer.onnx"
    assert config.jsonl is not None
    assert config.jsonl.path == tmp_path / "line3.d" / "mine.jsonl"
    assert config.mqtt is not None
    assert config.mqtt.password_file == tmp_path / "mqtt.password"
    assert config.mqtt.tls is not None
    assert config.mqtt.tls.ca == tmp_path / "ca.pem"
    assert config.webhook["mes"].token_file == Path("/run/secrets/mes")
    assert config.camera["side"].source == str(tmp_path / "clips/side.mp4")
    assert config.camera["top"].source.startswith("rtsp://")


def test_a_relative_name_of_a_file_works_as_an_absolute_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, WHOLE)
    monkeypatch.chdir(tmp_path)
    assert load_config(Path("line3.toml")) == load_config(path)


@pytest.mark.parametrize(
    ("source", "kind", "is_path"),
    [
        ("0", "auto", False),
        ("parts", "auto", True),
        ("clip.mp4", "auto", True),
        ("gst:videotestsrc ! appsink", "auto", False),
        ("videotestsrc ! videoconvert", "gstreamer", False),
        ("http://h/x", "auto", False),
        ("2024", "folder", True),
        ("/dev/video0", "auto", False),
    ],
)
def test_sources_that_are_paths_are_told_by_how_they_are_written(
    source: str, kind: str, is_path: bool, tmp_path: Path
) -> None:
    text = f'[model]\nbackend = "fake"\n[camera.top]\nsource = "{source}"\nkind = "{kind}"\n'
    read = load_config(written(tmp_path, text)).config.camera["top"].source
    assert read == (str(tmp_path / source) if is_path else source)


def test_secrets_are_taken_from_systemds_credentials_where_they_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    credentials = tmp_path / "credentials"
    written(credentials, "hunter2", "mqtt.password")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    config = load_config(written(tmp_path, WHOLE)).config
    assert config.mqtt is not None
    assert config.mqtt.password_file == credentials / "mqtt.password"
    assert config.mqtt.tls is not None
    assert config.mqtt.tls.ca == tmp_path / "ca.pem"


def test_drop_ins_are_merged_key_by_key_in_the_order_of_their_names(tmp_path: Path) -> None:
    path = written(tmp_path, SMALL)
    folder = tmp_path / "line3.d"
    written(folder, "[decision]\nk = 2\nn = 9\n[camera.top]\nstall_s = 5\n", "20-b.toml")
    written(folder, "[decision]\nn = 3\n", "30-c.toml")
    written(folder, '[decision]\nk = 1\nn = 1\n[camera.side]\nsource = "1"\n', "10-a.toml")
    written(folder, "not toml", "40.toml.bak")
    written(folder, "not toml", ".50.toml")
    loaded = load_config(path)
    assert (loaded.config.decision.k, loaded.config.decision.n) == (2, 3)
    assert list(loaded.config.camera) == ["top", "side"]
    assert loaded.config.camera["top"].source == "0"
    assert loaded.config.camera["top"].stall_s == 5.0
    assert [file.name for file in loaded.files] == [
        "line3.toml",
        "10-a.toml",
        "20-b.toml",
        "30-c.toml",
    ]


def test_a_wrong_key_is_put_down_to_the_file_that_set_it(tmp_path: Path) -> None:
    path = written(tmp_path, SMALL)
    drop_in = written(tmp_path / "line3.d", '[camera.top]\nstall_s = "2"\n', "10.toml")
    with pytest.raises(ConfigError) as raised:
        load_config(path)
    assert str(raised.value) == f'{drop_in}: camera.top.stall_s: received "2"; expected a number'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[camera.top]\nsorce = "0"\n', "camera.top.sorce: unknown key; did you mean source?"),
        ('[camera.top]\nsorce = "0"\n', "camera.top.source: missing"),
        ('[camera.top]\nsource = "0"\n', "camera: top has no model: give path (a model file)"),
        ("[modle]\n", "modle: unknown key; did you mean model?"),
        ("threshold = 3\n", "threshold: unknown key; it belongs to [model]"),
        ("[decision]\nxyz = 3\n", "decision.xyz: unknown key; known here: k, n, cooldown_s"),
        ("[decision]\nk = 3\n", "decision: k of n needs k at most n; received 3 of 1"),
        ("[decision]\nk = true\n", "decision.k: received true; expected a whole number"),
        ("decision = 3\n", "decision: received 3; expected a table"),
        ("camera = [1]\n", "camera: received an array; expected a table"),
        ("[web]\nport = 70000\n", "web.port: received 70000; expected less than or equal to 65535"),
        ("[web]\nenabled = 1\n", "web.enabled: received 1; expected true or false"),
        ("[model]\nthreshold = nan\n", "model.threshold: received nan; expected a finite number"),
        ("[decision]\ncooldown_s = nan\n", "decision.cooldown_s: received nan; expected"),
        ("[decision]\ncooldown_s = inf\n", "decision.cooldown_s: received inf; expected"),
        ('[camera."Top View"]\nsource = "0"\n', 'camera."Top View": not a name; expected lower'),
        ('[station]\nname = "Line 3"\n', 'station.name: received "Line 3"; expected lower-case'),
        ('[events]\npublish = "some"\n', "events.publish: received \"some\"; expected 'all' or"),
        ('[events]\npublish = "al"\n', 'received "al"; did you mean "all"?'),
        ("[events]\npublish = 2024-01-01\n", "events.publish: received a date or time"),
        ('[model]\npath = "a\\u0000b"\n', "model.path: a text may not hold a zero byte"),
        # The daemon looks five times a second.
        ('[mqtt]\nhost = "b"\nheartbeat_s = 0.1\n', "mqtt.heartbeat_s: received 0.1; expected"),
        ('[jsonl]\npath = ""\n', "jsonl.path: is empty; expected a path"),
        (f"[decision]\nk = {'9' * 400}\n", "decision.k: received a number beyond 64 bits"),
        (f"[decision]\nk = {'9' * 5000}\n", "is not TOML"),
        ("[decision\n", "is not TOML: Expected ']' at the end of a table declaration (at line 1,"),
        ("[decision]\n[decision]\n", "is not TOML: Cannot declare ('decision',) twice"),
        (b"[decision]\nk = 1 # \xff\n", "line 2 is not UTF-8"),
        ("x = " + "[" * 5000, "is nested too deep"),
        ("x = " + "[" * 50 + "]" * 50, "is nested deeper than 20 tables"),
        (b"#" * (LARGEST + 1), "is larger than"),
        ("", "camera: missing; expected at least one table [camera.NAME]"),
        ("camera = {}\n", "camera: received a table; expected: Dictionary should have at least 1"),
    ],
)
def test_every_mistake_is_named(text: str | bytes, says: str, tmp_path: Path) -> None:
    assert says in refused(tmp_path, text)


def test_all_mistakes_are_told_at_once_a_line_each(tmp_path: Path) -> None:
    lines = refused(tmp_path, SMALL + "[decision]\na = 1\nb = 2\nk = 0\n").splitlines()
    assert len(lines) == 3
    assert all(line.startswith(f"{tmp_path}/line3.toml: decision.") for line in lines)
    many = "[decision]\n" + "".join(f"x{number} = 1\n" for number in range(500))
    assert "... and 480 more" in refused(tmp_path, SMALL + many)


def test_no_message_shows_a_password(tmp_path: Path) -> None:
    text = SMALL.replace('"0"', '"rtsp://user:hunter2@h/x"').replace("source", "surce")
    text += (
        '[webhook.mes]\nurl = "ftp://user:hunter2@mes"\n[mqtt]\nhost = "h"\npasword = "hunter2"\n'
    )
    assert "hunter2" not in refused(tmp_path, text)


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none.toml", tmp_path, tmp_path / ("n" * 300), tmp_path / "a\0b"):
        with pytest.raises(ConfigError, match="can't be read"):
            load_config(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, SMALL)
    path.chmod(0)
    with pytest.raises(ConfigError, match="Permission denied"):
        load_config(path)


def test_a_file_that_all_users_may_read_is_pointed_out(tmp_path: Path) -> None:
    path = written(tmp_path, SMALL.replace('"0"', '"rtsp://u:hunter2@h"'))
    path.chmod(0o644)
    assert load_config(path).warnings == (
        f"camera.top.source: holds a password; {path} may be read by every user: chmod 640",
    )


def test_a_state_folder_that_all_users_may_look_into_is_pointed_out(tmp_path: Path) -> None:
    path = written(tmp_path, SMALL + '[station]\nstate = "state"\n')
    (tmp_path / "state").mkdir(0o750)
    assert load_config(path).warnings == ()
    (tmp_path / "state").chmod(0o755)
    (warning,) = load_config(path).warnings
    assert f"chmod -R o-rwx {tmp_path / 'state'}" in warning


def test_secrets_that_travel_in_the_open_are_pointed_out(tmp_path: Path) -> None:
    text = SMALL + '[mqtt]\nhost = "h"\npassword_file = "p"\n'
    text += '[webhook.mes]\nurl = "http://h"\ntoken_file = "t"\n'
    warnings = load_config(written(tmp_path, text)).warnings
    assert [warning.split(":")[0] for warning in warnings] == ["mqtt", "webhook.mes"]


def test_what_is_written_is_read_as_the_same(tmp_path: Path) -> None:
    config = load_config(written(tmp_path, WHOLE)).config
    text = tomli_w.dumps(config.model_dump(mode="json", exclude_none=True))
    assert load_config(written(tmp_path, text, "again.toml")).config == config
    assert "hunter2" not in str(effective(config))


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://hooks.example/services/T0/s3cret", "https://hooks.example/***"),
        ("https://u:s3cret@hooks.example:8443/", "https://hooks.example:8443"),
        ("https://hooks.example?sig=s3cret", "https://hooks.example/***"),
        ("http://[::1]:80#s3cret", "http://[::1]:80/***"),
        ("http://u:s3cret/x@host/y", "http://***"),
        ("https://hooks.example/?sig=a@s3cret", "https://hooks.example/***"),
    ],
)
def test_of_a_receiver_only_the_host_is_shown(url: str, shown: str, tmp_path: Path) -> None:
    config = load_config(written(tmp_path, SMALL + f'[webhook.mes]\nurl = "{url}"\n')).config
    assert effective(config)["webhook"]["mes"]["url"] == shown


def test_the_committed_schema_is_the_models() -> None:
    path = Path(__file__).parents[3] / "docs" / "config.schema.json"
    assert json.loads(path.read_text()) == schema(), (
        "write it again: .venv/bin/differnet check --schema > docs/config.schema.json"
    )


def test_the_schema_explains_every_key_and_agrees_with_the_models(tmp_path: Path) -> None:
    written_schema = schema()
    jsonschema.Draft202012Validator.check_schema(written_schema)
    for part in written_schema["$defs"].values():
        assert part["description"]
        for key in part["properties"].values():
            assert key["description"]
    validator = jsonschema.Draft202012Validator(written_schema)
    config = load_config(written(tmp_path, WHOLE)).config
    validator.validate(config.model_dump(mode="json"))
    assert not validator.is_valid({"model": {"treads": 1}, "camera": {"top": {"source": "0"}}})
    assert not validator.is_valid({"model": {}, "camera": {}})
    assert isinstance(config, Config)
