"""What a station's TOML file may say: every table, every key, its default and its unit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from ..metadata import Part
from .grammar import CameraKind, check_source
from .integrity import IntegrityConfig as IntegrityConfig
from .judging import CameraModelConfig as CameraModelConfig
from .judging import Finite, check_models
from .judging import ModelConfig as ModelConfig
from .judging import Name as Name
from .sinks import JsonLinesConfig, MqttConfig, Seconds, TlsConfig, WebhookConfig

Positive = Annotated[int, Field(ge=1)]

PixelFormat = Literal["auto", "mono", "bayer_rggb", "bayer_bggr", "bayer_grbg", "bayer_gbrg"]
Publish = Literal["all", "rejects"]
AfterVerdict = Literal["keep", "move", "delete"]


class StationConfig(Part):
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


class CameraTls(Part):
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


class CameraConfig(Part):
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


class DecisionConfig(Part):
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


class EvidenceConfig(Part):
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


class EventsConfig(Part):
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


class WebConfig(Part):
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


class TeachConfig(Part):
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


class Config(Part):
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
