"""A station's configuration: TOML read into checked models."""

from .loading import Changes, Loaded, differences, load_config, schema
from .models import (
    CameraConfig,
    Config,
    DecisionConfig,
    EventsConfig,
    EvidenceConfig,
    IntegrityConfig,
    ModelConfig,
    StationConfig,
    WebConfig,
)
from .sinks import JsonLinesConfig, MqttConfig, TlsConfig, WebhookConfig

__all__ = [
    "CameraConfig",
    "Changes",
    "Config",
    "DecisionConfig",
    "EventsConfig",
    "EvidenceConfig",
    "IntegrityConfig",
    "JsonLinesConfig",
    "Loaded",
    "ModelConfig",
    "MqttConfig",
    "StationConfig",
    "TlsConfig",
    "WebConfig",
    "WebhookConfig",
    "differences",
    "load_config",
    "schema",
]
