"""The steps of `differnet check`: what a configuration names, looked at; nothing is changed.

A configuration written as TOML again: what is in effect, defaults included.

One frame of every camera, each in a process of its own, so that none can hang the check.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..cameras.sources import describe, refuse_commands, refuse_leaving
from ..capture.process import CaptureProcess
from ..config import CameraConfig, Config, Loaded, WebConfig
from ..config.paths import fingerprint, read_secret, secret_files
from ..config.problems import dotted
from ..errors import ConfigError, DifferNetError, FrameError, ImageReadError
from ..files import user_of
from ..inspection.preprocess import preprocess
from ..model_file.metadata import ModelMetadata
from ..records import Image
from ..sinks import build_sinks
from ..station.memory import machine_bytes
from ..teaching.job import missing
from ..text import Meaning, coloured
from .checking_models import CheckFinding, models

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


def first_frames(
    cameras: Mapping[str, CameraConfig],
    timeout_s: float,
    models: Mapping[str, ModelMetadata] | None = None,
) -> list[CheckFinding]:
    """Opens all cameras at once, takes a frame of each, and says whether its model knows the size.

    Args:
        cameras: By name.
        timeout_s: For all of them together, since they are opened at the same time.
        models: What judges each camera, where that is known.
    """
    opened = {name: CaptureProcess(name, camera) for name, camera in cameras.items()}
    until = time.monotonic() + timeout_s
    try:
        for capture in opened.values():
            capture.start()
        return [
            finding
            for name, capture in opened.items()
            for finding in _first_frame(name, capture, until, timeout_s, (models or {}).get(name))
        ]
    finally:
        for capture in opened.values():
            capture.stop()


def _first_frame(
    name: str,
    capture: CaptureProcess,
    until: float,
    timeout_s: float,
    model: ModelMetadata | None,
) -> list[CheckFinding]:
    subject = f"camera.{name}"
    frame = None
    try:
        while frame is None and capture.wait(max(0.0, until - time.monotonic())):
            frame = capture.take()
            if frame is None and not capture.live:
                break
    except ImageReadError as error:
        return [CheckFinding(subject, "look", str(error))]
    status = capture.status
    if frame is None:
        why = f": {status.reason}" if status.reason else ""
        return [CheckFinding(subject, "look", f"no frame within {timeout_s:g} s{why}")]
    height, width = frame.image.shape[:2]
    refused = [CheckFinding(subject, "look", s.warning) for s in status.settings if s.warning]
    if model is not None and (misfit := _misfit(frame.image, model)):
        refused.append(CheckFinding(subject, "look", misfit))
    return [CheckFinding(subject, "ok", f"gave a frame of {width} x {height} pixels"), *refused]


def _misfit(image: Image, model: ModelMetadata) -> str | None:
    """Says why the camera's model would give no verdict on frames of this size."""
    height, width = image.shape[:2]
    sizes = model.picture_sizes
    if sizes is not None and not sizes.accepts(width, height):
        return f"its model {model.name} knows pictures of {sizes}, not of {width} x {height} pixels"
    try:
        preprocess(image, model.input)
    except FrameError as error:
        return f"its model {model.name} can't take the frame: {error}"
    return None


_SIGNS = {"ok": "ok   ", "look": "LOOK ", "wrong": "WRONG"}
_MEANINGS: dict[str, Meaning] = {"ok": "good", "look": "look", "wrong": "bad"}


@dataclass(frozen=True)
class Checked:
    """Everything that was found.

    Args:
        files: That were read.
        findings: In the order of the configuration's tables.
    """

    files: tuple[Path, ...]
    findings: tuple[CheckFinding, ...]

    @property
    def fit(self) -> bool:
        """Whether the station can start."""
        return all(finding.state != "wrong" for finding in self.findings)

    def as_text(self) -> str:
        """Writes a line for each file and finding, and the conclusion."""
        width = max((len(finding.subject) for finding in self.findings), default=0)
        lines = [f"read   {file}" for file in self.files]
        lines += [f"{_sign(f)}  {f.subject:<{width}}  {f.text}" for f in self.findings]
        return "\n".join([*lines, "The station can start." if self.fit else "It can't start."])

    def as_record(self) -> dict[str, Any]:
        """Returns the same for JSON."""
        return {
            "fit": self.fit,
            "files": [str(file) for file in self.files],
            "findings": [asdict(finding) for finding in self.findings],
        }


def _sign(finding: CheckFinding) -> str:
    return coloured(_SIGNS[finding.state], _MEANINGS[finding.state], sys.stdout)


