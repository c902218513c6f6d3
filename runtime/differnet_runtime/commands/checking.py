"""The steps of `differnet check`: what a configuration names, looked at; nothing is changed."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from differnet_runtime.cameras.sources import describe, refuse_commands, refuse_leaving
from differnet_runtime.colour import Meaning, coloured
from differnet_runtime.config import CameraConfig, Config, Loaded, WebConfig
from differnet_runtime.config.problems import dotted
from differnet_runtime.config.secrets import fingerprint, read_secret, secret_files
from differnet_runtime.daemon.memory import machine_bytes
from differnet_runtime.errors import ConfigError, DifferNetError
from differnet_runtime.sinks import build_sinks
from differnet_runtime.station_lock import user_of
from differnet_runtime.teaching.steps import missing

from .checking_models import Finding, models

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
    findings: tuple[Finding, ...]

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


def _sign(finding: Finding) -> str:
    return coloured(_SIGNS[finding.state], _MEANINGS[finding.state], sys.stdout)


def examine(loaded: Loaded) -> Checked:
    """Looks at everything but the cameras themselves."""
    config = loaded.config
    findings = [
        *(Finding("configuration", "look", warning) for warning in loaded.warnings),
        _state_folder(config),
        *models(config),
        *(_camera(name, camera) for name, camera in config.camera.items()),
        *_evidence(config),
        *_teach(config),
        *_secrets_and_sinks(config),
        *_web(config.web),
    ]
    return Checked(loaded.files, tuple(findings))


def _state_folder(config: Config) -> Finding:
    folder = config.station.state
    nearest = _existing(folder)
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        return Finding("station.state", "wrong", f"{folder}: {nearest} can't be written")
    if user := user_of(folder):
        # Not wrong: it may be this station that runs.
        text = f"{folder}: in use by {user}; if that is another station, give each its own"
        return Finding("station.state", "look", text)
    made = "" if nearest == folder else "; will be created"
    return Finding("station.state", "ok", f"{folder}{made}")


def _camera(name: str, camera: CameraConfig) -> Finding:
    subject, source = f"camera.{name}", camera.source
    try:
        refuse_commands(name, camera)
        refuse_leaving(name, camera)
    except ConfigError as error:
        return Finding(subject, "wrong", str(error))
    shown = f"{describe(camera)}, {camera.trigger}"
    if source.startswith("/") and camera.kind != "gstreamer" and not _exists(Path(source)):
        return Finding(subject, "look", f"{shown}: is not there now; the station waits for it")
    return Finding(subject, "ok", shown)


def _evidence(config: Config) -> Iterator[Finding]:
    evidence, nearest = config.evidence, _existing(config.station.state)
    if evidence.keep == "none":
        return
    free = shutil.disk_usage(nearest).free - evidence.min_free_bytes
    if evidence.max_bytes > free:
        yield Finding(
            "evidence.max_bytes",
            "look",
            f"allows {_gib(evidence.max_bytes)}, but beyond evidence.min_free_bytes only "
            f"{_gib(max(0, free))} is free in {nearest}: old pictures are deleted earlier",
        )


def _teach(config: Config) -> Iterator[Finding]:
    teach, web = config.teach, config.web
    if not (teach.enabled and web.enabled and web.changes):
        return
    lacking = missing()
    trains = "models can be trained here" if lacking is None else lacking
    yield Finding("teach", "ok", f"up to {_gib(teach.max_bytes)} of pictures; {trains}")
    there = machine_bytes()
    if lacking is None and there is not None and teach.memory_mib << 20 > there:
        yield Finding(
            "teach.memory_mib",
            "look",
            f"allows {teach.memory_mib} MiB, but this machine has {there >> 20} MiB: the kernel "
            "may end a training earlier",
        )


def _secrets_and_sinks(config: Config) -> Iterator[Finding]:
    """Every secret that can't be read, and then, if all can, what else keeps sinks from opening."""
    readable = True
    for key, file in secret_files(config):
        subject = dotted(key)
        try:
            fingerprint(key, file)
            if key[-1].endswith("_file"):
                read_secret(file)
            yield Finding(subject, "ok", f"{file} can be read")
        except DifferNetError as error:
            readable = False
            yield Finding(subject, "wrong", str(error))
    if not readable:
        return
    try:
        sinks = build_sinks(config)
    except DifferNetError as error:
        yield Finding("events", "wrong", str(error))
        return
    yield Finding("events", "ok", f"go to {', '.join(sink.name for sink in sinks) or 'no sink'}")


def _web(config: WebConfig) -> Iterator[Finding]:
    if not config.enabled:
        return
    where = f"{config.host} port {config.port or '(a free one)'}"
    try:
        from differnet_runtime.web.server import access_of  # imports starlette and uvicorn

        access_of(config)
    except DifferNetError as error:
        yield Finding("web", "wrong", str(error))
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
        yield Finding("web", "look", f"{where}: {getattr(error, 'strerror', None) or error}")
        return
    yield Finding("web", "ok", where)


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
