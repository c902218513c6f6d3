"""The tables and keys of a station's TOML file, with their defaults and limits.

The docstrings are the descriptions in the configuration's JSON Schema.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from ..model_file.contract import StrictModel
from ..names import PublicKey
from .grammar import CameraKind, check_source

Seconds = Annotated[float, Field(gt=0, le=86400, allow_inf_nan=False)]


class TlsConfig(StrictModel):
    """Certificates: `[mqtt.tls]`, `[webhook.NAME.tls]`, `[web.tls]`.

    Args:
        ca: PEM file of the authority that signed the other side's certificate; None takes the
            system's authorities.
        certificate: PEM file of this side's certificate; needs key.
        key: PEM file of the certificate's private key.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    @model_validator(mode="after")
    def _pair(self) -> TlsConfig:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("give certificate and key together, or neither")
        return self


class MqttConfig(StrictModel):
    """An MQTT broker: `[mqtt]`.

    Args:
        host: Host name or address of the broker.
        port: Port of the broker; None takes 1883, or 8883 with TLS.
        prefix: Prefix of all topics: `PREFIX/STATION/...`.
        protocol: Version of the MQTT protocol.
        qos: Quality of service of events, status and last will.
        retain: Whether the broker keeps the last state of each component, and the status.
        commands: Whether parts may be triggered over MQTT.
        username: User name for the broker; goes with password_file.
        password_file: File whose first line is the password; looked for in
            `$CREDENTIALS_DIRECTORY`, then beside the configuration.
        tls: Encrypts the connection; the table `[mqtt.tls]`.
        keepalive_s: Keep-alive interval; the broker publishes the last will after 1.5 of them.
        heartbeat_s: Time between two heartbeats, which stop when inspection does.
    """

    host: Annotated[str, Field(min_length=1, max_length=255)]
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    prefix: Annotated[str, Field(pattern=r"^[^#+/\x00][^#+\x00]{0,127}$")] = "differnet"
    protocol: Literal["3.1.1", "5"] = "5"
    qos: Literal[0, 1, 2] = 1
    retain: bool = True
    commands: bool = True
    username: str | None = None
    password_file: Path | None = None
    tls: TlsConfig | None = None
    keepalive_s: Annotated[int, Field(ge=2, le=3600)] = 15
    heartbeat_s: Annotated[float, Field(ge=0.2, le=3600)] = 1.0


class WebhookConfig(StrictModel):
    """An HTTP receiver: `[webhook.NAME]`; events are POSTed as JSON, a batch in a list.

    Args:
        url: Address of the receiver, http:// or https://.
        token_file: File whose first line is sent as `Authorization: Bearer`.
        timeout_s: Time limit for an answer.
        tls: Certificates; the table `[webhook.NAME.tls]`.
    """

    url: Annotated[str, Field(pattern=r"^https?://[^\s]+$", max_length=2048)]
    token_file: Path | None = None
    timeout_s: Seconds = 10.0
    tls: TlsConfig | None = None


class JsonLinesConfig(StrictModel):
    """A file with a line of JSON for each event: `[jsonl]`; rotated by size.

    Args:
        path: The file to append to.
        max_bytes: Size at which the file is rotated.
        keep: Number of rotated files that are kept.
    """

    path: Path
    max_bytes: Annotated[int, Field(ge=1 << 12)] = 64 << 20
    keep: Annotated[int, Field(ge=0, le=1000)] = 5


class IntegrityConfig(StrictModel):
    """Limits for pictures that can be judged: `[camera.NAME.integrity]`.

    For black, blown and sharpness, None takes the model's limit, measured on its good pictures.

    Args:
        frozen_after_s: A live source is frozen after identical pixels for this long; 0: never.
        black: A picture is black if its mean grey level is below this, 0..255.
        blown: A picture is blown out if its mean grey level is above this, 0..255.
        sharpness: A picture is blurred if its sharpness is below this; 0: never.
        size: `model` accepts frames of the sizes that the model was trained or calibrated with;
            `any` accepts every size.
    """

    frozen_after_s: Annotated[float, Field(ge=0, le=86400)] = 10.0
    black: Annotated[float, Field(ge=0, le=255)] | None = None
    blown: Annotated[float, Field(ge=0, le=255)] | None = None
    sharpness: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    size: Literal["model", "any"] = "model"


Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
"""Name of a station, a camera or a model in the store: part of topics, folders and URLs."""
Finite = Annotated[float, Field(allow_inf_nan=False)]


