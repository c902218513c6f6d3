"""A station's configuration: TOML read into checked models."""

from .loading import Changes, Loaded, PlannedModel, differences, load_config, planned_models
from .models import (
    CameraConfig,
    CameraModelConfig,
    Config,
    DecisionConfig,
    EventsConfig,
    EvidenceConfig,
    IntegrityConfig,
    ModelConfig,
    StationConfig,
    TeachConfig,
    WebConfig,
)
from .problems import schema
from .sinks import JsonLinesConfig, MqttConfig, TlsConfig, WebhookConfig

__all__ = [
    "CameraConfig",
    "CameraModelConfig",
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
    "PlannedModel",
    "StationConfig",
    "TeachConfig",
    "TlsConfig",
    "WebConfig",
    "WebhookConfig",
    "differences",
    "load_config",
    "planned_models",
    "schema",
]
