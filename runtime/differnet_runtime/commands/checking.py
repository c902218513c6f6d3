"""The work of `differnet check`: a station's configuration, and everything that it names.

Nothing is changed. Cameras are opened only on request, each in a process of its own, so that none
of them can hang the check.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from ..backends.fake import FakeOptions
from ..backends.selection import check_backend, runs_on_cpu
from ..cameras.sources import describe as describe_camera
from ..cameras.sources import refuse_commands, refuse_leaving
from ..capture.process import CaptureProcess
from ..command import require_service
from ..config import Config, PlannedModel, WebConfig, load_config, planned_models
from ..config.grammar import redact
from ..config.paths import fingerprint, read_secret, secret_files
from ..config.problems import Key, dotted
from ..errors import ConfigError, DifferNetError, FrameError, ImageReadError
from ..files import user_of
from ..inference.messages import FAKE_METADATA
from ..inspection.preprocess import preprocess
from ..model_file.file import content_hash, read_model_file
from ..model_file.metadata import ModelMetadata
from ..model_file.signing import describe_signature, require_signature
from ..models.cards import advice
from ..models.store import ModelStore, default_folder
from ..records import Image
from ..sinks import build_sinks
from ..station.model_set import (
    MIB,
    Share,
    changing_bytes,
    describe,
    machine_bytes,
    mib,
    share_of,
    share_without_model,
    total_bytes,
)
from ..teaching.job import missing
from ..text import Meaning, coloured, table

State = Literal["ok", "look", "wrong"]

_SIGNS: dict[State, tuple[str, Meaning]] = {
    "ok": ("ok", "good"),
    "look": ("LOOK", "look"),
    "wrong": ("WRONG", "bad"),
}
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[\w.-]+)(:\d*)?")


@dataclass(frozen=True)
class CheckFinding:
    """One finding of `differnet check`.

    Args:
        subject: The configuration table or key concerned, such as `camera.top`.
        state: `look` works, but deserves a look; with `wrong` the station can't start.
        text: The finding in words, without passwords.

    Example:
        >>> CheckFinding("web", "ok", "127.0.0.1 port 8787").state
        'ok'
    """

    subject: str
    state: State
    text: str


@dataclass(frozen=True)
class Checked:
    """All findings about one configuration.

    Args:
        files: The files of the configuration.
        findings: In the order of the configuration's tables.

    Example:
        >>> Checked((), (CheckFinding("web", "ok", "127.0.0.1 port 8787"),)).fit
        True
    """

    files: tuple[Path, ...]
    findings: tuple[CheckFinding, ...]

    @property
    def fit(self) -> bool:
        """Whether the station can start."""
        return all(finding.state != "wrong" for finding in self.findings)

    def as_text(self) -> str:
        """Returns a line for each file and each finding, and the conclusion."""
        rows = [
            (coloured(*_SIGNS[one.state], sys.stdout), one.subject, one.text)
            for one in self.findings
        ]
        conclusion = "The station can start." if self.fit else "It can't start."
        files = (f"read   {file}" for file in self.files)
        return "\n".join([*files, table(rows, least=(5,)), conclusion])

    def as_record(self) -> dict[str, Any]:
        """Returns the findings for JSON."""
        return {
            "fit": self.fit,
            "files": [str(file) for file in self.files],
            "findings": [asdict(finding) for finding in self.findings],
        }


def effective(config: Config) -> dict[str, Any]:
    """Returns every key that has a value, as TOML or JSON can hold it, without passwords.

    Of webhooks' URLs only the host is left.
    """
    tables: dict[str, Any] = config.model_dump(mode="json", exclude_none=True)
    for camera in tables["camera"].values():
        camera["source"] = redact(camera["source"])
    for webhook in tables["webhook"].values():
        webhook["url"] = _host_alone(webhook["url"])
    return tables


def _host_alone(url: str) -> str:
    """Returns a URL without its login, path and query: many receivers know a sender by the path."""
    scheme, _, rest = url.partition("://")
    authority, *beyond = re.split(r"[/?#]", rest, maxsplit=1)
    host = authority.rpartition("@")[2]
    if not _HOST.fullmatch(host):  # it is ambiguous where the password ends
        return f"{scheme}://***"
    return f"{scheme}://{host}{'/***' * any(beyond)}"


def check(path: Path, *, cameras_s: float | None = None) -> Checked:
    """Reads a configuration and examines what it names.

    Args:
        path: The station's TOML file.
        cameras_s: Seconds that the cameras may take for one frame each; None opens no camera.
    """
    try:
        loaded = load_config(path)
    except ConfigError as error:
        lines = str(error).splitlines()
        return Checked((), tuple(CheckFinding("configuration", "wrong", line) for line in lines))
    config = loaded.config
    findings = [
        *(CheckFinding("configuration", "look", warning) for warning in loaded.warnings),
        _state_folder(config),
        *_models(config),
        *chain(*(_guarded(f"camera.{name}", _camera(name, config)) for name in config.camera)),
        *_evidence(config),
        *_teach(config),
        *_secrets_and_sinks(config),
        *_guarded("web", _web(config.web)),
    ]
    if cameras_s is not None:
        findings += _first_frames(config, cameras_s)
    return Checked(loaded.files, tuple(findings))


def _guarded(subject: str, findings: Iterator[CheckFinding]) -> Iterator[CheckFinding]:
    """Yields the findings; an error on the way is the last one."""
    try:
        yield from findings
    except DifferNetError as error:
        yield CheckFinding(subject, "wrong", str(error))


def _refused(
    subject: str, attempt: Callable[..., object], *given: object
) -> Iterator[CheckFinding]:
    """Yields the error of a function that refuses what it is given."""
    try:
        attempt(*given)
    except DifferNetError as error:
        yield CheckFinding(subject, "wrong", str(error))


def _state_folder(config: Config) -> CheckFinding:
    folder = config.station.state
    nearest = _existing(folder)
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        return CheckFinding("station.state", "wrong", f"{folder}: {nearest} can't be written")
    if user := user_of(folder):
        # Not wrong: this station may be running.
        text = f"{folder}: in use by {user}; if that is another station, give each its own"
        return CheckFinding("station.state", "look", text)
    return CheckFinding(
        "station.state", "ok", f"{folder}{'' if nearest == folder else '; will be created'}"
    )


def _models(config: Config) -> Iterator[CheckFinding]:
    """Examines every model, and the memory that all of them need together."""
    planned = planned_models(config)
    shares: list[Share] = []
    for one in planned:
        yield from _model(one, shares, several=len(planned) > 1)
    if len(shares) == len(planned):
        yield _memory(shares, config.station.memory_mb)
    default = config.model
    if (default.path or default.store) and all(one.key != "model" for one in planned):
        yield CheckFinding("model", "look", "not needed: each camera has its own model")


def _path(planned: PlannedModel) -> Path | None:
    store, path = planned.config.store, planned.config.path
    return path if store is None else ModelStore(default_folder()).active(store)


def _model(planned: PlannedModel, shares: list[Share], *, several: bool) -> Iterator[CheckFinding]:
    config, key = planned.config, planned.key
    if config.fake:
        yield from _refused(f"{key}.backend", FakeOptions.parse, config.backend)
        shares.append(share_of(planned, FAKE_METADATA, 0))
        yield CheckFinding(key, "look", "the fake backend invents its scores: for trials only")
        return
    yield from _refused(f"{key}.backend", check_backend, config.backend)
    path, subject = _path(planned), f"{key}.{'path' if config.store is None else 'store'}"
    if path is not None:
        found = _model_file(path, subject, planned, shares, several=several)
        yield from _guarded(subject, found)
        return
    shares.append(share_without_model(planned))
    why = advice(default_folder(), config.store or "")
    yield CheckFinding(subject, "look", f"no model judges {', '.join(planned.cameras)} yet: {why}")


def _model_file(
    path: Path, subject: str, planned: PlannedModel, shares: list[Share], *, several: bool
) -> Iterator[CheckFinding]:
    config, key = planned.config, planned.key
    data, metadata = read_model_file(path)
    signature = describe_signature(data, str(path), config.trusted_keys)
    shares.append(share_of(planned, metadata, len(data)))
    thresholds = {
        camera: metadata.threshold if threshold is None else threshold
        for camera, threshold in planned.thresholds.items()
    }
    yield CheckFinding(
        subject,
        "ok",
        f"{path}: {metadata.name}, sha256 {content_hash(data)[:12]}..., {metadata.precision}, "
        f"{'with' if metadata.windows else 'no'} heatmap, {_thresholds(thresholds)}, {signature}"
        f"{'; judges ' + ', '.join(planned.cameras) if several else ''}",
    )
    signed = (data, str(path), config.trusted_keys)
    yield from _refused("model.trusted_keys", require_signature, *signed)
    if None in thresholds.values():
        text = f"no part can be judged: run `differnet calibrate`, or give {key}.threshold"
        yield CheckFinding(f"{key}.threshold", "wrong", text)
    if metadata.precision != "fp32" and runs_on_cpu(config.backend):
        kind = metadata.precision.upper()
        text = f"an {kind} model is slow on a CPU: export it in FP32 for this machine"
        yield CheckFinding(f"{key}.backend", "look", text)


def _thresholds(thresholds: dict[str, float | None]) -> str:
    """Writes the threshold once if all cameras have the same, else each camera's."""
    texts = {camera: "none" if x is None else f"{x:.4g}" for camera, x in thresholds.items()}
    if len(set(texts.values())) > 1:
        return "threshold " + ", ".join(f"{text} ({camera})" for camera, text in texts.items())
    text = next(iter(texts.values()))
    return "not calibrated" if text == "none" else f"threshold {text}"