class ModelConfig(StrictModel):
    """The model of every camera that names none of its own: `[model]`.

    Args:
        path: A model file. Give this or store.
        store: Name of a part in the model store, whose active model is used.
        backend: `auto`, `gpu`, `cpu`, or a name that `differnet doctor` lists; `fake...` needs no
            model.
        threads: CPU threads; 0 lets the backend choose.
        deadline_ms: Time limit for the engine on one frame; after it, the engine is restarted.
        fallback: Whether ONNX Runtime on the CPU may take over from a backend that fails.
        threshold: Replaces the model's threshold.
        max_batch: Maximum number of waiting frames of different cameras in one batch. None: 4 on a
            GPU, and 1 on the CPU, where batches gain nothing.
        batch_wait_ms: How long a frame may wait for those of other cameras; 0: not at all.
        trusted_keys: Public keys, one of which must have signed the model; empty accepts any model.
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
    def source(self) -> tuple[Path | None, str | None, str]:
        """What the engine runs; cameras with the same source share an engine."""
        return self.path, self.store, self.backend if self.fake else ""


class CameraModelConfig(StrictModel):
    """A camera's own model: `[camera.NAME.model]`. What is left out is as in `[model]`.

    Args:
        path: A model file. Without path and store, the model of `[model]` judges.
        store: Name of a part in the model store, whose active model is used.
        backend: What runs the model, as in `[model]`.
        deadline_ms: Time limit as in `[model]`; cameras with the same model must agree on it.
        threshold: Replaces the model's threshold. That of `[model]` holds for its own model only.
    """

    path: Path | None = None
    store: Name | None = None
    backend: str | None = None
    deadline_ms: Annotated[int, Field(ge=1, le=600_000)] | None = None
    threshold: Finite | None = None

    def over(self, default: ModelConfig) -> ModelConfig:
        """Returns this camera's model: `default` with what is set here.

        Raises:
            ValueError: The two contradict each other.
        """
        own = self.model_dump(exclude_none=True)
        if {"path", "store"} & own.keys() or own.get("backend", "").split(":")[0] == "fake":
            own = {"path": None, "store": None, "threshold": None, **own}
        return ModelConfig.model_validate({**default.model_dump(), **own})


def check_models(default: ModelConfig, cameras: Mapping[str, CameraModelConfig | None]) -> None:
    """Refuses a camera without a model, and cameras with different settings for one engine.

    Args:
        default: The configuration's table `[model]`.
        cameras: Each camera's own table, if it has one.

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
        name: The station's name in topics, events and metrics.
        state: Folder for the outbox, the evidence and everything else that must survive a restart;
            each station needs its own.
        log_level: Least severe level that the station logs.
        memory_mb: Limit in MiB for all of the station's processes together, as `differnet check`
            estimates them; models that would need more are refused. None only warns if they need
            more than this machine has.
    """

    name: Name = "station"
    state: Path = Path("/var/lib/differnet")
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    memory_mb: Annotated[int, Field(ge=64, le=1 << 24)] | None = None


class CameraTls(StrictModel):
    """How the certificate of an `https://` or `rtsps://` camera is checked: `[camera.NAME.tls]`.

    Args:
        ca: PEM file of the authority that signed the camera's certificate, or of the certificate
            itself if it is self-signed. None takes the system's authorities.
        verify: False accepts any certificate, and so any machine that takes the camera's place.
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
        kind: The kind of source; `auto` recognises it by its form (`gst:` before a pipeline).
        format: How the source's grey pixels are interpreted.
        width: Width to request from a device, in pixels.
        height: Height to request from a device, in pixels.
        fps: Frame rate to request from a device, in frames per second.
        exposure: Exposure in the driver's units; None keeps the camera's setting.
        gain: Gain in the driver's units; None keeps the camera's setting.
        white_balance: White balance in the driver's units; None keeps the camera's setting.
        transport: For RTSP streams: `tcp` sends lost packets again, `udp` does not wait for them.
        check_h265: Whether libde265, if installed, looks for damage within H.265 pictures; this
            takes about as much CPU time as decoding them.
        tls: How the camera's certificate is checked: `[camera.NAME.tls]`.
        trigger: `free` judges every frame; `command` judges one for each HTTP or MQTT command.
        max_commands_per_s: With `trigger = "command"`: commands accepted per second on average, and
            in one burst; further ones are refused.
        paced: Whether a video plays in a loop at its own speed, as a camera would.
        after: What happens to a folder's picture once its verdict is on disk; `move` puts it into
            the subfolder `judged`, `delete` spares pictures without a decision.
        stall_s: A live camera without a new frame for this long is stalled.
        deadline_ms: Time limit from a live source's frame (or the command) to the verdict, which is
            NO_DECISION after it.
        interval_ms: Minimum time between two verdicts of a free-running camera.
        same_part_s: Successive frames of a free-running live camera with the same outcome within
            this time count as one part; 0 counts every frame.
        no_part_after_s: The station reports a camera without a part for this long; 0: never.
        integrity: Limits for pictures that can be judged: `[camera.NAME.integrity]`.
        model: The camera's own model: `[camera.NAME.model]`.
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
    def _consistent(self) -> CameraConfig:
        url = self.source.lower()
        if self.transport != "tcp" and not url.startswith("rtsp://"):
            raise ValueError('transport = "udp" is for rtsp:// only')
        if self.tls is not None and not url.startswith(("https://", "rtsps://")):
            raise ValueError("tls is for https:// and rtsps:// only")
        if self.kind in ("auto", "stream"):
            check_source(self.source)
        if (self.width is None) != (self.height is None):
            raise ValueError("give width and height together, or neither")
        return self


