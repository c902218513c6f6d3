"""A configuration written as TOML again: what is in effect, defaults included."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from .models import Config

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[\w.-]+)(:\d*)?")


def effective(config: Config, hide: Callable[[str], str] | None = None) -> dict[str, Any]:
    """Returns every key that has a value, as TOML or JSON can hold it.

    Args:
        config: Checked.
        hide: Applied to cameras' sources, which may hold passwords; of webhooks' URLs only the
            host is left then. None shows everything.
    """
    tables: dict[str, Any] = config.model_dump(mode="json", exclude_none=True)
    if hide is None:
        return tables
    for camera in tables["camera"].values():
        camera["source"] = hide(camera["source"])
    for webhook in tables["webhook"].values():
        webhook["url"] = _host_alone(webhook["url"])
    return tables


def _host_alone(url: str) -> str:
    """Returns a URL without all that may be a secret: many receivers know a sender by the path."""
    scheme, _, rest = url.partition("://")
    authority, *beyond = re.split(r"[/?#]", rest, maxsplit=1)
    host = authority.rpartition("@")[2]
    if not _HOST.fullmatch(host):  # where a password ends can't be told
        return f"{scheme}://***"
    return f"{scheme}://{host}{'/***' if any(beyond) else ''}"


def as_toml(tables: dict[str, Any]) -> str:
    """Writes tables as TOML: of each table the plain keys first, then the tables within."""
    return "\n".join(_lines(tables, ())).strip() + "\n"


def _lines(table: dict[str, Any], at: tuple[str, ...]) -> list[str]:
    lines = [
        f"{_key(name)} = {_value(value)}"
        for name, value in table.items()
        if not isinstance(value, dict)
    ]
    below = [(name, value) for name, value in table.items() if isinstance(value, dict)]
    if at and (lines or not below):
        lines = ["", f"[{'.'.join(_key(name) for name in at)}]", *lines]
    for name, value in below:
        lines += _lines(value, (*at, name))
    return lines


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _value(name)


def _value(value: Any) -> str:  # noqa: ANN401 - whatever TOML holds
    if isinstance(value, list):
        return f"[{', '.join(_value(item) for item in value)}]"
    if isinstance(value, dict):  # within an array
        return (
            "{" + ", ".join(f"{_key(name)} = {_value(item)}" for name, item in value.items()) + "}"
        )
    if isinstance(value, float):
        return repr(value)  # "nan" and "inf" are TOML too
    # JSON's escapes are TOML's, but for the one control character that JSON lets pass.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