def examine(loaded: Loaded) -> Checked:
    """Looks at everything but the cameras themselves."""
    config = loaded.config
    findings = [
        *(CheckFinding("configuration", "look", warning) for warning in loaded.warnings),
        _state_folder(config),
        *models(config),
        *(_camera(name, camera) for name, camera in config.camera.items()),
        *_evidence(config),
        *_teach(config),
        *_secrets_and_sinks(config),
        *_web(config.web),
    ]
    return Checked(loaded.files, tuple(findings))


def _state_folder(config: Config) -> CheckFinding:
    folder = config.station.state
    nearest = _existing(folder)
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        return CheckFinding("station.state", "wrong", f"{folder}: {nearest} can't be written")
    if user := user_of(folder):
        # Not wrong: it may be this station that runs.
        text = f"{folder}: in use by {user}; if that is another station, give each its own"
        return CheckFinding("station.state", "look", text)
    made = "" if nearest == folder else "; will be created"
    return CheckFinding("station.state", "ok", f"{folder}{made}")


def _camera(name: str, camera: CameraConfig) -> CheckFinding:
    subject, source = f"camera.{name}", camera.source
    try:
        refuse_commands(name, camera)
        refuse_leaving(name, camera)
    except ConfigError as error:
        return CheckFinding(subject, "wrong", str(error))
    shown = f"{describe(camera)}, {camera.trigger}"
    if source.startswith("/") and camera.kind != "gstreamer" and not _exists(Path(source)):
        return CheckFinding(subject, "look", f"{shown}: is not there now; the station waits for it")
    return CheckFinding(subject, "ok", shown)


def _evidence(config: Config) -> Iterator[CheckFinding]:
    evidence, nearest = config.evidence, _existing(config.station.state)
    if evidence.keep == "none":
        return
    free = shutil.disk_usage(nearest).free - evidence.min_free_bytes
    if evidence.max_bytes > free:
        yield CheckFinding(
            "evidence.max_bytes",
            "look",
            f"allows {_gib(evidence.max_bytes)}, but beyond evidence.min_free_bytes only "
            f"{_gib(max(0, free))} is free in {nearest}: old pictures are deleted earlier",
        )


def _teach(config: Config) -> Iterator[CheckFinding]:
    teach, web = config.teach, config.web
    if not (teach.enabled and web.enabled and web.changes):
        return
    lacking = missing()
    trains = "models can be trained here" if lacking is None else lacking
    yield CheckFinding("teach", "ok", f"up to {_gib(teach.max_bytes)} of pictures; {trains}")
    there = machine_bytes()
    if lacking is None and there is not None and teach.memory_mib << 20 > there:
        yield CheckFinding(
            "teach.memory_mib",
            "look",
            f"allows {teach.memory_mib} MiB, but this machine has {there >> 20} MiB: the kernel "
            "may end a training earlier",
        )


def _secrets_and_sinks(config: Config) -> Iterator[CheckFinding]:
    """Every secret that can't be read, and then, if all can, what else keeps sinks from opening."""
    readable = True
    for key, file in secret_files(config):
        subject = dotted(key)
        try:
            fingerprint(key, file)
            if key[-1].endswith("_file"):
                read_secret(file)
            yield CheckFinding(subject, "ok", f"{file} can be read")
        except DifferNetError as error:
            readable = False
            yield CheckFinding(subject, "wrong", str(error))
    if not readable:
        return
    try:
        sinks = build_sinks(config)
    except DifferNetError as error:
        yield CheckFinding("events", "wrong", str(error))
        return
    yield CheckFinding(
        "events", "ok", f"go to {', '.join(sink.name for sink in sinks) or 'no sink'}"
    )


def _web(config: WebConfig) -> Iterator[CheckFinding]:
    if not config.enabled:
        return
    where = f"{config.host} port {config.port or '(a free one)'}"
    try:
        from ..web.server import access_of  # imports starlette and uvicorn

        access_of(config)
    except DifferNetError as error:
        yield CheckFinding("web", "wrong", str(error))
        return
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            config.host, config.port, type=socket.SOCK_STREAM
        )[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except (OSError, UnicodeError) as error:  # UnicodeError: no name of a host at all
        # Not wrong: the station that is checked may be running.
        yield CheckFinding("web", "look", f"{where}: {getattr(error, 'strerror', None) or error}")
        return
    yield CheckFinding("web", "ok", where)


def _existing(path: Path) -> Path:
    """Returns the path, or the nearest folder above it that is there."""
    while not _exists(path):
        path = path.parent
    return path


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name too long, or a folder that may not be searched
        return False


def _gib(count: int) -> str:
    return f"{count / (1 << 30):.1f} GiB"