class DecisionConfig(StrictModel):
    """When verdicts raise an alarm: `[decision]`; if k of the last n are not GOOD.

    Args:
        k: Minimum number of verdicts that are not GOOD.
        n: Number of latest verdicts that are considered.
        cooldown_s: Minimum time between two alarms.
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
    """Which pictures are kept: `[evidence]`; the oldest are deleted when a limit is reached.

    Args:
        keep: Verdicts whose pictures are kept.
        good_every: Also keep every n-th good picture; 0: none.
        max_bytes: Limit for all files together.
        max_count: Maximum number of pictures.
        max_age_days: Older pictures are deleted.
        min_free_bytes: Disk space that is left free.
        jpeg_quality: JPEG quality, 1..100; 0 writes lossless PNG.
    """

    keep: Literal["rejects", "all", "none"] = "rejects"
    good_every: Annotated[int, Field(ge=0)] = 0
    max_bytes: Annotated[int, Field(ge=1 << 16)] = 5 << 30
    max_count: Positive = 100_000
    max_age_days: Annotated[float, Field(gt=0, le=36500)] = 90.0
    min_free_bytes: Annotated[int, Field(ge=0)] = 1 << 30
    jpeg_quality: Annotated[int, Field(ge=0, le=100)] = 92


class EventsConfig(StrictModel):
    """Which events are published: `[events]`; the oldest are dropped when a limit is reached.

    Args:
        publish: Every inspection, or only those that are not GOOD.
        max_events: Maximum number of undelivered events that are kept.
        max_age_days: Older undelivered events are dropped.
        degraded_after_s: A sink that accepts nothing for this long is a reason in `/readyz`.
    """

    publish: Publish = "all"
    max_events: Annotated[int, Field(ge=100)] = 2_000_000
    max_age_days: Annotated[float, Field(gt=0, le=36500)] = 30.0
    degraded_after_s: Seconds = 60.0


class WebConfig(StrictModel):
    """The page and its API: `[web]`.

    Args:
        enabled: Whether the page is served.
        host: Address to listen on; one wider than loopback needs token_file and tls.
        port: Port to listen on; 0 takes a free one.
        token_file: File whose first line must be sent as `Authorization: Bearer`.
        tls: Table with `certificate` and `key` of this server.
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
    """A whole station.

    Example:
        >>> fake = {"model": {"backend": "fake"}, "camera": {"top": {"source": "0"}}}
        >>> Config.model_validate(fake).camera["top"].trigger
        'free'
    """

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
        """Returns the model of a camera: its own, or the station's."""
        own = self.camera[camera].model
        return self.model if own is None else own.over(self.model)
