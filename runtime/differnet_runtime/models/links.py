"""The links and the history in the folder of a name in the store."""

from __future__ import annotations

import os
from datetime import datetime, timezone
from pathlib import Path

from ..files import sync_folder
from .records import Change


def linked(folder: Path, name: str) -> Path | None:
    """Returns what a link points to, if that is there."""
    try:
        path = folder / (folder / name).readlink()
    except OSError:
        return None
    return path if path.is_file() else None


def link(folder: Path, name: str, path: Path) -> None:
    """Points a link elsewhere in one step: a reader sees the old one or the new one."""
    partial = folder / f".{name}.partial"
    partial.unlink(missing_ok=True)
    partial.symlink_to(path.relative_to(folder))
    partial.replace(folder / name)
    sync_folder(folder)


def record(folder: Path, action: str, digest: str, reason: str | None = None) -> None:
    """Adds a line to what was done with the models of a name; it is on disk when this returns."""
    at = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
    change = Change.model_validate({"at": at, "action": action, "hash": digest, "reason": reason})
    with (folder / "history.jsonl").open("a+b") as file:
        if file.tell() and os.pread(file.fileno(), 1, file.tell() - 1) != b"\n":
            file.write(b"\n")  # a power cut tore the last line
        file.write(change.model_dump_json().encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
