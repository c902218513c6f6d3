"""What to install where something is missing, for messages; the one place that asks where."""

from __future__ import annotations

import functools
import json
import shlex
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from .sentences import sentence

NAME = "differnet-edge"
L4T_RELEASE = Path("/etc/nv_tegra_release")
"""Where a Jetson says which release of its Linux runs."""

_OF_JETPACK = ("opencv", "opencv-headless", "tensorrt", "tensorrt-cu12")
_NOT_FOR_JETSON = ("onnx-gpu", "onnx-gpu-cu12")
NEVER_ON_A_JETSON = (*_OF_JETPACK, *_NOT_FOR_JETSON)
"""Extras that would hide what JetPack brings, or that can't run there."""


def install_line(extras: str = "") -> str:
    """Returns the command that installs this package again, with more extras.

    The package is on no public index, so the command names what this copy was installed from:
    the folder of a clone, a wheel, or a URL.

    Args:
        extras: By comma, without brackets (`train,export`); empty for none.

    Example:
        >>> install_line("train")  # doctest: +SKIP
        "pip install -e '/home/me/differnet-edge[train]'"
    """
    return f"pip install {_source(f'[{extras}]' if extras else '')}"


@functools.cache
def on_jetson() -> bool:
    """Whether this is a Jetson; in a container too, where NVIDIA's runtime shows its files."""
    return L4T_RELEASE.exists()


def advice(extras: str, *, jetson: bool | None = None) -> str:
    """Returns what to do where extras are missing, in sentences; for a Jetson without pip's ones.

    Args:
        extras: By comma, without brackets.
        jetson: Whether it is for a Jetson; None looks.

    Example:
        >>> advice("service")  # doctest: +SKIP
        "Install it with `pip install -e '/home/me/differnet-edge[service]'`."
    """
    if not (on_jetson() if jetson is None else jetson):
        return sentence("install", command=install_line(extras))
    wanted = [extra for extra in extras.split(",") if extra]
    found = []
    if {*wanted} & {*_OF_JETPACK}:
        found.append(
            "JetPack brings OpenCV and TensorRT, and neither may come from pip: `sudo apt install "
            "nvidia-jetpack`, and in an environment made with `python3 -m venv "
            "--system-site-packages`, which sees them, `pip install 'numpy<2'`, for which they are "
            "built."
        )
    if {*wanted} & {*_NOT_FOR_JETSON}:
        found.append(
            "ONNX Runtime's packages have no code for a Jetson's GPU: use `--backend tensorrt`, "
            "with the TensorRT that JetPack brings."
        )
    rest = ",".join(extra for extra in wanted if extra not in NEVER_ON_A_JETSON)
    if rest or not wanted:
        found.append(f"Install {'the rest' if found else 'it'} with `{install_line(rest)}`.")
    return " ".join(found)


def _source(extras: str) -> str:
    origin = _origin()
    if origin is None:  # installed by name, so some index of the user's own has it
        return shlex.quote(f"{NAME}{extras}")
    url: str = origin["url"]
    if not url.startswith("file:"):
        scheme = f"{origin['vcs_info']['vcs']}+" if "vcs_info" in origin else ""
        return shlex.quote(f"{NAME}{extras} @ {scheme}{url}")
    path = Path(unquote(urlsplit(url).path))
    # A wheel is often deleted once it is installed: its name says what to copy here again.
    place = str(path) if path.exists() else f"./{path.name}"
    editable = origin.get("dir_info", {}).get("editable", False)
    return f"{'-e ' if editable else ''}{shlex.quote(place + extras)}"


def _origin() -> dict[str, Any] | None:
    """Reads what pip recorded of a file, folder or URL (PEP 610); None where it took an index."""
    try:
        text = distribution(NAME).read_text("direct_url.json")
    except PackageNotFoundError:
        return None
    return None if text is None else json.loads(text)
