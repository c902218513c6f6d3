"""A station's configuration: TOML read into checked models."""

from .loading import Loaded, PlannedModel, differences, load_config, planned_models
from .models import (
    CameraConfig,
    CameraModelConfig,
    Config,
    DecisionConfig,
    EventsConfig,
    EvidenceConfig,
    IntegrityConfig,
    JsonLinesConfig,
    ModelConfig,
    MqttConfig,
    StationConfig,
    TeachConfig,
    TlsConfig,
    WebConfig,
    WebhookConfig,
)
from .problems import schema

__all__ = [
    "CameraConfig",
    "CameraModelConfig",
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
