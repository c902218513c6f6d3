"""What to install if something is missing, in words for messages, and whether this is a Jetson."""

from __future__ import annotations

import functools
import json
import re
import shlex
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from .sentences import sentence

NAME = "differnet-edge"
L4T_RELEASE = Path("/etc/nv_tegra_release")
"""The file in which a Jetson names the release of its Linux."""

_OF_JETPACK = ("opencv", "opencv-headless", "tensorrt", "tensorrt-cu12")
_NOT_FOR_JETSON = ("onnx-gpu", "onnx-gpu-cu12")
NEVER_ON_A_JETSON = (*_OF_JETPACK, *_NOT_FOR_JETSON)
"""Extras that would hide what JetPack brings, or that can't run there."""


def install_line(extras: str = "") -> str:
    """Returns the command that installs this package again, with more extras.

    The package is on no public index, so the command names what this copy was installed from:
    the folder of a clone, a wheel, or a URL.

    Args:
        extras: Separated by commas, without brackets (`train,export`); empty for none.

    Example:
        >>> install_line("train")  # doctest: +SKIP
        "pip install -e '/home/me/differnet-edge[train]'"
    """
    return f"pip install {_source(f'[{extras}]' if extras else '')}"


@functools.cache
def on_jetson() -> bool:
    """Whether this is a Jetson; in a container too, where NVIDIA's runtime shows its files."""
    return L4T_RELEASE.exists()


def l4t_release(root: Path = Path("/")) -> str | None:
    """Returns the release of Jetson Linux, such as `36.4.3`; None elsewhere.

    The file begins with `# R36 (release), REVISION: 4.3, ...`.

    Args:
        root: The root of the file system.
    """
    try:
        text = (root / L4T_RELEASE.relative_to("/")).read_text("utf-8", "replace")
    except OSError:
        return None
    line = text.partition("\n")[0]
    numbers = re.match(r"# R(\d+).*?REVISION: ([\d.]+)", line)
    return f"{numbers[1]}.{numbers[2]}" if numbers else line.strip() or None


def advice(extras: str, *, jetson: bool | None = None) -> str:
    """Returns what to do if extras are missing; a Jetson gets some of them from JetPack.

    Args:
        extras: Separated by commas, without brackets.
        jetson: Whether it is for a Jetson; None finds out.

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
    """Reads the file, folder or URL that pip recorded (PEP 610); None if it used an index."""
    try:
        text = distribution(NAME).read_text("direct_url.json")
    except PackageNotFoundError:
        return None
    return None if text is None else json.loads(text)
