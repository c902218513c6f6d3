"""Sources as they are shown: no user name, password or token, however a pipeline is quoted."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from differnet_runtime.cameras.gstreamer import PipelineCamera
from differnet_runtime.cameras.sources import describe, hidden, locate
from differnet_runtime.config.grammar import redact, redact_text
from differnet_runtime.config.models import CameraConfig
from differnet_runtime.errors import CameraError
from tests.fakes.clips import Clip
from tests.fakes.rtsp import rtsp_camera
from tests.faults.capturing import capture, children, next_frame
from tests.servers import require

SECRET = "hunter2 x"


@pytest.mark.parametrize(
    "written",
    [
        "user-pw=hunter2",
        'user-pw="hunter2 x"',
        "user-pw='hunter2 x'",
        "'user-pw=hunter2 x'",
        '"user-pw=hunter2 x"',
        "user-pw = hunter2",
        r"user-pw=hunter2\ x",
        r'user-pw="a\"hunter2 x"',
        "proxy-pw=hunter2",
        "passphrase=hunter2",
        'extra-headers="h,Authorization=hunter2"',
    ],
)
def test_no_property_shows_a_password(written: str) -> None:
    shown = redact(f"gst:rtspsrc {written} location=rtsp://cam/s ! decodebin")
    assert "hunter2" not in shown
    assert "x" not in shown.partition("location")[0].split("***")[1]
    if not written.startswith("extra"):
        assert shown.endswith(" location=rtsp://cam/s ! decodebin")


@pytest.mark.parametrize("written", ["user-pw='hunter2 x", 'user-pw="hunter2 x'])
def test_nor_one_that_is_quoted_wrongly(written: str) -> None:
    assert redact_text(f"rtspsrc {written}") == "rtspsrc user-pw=***"


def test_a_text_that_quotes_a_source_stays_readable() -> None:
    text = "rtspsrc user-pw=hunter2 location=rtsp://u:hunter2@cam/s?token=hunter2: it has ended"
    assert (
        redact_text(text) == "rtspsrc user-pw=*** location=rtsp://***@cam/s?token=*** it has ended"
    )
    config = CameraConfig(source="http://cam/token=a b", kind="stream")
    assert hidden("http://cam/token=a b: lost", config) == f"{describe(config)}: lost"


def test_a_pipeline_that_cannot_be_started_is_named_without_it() -> None:
    require("gst-launch-1.0")
    config = locate(CameraConfig(source="gst:nosuchelement user-id=admin user-pw=hunter2"))
    with pytest.raises(CameraError, match=r"^gst:nosuchelement user-id=\*\*\* ") as raised:
        PipelineCamera(config)
    assert "hunter2" not in str(raised.value)
    assert "admin" not in str(raised.value)


def test_no_frame_state_log_or_command_line_names_it(caplog: pytest.LogCaptureFixture) -> None:
    """Every user of a machine can read every process's command line."""
    require("gst-launch-1.0")
    caplog.set_level("DEBUG")
    secret = f"hunter2-{os.getpid()}"
    with rtsp_camera(Clip()) as server:
        source = (
            f"gst:rtspsrc location={server.url} user-id=admin user-pw={secret} protocols=tcp "
            "! rtph264depay ! avdec_h264"
        )
        with capture(source) as process:
            name = next_frame(process).name
            assert name.startswith(f"gst:rtspsrc location={server.url} user-id=*** user-pw=*** ")
            assert secret not in f"{process.status}"
            capturing = process.status.pid
            assert capturing
            (launched,) = children(capturing)
            environment = Path(f"/proc/{launched}/environ")
            for one in (environment, *Path("/proc").glob("[0-9]*/cmdline")):
                with contextlib.suppress(OSError):  # it has ended
                    assert secret.encode() not in one.read_bytes(), one
    assert secret not in caplog.text


ANY = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12)


@given(middle=ANY, form=st.sampled_from(["raw", "coded", "query", "coded query"]))
def test_no_url_shows_a_password_of_any_characters(middle: str, form: str) -> None:
    secret = f"zQ{middle}Qz"
    written = quote(secret, safe="") if "coded" in form else secret
    if "query" in form:
        assume(not re.search(r"[&?]\w+=", written))
        source = f"http://cam/live?channel=2&password={written}"
    else:
        source = f"rtsp://admin:{written}@cam:554/live?channel=2"
    for shown in (redact(source), hidden(f"{source}: lost", CameraConfig(source=source))):
        assert "zQ" not in shown
        assert "Qz" not in shown
        assert "@" in secret or "channel=2" in shown


@given(
    middle=ANY,
    name=st.sampled_from(["user-pw", "proxy-pw", "passphrase", "token"]),
    form=st.sampled_from(["word", "value", "double"]),
)
def test_no_pipeline_shows_a_password_of_any_characters(middle: str, name: str, form: str) -> None:
    secret = f"zQ{middle}Qz"
    escaped = secret.replace("\\", "\\\\").replace('"', '\\"')
    written = {
        "word": shlex.quote(f"{name}={secret}"),
        "value": f"{name}={shlex.quote(secret)}",
        "double": f'{name}="{escaped}"',
    }[form]
    for prefix in ("gst:", ""):
        shown = redact(f"{prefix}rtspsrc {written} location=rtsp://cam/s ! decodebin")
        assert "zQ" not in shown
        assert "Qz" not in shown
        assert shown.endswith(" location=rtsp://cam/s ! decodebin")


@pytest.mark.parametrize("source", ["admin:hunter2@10.0.0.7/1", "admin:hun/ter2@cam", "a:h x2@cam"])
def test_a_login_without_a_scheme_is_hidden_too(source: str) -> None:
    shown = redact(source)
    assert shown.startswith("***@")
    assert "ter2" not in shown


@pytest.mark.parametrize("path", ["/data/a@b/c.png", "C:/a/b.mp4", "line 3: a/b@2.png", "a@2:b"])
def test_paths_are_shown_as_they_are(path: str) -> None:
    assert redact(path) == path
