"""Sinks, which deliver events to a broker, an HTTP receiver or a file.

Each kind's packages are imported only if it is configured.
"""

from __future__ import annotations

from collections.abc import Container

from ..config import Config, JsonLinesConfig, MqttConfig, WebhookConfig
from ..errors import DifferNetError
from ..installation import install_line
from ..model_file.contract import StrictModel
from .base import BusyError, OnCommand, Sink, Stored
from .jsonl import JsonLinesSink

__all__ = ["BusyError", "OnCommand", "Sink", "Stored", "build_sinks", "sink_tables"]


def sink_tables(config: Config) -> dict[str, StrictModel]:
    """Returns the configuration table of each sink, by the sink's name."""
    tables: dict[str, StrictModel | None] = {"mqtt": config.mqtt}
    tables |= {f"webhook:{name}": table for name, table in config.webhook.items()}
    tables["jsonl"] = config.jsonl
    return {name: table for name, table in tables.items() if table is not None}


def build_sinks(
    config: Config,
    on_command: OnCommand | None = None,
    only: Container[str] | None = None,
) -> list[Sink]:
    """Makes the configured sinks; none connects before `Sink.open`.

    Args:
        config: The station's configuration.
        on_command: Called with a command, in the sink's own thread.
        only: Names of the sinks to make; None makes all.

    Raises:
        ConfigError: A secret or a certificate can't be read.
        DifferNetError: A package is missing; the message names the extra.
    """
    try:
        return [
            _build(name, table, config.station.name, on_command)
            for name, table in sink_tables(config).items()
            if only is None or name in only
        ]
    except ImportError as error:
        raise DifferNetError(
            f"the configured sinks need {error.name}: {install_line('service')}"
        ) from error


def _build(name: str, table: StrictModel, station: str, on_command: OnCommand | None) -> Sink:
    if isinstance(table, MqttConfig):
        from .mqtt import MqttSink

        return MqttSink(table, station, on_command)
    if isinstance(table, WebhookConfig):
        from .webhook import WebhookSink

        return WebhookSink(name.partition(":")[2], table)
    assert isinstance(table, JsonLinesConfig)
    return JsonLinesSink(table)