def _memory(shares: list[Share], limit_mb: int | None) -> CheckFinding:
    subject, needed, changing = "station.memory_mb", total_bytes(shares), changing_bytes(shares)
    text = (
        f"about {mib(needed)} are needed ({describe(shares)}), and {mib(changing)} while a model "
        "changes; on a GPU, its libraries add to each engine"
    )
    if limit_mb is not None and needed > limit_mb * MIB:
        return CheckFinding(subject, "wrong", f"{text}; {limit_mb} MiB are allowed")
    there = machine_bytes() if limit_mb is None else limit_mb * MIB
    if there is not None and changing > there:
        whose = "there is" if limit_mb is None else "allowed is"
        return CheckFinding(subject, "look", f"{text}; {whose} {mib(there)}")
    return CheckFinding(subject, "ok", text)


def _camera(name: str, config: Config) -> Iterator[CheckFinding]:
    camera = config.camera[name]
    refuse_commands(name, camera)
    refuse_leaving(name, camera)
    shown, source = f"{describe_camera(camera)}, {camera.trigger}", camera.source
    if source.startswith("/") and camera.kind != "gstreamer" and not _exists(Path(source)):
        text = f"{shown}: is not there now; the station waits for it"
        yield CheckFinding(f"camera.{name}", "look", text)
    else:
        yield CheckFinding(f"camera.{name}", "ok", shown)


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
    lacking, pictures = missing(), f"up to {_gib(teach.max_bytes)} of pictures"
    yield CheckFinding("teach", "ok", f"{pictures}; {lacking or 'models can be trained here'}")
    there = machine_bytes()
    if lacking is None and there is not None and teach.memory_mib << 20 > there:
        yield CheckFinding(
            "teach.memory_mib",
            "look",
            f"allows {teach.memory_mib} MiB, but this machine has {there >> 20} MiB: the kernel "
            "may end a training earlier",
        )


