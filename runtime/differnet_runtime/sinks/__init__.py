"""Makes the sinks of a station; each kind's packages are imported only where it is configured.

Where events go: a broker, an HTTP receiver, a file.
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
    """Returns the table of each configured sink, by the sink's name."""
    tables: dict[str, StrictModel | None] = {"mqtt": config.mqtt}
    tables |= {f"webhook:{name}": table for name, table in config.webhook.items()}
    tables["jsonl"] = config.jsonl
    return {name: table for name, table in tables.items() if table is not None}


def build_sinks(
    config: Config,
    on_command: OnCommand | None = None,
    only: Container[str] | None = None,
) -> list[Sink]:
    """Makes the sinks; nothing is connected before `Sink.open`.

    Args:
        config: Of the station.
        on_command: Called from a sink's own thread.
        only: Names of those that are wanted; None makes all.

    Raises:
        ConfigError: A secret or a certificate can't be read.
        DifferNetError: A package is missing; the message names the extra.
    """
    tables = {
        name: table for name, table in sink_tables(config).items() if only is None or name in only
    }
    try:
        return [
            _build(name, table, config.station.name, on_command) for name, table in tables.items()
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
