"""What a station's TOML file may say of those who receive its events."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from ..model_file.contract import StrictModel

Seconds = Annotated[float, Field(gt=0, le=86400, allow_inf_nan=False)]


class TlsConfig(StrictModel):
    """Certificates: `[mqtt.tls]`, `[webhook.NAME.tls]`, `[web.tls]`.

    Args:
        ca: What the other side's certificate must be signed by; None takes the system's.
        certificate: Of this side, with key.
        key: Of certificate.
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
    """A broker: `[mqtt]`.

    Args:
        host: Of the broker.
        port: 1883, or 8883 with TLS, where none is given.
        prefix: Of all topics: `PREFIX/STATION/...`.
        protocol: MQTT version.
        qos: Of events, status and last will.
        retain: Whether the broker keeps the last state of each component, and the status.
        commands: Whether parts may be triggered over MQTT.
        username: With password_file.
        password_file: Its first line is the password; looked for in `$CREDENTIALS_DIRECTORY`, then
            beside the configuration.
        tls: Encrypts; `[mqtt.tls]`.
        keepalive_s: The broker publishes the last will after one and a half of it.
        heartbeat_s: Between two heartbeats, which stop when inspection does.
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
        url: http:// or https://.
        token_file: Sent as `Authorization: Bearer`.
        timeout_s: For an answer.
        tls: Certificates; `[webhook.NAME.tls]`.
    """

    url: Annotated[str, Field(pattern=r"^https?://[^\s]+$", max_length=2048)]
    token_file: Path | None = None
    timeout_s: Seconds = 10.0
    tls: TlsConfig | None = None


class JsonLinesConfig(StrictModel):
    """A file of events, a line each: `[jsonl]`; rotated by size.

    Args:
        path: Of the file.
        max_bytes: At which it is rotated.
        keep: So many old files stay.
    """

    path: Path
    max_bytes: Annotated[int, Field(ge=1 << 12)] = 64 << 20
    keep: Annotated[int, Field(ge=0, le=1000)] = 5
