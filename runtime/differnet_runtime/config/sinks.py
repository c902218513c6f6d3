"""The tables of a station's TOML file about the receivers of its events."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from ..model_file.contract import StrictModel

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
