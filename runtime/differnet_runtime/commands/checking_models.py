"""What `differnet check` says of a station's models, and of the memory that they need."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..backends.fake import FakeOptions
from ..backends.selection import check_backend, runs_on_cpu
from ..config import Config, PlannedModel, planned_models
from ..errors import DifferNetError
from ..inference.messages import FAKE_METADATA
from ..model_file.file import content_hash, read_model_file
from ..model_file.metadata import ModelMetadata
from ..model_file.signing import describe_signature, require_signature
from ..models.cards import advice
from ..models.store import ModelStore, default_folder
from ..station.memory import (
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

State = Literal["ok", "look", "wrong"]


@dataclass(frozen=True)
class CheckFinding:
    """One thing that was looked at.

    Args:
        subject: Configuration table or key that it is about, such as `camera.top`.
        state: `look` works, but should be looked at; with `wrong` the station can't start.
        text: In words; never a password.
    """

    subject: str
    state: State
    text: str


def models(config: Config) -> Iterator[CheckFinding]:
    """Looks at every model, and at the memory that all of them need."""
    planned = planned_models(config)
    shares: list[Share] = []
    for one in planned:
        yield from _model(one, shares, several=len(planned) > 1)
    if len(shares) == len(planned):
        yield _memory(shares, config.station.memory_mb)
    default = config.model
    if (default.path or default.store) and all(one.key != "model" for one in planned):
        yield CheckFinding("model", "look", "not needed: each camera has its own model")


def files(config: Config) -> dict[str, tuple[Path, ModelMetadata]]:
    """Returns the model file that judges each camera, where it can be read."""
    found: dict[str, tuple[Path, ModelMetadata]] = {}
    for one in planned_models(config):
        path = _path(one)
        try:
            metadata = read_model_file(path)[1] if path is not None else None
        except DifferNetError:
            continue
        if path is not None and metadata is not None:
            found |= dict.fromkeys(one.cameras, (path, metadata))
    return found


def _path(planned: PlannedModel) -> Path | None:
    if planned.config.store is not None:
        return ModelStore(default_folder()).active(planned.config.store)
    return planned.config.path


def _model(planned: PlannedModel, shares: list[Share], *, several: bool) -> Iterator[CheckFinding]:
    config, key = planned.config, planned.key
    if config.fake:
        try:
            FakeOptions.parse(config.backend)
        except DifferNetError as error:
            yield CheckFinding(f"{key}.backend", "wrong", str(error))
        shares.append(share_of(planned, FAKE_METADATA, 0))
        yield CheckFinding(key, "look", "the fake backend invents its scores: for trials only")
        return
    try:
        check_backend(config.backend)
    except DifferNetError as error:
        yield CheckFinding(f"{key}.backend", "wrong", str(error))
    path, subject = _path(planned), f"{key}.{'path' if config.store is None else 'store'}"
    if path is None:
        shares.append(share_without_model(planned))
        why = advice(default_folder(), config.store or "")
        text = f"no model judges {', '.join(planned.cameras)} yet: {why}"
        yield CheckFinding(subject, "look", text)
        return
    yield from _model_file(path, subject, planned, shares, several=several)


def _model_file(
    path: Path, subject: str, planned: PlannedModel, shares: list[Share], *, several: bool
) -> Iterator[CheckFinding]:
    config, key = planned.config, planned.key
    try:
        data, metadata = read_model_file(path)
        signature = describe_signature(data, str(path), config.trusted_keys)
    except DifferNetError as error:
        yield CheckFinding(subject, "wrong", str(error))
        return
    shares.append(share_of(planned, metadata, len(data)))
    own = metadata.calibration.threshold if metadata.calibration else None
    thresholds = {
        camera: own if threshold is None else threshold
        for camera, threshold in planned.thresholds.items()
    }
    heatmap = "with" if metadata.windows else "no"
    cameras = f"; judges {', '.join(planned.cameras)}" if several else ""
    yield CheckFinding(
        subject,
        "ok",
        f"{path}: {metadata.name}, sha256 {content_hash(data)[:12]}..., {metadata.precision}, "
        f"{heatmap} heatmap, {_thresholds(thresholds)}, {signature}{cameras}",
    )
    try:
        require_signature(data, str(path), config.trusted_keys)
    except DifferNetError as error:
        yield CheckFinding("model.trusted_keys", "wrong", str(error))
    if None in thresholds.values():
        text = f"no part can be judged: run `differnet calibrate`, or give {key}.threshold"
        yield CheckFinding(f"{key}.threshold", "wrong", text)
    if metadata.precision != "fp32" and runs_on_cpu(config.backend):
        kind = metadata.precision.upper()
        text = f"an {kind} model is slow on a CPU: export it in FP32 for this machine"
        yield CheckFinding(f"{key}.backend", "look", text)


def _thresholds(thresholds: dict[str, float | None]) -> str:
    """Writes one where all cameras have the same, else each camera's."""
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
