"""The real programs that tests use: brokers, cameras, browsers, a compiler, from Debian's packages.

With CI=true what is missing is installed; elsewhere the test skips and names the package.
"""

from __future__ import annotations

import ctypes
import fcntl
import functools
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

PACKAGES = {
    "mosquitto": ("mosquitto",),
    "openssl": ("openssl",),
    "curl": ("curl",),
    "ffmpeg": ("ffmpeg",),
    "gst-launch-1.0": ("gstreamer1.0-tools", "gstreamer1.0-plugins-good"),
    "chromium": ("chromium",),
    "chromedriver": ("chromium-driver",),
    "promtool": ("prometheus",),
    "faketime": ("faketime",),
    "systemd-analyze": ("systemd",),
    "unshare": ("util-linux",),
    "strace": ("strace",),
    "g++": ("g++",),
}
"""By program: the packages that bring it."""

RTSP = (
    "python3-gi",
    "gir1.2-gst-rtsp-server-1.0",
    "gstreamer1.0-plugins-good",
    "gstreamer1.0-plugins-bad",
    "gstreamer1.0-plugins-ugly",
    "gstreamer1.0-libav",
)
"""What an RTSP server in the system's Python needs."""

SYSTEM_PYTHON = "/usr/bin/python3"


def require(program: str) -> str:
    """Returns a program's path; installs it in CI, skips the test elsewhere."""
    found = _find(program)
    if found is None:
        _install(PACKAGES[program])
        found = _find(program)
    if found is None:
        pytest.skip(f"{program} is not here; it is in Debian's {' '.join(PACKAGES[program])}")
    return found


def require_library(name: str, package: str) -> None:
    """Does as `require` for a shared library."""
    if not _loads(name):
        _install([package])
    if not _loads(name):
        pytest.skip(f"{name} is not here; it is in Debian's {package}")


def _loads(name: str) -> bool:
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def _find(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


@functools.cache
def require_rtsp() -> str:
    """Returns the Python that can run GStreamer's RTSP server; installs or skips as `require`."""
    probe = "import gi; gi.require_version('GstRtspServer', '1.0')"

    def works() -> bool:
        return (
            subprocess.run([SYSTEM_PYTHON, "-c", probe], capture_output=True, check=False)
        ).returncode == 0

    if not works():
        _install(RTSP)
    if not works():
        pytest.skip(f"no RTSP server is here; it is in Debian's {' '.join(RTSP)}")
    return SYSTEM_PYTHON


def _install(packages: Iterable[str]) -> None:
    if os.environ.get("CI") != "true":
        return
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with (Path(tempfile.gettempdir()) / "differnet-apt.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for command in (["update"], ["install", "-y", "--no-install-recommends", *packages]):
            subprocess.run(
                ["apt-get", "-qq", *command], env=environment, check=False, capture_output=True
            )


def free_port() -> int:
    """Returns a port of loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for_port(port: int, timeout_s: float = 15.0) -> None:
    """Waits until something listens there."""
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        with socket.socket() as probe:
            probe.settimeout(0.5)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError(f"nothing listens on port {port} after {timeout_s:g} s")
