"""How sources are written, and logins of any characters in their URLs."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from differnet_runtime.config import load_config
from differnet_runtime.config.grammar import kind_of, with_coded_login
from differnet_runtime.errors import ConfigError

RAW = "ab9Z-._~!$&'()*+,;=#?@:% "
HOSTS = st.sampled_from(["cam", "10.0.0.7", "cam.local:554", "[fe80::1]:8554"])
REST = st.sampled_from(["", "/", "/live?channel=1", "/a/b.sdp?x=1&y=2", "/Streaming/101"])


@given(password=st.text(RAW, min_size=1), host=HOSTS, rest=REST)
def test_a_login_of_any_characters_but_slashes_is_understood(
    password: str, host: str, rest: str
) -> None:
    assume(not re.search(r"@[\w.:-]*\?", password))  # a whole URL by itself: RFC 3986's host counts
    password = "p" + unquote(password)  # what reads as a percent code is one
    written = with_coded_login(f"rtsp://admin:{password}@{host}{rest}")
    assert written.endswith(f"@{host}{rest}")
    assert unquote(urlsplit(written).password or "") == unquote(password)


@given(password=st.text(min_size=1), host=HOSTS, rest=REST)
def test_percent_codes_are_left_as_they_are(password: str, host: str, rest: str) -> None:
    url = f"http://admin:{quote(password, safe='')}@{host}{rest}"
    assert with_coded_login(url) == url


@given(password=st.text(RAW + "/"), host=HOSTS, rest=REST)
def test_what_is_written_with_codes_stays(password: str, host: str, rest: str) -> None:
    try:
        once = with_coded_login(f"rtsp://admin:{password}@{host}{rest}")
    except ValueError:
        return
    assert with_coded_login(once) == once


@pytest.mark.parametrize(
    ("url", "coded"),
    [
        ("rtsp://user:pa#ss@host/live", "rtsp://user:pa%23ss@host/live"),
        ("rtsp://user:pa/ss@host/live", "rtsp://user:pa%2Fss@host/live"),
        ("rtsp://user:1#2@host/live", "rtsp://user:1%232@host/live"),
        ("rtsp://user:p#@a@host/live@1", "rtsp://user:p%23%40a@host/live@1"),
        ("rtsp://user:50%@host", "rtsp://user:50%25@host"),
        ("rtsp://user@host/live", "rtsp://user@host/live"),
        ("RTSP://host:554/live", "RTSP://host:554/live"),
        ("http://host/a?mail=me@home", "http://host/a?mail=me@home"),
        ("udp://@239.0.0.1:1234", "udp://@239.0.0.1:1234"),
    ],
)
def test_examples(url: str, coded: str) -> None:
    assert with_coded_login(url) == coded


@pytest.mark.parametrize(
    "url",
    ["rtsp://user:hun#ter", "rtsp://", "http://user:hunter2@", "rtsp://a b/c", "http://h:port/x"],
)
def test_a_url_without_a_clear_host_is_refused_with_what_to_write(url: str) -> None:
    with pytest.raises(ValueError, match=r"# as %23.*@ as %40") as caught:
        with_coded_login(url)
    assert "hunter" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("0", "device"),
        ("/dev/video0", "device"),
        ("/dev/top-camera", "device"),
        ("/dev/shm/pictures", "folder"),
        ("RTSPS://host/x", "stream"),
        ("srt://host:9000", "stream"),
        ("gst:videotestsrc", "gstreamer"),
        ("part.JFIF", "folder"),
        ("clip.mkv", "video"),
        ("./0", "folder"),
    ],
)
def test_a_source_is_known_by_how_it_is_written(source: str, kind: str) -> None:
    assert kind_of(source) == kind


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("ftp://me:word@host/a", "ftp:// is not read, but http, "),
        ("rtsp://me:wo#rd", "# as %23"),
        ("v4l2src ! videoconvert", "written with gst: before it"),
    ],
)
def test_a_configuration_with_a_wrong_url_is_refused_without_its_password(
    tmp_path: Path, source: str, message: str
) -> None:
    file = tmp_path / "line.toml"
    file.write_text(f'[model]\nbackend = "fake"\n[camera.top]\nsource = "{source}"\n')
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(file)
    assert str(caught.value).startswith(f"{file}: camera.top: ")
    assert source not in str(caught.value)
    assert "me:" not in str(caught.value)