def _secrets_and_sinks(config: Config) -> Iterator[CheckFinding]:
    """Examines every secret and, if all can be read, whether the sinks can be built."""
    secrets = [
        finding
        for key, file in secret_files(config)
        for finding in _guarded(dotted(key), _secret(key, file))
    ]
    yield from secrets
    if all(finding.state == "ok" for finding in secrets):
        yield from _guarded("events", _sinks(config))


def _secret(key: Key, file: Path) -> Iterator[CheckFinding]:
    fingerprint(key, file)
    if key[-1].endswith("_file"):
        read_secret(file)
    yield CheckFinding(dotted(key), "ok", f"{file} can be read")


def _sinks(config: Config) -> Iterator[CheckFinding]:
    names = ", ".join(sink.name for sink in build_sinks(config))
    yield CheckFinding("events", "ok", f"go to {names or 'no sink'}")


def _web(config: WebConfig) -> Iterator[CheckFinding]:
    if not config.enabled:
        return
    require_service()
    from ..web.server import read_web_secrets  # imports starlette and uvicorn

    read_web_secrets(config)
    where = f"{config.host} port {config.port or '(a free one)'}"
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            config.host, config.port, type=socket.SOCK_STREAM
        )[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
        yield CheckFinding("web", "ok", where)
    except (OSError, UnicodeError) as error:  # UnicodeError: no name of a host at all
        # Not wrong: this station may be running.
        yield CheckFinding("web", "look", f"{where}: {getattr(error, 'strerror', None) or error}")


def _existing(path: Path) -> Path:
    """Returns the path, or the nearest folder above it that exists."""
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


def _first_frames(config: Config, timeout_s: float) -> list[CheckFinding]:
    """Opens all cameras at once and takes a frame of each, within `timeout_s` seconds together."""
    models = dict(_judges(config))
    until = time.monotonic() + timeout_s
    with ExitStack() as stack:
        opened = {name: CaptureProcess(name, camera) for name, camera in config.camera.items()}
        for capture in opened.values():
            stack.callback(capture.stop)
        for capture in opened.values():
            capture.start()
        return [
            CheckFinding(f"camera.{name}", state, text)
            for name, capture in opened.items()
            for state, text in _first_frame(capture, until, timeout_s, models.get(name))
        ]


def _judges(config: Config) -> Iterator[tuple[str, ModelMetadata]]:
    """Yields each camera and the model that judges it, if its file can be read."""
    for planned in planned_models(config):
        with suppress(DifferNetError):
            if (path := _path(planned)) is not None:
                metadata = read_model_file(path)[1]
                yield from ((camera, metadata) for camera in planned.cameras)


def _first_frame(
    capture: CaptureProcess, until: float, timeout_s: float, model: ModelMetadata | None
) -> Iterator[tuple[State, str]]:
    frame = None
    try:
        while frame is None and capture.wait(max(0.0, until - time.monotonic())):
            frame = capture.take()
            if frame is None and not capture.live:
                break
    except ImageReadError as error:
        yield "look", str(error)
        return
    status = capture.status
    if frame is None:
        why = f": {status.reason}" if status.reason else ""
        yield "look", f"no frame within {timeout_s:g} s{why}"
        return
    height, width = frame.image.shape[:2]
    yield "ok", f"gave a frame of {width} x {height} pixels"
    yield from (("look", one.warning) for one in status.settings if one.warning)
    if model is not None and (misfit := _misfit(frame.image, model)):
        yield "look", misfit


def _misfit(image: Image, model: ModelMetadata) -> str | None:
    """Returns why the camera's model would give no verdict on such frames; None if it would."""
    height, width = image.shape[:2]
    sizes = model.picture_sizes
    if sizes is not None and not sizes.accepts(width, height):
        return f"its model {model.name} knows pictures of {sizes}, not of {width} x {height} pixels"
    try:
        preprocess(image, model.input)
    except FrameError as error:
        return f"its model {model.name} can't take the frame: {error}"
    return None
