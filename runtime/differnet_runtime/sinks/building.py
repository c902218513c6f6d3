"""Makes the sinks of a station; each kind's packages are imported only where it is configured."""

from __future__ import annotations

from ..config import Config
from ..errors import DifferNetError
from ..installation import install_line
from .base import OnCommand, Sink
from .jsonl import JsonLinesSink


def build_sinks(config: Config, on_command: OnCommand | None = None) -> list[Sink]:
    """Makes the sinks; nothing is connected before `Sink.open`.

    Args:
        config: Of the station.
        on_command: Called from a sink's own thread.

    Raises:
        ConfigError: A secret or a certificate can't be read.
        DifferNetError: A package is missing; the message names the extra.
    """
    sinks: list[Sink] = []
    try:
        if config.mqtt is not None:
            from .mqtt import MqttSink

            sinks.append(MqttSink(config.mqtt, config.station.name, on_command))
        for name, webhook in config.webhook.items():
            from .webhook import WebhookSink

            sinks.append(WebhookSink(name, webhook))
    except ImportError as error:
        raise DifferNetError(
            f"the configured sinks need {error.name}: {install_line('service')}"
        ) from error
    if config.jsonl is not None:
        sinks.append(JsonLinesSink(config.jsonl))
    return sinks
