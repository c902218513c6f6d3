"""The `pip` line that adds an extra to this installation, for messages."""

from __future__ import annotations

import json
import shlex
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

NAME = "differnet-edge"


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
