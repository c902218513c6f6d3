"""`differnet check` says what a station's configuration lacks, before the station does."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from differnet_runtime.cli import main
from differnet_runtime.config import schema
from differnet_runtime.files import lock_folder
from tests.servers import require

Captured = pytest.CaptureFixture[str]
FAKE = '[model]\nbackend = "fake"\n[web]\nport = 0\n[evidence]\nkeep = "none"\n'
TOP = '[camera.top]\nsource = "0"\n'


@pytest.fixture
def check(tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)

    def run(text: str, *options: str, state: str = "state") -> tuple[int, str]:
        path = tmp_path / "line3.toml"
        path.write_text(f'[station]\nstate = "{state}"\n{text}')
        path.chmod(0o640)
        code = main(["check", str(path), *options])
        return code, capsys.readouterr().out

    return run


def test_a_sound_station_can_start(
    check: Callable[..., Any], tiny_model: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "password").write_text("hunter2\n")
    text = f'[model]\npath = "{tiny_model()}"\n[web]\nport = 0\n[camera.top]\nsource = "."\n'
    text += '[mqtt]\nhost = "broker"\nusername = "line3"\npassword_file = "password"\n[mqtt.tls]\n'
    code, shown = check(text)
    assert code == 0
    for part in (
        f"read   {tmp_path}/line3.toml",
        "washer, sha256 ",
        "fp32, no heatmap, threshold 118",
        "mqtt.password_file",
        "go to mqtt",
        f"{tmp_path}/state; will be created",
        "127.0.0.1 port (a free one)",
        "The station can start.",
    ):
        assert part in shown
    assert "WRONG" not in shown
    assert "hunter2" not in shown
    assert not (tmp_path / "state").exists()


def test_secrets_that_every_user_may_read_are_wrong(
    check: Callable[..., Any], tmp_path: Path
) -> None:
    for name, mode in (
        ("password", 0o666),
        ("token", 0o640),
        ("key.pem", 0o644),
        ("ca.pem", 0o644),
    ):
        (tmp_path / name).write_text("0123456789abcdef\n")
        (tmp_path / name).chmod(mode)
    tls = '{ ca = "ca.pem", certificate = "ca.pem", key = "key.pem" }'
    broker = f'[mqtt]\nhost = "b"\npassword_file = "password"\ntls = {tls}\n'
    page = FAKE.replace("port = 0\n", 'port = 0\ntoken_file = "token"\n')
    code, shown = check(page + TOP + broker, "--json")
    found = {one["subject"]: one for one in json.loads(shown)["findings"]}
    assert code == 2
    for key, state in (("web.token_file", "ok"), ("mqtt.password_file", "wrong"),
                       ("mqtt.tls.key", "wrong"), ("mqtt.tls.ca", "ok")):  # fmt: skip
        assert found[key]["state"] == state
    assert f"chmod o-rwx {tmp_path / 'key.pem'}" in found["mqtt.tls.key"]["text"]


@pytest.mark.parametrize(
    ("text", "subject", "says"),
    [
        (f'[model]\npath = "none.onnx"\n{TOP}', "model.path", "No such file"),
        (f'[model]\nbackend = "tensort"\npath = "x"\n{TOP}', "model.backend", "mean tensorrt?"),
        (
            f'[model]\nbackend = "cuda"\npath = "x"\n{TOP}',
            "model.backend",
            "there is no backend 'cuda'; choose from auto",
        ),
        (f'[model]\nbackend = "fake:soon"\n{TOP}', "model.backend", "does not know 'soon'"),
        (
            f'{FAKE}{TOP}[mqtt]\nhost = "b"\npassword_file = "none"\n',
            "mqtt.password_file",
            "No such file",
        ),
        (
            f'{FAKE}{TOP}[webhook.mes]\nurl = "https://m"\ntoken_file = "none"\n',
            "webhook.mes.token_file",
            "No such file",
        ),
        (
            f'{FAKE}[camera.line]\nsource = "pictures/"\nkind = "folder"\ntrigger = "command"\n',
            "camera.line",
            "needs a live source",
        ),
        (
            f'{FAKE}[camera.line]\nsource = "rtsp://cam/stream"\nafter = "delete"\n',
            "camera.line",
            "is for the pictures of a folder",
        ),
        (
            f'{FAKE}[camera.line]\nsource = "part.png"\nafter = "move"\n',
            "camera.line",
            "is for the pictures of a folder",
        ),
        (f"{FAKE}host = 1\n{TOP}", "configuration", "evidence.host: unknown key"),
        (
            f'[model]\nbackend = "fake"\n[web]\nhost = "0.0.0.0"\n{TOP}',
            "web",
            "wider than loopback",
        ),
    ],
)
def test_what_keeps_a_station_from_starting_is_wrong(
    text: str, subject: str, says: str, check: Callable[..., Any]
) -> None:
    code, shown = check(text, "--json")
    record = json.loads(shown)
    assert code == 2
    assert not record["fit"]
    wrong = {f["subject"]: f["text"] for f in record["findings"] if f["state"] == "wrong"}
    assert says in wrong[subject]


def test_an_uncalibrated_model_needs_a_threshold(
    check: Callable[..., Any], tiny_model: Callable[..., Path]
) -> None:
    text = f'[model]\npath = "{tiny_model(calibration=None)}"\n'
    code, shown = check(text + TOP)
    assert code == 2
    assert "run `differnet calibrate`" in shown
    code, shown = check(text + "threshold = 7.5\n" + TOP)
    assert code == 0
    assert "threshold 7.5" in shown


def test_what_works_but_deserves_a_look_is_said(
    check: Callable[..., Any], tiny_model: Callable[..., Path]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        model = tiny_model(precision="fp16")
        code, shown = check(
            f'[model]\npath = "{model}"\nbackend = "onnxruntime-cpu"\n[web]\nport = {port}\n'
            f"[evidence]\nmax_bytes = {1 << 60}\n"
            '[camera.top]\nsource = "rtsp://user:hunter2@10.0.0.7/1"\n'
            '[camera.side]\nsource = "none.mp4"\n'
        )
    assert code == 0
    looks = [line.split()[1] for line in shown.splitlines() if line.startswith("LOOK")]
    assert looks == ["configuration", "model.backend", "camera.side", "evidence.max_bytes", "web"]
    assert "rtsp://***@10.0.0.7/1" in shown
    assert "hunter2" not in shown


def test_a_state_folder_that_can_not_be_written_is_wrong(check: Callable[..., Any]) -> None:
    code, shown = check(FAKE + TOP, state="/dev/null/x")
    assert code == 2
    assert "/dev/null/x: /dev/null can't be written" in shown


@pytest.mark.parametrize(
    "text",
    [
        f'{FAKE}host = "{"é" * 200}"\n{TOP}'.replace('[evidence]\nkeep = "none"\n', ""),
        f'{FAKE}[camera.top]\nsource = "/{"x" * 4000}"\n',
        f'[model]\npath = "{"x" * 4000}"\n{TOP}',
        f'{FAKE}{TOP}[mqtt]\nhost = "é"\npassword_file = "{"x" * 4000}"\n',
        f'{FAKE}{TOP}[jsonl]\npath = "{"x" * 4000}"\n',
    ],
)
def test_what_no_system_takes_is_a_finding_and_no_crash(
    text: str, check: Callable[..., Any]
) -> None:
    code, shown = check(text, state="x" * 3000)
    assert code in (0, 2)
    assert "start." in shown


def test_what_is_in_effect_is_shown_without_passwords(check: Callable[..., Any]) -> None:
    text = FAKE + '[camera.top]\nsource = "rtsp://user:hunter2@h/1"\n'
    code, shown = check(text, "--show")
    assert code == 0
    assert 'source = "rtsp://***@h/1"' in shown
    assert "stall_s = 2.0" in shown
    code, shown = check(text, "--show", "json")
    assert json.loads(shown)["camera"]["top"]["source"] == "rtsp://***@h/1"
    assert "hunter2" not in shown


def test_the_schema_is_printed_without_a_file(capsys: Captured) -> None:
    assert main(["check", "--schema"]) == 0
    assert json.loads(capsys.readouterr().out) == schema()


def test_without_a_file_it_says_what_it_needs(capsys: Captured) -> None:
    assert main(["check"]) == 2
    assert "differnet check line3.toml" in capsys.readouterr().err


def test_cameras_give_a_frame_or_are_named_and_none_hangs(
    check: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "parts").mkdir()
    cv2.imwrite(str(tmp_path / "parts" / "1.png"), np.full((48, 64, 3), 90, np.uint8))
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, says nothing
        port = silent.getsockname()[1]
        text = f'{FAKE}[camera.parts]\nsource = "parts"\n'
        text += f'[camera.silent]\nsource = "rtsp://u:hunter2@127.0.0.1:{port}/x"\n'
        begun = time.monotonic()
        code, shown = check(text, "--cameras", "--timeout", "8", "--json")
        assert time.monotonic() - begun < 30
    assert code == 0
    found = [(f["subject"], f["state"], f["text"]) for f in json.loads(shown)["findings"]]
    assert ("camera.parts", "ok", "gave a frame of 64 x 48 pixels") in found
    assert any(
        subject == "camera.silent" and state == "look" and text.startswith("no frame within 8 s")
        for subject, state, text in found
    )
    assert "hunter2" not in shown


def test_a_state_folder_in_use_deserves_a_look(check: Callable[..., Any], tmp_path: Path) -> None:
    with lock_folder(tmp_path / "state"):
        code, shown = check(FAKE + TOP)
    assert code == 0
    assert f"in use by process {os.getpid()}" in shown
    assert "LOOK" in shown.split("station.state")[0].splitlines()[-1]
    _, shown = check(FAKE + TOP)
    assert "in use" not in shown


@pytest.mark.parametrize(
    "options", [(), ("--show=toml",), ("--show=json",), ("--cameras", "--timeout=8")]
)
def test_no_password_of_a_pipeline_is_shown(
    check: Callable[..., Any], options: tuple[str, ...]
) -> None:
    if "--cameras" in options:
        require("gst-launch-1.0")
    source = "gst:nosuchelement location=rtsp://cam/s user-id=admin user-pw=hunter2"
    text = f'{FAKE}[camera.top]\nsource = "{source}"\n'
    _, shown = check(text, *options)
    assert "user-id=*** user-pw=***" in shown
    assert "--cameras" not in options or 'no element "nosuchelement"' in shown
    assert "hunter2" not in shown
    assert "admin" not in shown
