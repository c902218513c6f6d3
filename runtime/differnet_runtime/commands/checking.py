"""The steps of `differnet check`: what a configuration names, looked at; nothing is changed."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from differnet_runtime.backends.fake import FakeOptions
from differnet_runtime.cameras.sources import describe, refuse_commands, refuse_leaving
from differnet_runtime.config import CameraConfig, Config, Loaded, ModelConfig, WebConfig
from differnet_runtime.config.secrets import read_secret
from differnet_runtime.errors import ConfigError, DifferNetError
from differnet_runtime.model_file import content_hash, read_model_file
from differnet_runtime.models import ModelStore, default_folder
from differnet_runtime.selection import BACKENDS, runs_on_cpu
from differnet_runtime.signing import describe_signature, require_signature
from differnet_runtime.sinks import build_sinks
from differnet_runtime.station_lock import user_of

State = Literal["ok", "look", "wrong"]
_SIGNS = {"ok": "ok   ", "look": "LOOK ", "wrong": "WRONG"}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Args:
        subject: Its table or key.
        state: `look` works, but should be looked at; with `wrong` the station can't start.
        text: In words; never a password.
    """

    subject: str
    state: State
    text: str


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
        lines += [f"{_SIGNS[f.state]}  {f.subject:<{width}}  {f.text}" for f in self.findings]
        return "\n".join([*lines, "The station can start." if self.fit else "It can't start."])

    def as_record(self) -> dict[str, Any]:
        """Returns the same for JSON."""
        return {
            "fit": self.fit,
            "files": [str(file) for file in self.files],
            "findings": [asdict(finding) for finding in self.findings],
        }


def examine(loaded: Loaded) -> Checked:
    """Looks at everything but the cameras themselves."""
    config = loaded.config
    findings = [
        *(Finding("configuration", "look", warning) for warning in loaded.warnings),
        _state_folder(config),
        *_model(config.model),
        *(_camera(name, camera) for name, camera in config.camera.items()),
        *_evidence(config),
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
    made = "" if nearest == folder else "; will be made"
    return Finding("station.state", "ok", f"{folder}{made}")


def _model(config: ModelConfig) -> Iterator[Finding]:
    if config.backend.split(":")[0] == "fake":
        try:
            FakeOptions.parse(config.backend)
        except DifferNetError as error:
            yield Finding("model.backend", "wrong", str(error))
        yield Finding("model", "look", "the fake backend invents its scores: for trying only")
        return
    if config.backend not in BACKENDS:
        known = ", ".join(BACKENDS)
        yield Finding("model.backend", "wrong", f"{config.backend!r} is none of {known}")
    path, subject = config.path, "model.path"
    if config.store is not None:
        path, subject = ModelStore(default_folder()).active(config.store), "model.store"
        if path is None:
            text = f"no model of {config.store} is active: `differnet models activate`"
            yield Finding(subject, "wrong", f"{default_folder()}: {text}")
    if path is not None:
        yield from _model_file(path, subject, config)


def _model_file(path: Path, subject: str, config: ModelConfig) -> Iterator[Finding]:
    try:
        data, metadata = read_model_file(path)
        signature = describe_signature(data, str(path), config.trusted_keys)
    except DifferNetError as error:
        yield Finding(subject, "wrong", str(error))
        return
    threshold = config.threshold
    if threshold is None and metadata.calibration is not None:
        threshold = metadata.calibration.threshold
    heatmap = "with" if metadata.windows else "no"
    yield Finding(
        subject,
        "ok",
        f"{path}: {metadata.name}, sha256 {content_hash(data)[:12]}..., {metadata.precision}, "
        f"{heatmap} heatmap, "
        + ("not calibrated" if threshold is None else f"threshold {threshold:.4g}")
        + f", {signature}",
    )
    try:
        require_signature(data, str(path), config.trusted_keys)
    except DifferNetError as error:
        yield Finding("model.trusted_keys", "wrong", str(error))
    if threshold is None:
        text = "no part can be judged: run `differnet calibrate`, or give model.threshold"
        yield Finding("model.threshold", "wrong", text)
    if metadata.precision != "fp32" and runs_on_cpu(config.backend):
        kind = metadata.precision.upper()
        text = f"an {kind} model is slow on a CPU: export it in FP32 for this machine"
        yield Finding("model.backend", "look", text)


def _camera(name: str, camera: CameraConfig) -> Finding:
    subject, source = f"camera.{name}", camera.source
    try:
        refuse_commands(name, camera)
        refuse_leaving(name, camera)
    except ConfigError as error:
        return Finding(subject, "wrong", str(error))
    shown = f"{describe(camera)}, {camera.trigger}"
    if source.startswith("/") and camera.kind != "gstreamer" and not _exists(Path(source)):
        return Finding(subject, "look", f"{shown}: is not there now; it is waited for")
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
            f"{_gib(evidence.max_bytes)} may be kept, but beyond evidence.min_free_bytes only "
            f"{_gib(max(0, free))} is free in {nearest}: older pictures go earlier",
        )


def _secrets_and_sinks(config: Config) -> Iterator[Finding]:
    """Every secret that can't be read, and then, if all can, what else keeps sinks from opening."""
    files = {"mqtt.password_file": config.mqtt.password_file if config.mqtt else None}
    files |= {
        f"webhook.{name}.token_file": hook.token_file for name, hook in config.webhook.items()
    }
    readable = True
    for subject, file in files.items():
        if file is None:
            continue
        try:
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
