"""What a station's TOML file may say: every table, every key, its default and its unit.

What is checked of a picture before it is judged.

What judges a station's cameras: `[model]`, and `[camera.NAME.model]` over it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from ..model_file.contract import StrictModel
from ..names import PublicKey
from .grammar import CameraKind, check_source
from .sinks import JsonLinesConfig, MqttConfig, Seconds, TlsConfig, WebhookConfig


class IntegrityConfig(StrictModel):
    """When a picture is not to be trusted: `[camera.NAME.integrity]`.

    None of black, blown and sharpness is the limit that the model has from its good pictures.

    Args:
        frozen_after_s: A live source that gives identical pixels for so long is frozen; 0 never.
        black: A picture whose mean lies below it is black, 0..255.
        blown: One whose mean lies above it is blown out, 0..255.
        sharpness: One whose sharpness lies below it is blurred; 0 never.
        size: `model` takes frames of a size that the model learned from or was calibrated with;
            `any` takes frames of every size.
    """

    frozen_after_s: Annotated[float, Field(ge=0, le=86400)] = 10.0
    black: Annotated[float, Field(ge=0, le=255)] | None = None
    blown: Annotated[float, Field(ge=0, le=255)] | None = None
    sharpness: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    size: Literal["model", "any"] = "model"


Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
"""Of a station, a camera or a model in the store: part of topics, folders and URLs."""
Finite = Annotated[float, Field(allow_inf_nan=False)]


class ModelConfig(StrictModel):
    """What judges: `[model]`, for every camera that names no model of its own.

    Args:
        path: A model file; or
        store: the name of a part in the model store, whose active model is taken.
        backend: `auto`, `gpu`, `cpu`, or a name that `differnet doctor` lists; `fake...` needs no
            model.
        threads: CPU threads; 0 lets the backend choose.
        deadline_ms: How long the engine may work on a frame; then it is killed and started again.
        fallback: Whether ONNX Runtime on the CPU may take over from a backend that fails.
        threshold: Used in place of the model's.
        max_batch: Frames of different cameras that go through the engine together at most, where
            they wait at the same time. None takes 4 on a GPU, and 1 on the CPU, where it gains
            nothing.
        batch_wait_ms: How long a frame may wait for those of other cameras; 0 takes only what lies
            there.
        trusted_keys: Public keys of which one must have signed the model; empty admits every one.
    """

    path: Path | None = None
    store: Name | None = None
    backend: str = "auto"
    threads: Annotated[int, Field(ge=0, le=1024)] = 0
    deadline_ms: Annotated[int, Field(ge=1, le=600_000)] = 1000
    fallback: bool = True
    threshold: Finite | None = None
    max_batch: Annotated[int, Field(ge=1, le=32)] | None = None
    batch_wait_ms: Annotated[int, Field(ge=0, le=1000)] = 0
    trusted_keys: tuple[PublicKey, ...] = ()

    @model_validator(mode="after")
    def _one_model(self) -> ModelConfig:
        given = [name for name in ("path", "store") if getattr(self, name) is not None]
        if self.fake and given:
            raise ValueError("the fake backend runs no model: leave out path and store")
        if len(given) > 1:
            raise ValueError("give either path (a model file) or store (a name in the store)")
        return self

    @property
    def fake(self) -> bool:
        """Whether the backend needs no model."""
        return self.backend.split(":")[0] == "fake"

    @property
    def batch_on_cpu(self) -> int:
        """Frames that go through the engine together where the CPU runs it."""
        return self.max_batch or 1

    @property
    def source(self) -> tuple[Path | None, str | None, str]:
        """What is run: cameras whose sources are equal share an engine."""
        return self.path, self.store, self.backend if self.fake else ""


class CameraModelConfig(StrictModel):
    """A camera's own model: `[camera.NAME.model]`, over what `[model]` says.

    Args:
        path: A model file; or
        store: the name of a part in the model store. Without either, `[model]`'s model judges.
        backend: As in `[model]`, which says what is left out here.
        deadline_ms: Likewise. Cameras with the same model must agree on it.
        threshold: Used in place of the model's; that of `[model]` holds for `[model]`'s model only.
    """

    path: Path | None = None
    store: Name | None = None
    backend: str | None = None
    deadline_ms: Annotated[int, Field(ge=1, le=600_000)] | None = None
    threshold: Finite | None = None

    def over(self, default: ModelConfig) -> ModelConfig:
        """Returns what judges this camera.

        Raises:
            ValueError: The two contradict each other.
        """
        keys = ("path", "store", "backend", "deadline_ms", "threshold")
        own = {key: value for key in keys if (value := getattr(self, key)) is not None}
        named = "path" in own or "store" in own
        if named or own.get("backend", "").split(":")[0] == "fake":
            own = {"path": None, "store": None, "threshold": None, **own}
        return ModelConfig.model_validate({**default.model_dump(), **own})


def check_models(default: ModelConfig, cameras: Mapping[str, CameraModelConfig | None]) -> None:
    """Refuses a camera without a model, and cameras that want one engine run in two ways.

    Args:
        default: `[model]`.
        cameras: Each one's own.

    Raises:
        ValueError: Says which camera, and what to give.
    """
    seen: dict[object, tuple[str, ModelConfig]] = {}
    for name, own in cameras.items():
        try:
            config = default if own is None else own.over(default)
        except ValueError as error:
            text = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
            raise ValueError(f"{name}.model: {text.removeprefix('Value error, ')}") from None
        if config.source == (None, None, ""):
            raise ValueError(
                f"{name} has no model: give path (a model file) or store (a name in the store) in "
                f"[model], or in [camera.{name}.model]"
            )
        other, same = seen.setdefault(config.source, (name, config))
        alone = {"threshold": None}
        if same.model_copy(update=alone) != config.model_copy(update=alone):
            raise ValueError(
                f"{other} and {name} use the same model, which runs in one engine: give "
                "both the same backend and deadline_ms"
            )


Positive = Annotated[int, Field(ge=1)]

PixelFormat = Literal["auto", "mono", "bayer_rggb", "bayer_bggr", "bayer_grbg", "bayer_gbrg"]
Publish = Literal["all", "rejects"]
AfterVerdict = Literal["keep", "move", "delete"]


class StationConfig(StrictModel):
    """The device: `[station]`.

    Args:
        name: Of this station, in topics, events and metrics.
        state: Folder of the outbox, the evidence and what else must outlive a restart; no two
            stations may share one.
        log_level: Of the daemon's log.
        memory_mb: MiB that all of the station's processes may take together, as `differnet check`
            estimates them; models that would need more are refused. None only warns where they
            need more than this machine has.
    """

    name: Name = "station"
    state: Path = Path("/var/lib/differnet")
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    memory_mb: Annotated[int, Field(ge=64, le=1 << 24)] | None = None


class CameraTls(StrictModel):
    """What a camera behind `https://` or `rtsps://` must show: `[camera.NAME.tls]`.

    Args:
        ca: PEM file of what its certificate must be signed by; the certificate itself where the
            camera signed it. None takes the system's authorities.
        verify: False takes any certificate, and so whatever answers in the camera's place.
    """

    ca: Path | None = None
    verify: bool = True

    @model_validator(mode="after")
    def _one(self) -> CameraTls:
        if self.ca is not None and not self.verify:
            raise ValueError("ca is not looked at with verify = false: leave one of them out")
        return self


class CameraConfig(StrictModel):
    """A camera: `[camera.NAME]`.

    Args:
        source: A device (`0`, `/dev/v4l/by-id/...`), a URL, a video, a folder (watched), or a
            GStreamer pipeline without its sink.
        kind: What the source is; `auto` tells by how it is written (`gst:` before a pipeline).
        format: How the source's grey pixels are to be read.
        width: Asked for of a device, in pixels.
        height: Asked for of a device, in pixels.
        fps: Asked for of a device, in frames a second.
        exposure: In the driver's units; None keeps what the camera has.
        gain: In the driver's units; None keeps what the camera has.
        white_balance: In the driver's units; None keeps what the camera has.
        transport: Of an RTSP stream: `tcp` sends lost packets again, `udp` does not wait for them.
        check_h265: Whether libde265, where it is installed, looks for wrong bytes within H.265's
            pictures; that takes about as much CPU time as decoding them.
        tls: See `CameraTls`.
        trigger: `free` judges frame after frame; `command` one for each HTTP or MQTT command.
        max_commands_per_s: With `trigger = "command"`: commands accepted per second on average, and
            in one burst; further ones are refused.
        paced: A video plays at its own speed, again and again, as a camera would.
        after: What becomes of a folder's picture once its verdict is on disk; `move` puts it into
            the subfolder `judged`, `delete` spares pictures without a decision.
        stall_s: A live camera without a new frame for so long is stalled.
        deadline_ms: From a live source's frame (or the command) to the verdict; then it is
            NO_DECISION.
        interval_ms: Least time between two verdicts of a free-running camera.
        same_part_s: Frames of a free-running live camera that follow one another with the same
            outcome within so long are one part; 0 makes each frame a part.
        no_part_after_s: Without a part for so long the station says so; 0 never.
        integrity: See `IntegrityConfig`.
        model: See `CameraModelConfig`.
    """

    source: Annotated[str, Field(min_length=1, max_length=4096)]
    kind: CameraKind = "auto"
    format: PixelFormat = "auto"
    width: Annotated[int, Field(ge=8, le=16384)] | None = None
    height: Annotated[int, Field(ge=8, le=16384)] | None = None
    fps: Annotated[float, Field(gt=0, le=1000)] | None = None
    exposure: Finite | None = None
    gain: Finite | None = None
    white_balance: Finite | None = None
    transport: Literal["tcp", "udp"] = "tcp"
    check_h265: bool = True
    tls: CameraTls | None = None
    trigger: Literal["free", "command"] = "free"
    max_commands_per_s: Annotated[int, Field(ge=1, le=1000)] = 10
    paced: bool = False
    after: AfterVerdict = "keep"
    stall_s: Annotated[float, Field(ge=0.2, le=600)] = 2.0
    deadline_ms: Annotated[int, Field(ge=1, le=600_000)] = 2000
    interval_ms: Annotated[int, Field(ge=0, le=3_600_000)] = 0
    same_part_s: Annotated[float, Field(ge=0, le=3600)] = 1.0
    no_part_after_s: Annotated[float, Field(ge=0, le=86400)] = 0.0
    integrity: IntegrityConfig = IntegrityConfig()
    model: CameraModelConfig | None = None

    @model_validator(mode="after")
    def _transport_of_rtsp(self) -> CameraConfig:
        if self.transport != "tcp" and not self.source.lower().startswith("rtsp://"):
            raise ValueError('transport = "udp" is for rtsp:// only')
        return self

    @model_validator(mode="after")
    def _encrypted(self) -> CameraConfig:
        if self.tls is not None and not self.source.lower().startswith(("https://", "rtsps://")):
            raise ValueError("tls is for https:// and rtsps:// only")
        return self

    @model_validator(mode="after")
    def _known_source(self) -> CameraConfig:
        if self.kind in ("auto", "stream"):
            check_source(self.source)
        return self

    @model_validator(mode="after")
    def _whole_size(self) -> CameraConfig:
        if (self.width is None) != (self.height is None):
            raise ValueError("give width and height together, or neither")
        return self


class DecisionConfig(StrictModel):
    """From verdicts to an alarm: `[decision]`; k of the last n not GOOD, then silence.

    Args:
        k: So many of the last n verdicts must not be GOOD.
        n: Of so many verdicts.
        cooldown_s: No second alarm for so long.
    """

    k: Positive = 1
    n: Annotated[int, Field(ge=1, le=10_000)] = 1
    cooldown_s: Annotated[float, Field(ge=0, le=86400)] = 0.0

    @model_validator(mode="after")
    def _k_of_n(self) -> DecisionConfig:
        if self.k > self.n:
            raise ValueError(f"k of n needs k at most n; received {self.k} of {self.n}")
        return self


class EvidenceConfig(StrictModel):
    """Pictures kept: `[evidence]`; older ones go when a cap is reached.

    Args:
        keep: Which verdicts' pictures.
        good_every: Of the good ones every so many too; 0 none.
        max_bytes: All files together.
        max_count: Pictures.
        max_age_days: Older ones go.
        min_free_bytes: Of the disk, left to others.
        jpeg_quality: 0 writes PNG, without loss.
    """

    keep: Literal["rejects", "all", "none"] = "rejects"
    good_every: Annotated[int, Field(ge=0)] = 0
    max_bytes: Annotated[int, Field(ge=1 << 16)] = 5 << 30
    max_count: Positive = 100_000
    max_age_days: Annotated[float, Field(gt=0, le=36500)] = 90.0
    min_free_bytes: Annotated[int, Field(ge=0)] = 1 << 30
    jpeg_quality: Annotated[int, Field(ge=0, le=100)] = 92


class EventsConfig(StrictModel):
    """What is put into the outbox: `[events]`; the oldest events go when a cap is reached.

    Args:
        publish: Every inspection, or only those that are not GOOD.
        max_events: Kept until they are delivered.
        max_age_days: Likewise.
        degraded_after_s: A sink that has taken nothing for so long is a reason in `/readyz`.
    """

    publish: Publish = "all"
    max_events: Annotated[int, Field(ge=100)] = 2_000_000
    max_age_days: Annotated[float, Field(gt=0, le=36500)] = 30.0
    degraded_after_s: Seconds = 60.0


class WebConfig(StrictModel):
    """The page and its API: `[web]`.

    Args:
        enabled: Whether there is one.
        host: Wider than loopback needs token_file and tls.
        port: 0 takes a free one.
        token_file: Its first line must be sent as `Authorization: Bearer`.
        tls: `certificate` and `key` of this server.
        changes: Whether models may be switched, parts triggered, pictures labelled and thresholds
            set over HTTP.
    """

    enabled: bool = True
    host: Annotated[str, Field(min_length=1, max_length=255)] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8787
    token_file: Path | None = None
    tls: TlsConfig | None = None
    changes: bool = True


class TeachConfig(StrictModel):
    """Teaching from the page: `[teach]`.

    Args:
        enabled: Whether pictures can be collected and models trained over HTTP.
        goal: Number of different parts to collect, shown by the page's counter.
        memory_mib: Limit for a training in MiB; a training that takes more is ended.
        max_bytes: Limit for all collected pictures together. `min_free_bytes` in `[evidence]`
            applies to them, too.
    """

    enabled: bool = True
    goal: Annotated[int, Field(ge=10, le=1000)] = 40
    memory_mib: Annotated[int, Field(ge=256, le=1 << 20)] = 4096
    max_bytes: Annotated[int, Field(ge=1 << 20)] = 4 << 30


class Config(StrictModel):
    """A whole station."""

    station: StationConfig = StationConfig()
    model: ModelConfig = ModelConfig()
    camera: Annotated[dict[Name, CameraConfig], Field(min_length=1, max_length=64)]
    decision: DecisionConfig = DecisionConfig()
    evidence: EvidenceConfig = EvidenceConfig()
    events: EventsConfig = EventsConfig()
    mqtt: MqttConfig | None = None
    webhook: dict[Name, WebhookConfig] = Field(default_factory=dict)
    jsonl: JsonLinesConfig | None = None
    web: WebConfig = WebConfig()
    teach: TeachConfig = TeachConfig()

    @field_validator("camera")
    @classmethod
    def _judged(
        cls, cameras: dict[str, CameraConfig], info: ValidationInfo
    ) -> dict[str, CameraConfig]:
        if "model" in info.data:  # else it is refused anyway
            check_models(info.data["model"], {name: one.model for name, one in cameras.items()})
        return cameras

    def model_of(self, camera: str) -> ModelConfig:
        """Returns what judges a camera: its own model, or the station's."""
        own = self.camera[camera].model
        return self.model if own is None else own.over(self.model)
